"""What a frame's pixels show, from the truth alone: sectors, and what the screen has besides them."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pydicom

from sono.curation.phantom.drawing.screen import LAYOUTS
from tests.curation.phantom.archive import Image, Mask, Phantom, Row, boxes_of


def sector_mask(row: Row, slack: float = 0.0) -> Mask:
    """Which pixels of a frame show ultrasound, from the truth alone; the first pixel's centre is (0.5, 0.5)."""
    return _sector_mask(row["height"], row["width"], json.dumps(row["sectors"]), slack)


@functools.lru_cache(maxsize=256)
def _sector_mask(height: int, width: int, sectors: str, slack: float) -> Mask:
    inside = np.zeros((height, width), np.bool_)
    for sector in json.loads(sectors):
        left, top, across, down = sector["box"]
        if sector["apex"] is None:
            inside[top : top + down, left : left + across] = True
            continue
        around = math.ceil(slack)  # the screen cuts what does not fit into its box
        window = slice(max(top - around, 0), top + down + around), slice(max(left - around, 0), left + across + around)
        y, x = np.mgrid[window] + 0.5
        radius, angle = polar(sector, x, y)
        if sector["kind"] == "linear":
            radius = y - sector["apex"][1]
        (near, far), (first, last), turn = sector["radii"], sector["angles"], np.degrees(slack / radius)
        inside[window] |= (
            (radius >= near - slack) & (radius <= far + slack) & (first - turn <= angle) & (angle <= last + turn)
        )
    inside.flags.writeable = False
    return inside


def polar(sector: Row, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Distance from the apex in px, and degrees from straight down, positive to the right."""
    dx, dy = x - sector["apex"][0], y - sector["apex"][1]
    return np.hypot(dx, dy), np.degrees(np.arctan2(dx, dy))


def empty_screen(row: Row, pixels: Image) -> Image:
    """The vendor's screen with nothing on it."""
    screen = np.zeros_like(pixels)
    for (x, y, width, height), color in LAYOUTS[row["center"]].bars:
        grey = round(float(np.dot(color, (0.299, 0.587, 0.114))))
        screen[y : y + height, x : x + width] = color if pixels.ndim == 3 else grey
    return screen


def furniture(archive: Phantom, row: Row) -> Mask:
    """Everything on a screen besides ultrasound: texts, rulers, the vendor's mark, frames, traces."""
    boxes = [[x - 1, y - 1, width + 2, height + 2] for x, y, width, height in boxes_of(archive, row["file"])]
    for sector in row["sectors"]:
        x, y, width, height = sector["box"]
        boxes.append([x + width + 5 if LAYOUTS[row["center"]].ruler == "right" else x - 18, y - 2, 13, height + 4])
        boxes.append([int(x + 0.16 * width) - 7, y - 3, 15, 15])
    for region in pydicom.dcmread(archive.path(row["file"]), stop_before_pixels=True).SequenceOfUltrasoundRegions:
        if region.RegionSpatialFormat == 3:  # with the scales right of it and below
            region.RegionLocationMaxX1, region.RegionLocationMaxY1 = (
                region.RegionLocationMaxX1 + 8,
                region.RegionLocationMaxY1 + 10,
            )
        if region.RegionSpatialFormat in (2, 3) or region.RegionDataType == 2:
            x, y = region.RegionLocationMinX0, region.RegionLocationMinY0
            boxes.append([x, y, region.RegionLocationMaxX1 - x + 1, region.RegionLocationMaxY1 - y + 1])
    covered = np.zeros((row["height"], row["width"]), np.bool_)
    for x, y, width, height in boxes:
        covered[max(y, 0) : y + height, max(x, 0) : x + width] = True
    return covered


def as_rgb(pixels: Image) -> Image:
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels


def crop(pixels: Image, box: Sequence[int], margin: int) -> Image:
    x, y, width, height = box
    return pixels[max(y - margin, 0) : y + height + margin, max(x - margin, 0) : x + width + margin]


def grown(mask: Mask, by: int) -> Mask:
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * by + 1, 2 * by + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), disc), dtype=np.bool_)


def correlation(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
