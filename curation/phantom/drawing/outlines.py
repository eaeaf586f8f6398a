"""From outlines in mm to the pixels of a sector: tissues, surfaces and masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from sono.curation.phantom.scenes.shapes import Points, Shape
from sono.manifests.masks import Mask

from .sector import Bytes, Floats, Pose, Sector

_SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class TissueMap:
    """Which tissue and which surface each pixel of a sector's box shows."""

    numbers: Bytes  # [height, width]: 0 outside the fetus, else the tissue's number
    rims: Bytes  # [height, width]: dB above -40, 0 where there is no surface
    echo_db: Floats  # by tissue number
    loss_db_mm: Floats


def rasterize(shapes: Sequence[Shape], pose: Pose, sector: Sector) -> TissueMap:
    """Fill shapes in order, and trace the surfaces that face the probe."""
    height, width = sector.box[3], sector.box[2]
    tissues, rims = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
    drawn = list(dict.fromkeys(shape.tissue for shape in shapes if shape.tissue is not None))
    numbers = {tissue: number for number, tissue in enumerate(drawn, 1)}
    for shape in shapes:
        if shape.tissue is None:
            continue
        points = pose.px(shape.outline)
        corners = _fixed_point(points)
        cv2.fillPoly(tissues, [corners], numbers[shape.tissue], shift=_SUBPIXEL_BITS)
        cv2.fillPoly(rims, [corners], 0, shift=_SUBPIXEL_BITS)
        if shape.tissue.rim_db is not None:
            _trace_surface(
                rims, points, corners, shape.tissue.rim_db, max(1, round(shape.tissue.rim_mm * pose.px_per_mm)), sector
            )
    return TissueMap(
        tissues,
        rims,
        np.array([0.0, *(tissue.echo_db for tissue in drawn)]),
        np.array([0.0, *(tissue.loss_db_mm for tissue in drawn)]),
    )


def _trace_surface(
    rims: Bytes, points: Floats, corners: npt.NDArray[np.int32], rim_db: float, thickness: int, sector: Sector
) -> None:
    """A surface is brightest where its normal points along the beam, and nearly gone where it runs with the beam."""
    ends = np.roll(points, -1, axis=0)
    along = ends - points
    middle = (points + ends) / 2
    beam = middle - np.array([sector.apex[0] - sector.box[0], sector.apex[1] - sector.box[1]])
    if sector.parallel:
        beam = np.broadcast_to([0.0, 1.0], beam.shape)
    lengths = np.hypot(along[:, 0], along[:, 1]) * np.hypot(beam[:, 0], beam[:, 1])
    facing = np.abs(along[:, 0] * beam[:, 1] - along[:, 1] * beam[:, 0]) / np.maximum(lengths, 1e-9)
    levels = np.rint(40 + rim_db - 22 * (1 - facing) ** 1.5).astype(int)
    for start, end, level in zip(corners.tolist(), np.roll(corners, -1, axis=0).tolist(), levels.tolist(), strict=True):
        cv2.line(rims, start, end, max(level, 1), thickness, shift=_SUBPIXEL_BITS)


def outline_mask(outlines: Sequence[Points], pose: Pose, sector: Sector) -> Mask:
    """Shape [height, width] of the sector's box: the union of the outlines, as far as the sector shows them."""
    filled = np.zeros((sector.box[3], sector.box[2]), np.uint8)
    for outline in outlines:
        cv2.fillPoly(filled, [_fixed_point(pose.px(outline))], 1, shift=_SUBPIXEL_BITS)
    return np.asarray((filled != 0) & sector.inside(), dtype=np.bool_)


def visible_share(outlines: Sequence[Points], pose: Pose, sector: Sector) -> float:
    """The share of the outlines' points that lie in the sector."""
    points = np.concatenate([pose.px(outline) for outline in outlines])
    depth, across = sector.beam_coordinates(points[:, 0], points[:, 1])
    on_screen = np.all((points >= 0) & (points <= sector.box[2:]), axis=1)
    return float(np.mean((depth >= 0) & (depth <= 1) & (np.abs(across) <= 1) & on_screen))


def _fixed_point(points: Floats) -> npt.NDArray[np.int32]:
    """Fixed-point corners for OpenCV, whose integer arithmetic is the same everywhere."""
    return np.rint(np.clip(points, -4000, 4000) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
