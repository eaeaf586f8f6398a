"""Which patients validate a fit: no patient, and nobody who shares an image with one, is on both sides."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from sono.manifests.errors import UserError
from sono.manifests.splits import join

from .examples import Example


@dataclass(frozen=True)
class PatientSplit:
    """The groups of patients that validate, that of each example, and the structures that both sides have."""

    validating: frozenset[str]
    group_of: Sequence[str]
    structures: Sequence[str]

    def validates(self, example: int) -> bool:
        return self.group_of[example] in self.validating


def split_patients(examples: Sequence[Example], share: float, seed: int) -> PatientSplit:
    """Set about ``share`` of the patients apart, so that every structure is trained on and validated where it can be.

    Patients who share a duplicate image, or have one number in one center, are one group. The seed orders the groups;
    those with rare structures are chosen first, then others until the share is reached. A structure that only one
    group has, or that cannot be on both sides without another one missing, is not among the split's structures.

    Raises:
        UserError: the masks are of one patient only.
    """
    group_of = _groups(examples)
    structures_of: dict[str, set[str]] = {}
    for example, group in zip(examples, group_of, strict=True):
        structures_of.setdefault(group, set()).update(example.regions)
    if len(structures_of) < 2:
        raise UserError("all masks are of one patient", fix="a fit is validated on other patients: outline some more")
    validating = _choose(structures_of, share, seed)
    seen = [set().union(*(structures_of[group] for group in side)) for side in _sides(structures_of, validating)]
    return PatientSplit(validating, group_of, sorted(seen[0] & seen[1]))


def patient_digest(patient_key: str) -> str:
    """Of a patient's pseudonym: tells whether a model was fitted on a patient, to whoever has the pseudonym."""
    return hashlib.sha256(f"patient of a segmenter\0{patient_key}".encode()).hexdigest()[:32]


def _groups(examples: Sequence[Example]) -> list[str]:
    joined = {
        (f"{kind} {value}", example.patient_key)
        for example in examples
        for kind, value in (("duplicate", example.duplicate_group), ("number", example.patient_center_key))
        if value is not None
    }
    leader = join((example.patient_key for example in examples), sorted(joined))
    return [leader[example.patient_key] for example in examples]


def _choose(structures_of: Mapping[str, Set[str]], share: float, seed: int) -> frozenset[str]:
    order = sorted(structures_of, key=lambda group: hashlib.sha256(f"{seed}/{group}".encode()).digest())
    left = Counter(structure for seen in structures_of.values() for structure in seen)  # groups that train, of each
    number_of = dict(left)
    chosen: list[str] = []
    covered: set[str] = set()

    def take(group: str) -> bool:
        """Whether the group may validate: none of its structures that another group has goes untrained."""
        if group in chosen or any(left[structure] == 1 < number_of[structure] for structure in structures_of[group]):
            return False
        chosen.append(group)
        left.subtract(structures_of[group])
        covered.update(structures_of[group])
        return True

    for structure in sorted(number_of, key=lambda name: (number_of[name], name)):
        if structure not in covered and number_of[structure] > 1:
            next((group for group in order if structure in structures_of[group] and take(group)), None)
    target = max(1, round(share * len(order)))
    for group in order:
        if len(chosen) < target:
            take(group)
    return frozenset(chosen)


def _sides(groups: Mapping[str, Set[str]], validating: Set[str]) -> tuple[list[str], list[str]]:
    return [group for group in groups if group not in validating], [group for group in groups if group in validating]
