"""Random changes of a training pair that suit an ultrasound image, the same for the image and its mask.

They are applied to the square of the training size, with or without a cache. Padding stays black and outside every
mask; "one everywhere" stays one everywhere.
"""

from __future__ import annotations

import math
import re

import cv2
import numpy as np
import numpy.typing as npt

from sono.manifests import vocabulary
from sono.training import recipes
from sono.training.model.transforms import Pixels

DISPLAY_DB = 60.0
"""Assumed dynamic range of 0 to 255. Images are log-compressed, so gain adds; 60 dB is usual."""

_SIDED_SYSTEMS = ("heart", "abdomen")
_SIDED_WORDS = re.compile(
    r"""\b(left|right|lt|rt|situs|sinist\w*|dexte?r\w*|destr\w*|la?evo\w*|dextro\w*  # English, Latin, Italian
    |links|rechts|linke\w*|rechte\w*  # German, Dutch
    |gauche\w*|droite?s?|izquierd\w*|derech\w*|esquerd\w*|direit[oa]s?)\b  # French, Spanish, Portuguese
    |[左右]""",
    re.IGNORECASE | re.VERBOSE,
)


class Augmenter:
    """Changes pairs as the recipe's ``augment.*`` says.

    Args:
        settings: of the recipe.
        planes: ids of the dataset's planes; one that is not in the vocabulary is never flipped.
    """

    def __init__(self, settings: recipes.Augment, planes: tuple[str, ...]) -> None:
        self.settings, self.planes = settings, planes
        self.enabled = settings != recipes.Augment()
        words = vocabulary.load() if settings.flip else vocabulary.Vocabulary({}, {})
        sided = [plane for plane in words.planes.values() if plane.system in _SIDED_SYSTEMS]
        of_sided_planes = {structure for plane in sided for structure in plane.structures}
        self._planes = set(words.planes) - {plane.id for plane in sided}
        self._structures = {"", *words.structures} - of_sided_planes
        self._structures -= {name for name in self._structures if _SIDED_WORDS.search(name.replace("_", " "))}

    def may_flip(self, plane: int | None, structure: str, caption: str) -> bool:
        """Whether left and right may be exchanged: never if plane, structure or caption might tell them apart.

        Planes of heart and abdomen show on which side organs lie; so do their structures in any plane. A frame without
        a plane, or with a plane or structure that is not in the packaged vocabulary, is not flipped either.
        """
        has_no_side = plane is not None and self.planes[plane] in self._planes and structure in self._structures
        return has_no_side and not _SIDED_WORDS.search(caption)

    def __call__(
        self, image_CHW: Pixels, mask_HW: Pixels, random: np.random.Generator, *, whole: bool, may_flip: bool
    ) -> tuple[Pixels, Pixels]:
        """Change an image, of one or three channels, and its mask; the mask of a ``whole`` image stays as it is."""
        image_CHW, mask_HW = self._move(image_CHW, mask_HW, random, whole, may_flip)
        image_CHW = self._recolour(image_CHW, random)
        return image_CHW, mask_HW if whole else self._degrade_mask(mask_HW, random)

    def _move(
        self, image_CHW: Pixels, mask_HW: Pixels, random: np.random.Generator, whole: bool, may_flip: bool
    ) -> tuple[Pixels, Pixels]:
        settings, size = self.settings, mask_HW.shape[0]
        if settings.flip and may_flip and random.random() < 0.5:
            image_CHW = np.ascontiguousarray(image_CHW[..., ::-1])
            mask_HW = np.ascontiguousarray(mask_HW[..., ::-1])
        if not (settings.rotate_deg or settings.scale or settings.translate):
            return image_CHW, mask_HW
        angle, zoom, x, y = random.uniform(-1, 1, 4)
        factor = (1 + settings.scale) ** zoom
        middle = (size - 1) / 2
        matrix = np.asarray(cv2.getRotationMatrix2D((middle, middle), angle * settings.rotate_deg, factor), np.float64)
        matrix[:, 2] += np.array([x, y]) * settings.translate * size
        moved_HW = mask_HW if whole else _warp(mask_HW, matrix)
        if moved_HW.sum(dtype=np.int64) < mask_HW.sum(dtype=np.int64) * factor**2 / 2 and not whole:
            return image_CHW, mask_HW  # most of the region would leave the image, and what the caption names must stay
        return np.stack([_warp(channel_HW, matrix) for channel_HW in image_CHW]), moved_HW

    def _recolour(self, image_CHW: Pixels, random: np.random.Generator) -> Pixels:
        settings = self.settings
        if settings.gain_db or settings.gamma:
            gain, gamma = random.uniform(-1, 1, 2)
            levels = 255 * np.linspace(0, 1, 256) ** math.exp(gamma * settings.gamma)
            levels += gain * settings.gain_db * 255 / DISPLAY_DB
            levels[0] = 0  # padding, and everything outside the sector, is no echo
            image_CHW = np.clip(np.rint(levels), 0, 255).astype(np.uint8)[image_CHW]
        if settings.speckle:
            noise_HW = random.standard_normal(image_CHW.shape[1:], dtype=np.float32)
            grains_HW = np.asarray(cv2.GaussianBlur(noise_HW, (0, 0), 1.0), dtype=np.float32)
            strength = settings.speckle * 2 * math.sqrt(math.pi)  # the blur left 1 / (2 sqrt(pi)) of the deviation
            image_CHW = np.clip(np.rint(image_CHW * (1 + strength * grains_HW)), 0, 255).astype(np.uint8)
        return image_CHW

    def _degrade_mask(self, mask_HW: Pixels, random: np.random.Generator) -> Pixels:
        """A mask as it may be at a scanner: a box, none at all, or one with other edges."""
        settings = self.settings
        if not (settings.mask_drop or settings.mask_box or settings.mask_edge):
            return mask_HW
        kind, edge = random.random(), random.uniform(-1, 1)
        if kind < settings.mask_drop:
            return np.full_like(mask_HW, 255)
        if kind < settings.mask_drop + settings.mask_box:
            return _box(mask_HW)
        return _move_edge(mask_HW, edge * settings.mask_edge)


def _warp(plane_HW: Pixels, matrix: npt.NDArray[np.float64]) -> Pixels:
    moved = cv2.warpAffine(plane_HW, matrix, plane_HW.shape[::-1], flags=cv2.INTER_LINEAR, borderValue=0)
    return np.asarray(moved, dtype=np.uint8)


def _box(mask_HW: Pixels) -> Pixels:
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    box_HW = np.zeros_like(mask_HW)
    if len(rows):
        box_HW[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = 255
    return box_HW


def _move_edge(mask_HW: Pixels, share: float) -> Pixels:
    """Grow the mask by ``share`` of the radius of a disc of its area, or shrink it if negative; never to nothing."""
    radius = math.sqrt(mask_HW.sum(dtype=np.int64) / 255 / math.pi)
    steps = round(abs(share) * radius)
    if steps == 0:
        return mask_HW
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * steps + 1, 2 * steps + 1))
    changed = np.asarray(cv2.dilate(mask_HW, disc) if share > 0 else cv2.erode(mask_HW, disc), dtype=np.uint8)
    return changed if changed.max() > 127 else mask_HW
