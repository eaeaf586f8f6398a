"""Carried masks corrected by a backend, which is shown where they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

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


class Refiner(Protocol):
    """Picklable. ``name`` and ``model_sha256`` decide what it does."""

    @property
    def name(self) -> str: ...

    @property
    def model_sha256(self) -> str | None: ...

    def refine(self, pixels: Pixels, carried: Mapping[str, Mask]) -> Mapping[str, Refined]:
        """Corrections of masks of one frame by structure; none where the carried mask is to be kept."""
        ...
