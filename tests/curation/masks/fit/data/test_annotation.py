"""A missing mask means that a structure is absent only where somebody would have outlined it."""

from __future__ import annotations

import numpy as np

from sono.curation.masks.fit.data.annotation import ABSENT, PRESENT, UNKNOWN, annotate
from sono.curation.masks.fit.data.examples import Example
from sono.manifests.vocabulary import load

STRUCTURES = ("cavum_septi_pellucidi", "femur", "thalami")


def example(*structures: str, plane: str | None = "transthalamic", doubtful: tuple[str, ...] = ()) -> Example:
    regions = {structure: (f"{structure}-region", "part") for structure in structures}
    return Example("frame", "part", plane, "patient", None, None, regions, frozenset(doubtful))


def annotated(*examples: Example) -> list[list[int]]:
    known = annotate(examples, STRUCTURES, load())
    assert known.dtype == np.int8
    return known.tolist()  # type: ignore[no-any-return]


def test_a_structure_that_is_outlined_as_a_rule_is_absent_where_it_is_not() -> None:
    both = [example("cavum_septi_pellucidi", "thalami")] * 2
    assert annotated(*both, example("thalami"))[2] == [ABSENT, ABSENT, PRESENT]


def test_a_structure_that_is_rarely_outlined_is_unknown_where_it_is_not() -> None:
    known = annotated(example("cavum_septi_pellucidi", "thalami"), *[example("thalami")] * 3)
    assert known[0] == [PRESENT, ABSENT, PRESENT]
    assert known[1:] == [[UNKNOWN, ABSENT, PRESENT]] * 3


def test_a_structure_that_the_plane_does_not_show_is_absent_unless_somebody_outlined_it_there() -> None:
    assert annotated(example("thalami"), example("thalami"))[0][1] == ABSENT
    known = annotated(example("femur", "thalami"), *[example("thalami")] * 3)
    assert [row[1] for row in known] == [PRESENT, UNKNOWN, UNKNOWN, UNKNOWN]


def test_a_structure_that_the_plane_shows_and_nobody_outlined_is_unknown() -> None:
    assert annotated(example("thalami"))[0][0] == UNKNOWN


def test_without_a_plane_nothing_is_absent() -> None:
    for plane in (None, "unheard_of"):
        assert annotated(*[example("thalami", plane=plane)] * 3) == [[UNKNOWN, UNKNOWN, PRESENT]] * 3


def test_a_structure_with_a_mask_that_nobody_accepted_is_unknown() -> None:
    both = [example("cavum_septi_pellucidi", "thalami")] * 2
    assert annotated(*both, example("thalami", doubtful=("cavum_septi_pellucidi",)))[2][0] == UNKNOWN
