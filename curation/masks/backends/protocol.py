"""What proposes masks: an image becomes an embedding once, and the embedding with prompts becomes candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sono.curation.images.pixels import Pixels
from sono.manifests.masks import Mask

Box = tuple[float, float, float, float]
"""x, y, width, height in px of the frame."""


@dataclass(frozen=True, eq=False)
class Embedding:
    """What a backend needs to know of a frame before it is asked for masks; opaque to everybody else.

    Attributes:
        size: height and width of the frame in px.
        arrays: by name: float16 features of a network's encoder, or the pixels themselves.
    """

    size: tuple[int, int]
    arrays: Mapping[str, npt.NDArray[Any]]


def _no_points() -> npt.NDArray[np.float32]:
    return np.zeros((0, 2), np.float32)


def _no_labels() -> npt.NDArray[np.int32]:
    return np.zeros(0, np.int32)


@dataclass(frozen=True, eq=False)
class Prompts:
    """Where a structure is thought to be.

    Attributes:
        points: shape [n, 2], x and y in px.
        labels: shape [n]: 1 for a point inside the structure, 0 for one outside.
        mask: of an earlier answer, or of the same structure in a neighbouring frame; shape [height, width].

    Raises:
        ValueError: arrays of other shapes, other labels, or a box without an area.
    """

    structure: str
    box: Box | None = None
    points: npt.NDArray[np.float32] = field(default_factory=_no_points)
    labels: npt.NDArray[np.int32] = field(default_factory=_no_labels)
    mask: Mask | None = None

    def __post_init__(self) -> None:
        if self.points.ndim != 2 or self.points.shape[1] != 2 or self.labels.shape != self.points.shape[:1]:
            raise ValueError(f"points of shape {self.points.shape} with labels of shape {self.labels.shape}")
        if not np.isfinite(self.points).all() or not np.isin(self.labels, (0, 1)).all():
            raise ValueError("points are finite numbers, their labels 0 or 1")
        if self.box is not None and not (np.isfinite(self.box).all() and self.box[2] > 0 and self.box[3] > 0):
            raise ValueError(f"a box without an area: {self.box}")
        if self.mask is not None and (self.mask.ndim != 2 or self.mask.dtype != np.bool_):
            raise ValueError(f"a mask is a 2-D boolean array, not {self.mask.dtype} of shape {self.mask.shape}")

    @property
    def has_place(self) -> bool:
        """Whether anything but the structure's name is given."""
        return self.box is not None or bool(self.labels.any()) or (self.mask is not None and bool(self.mask.any()))


@dataclass(frozen=True, eq=False)
class Candidate:
    """A mask of the frame's size, shape [height, width], never empty.

    Attributes:
        score: from 0 to 1; what candidates are ranked by.
        scores: what it was made from, by name: ``predicted_iou``, ``stability``, ``fit``, ``contrast``.
    """

    mask: Mask
    score: float
    scores: Mapping[str, float]


class Backend(Protocol):
    """Proposes masks. ``name`` is the ``source`` of its regions."""

    @property
    def name(self) -> str: ...

    @property
    def model_sha256(self) -> str | None:
        """Of the checkpoint; None without weights."""
        ...

    @property
    def embedding_id(self) -> str | None:
        """Changes with everything besides the pixels that decides an embedding; None if there is no use in a cache."""
        ...

    def embed(self, pixels: Pixels) -> Embedding: ...

    def propose(self, embedding: Embedding, prompts: Prompts) -> Sequence[Candidate]:
        """The masks that the prompts may mean, the best first; none if the prompts do not say where to look.

        Raises:
            UserError: the model cannot take such prompts.
        """
        ...
