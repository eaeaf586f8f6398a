"""Carried masks corrected by a backend, which is shown where they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sono.curation.cleaning.sectors.geometry import iou
from sono.curation.images.pixels import Pixels
from sono.curation.masks.backends.protocol import Backend, Prompts
from sono.curation.masks.propose.choose import cleaned
from sono.manifests.masks import Mask, bbox

MIN_AGREEMENT = 0.75
"""Intersection over union of a correction and the carried mask, below which the correction is of something else."""


@dataclass(frozen=True, eq=False)
class Refined:
    """A corrected mask: ``box`` (x, y, width, height in px) is what the backend was shown; ``scores`` what it said."""

    mask: Mask
    box: tuple[int, int, int, int]
    scores: Mapping[str, float]


def refine(backend: Backend, pixels: Pixels, shown: Mask, carried: Mapping[str, Mask]) -> Mapping[str, Refined]:
    """The best candidates that agree with the carried masks, by structure; others are of something else, and left out.

    Args:
        shown: where the frame shows ultrasound: nothing outside of it is part of a mask.
        carried: what the backend is shown the box and the mask of.
    """
    embedding = backend.embed(pixels)
    refined: dict[str, Refined] = {}
    for structure, mask in carried.items():
        box = bbox(mask)
        candidates = backend.propose(embedding, Prompts(structure, box=box, mask=mask))
        best = cleaned(candidates[0], shown) if candidates else None
        if best is not None and (agreement := iou(best.mask, mask)) >= MIN_AGREEMENT:
            refined[structure] = Refined(best.mask, box, {**best.scores, "agreement": agreement})
    return refined
