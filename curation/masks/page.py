"""The page that shows imported masks on their frames, by structure, the oddest areas first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from sono.curation.images.stored_png import decode_png
from sono.manifests import masks, pages
from sono.manifests.query import query
from sono.manifests.schemas import FRAMES, REGIONS
from sono.manifests.store import TableStore, write_atomically
from sono.manifests.thumbnails import THUMBNAIL_PX, encode, reduced
from sono.manifests.workspace import Workspace

_EXAMPLES = 18  # per structure
_THIN = 0.15  # of its box that a mask covers; an ellipse covers 0.79
_TINT, _COLOR = 0.35, (255, 190, 60)


@dataclass(frozen=True)
class Example:
    """A mask on its frame; ``times`` is its share of the image over that of a typical mask of the structure."""

    region_id: str
    source: str
    area_percent: float
    times: float
    png: str  # base64


@dataclass(frozen=True)
class StructureMasks:
    """The masks of one structure. Shares of the image are percentages; ``thin``: most masks look like lines."""

    structure: str
    count: int
    median_percent: float
    low_percent: float
    high_percent: float
    thin: bool
    examples: Sequence[Example]


def write_masks_report(workspace: Workspace) -> Path:
    """Write ``reports/masks.html`` from the tables as they are.

    Returns:
        The page's path.
    """
    structures = _structures(workspace.store)
    page = pages.render(
        __package__,
        "page.html",
        center=workspace.center,
        total=sum(structure.count for structure in structures),
        structures=structures,
        thumbnail_px=THUMBNAIL_PX,
    )
    path = workspace.reports / "masks.html"
    write_atomically(path, lambda file: file.write(page.encode()))
    return path


def _structures(store: TableStore) -> list[StructureMasks]:
    paths = {
        "regions": [str(path) for path in store.paths(REGIONS)],
        "frames": [str(path) for path in store.paths(FRAMES)],
    }
    if not all(paths.values()):
        return []
    found = query(_STRUCTURES, paths).to_pylist()
    chosen = query(_ODDEST, {**paths, "examples": _EXAMPLES}).to_pylist()
    pictures = _pictures(chosen)
    return [
        StructureMasks(
            structure=row["structure"],
            count=row["masks"],
            median_percent=100 * row["median"],
            low_percent=100 * row["low"],
            high_percent=100 * row["high"],
            thin=row["box_share"] < _THIN,
            examples=[
                Example(
                    each["region_id"], each["source"], 100 * each["share"], each["times"], pictures[each["region_id"]]
                )
                for each in chosen
                if each["structure"] == row["structure"] and each["region_id"] in pictures
            ],
        )
        for row in found
    ]


_SHARES = """
WITH shares AS (
    SELECT r.region_id, r.frame_id, r.structure, r.source, r.filename AS region_path, f.filename AS frame_path,
        r.area_px / (f.height::DOUBLE * f.width) AS share,
        r.area_px / greatest(r.bbox[3]::DOUBLE * r.bbox[4], 1) AS box_share
    FROM read_parquet($regions, filename = true) r
    JOIN read_parquet($frames, filename = true) f USING (frame_id)
    WHERE r.area_px > 0
)
"""

_STRUCTURES = f"""{_SHARES}
SELECT structure, count(*) AS masks, median(share) AS median, min(share) AS low, max(share) AS high,
    median(box_share) AS box_share
FROM shares GROUP BY structure ORDER BY structure
"""

_ODDEST = f"""{_SHARES}
, compared AS (SELECT *, share / median(share) OVER (PARTITION BY structure) AS times FROM shares)
, ranked AS (
    SELECT *, row_number() OVER (PARTITION BY structure ORDER BY abs(ln(times)) DESC, region_id) AS place FROM compared
)
SELECT region_id, frame_id, structure, source, region_path, frame_path, share, times FROM ranked
WHERE place <= $examples ORDER BY structure, place
"""


def _pictures(chosen: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The thumbnails by region; images and masks are read of the chosen rows only."""
    if not chosen:
        return {}
    images = query(
        "SELECT frame_id, image.bytes AS png FROM read_parquet($paths) WHERE frame_id IN (SELECT unnest($ids))",
        {"paths": sorted({row["frame_path"] for row in chosen}), "ids": sorted({row["frame_id"] for row in chosen})},
    ).to_pylist()
    regions = query(
        "SELECT region_id, mask FROM read_parquet($paths) WHERE region_id IN (SELECT unnest($ids))",
        {"paths": sorted({row["region_path"] for row in chosen}), "ids": sorted(row["region_id"] for row in chosen)},
    ).to_pylist()
    pngs = {row["frame_id"]: row["png"] for row in images}
    rles = {row["region_id"]: row["mask"] for row in regions}
    return {
        row["region_id"]: _picture(pngs[row["frame_id"]], masks.decode(rles[row["region_id"]]))
        for row in chosen
        if row["frame_id"] in pngs and row["region_id"] in rles
    }


def _picture(png: bytes, mask: masks.Mask) -> str:
    """The frame with its mask tinted and outlined: a line that was read as an area has no tint within it."""
    pixels = decode_png(png)
    if pixels.shape[:2] != mask.shape:  # drawn on pixels that have changed since
        return encode(reduced(Image.fromarray(pixels)))
    colored = np.array(Image.fromarray(pixels).convert("RGB"))
    area = mask.astype(np.uint8)
    tinted = (1 - _TINT) * colored[mask] + _TINT * np.array(_COLOR)
    colored[mask] = tinted.astype(np.uint8)
    contours, _ = cv2.findContours(area, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    width = max(1, math.ceil(1.5 * max(mask.shape) / THUMBNAIL_PX))
    cv2.drawContours(colored, contours, -1, _COLOR, width)
    return encode(reduced(Image.fromarray(colored)))
