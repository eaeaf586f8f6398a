"""How far readers agree: the figures of each structure and pair of readers, from pairs of readings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .intervals import Estimate, kappa, mean
from .pairs import Pair


@dataclass(frozen=True)
class AgreementFigures:
    """Of the masks of one structure that two readers read, or one reader read twice.

    Attributes:
        structure: None for all of them.
        readers: None for all pairs.
        masks: that were read twice; ``patients``: that they are of.
        both_kept, both_rejected, only_one, only_other: what the readers did with them, in the order of ``readers``; of
            all pairs, ``only_one`` counts masks that either of them rejected, and ``only_other`` is 0.
        kappa: Cohen's, of keeping against rejecting. ``alike``: the share of masks with the same answer.
        dice, iou: means over the masks that both kept.
        hausdorff_mm, hausdorff_px: mean 95th percentile of the Hausdorff distance, of masks on pixels of known size,
            and of the others.
        masks_mm, masks_px: of how many masks.
        empty: masks that both kept and one or both emptied: they count in ``dice`` and ``iou``, as 1 if both did and
            else 0, and have no distance.
        renamed: readings that kept a mask as another structure: they count as rejections of what it was proposed as.
        unchanged: masks that both kept with not a pixel's difference.
        disagreements, adjudicated: masks on which two readers disagree, and those between which somebody has decided.
    """

    structure: str | None
    readers: tuple[str, str] | None
    masks: int
    patients: int
    both_kept: int
    both_rejected: int
    only_one: int
    only_other: int
    kappa: Estimate
    alike: Estimate
    dice: Estimate
    iou: Estimate
    hausdorff_mm: Estimate
    hausdorff_px: Estimate
    masks_mm: int
    masks_px: int
    empty: int
    renamed: int
    unchanged: int
    disagreements: int
    adjudicated: int


def agreement_figures(pairs: Iterable[Pair]) -> list[AgreementFigures]:
    """The figures of every structure and pair of readers, of each pair over all structures, and of all pairs.

    Two readers and repeats of one reader are never mixed: ``pairs`` are of one kind.
    """
    groups: dict[tuple[str | None, tuple[str, str] | None], list[Pair]] = {}
    for pair in pairs:
        for key in ((pair.structure, pair.readers), (None, pair.readers), (pair.structure, None), (None, None)):
            groups.setdefault(key, []).append(pair)
    several = len({readers for _, readers in groups if readers is not None}) > 1
    return [
        _figures(structure, readers, groups[structure, readers])
        for structure, readers in sorted(groups, key=_place)
        if several or readers is not None
    ]


def _place(key: tuple[str | None, tuple[str, str] | None]) -> tuple[bool, tuple[str, str], bool, str]:
    """All pairs first, then pair by pair; in each all structures first."""
    structure, readers = key
    return readers is not None, readers or ("", ""), structure is not None, structure or ""


def _figures(structure: str | None, readers: tuple[str, str] | None, pairs: Sequence[Pair]) -> AgreementFigures:
    patients = [pair.patient for pair in pairs]
    kept = [pair.kept for pair in pairs]
    only_one, only_other = kept.count((True, False)), kept.count((False, True))
    drawn = [(pair.likeness, pair.patient, pair.in_mm) for pair in pairs if pair.likeness is not None]
    far_mm, far_px = (
        [(like.hausdorff_95, patient) for like, patient, in_mm in drawn
         if like.hausdorff_95 is not None and in_mm == wanted]
        for wanted in (True, False)
    )  # fmt: skip
    return AgreementFigures(
        structure=structure,
        readers=readers,
        masks=len(pairs),
        patients=len(set(patients)),
        both_kept=kept.count((True, True)),
        both_rejected=kept.count((False, False)),
        only_one=only_one if readers else only_one + only_other,
        only_other=only_other if readers else 0,
        kappa=_kappa(kept, patients, symmetric=readers is None),
        alike=mean([float(one == other) for one, other in kept], patients),
        dice=_mean([(like.dice, patient) for like, patient, _ in drawn]),
        iou=_mean([(like.iou, patient) for like, patient, _ in drawn]),
        hausdorff_mm=_mean(far_mm),
        hausdorff_px=_mean(far_px),
        masks_mm=len(far_mm),
        masks_px=len(far_px),
        empty=sum(like.empty > 0 for like, _, _ in drawn),
        renamed=sum(pair.renamed for pair in pairs),
        unchanged=sum(like.dice == 1 for like, _, _ in drawn),
        disagreements=sum(pair.adjudicated is not None for pair in pairs),
        adjudicated=sum(pair.adjudicated is True for pair in pairs),
    )


def _kappa(kept: Sequence[tuple[bool, bool]], patients: Sequence[str], *, symmetric: bool) -> Estimate:
    """Of one pair of readers; ``symmetric`` over all pairs, where it does not matter who of two is first."""
    if symmetric:  # each mask in both orders, which is Scott's pi (1955)
        kept, patients = [*kept, *((other, one) for one, other in kept)], [*patients, *patients]
    return kappa([one for one, _ in kept], [other for _, other in kept], patients)


def _mean(values: Sequence[tuple[float, str]]) -> Estimate:
    return mean([value for value, _ in values], [patient for _, patient in values])
