"""Carried masks corrected by a backend, which is shown where they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sono.curation.masks.backends.registry import BackendChoice, open_backend

if TYPE_CHECKING:
    from sono.curation.images.pixels import Pixels
    from sono.manifests.masks import Mask

MIN_AGREEMENT = 0.75
"""Intersection over union of a correction and the carried mask, below which the correction is of something else."""


@dataclass(frozen=True, eq=False)
class Refined:
    """A corrected mask: ``box`` (x, y, width, height in px) is what the backend was shown; ``scores`` what it said."""

    mask: Mask
    box: tuple[int, int, int, int]
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Refiner:
    """Shows a backend the box and the mask that were carried. Picklable: each worker process opens its own backend."""

    choice: BackendChoice
    name: str
    model_sha256: str | None

    @classmethod
    def of(cls, choice: BackendChoice) -> Refiner:
        """The refiner that runs a backend.

        Raises:
            UserError: a package is missing, or a file is not a model that the backend can run.
        """
        backend = open_backend(choice)
        return cls(choice, backend.name, backend.model_sha256)

    def refine(self, pixels: Pixels, carried: Mapping[str, Mask]) -> Mapping[str, Refined]:
        """The best candidates that agree with the carried masks; others are of something else, and left out."""
        from sono.curation.cleaning.sectors.geometry import iou
        from sono.curation.masks.backends.protocol import Prompts
        from sono.manifests.masks import bbox

        backend = open_backend(self.choice)
        embedding = backend.embed(pixels)
        refined: dict[str, Refined] = {}
        for structure, mask in carried.items():
            box = bbox(mask)
            candidates = backend.propose(embedding, Prompts(structure, box=box, mask=mask))
            if candidates and (agreement := iou(candidates[0].mask, mask)) >= MIN_AGREEMENT:
                scores = {**candidates[0].scores, "agreement": agreement}
                refined[structure] = Refined(candidates[0].mask, box, scores)
        return refined
