"""Splits that never separate the frames of one patient, or duplicates.

Whole patients are assigned by a keyed hash, not by quota, so that a patient keeps its split when the archive grows:
last year's test patient is never trained on this year. Patients who share a duplicate image stay together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from .errors import UserError


@dataclass(frozen=True)
class SplitPlan:
    """How to split: the shares of validation and test (the rest is train), a seed, and a center held out as test.

    With ``holdout_center`` the test split holds that center's patients (including their frames from other centers,
    and patients joined to them by a duplicate) and no one else.
    """

    validation: float = 0.1
    test: float = 0.1
    seed: int = 0
    holdout_center: str | None = None

    def __post_init__(self) -> None:
        # Written so that NaN fails as well.
        if not (self.validation >= 0 and self.test >= 0 and self.validation + self.test < 1):
            raise UserError(
                f"shares of {self.validation} validation and {self.test} test leave nothing to train on",
                fix="choose shares that add up to less than 1",
            )


def assign(
    patients: Iterable[tuple[str, str | None]],
    duplicates: Iterable[tuple[str, str]],
    plan: SplitPlan,
) -> dict[str, str]:
    """The split of every patient.

    Args:
        patients: (patient_key, center) pairs, one for each center a patient was seen in.
        duplicates: (duplicate_group, patient_key) pairs; patients of one group end in one split.
        plan: shares, seed and held-out center.

    Raises:
        UserError: no patient was seen in the held-out center.
    """
    centers: dict[str, set[str | None]] = {}
    for patient, center in patients:
        centers.setdefault(patient, set()).add(center)
    leader = join(centers, duplicates)
    held_out = {leader[patient] for patient, seen in centers.items() if plan.holdout_center in seen}
    if plan.holdout_center is not None and not held_out:
        known = ", ".join(sorted({str(center) for seen in centers.values() for center in seen}))
        raise UserError(
            f"no frame comes from center {plan.holdout_center!r}", fix=f"centers in this workspace: {known}"
        )
    if plan.holdout_center is None:
        held_out = set()
    return {patient: _split(leader[patient], leader[patient] in held_out, plan) for patient in centers}


def join(patients: Iterable[str], duplicates: Iterable[tuple[str, str]]) -> dict[str, str]:
    """For every patient the smallest key among those joined to it by duplicates, which are (group, patient) pairs."""
    parent = {patient: patient for patient in patients}

    def root(patient: str) -> str:
        while parent[patient] != patient:
            parent[patient] = parent[parent[patient]]
            patient = parent[patient]
        return patient

    first: dict[str, str] = {}
    for group, patient in duplicates:
        one, other = sorted((root(first.setdefault(group, patient)), root(patient)))
        parent[other] = one
    return {patient: root(patient) for patient in list(parent)}


def _split(leader: str, held_out: bool, plan: SplitPlan) -> str:
    if held_out:
        return "test"
    digest = hashlib.sha256(f"{plan.seed}/{leader}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    test = plan.test if plan.holdout_center is None else 0.0
    if position < test:
        return "test"
    return "validation" if position < test + plan.validation else "train"
