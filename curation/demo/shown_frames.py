"""The frames that the demo's page shows: one of each of a few planes, with its structures outlined."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from sono.curation.images.pixels import Pixels
from sono.curation.images.stored_png import decode_png
from sono.curation.phantom.hospitals import CENTERS
from sono.manifests import masks
from sono.manifests.query import query
from sono.manifests.schemas import CAPTIONS, FRAMES, REGIONS
from sono.manifests.store import TableStore
from sono.manifests.workspace import Workspace

PLANES = (
    "transthalamic",
    "transcerebellar",
    "four_chamber",
    "abdominal_circumference",
    "sideface",
    "femur",
)

_WIDTH_PX = 460
_JPEG_QUALITY = 88

_COLORS = (
    "#ffb000",
    "#26c6da",
    "#ff5c8a",
    "#8bd450",
    "#b388ff",
    "#ff8a50",
    "#f2f26b",
    "#7fb2ff",
    "#e05cff",
    "#4de0a8",
    "#ffffff",
)


@dataclass(frozen=True)
class OutlinedStructure:
    """A structure in a shown frame: its color there (#rrggbb), its name, and its region's caption."""

    color: str
    name: str
    caption: str


@dataclass(frozen=True)
class ShownFrame:
    """A frame with the outlines of its structures drawn in; ``jpeg`` is in base64."""

    plane: str
    center: str
    jpeg: str
    caption: str
    structures: Sequence[OutlinedStructure]


def read_shown_frames(workspace: Workspace) -> Iterator[ShownFrame]:
    """One frame per plane, alternating between the hospitals: the one with the most structures."""
    for number, plane in enumerate(PLANES):
        frame = _choose_frame(workspace.store, plane, preferred_center=tuple(CENTERS)[number % len(CENTERS)])
        if frame is not None:
            yield _shown(workspace, plane, frame)


def _choose_frame(store: TableStore, plane: str, preferred_center: str) -> dict[str, Any] | None:
    found: list[dict[str, Any]] = query(
        "WITH counted AS (SELECT frame_id, count(*) AS n FROM read_parquet($regions) "
        "WHERE status IN ('accepted', 'edited') GROUP BY frame_id) "
        "SELECT frame_id, frames.image.bytes AS png, frames.center, frames.height, frames.width, "
        "captions.text AS caption FROM read_parquet($frames) frames JOIN counted USING (frame_id) "
        "JOIN (SELECT frame_id, text FROM read_parquet($captions) WHERE region_id IS NULL) captions "
        "USING (frame_id) WHERE plane = $plane AND mode = 'b_mode' AND pixel_mm_x IS NOT NULL "
        "ORDER BY (center = $center) DESC, n DESC, frame_id LIMIT 1",
        {
            "frames": [str(path) for path in store.paths(FRAMES)],
            "regions": [str(path) for path in store.paths(REGIONS)],
            "captions": [str(path) for path in store.paths(CAPTIONS)],
            "plane": plane,
            "center": preferred_center,
        },
    ).to_pylist()
    return found[0] if found else None


def _shown(workspace: Workspace, plane: str, frame: Mapping[str, Any]) -> ShownFrame:
    rgb = _scaled_rgb(decode_png(frame["png"]))
    structures = []
    for number, region in enumerate(_regions(workspace.store, frame["frame_id"])):
        color = _COLORS[number % len(_COLORS)]
        _draw_outline(rgb, masks.decode(region["mask"], (frame["height"], frame["width"])), color)
        name = workspace.vocabulary.structures[region["structure"]].name
        structures.append(OutlinedStructure(color, name, region["text"]))
    jpeg = cv2.imencode(".jpg", rgb[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
    return ShownFrame(plane, frame["center"], base64.b64encode(jpeg).decode(), frame["caption"], structures)


def _regions(store: TableStore, frame_id: str) -> list[dict[str, Any]]:
    """A frame's regions with their captions, the largest first."""
    found: list[dict[str, Any]] = query(
        "SELECT regions.structure, regions.mask, captions.text FROM read_parquet($regions) regions "
        "JOIN read_parquet($captions) captions USING (region_id) WHERE regions.frame_id = $frame ORDER BY area_px DESC",
        {
            "regions": [str(path) for path in store.paths(REGIONS)],
            "captions": [str(path) for path in store.paths(CAPTIONS)],
            "frame": frame_id,
        },
    ).to_pylist()
    return found


def _scaled_rgb(pixels: Pixels) -> Pixels:
    rgb = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
    scale = _WIDTH_PX / rgb.shape[1]
    size = (round(rgb.shape[1] * scale), round(rgb.shape[0] * scale))
    return np.ascontiguousarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA))


def _draw_outline(rgb: Pixels, mask: masks.Mask, color: str) -> None:
    small = cv2.resize(mask.astype(np.uint8), rgb.shape[1::-1], interpolation=cv2.INTER_AREA)
    outlines, _ = cv2.findContours(small, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(rgb, outlines, -1, _channels(color), 1, cv2.LINE_AA)


def _channels(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
