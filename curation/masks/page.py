"""The page of masks: what is wrong with them, what is missing, and the worst of each structure on their frames."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from sono.curation.images.pixels import ExcludedError
from sono.curation.images.stored_png import decode_png
from sono.manifests import masks, pages
from sono.manifests.schemas import FRAMES, REGIONS
from sono.manifests.store import TableStore, write_atomically
from sono.manifests.thumbnails import THUMBNAIL_PX, encode, reduced
from sono.manifests.workspace import Workspace

from . import page_figures as figures
from .checks.judged import judged_masks

_EXAMPLES, _FEWEST, _MOST = 240, 3, 18
"""Pictures on the page, and of each structure at least and at most."""

_PAIRS, _DAYS = 40, 30  # rows of the tables on agreement and pace
_THIN = 0.15  # of its box that a mask covers; an ellipse covers 0.79
_TINT, _COLOR = 0.35, (255, 190, 60)


@dataclass(frozen=True)
class Example:
    """A mask on its frame; ``times`` is its share of the image over that of a typical mask of the structure."""

    region_id: str
    source: str
    status: str
    faults: Sequence[str]
    score: float | None
    area_percent: float
    times: float
    png: str  # base64


def write_masks_report(workspace: Workspace) -> Path:
    """Write ``reports/masks.html`` from the tables as they are; ``check_masks`` measures for it.

    Neither the memory that it takes nor the page's size grows with the number of masks.

    Returns:
        The page's path.
    """
    store, vocabulary = workspace.store, workspace.vocabulary
    with judged_masks(store, vocabulary) as database:
        structures = figures.by_structure(database)
        chosen = figures.worst(database, max(_FEWEST, min(_MOST, _EXAMPLES // max(len(structures), 1))))
        page = pages.render(
            __package__,
            "page.html",
            center=workspace.center,
            percent=pages.percent,
            totals=figures.totals(database),
            checks=figures.by_check(database),
            structures=structures,
            examples=_examples(store, chosen),
            thin=_THIN,
            missing=figures.missing(database, vocabulary),
            agreement=figures.agreement(database, _PAIRS),
            pace=figures.pace(database, _DAYS),
            most_days=_DAYS,
            most_pairs=_PAIRS,
            thumbnail_px=THUMBNAIL_PX,
        )
    path = workspace.reports / "masks.html"
    write_atomically(path, lambda file: file.write(page.encode()))
    return path


def _examples(store: TableStore, chosen: Sequence[dict[str, Any]]) -> dict[str, list[Example]]:
    """The pictures by structure, in their order; those without a frame have none."""
    drawn = _pictures(store, chosen)
    examples: dict[str, list[Example]] = {}
    for row in chosen:
        if row["region_id"] in drawn:
            examples.setdefault(row["structure"], []).append(
                Example(
                    row["region_id"], row["source"], row["status"], row["faults"], row["score"], 100 * row["share"],
                    row["times"], drawn[row["region_id"]],
                )
            )  # fmt: skip
    return examples


def _pictures(store: TableStore, chosen: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The thumbnails by region; images and masks are read of the chosen rows only, few at a time."""
    rles: dict[str, masks.Rle] = {}
    for path in sorted({row["region_path"] for row in chosen}):
        ids = {row["region_id"] for row in chosen if row["region_path"] == path}
        rles |= {row["region_id"]: row["mask"] for row in store.find_rows(Path(path), REGIONS, ids, ["mask"])}
    drawn: dict[str, str] = {}  # a frame that cannot be decoded has none
    for path in sorted({row["frame_path"] for row in chosen if row["frame_path"]}):
        here = [row for row in chosen if row["frame_path"] == path]
        for frame in store.find_rows(Path(path), FRAMES, {row["frame_id"] for row in here}, ["image.bytes"]):
            for row in here:
                if row["frame_id"] == frame["frame_id"]:
                    with contextlib.suppress(ExcludedError):
                        drawn[row["region_id"]] = _picture(frame["image"]["bytes"], rles[row["region_id"]])
    return drawn


def _picture(png: bytes, rle: masks.Rle) -> str:
    """The frame with its mask tinted and outlined: a line that was read as an area has no tint within it."""
    pixels = decode_png(png)
    try:
        mask = masks.decode(rle)
    except ValueError:
        mask = np.zeros((0, 0), np.bool_)
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
