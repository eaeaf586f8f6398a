"""Which mode a frame was taken in: from the header's regions where they say it, else from its pixels."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from sono.curation.images.dicom.regions import Region, image_mode
from sono.curation.images.pixels import Mask, Pixels

from .color_flow import shows_color_flow
from .sectors.reduced_frame import LIT_ABOVE, ReducedFrame, brightest_channel
from .sectors.screen import Screen
from .sectors.search import search_sector

MODES = ("b_mode", "color_doppler", "m_mode", "spectral", "dual", "volume", "unknown")

_NO_SCREEN = 0.995  # of a frame that is brighter than black: photographs and pages have no empty screen
_TINTED = 0.4  # saturation from which the colour is a rendering's: B-mode is tinted less
_BRIGHT = 40  # grey levels from which colours count
_LIMB = 0.5  # of the brightness in the middle: a rendered surface turns away from the light at its edge
_ROUNDED = 0.8  # of its convex hull, at most, that a rendered body fills
_SECTOR = 0.5  # of an outline that is seen where the frame shows a sector
_RING_PX, _MIDDLE_PX = 3, 7  # reduced px

_SURE, _LIKELY = 0.95, 0.6


@dataclass(frozen=True)
class ModeFinding:
    """The mode of a frame.

    Attributes:
        mode: one of ``MODES``; volume is a 3-D rendering or the planes of a volume.
        source: header or pixels.
        confidence: from 0 to 1.
        disagrees: the pixels show another mode than the header's, which a person has to look at.
    """

    mode: str
    source: str
    confidence: float
    disagrees: bool = False


def frame_mode(screen: Screen, regions: Sequence[Region] = ()) -> ModeFinding:
    """The mode of a frame; ``regions`` are those of the header that are valid, if there are any."""
    stated = image_mode(regions)
    seen = mode_from_pixels(screen)
    if stated == "unknown":
        return seen
    # A header that names one region of tissue says little: many scanners write nothing else, whatever is shown.
    says_little = stated == "b_mode" and seen.mode not in ("b_mode", "unknown")
    if seen.confidence >= _SURE and (says_little or seen.mode == "volume"):
        return ModeFinding(seen.mode, "pixels", seen.confidence, disagrees=True)
    return ModeFinding(stated, "header", 1.0)


def mode_from_pixels(screen: Screen) -> ModeFinding:
    """The mode by the layout of the screen, by its colours, and by what its texture looks like."""
    frame, layout = screen.frame, screen.layout
    if layout.kind == "empty" or float(frame.faint.mean()) > _NO_SCREEN:
        return ModeFinding("unknown", "pixels", 0.0)
    if layout.kind in ("m_mode", "spectral"):
        return ModeFinding(layout.kind, "pixels", _SURE)
    if layout.kind == "planes":
        return ModeFinding("volume", "pixels", _SURE)
    texture = np.asarray(np.any(layout.sectors, axis=0), dtype=np.bool_)
    colors = _small_colors(frame, texture.shape)
    if colors is not None and _saturation(colors, texture) > _TINTED:
        return ModeFinding("volume", "pixels", _SURE)
    if layout.kind == "dual":
        return ModeFinding("dual", "pixels", _SURE)
    if shows_color_flow(frame, colors, texture):
        return ModeFinding("color_doppler", "pixels", _SURE)
    if _looks_rendered(frame, texture):
        fit = search_sector(frame, texture, frame.background + LIT_ABOVE)
        if fit is None or fit.quality < _SECTOR:
            return ModeFinding("volume", "pixels", _LIKELY)
    return ModeFinding("b_mode", "pixels", _SURE)


def _small_colors(frame: ReducedFrame, shape: tuple[int, ...]) -> Pixels | None:
    """The frame's colours at reduced size, [height, width, 3]; None if it is grey."""
    if frame.pixels.ndim == 2:
        return None
    step = max(frame.factor - 1, 1)
    # A px as one value: numpy takes twice as long to copy three.
    every = np.ascontiguousarray(frame.pixels.view("V3")[::step, ::step]).view(np.uint8)
    return np.asarray(cv2.resize(every, (shape[1], shape[0]), interpolation=cv2.INTER_AREA), np.uint8)


def _saturation(colors: Pixels, texture: Mask) -> float:
    """Median over the brighter texture of how far the darkest channel is below the brightest, as a share."""
    brightest = brightest_channel(colors)
    darkest = functools.reduce(cv2.min, cv2.split(colors))
    bright = texture & (brightest > _BRIGHT)
    if not bright.any():
        return 0.0
    return float(np.median(1 - darkest[bright] / brightest[bright].astype(np.float32)))


def _looks_rendered(frame: ReducedFrame, texture: Mask) -> bool:
    """Whether the texture darkens towards its edge and has a rounded outline, as a lit body has."""
    mask = texture.astype(np.uint8)
    ring = texture & (cv2.erode(mask, np.ones((_RING_PX, _RING_PX), np.uint8)) == 0)
    middle = cv2.erode(mask, np.ones((_MIDDLE_PX, _MIDDLE_PX), np.uint8)) > 0
    if not middle.any() or np.median(frame.small[ring]) > _LIMB * np.median(frame.small[middle]):
        return False
    if sum(bool(border.any()) for border in (texture[0], texture[-1], texture[:, 0], texture[:, -1])) > 1:
        return False  # the image cuts it: nothing is known of its outline
    hull = cv2.convexHull(_row_ends(texture))
    return bool(np.count_nonzero(texture) < _ROUNDED * cv2.contourArea(hull))


def _row_ends(mask: Mask) -> npt.NDArray[np.int32]:
    """x, y of the first and the last pixel of every row: they have the hull of all pixels, and are few."""
    rows = np.flatnonzero(mask.any(axis=1))
    first, last = mask[rows].argmax(axis=1), mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    return np.stack([np.concatenate([first, last]), np.tile(rows, 2)], axis=1).astype(np.int32)
