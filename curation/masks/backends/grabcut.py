"""GrabCut by OpenCV: needs no weights, so proposals work out of the box."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from sono.curation.images.pixels import Pixels
from sono.manifests import masks
from sono.manifests.masks import Mask

from .prompt_points import box_of
from .protocol import Box, Candidate, Embedding, Prompts
from .scores import combined, fit, rank

_SIDE = 128  # px of the longer side of what is cut: speckle is averaged, and a cut takes some 20 ms
_MARGIN = 0.35  # of the box's sides around it: what the background looks like
_ITERATIONS = 3
_STARTS = ((0.3, None), (0.6, None), (0.85, 1.15))
"""Shares of the ellipse in the box that are structure for sure, and beyond which nothing is: an organ full of fluid is
cut best freely, one whose parts differ as much as its surroundings close to the ellipse."""
_RING = 0.12  # of the longer side of a mask's box: how far from its edge the contrast is measured
_LIKELY = 0.94  # of the ellipse in the box: structure unless its grey levels say otherwise
_POINT_PX = 3  # radius of a point, in what is cut
_SEED = 0  # OpenCV starts the colours of both sides at random

Bytes = npt.NDArray[np.uint8]


class GrabCutBackend:
    """Parts a box into structure and background by their grey levels (Rother et al., SIGGRAPH 2004).

    It starts from the ellipse within the box in three ways, or from the mask that is given. Candidates are ranked by
    how well they fit the box and by their ``contrast``.
    """

    name = "grabcut"
    model_sha256: str | None = None
    embedding_id: str | None = None

    def embed(self, pixels: Pixels) -> Embedding:
        """The pixels themselves."""
        return Embedding((pixels.shape[0], pixels.shape[1]), {"pixels": pixels})

    def propose(self, embedding: Embedding, prompts: Prompts) -> Sequence[Candidate]:
        """One mask from each start; none if the prompts have no box and no mask, or if nothing is left."""
        box = box_of(prompts)
        if box is None:
            return []
        window = _Window.around(box, embedding.size)
        if window is None:
            return []
        image = window.scaled(embedding.arrays["pixels"])
        starts = _STARTS if prompts.mask is None or not prompts.mask.any() else _STARTS[:1]
        found = []
        for start in starts:
            labels = _first_labels(window, box, prompts, start)
            if _is_mixed(labels):
                mask = window.back(_smooth(_cut(image, labels)), embedding.size)
                if mask.any():
                    scores = {"fit": fit(mask, prompts), "contrast": contrast(embedding.arrays["pixels"], mask)}
                    found.append(Candidate(mask, combined(scores), scores))
        return rank(found)


def contrast(pixels: Pixels, mask: Mask) -> float:
    """How well grey levels tell both sides of a mask's edge apart: the area under the ROC curve, from 0.5 to 1."""
    x, y, width, height = masks.bbox(mask)
    reach = max(int(_RING * max(width, height)), 3)
    window = (slice(max(y - reach, 0), y + height + reach), slice(max(x - reach, 0), x + width + reach))
    part, inside = pixels[window], mask[window].astype(np.uint8)
    grey = part if part.ndim == 2 else cv2.cvtColor(part, cv2.COLOR_RGB2GRAY)
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    inner = (inside > 0) & (cv2.erode(inside, disk) == 0)
    outer = (inside == 0) & (cv2.dilate(inside, disk) > 0)
    if not inner.any() or not outer.any():
        return 0.5
    first, second = (np.bincount(grey[side], minlength=256) / np.count_nonzero(side) for side in (inner, outer))
    area = float(first @ (np.cumsum(second) - second / 2))
    return max(area, 1 - area)


class _Window:
    """The part of a frame that is cut, and its scale."""

    def __init__(self, left: int, top: int, right: int, bottom: int) -> None:
        self.left, self.top, self.right, self.bottom = left, top, right, bottom
        self.scale = min(_SIDE / max(right - left, bottom - top), 1.0)
        self.size = (
            max(round((bottom - top) * self.scale), 1),
            max(round((right - left) * self.scale), 1),
        )

    @classmethod
    def around(cls, box: Box, size: tuple[int, int]) -> _Window | None:
        """The box with its margin, within the frame; None if nothing of it lies there."""
        x, y, width, height = box
        left, top = max(int(x - _MARGIN * width), 0), max(int(y - _MARGIN * height), 0)
        right, bottom = (
            min(int(x + (1 + _MARGIN) * width) + 1, size[1]),
            min(int(y + (1 + _MARGIN) * height) + 1, size[0]),
        )
        return cls(left, top, right, bottom) if right - left > 2 and bottom - top > 2 else None

    def scaled(self, pixels: Pixels) -> Bytes:
        """As three channels: grey levels with speckle averaged over three neighbourhoods."""
        part = pixels[self.top : self.bottom, self.left : self.right]
        grey = part if part.ndim == 2 else cv2.cvtColor(part, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(grey, self.size[::-1], interpolation=cv2.INTER_AREA)
        return np.dstack([cv2.medianBlur(small, 3), cv2.GaussianBlur(small, (0, 0), 1.5), cv2.medianBlur(small, 7)])

    def mask(self, mask: Mask) -> npt.NDArray[np.bool_]:
        part = mask[self.top : self.bottom, self.left : self.right].astype(np.uint8)
        return np.asarray(cv2.resize(part, self.size[::-1], interpolation=cv2.INTER_AREA) > 0)

    def place(self, x: float, y: float) -> tuple[float, float]:
        """A point of the frame in what is cut, in px."""
        across = self.size[1] / (self.right - self.left)
        down = self.size[0] / (self.bottom - self.top)
        return (x - self.left) * across, (y - self.top) * down

    def back(self, cut: Mask, size: tuple[int, int]) -> Mask:
        """What was cut, on the frame."""
        whole = np.zeros(size, np.bool_)
        shares = cv2.resize(
            cut.astype(np.float32), (self.right - self.left, self.bottom - self.top), interpolation=cv2.INTER_LINEAR
        )
        whole[self.top : self.bottom, self.left : self.right] = shares >= 0.5
        return whole


def _first_labels(window: _Window, box: Box, prompts: Prompts, start: tuple[float, float | None]) -> Bytes:
    """What is background for sure, and what may be what."""
    labels = np.full(window.size, cv2.GC_BGD, np.uint8)
    x0, y0 = window.place(box[0], box[1])
    x1, y1 = window.place(box[0] + box[2], box[1] + box[3])
    left, top, right, bottom = (round(value) for value in (x0, y0, x1, y1))
    labels[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = cv2.GC_PR_BGD
    if prompts.mask is not None and prompts.mask.any():
        inside = window.mask(prompts.mask)
        labels[inside] = cv2.GC_PR_FGD
        core = cv2.erode(inside.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool)
        labels[core] = cv2.GC_FGD
    else:
        corners = (x0, y0, x1, y1)
        sure, most = start
        if most is not None:
            labels[_ellipse(window.size, corners, most) == 0] = cv2.GC_BGD
        labels[_ellipse(window.size, corners, _LIKELY) > 0] = cv2.GC_PR_FGD
        labels[_ellipse(window.size, corners, sure) > 0] = cv2.GC_FGD
    for (x, y), kind in zip(prompts.points, prompts.labels, strict=True):
        column, row = window.place(float(x), float(y))
        cv2.circle(labels, (round(column), round(row)), _POINT_PX, int(cv2.GC_FGD if kind else cv2.GC_BGD), -1)
    return labels


def _ellipse(size: tuple[int, int], corners: tuple[float, float, float, float], share: float) -> Bytes:
    """1 within the ellipse in a box, scaled by ``share``."""
    x0, y0, x1, y1 = corners
    drawn = np.zeros(size, np.uint8)
    axes = (max(round(share * (x1 - x0) / 2), 1), max(round(share * (y1 - y0) / 2), 1))
    cv2.ellipse(drawn, (round((x0 + x1) / 2), round((y0 + y1) / 2)), axes, 0, 0, 360, 1, -1)
    return drawn


def _is_mixed(labels: Bytes) -> bool:
    """Whether both sides have pixels to start from; GrabCut needs that."""
    foreground = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    return bool(foreground.any()) and not bool(foreground.all())


def _cut(image: Bytes, labels: Bytes) -> Mask:
    cv2.setRNGSeed(_SEED)
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    found, _, _ = cv2.grabCut(image, labels, (0, 0, 0, 0), background, foreground, _ITERATIONS, cv2.GC_INIT_WITH_MASK)
    return np.asarray((found == cv2.GC_FGD) | (found == cv2.GC_PR_FGD))


def _smooth(cut: Mask) -> Mask:
    """The largest piece, with a smooth outline and without holes: speckle frays and perforates it."""
    round_5 = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    opened = cv2.morphologyEx(cut.astype(np.uint8), cv2.MORPH_OPEN, round_5)
    closed = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, round_5)
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(closed)
    if outlines:
        cv2.drawContours(filled, [max(outlines, key=cv2.contourArea)], -1, 1, -1)
    return filled.astype(bool)
