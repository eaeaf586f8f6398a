"""Validation is by patient, and every structure is on both sides or reported as lost."""

from __future__ import annotations

import pytest

from sono.curation.masks.fit.data.examples import Example
from sono.curation.masks.fit.data.patients import patient_digest, split_patients
from sono.manifests.errors import UserError


def example(patient: str, *structures: str, number: str | None = None, duplicate: str | None = None) -> Example:
    regions = dict.fromkeys(structures or ("head",), ("region", "part"))
    return Example("frame", "part", None, patient, number, duplicate, regions, frozenset())


def test_no_patient_is_on_both_sides_and_the_share_is_kept() -> None:
    examples = [example(f"patient {number % 20}") for number in range(60)]
    split = split_patients(examples, 0.2, seed=3)
    validating = {one.patient_key for place, one in enumerate(examples) if split.validates(place)}
    training = {one.patient_key for place, one in enumerate(examples) if not split.validates(place)}
    assert len(validating) == 4
    assert not validating & training


def test_another_seed_chooses_other_patients() -> None:
    examples = [example(f"patient {number}") for number in range(40)]
    splits = [split_patients(examples, 0.2, seed).validating for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]


def test_patients_who_share_an_image_or_a_number_stay_together() -> None:
    examples = [
        *(example(f"p{number}", duplicate="same image") for number in range(5)),
        *(example(f"q{number}", number="same number") for number in range(5)),
    ]
    split = split_patients(examples, 0.5, seed=0)
    assert len({split.validates(place) for place in range(5)}) == 1
    assert split.validates(0) != split.validates(5)


def test_a_rare_structure_is_trained_on_and_validated() -> None:
    for seed in range(20):
        examples = [example(f"p{number}", "head", *(["falx"] if number < 2 else [])) for number in range(20)]
        split = split_patients(examples, 0.1, seed)
        assert split.validates(0) != split.validates(1)
        assert split.structures == ["falx", "head"]


def test_a_structure_of_one_patient_is_not_in_the_split() -> None:
    examples = [example("p0", "head", "falx"), example("p1", "head"), example("p2", "head")]
    assert split_patients(examples, 0.3, seed=0).structures == ["head"]


def test_one_patient_is_refused() -> None:
    with pytest.raises(UserError, match="one patient"):
        split_patients([example("p0"), example("p0")], 0.2, seed=0)


def test_a_digest_does_not_hold_the_pseudonym() -> None:
    assert "abc" * 8 not in patient_digest("abc" * 8)
    assert patient_digest("abc") != patient_digest("abd")


def test_no_share_is_so_large_that_a_structure_goes_untrained() -> None:
    for seed in range(20):
        examples = [example("p0", "falx"), example("p1", "falx"), example("p2", "thalami"), example("p3", "thalami")]
        split = split_patients(examples, 0.9, seed)
        assert sum(split.validates(place) for place in range(4)) == 2
        assert split.structures == ["falx", "thalami"]
