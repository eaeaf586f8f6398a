"""Reads the rows of a dataset once, and counts what must not be published."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError

from sono.manifests import masks
from sono.manifests.errors import UserError
from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.schemas import SPLITS
from sono.manifests.store import damage_named

from .origin import Origin

Guard = Callable[[str, frozenset[str]], bool]
"""Whether a caption may be published, given the keyed hashes of the names that must not be in it."""

_BATCH_ROWS = 32
_COLUMNS = ("image", "frame_id", "patient_key", "caption", "caption_id", "regions")


@dataclass
class RowFaults:
    """How many of what; the examples are frame ids."""

    frames: int = 0
    patients_across_splits: int = 0
    duplicates_across_splits: int = 0
    unfit_masks: int = 0
    unfit_example: str | None = None
    unguarded_captions: int = 0
    unguarded_example: str | None = None
    unknown_captions: int = 0
    unknown_frames: int = 0
    unchecked_frames: int = 0
    other_pixels: int = 0
    other_pixels_example: str | None = None
    moved_frames: int = 0


def read_rows(
    shards: Iterable[Path], origin: Origin | None, guard: Guard, keys: Pseudonymizer | None = None
) -> RowFaults:
    """Read every row of the shards.

    Args:
        origin: what the workspace says; None counts only what the dataset itself shows.
        keys: the workspace's, with which pixels of pulled frames are compared.

    Raises:
        UserError: a shard cannot be read.
    """
    faults = RowFaults()
    patients: dict[str, str] = {}
    groups: dict[str, str] = {}
    torn: dict[str, set[str]] = {"patient": set(), "group": set()}
    for path in shards:
        split = path.name.partition("-")[0]
        if split not in SPLITS:
            raise UserError("belongs to no split", where=str(path), fix="run sono-curate build again")
        with damage_named(path), pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH_ROWS, columns=list(_COLUMNS)):
                for row in batch.to_pylist():
                    faults.frames += 1
                    if patients.setdefault(row["patient_key"], split) != split:
                        torn["patient"].add(row["patient_key"])
                    group = _judge_origin(row, split, origin, keys, faults)
                    if group is not None and groups.setdefault(group, split) != split:
                        torn["group"].add(group)
                    _judge_masks(row, faults)
                    _judge_captions(row, origin, guard, faults)
    faults.patients_across_splits, faults.duplicates_across_splits = len(torn["patient"]), len(torn["group"])
    return faults


def _judge_origin(
    row: Mapping[str, Any], split: str, origin: Origin | None, keys: Pseudonymizer | None, faults: RowFaults
) -> str | None:
    """Returns the frame's group of duplicates."""
    if origin is None:
        return None
    frame = origin.frames.get(row["frame_id"])
    if frame is None:
        faults.unknown_frames += 1
        return None
    faults.unchecked_frames += not frame.text_checked
    if frame.pulled_pixels is not None:
        faults.moved_frames += frame.pulled_split != split
        if keys is None or _pixels(row["image"]["bytes"], keys) != frame.pulled_pixels:
            faults.other_pixels += 1
            faults.other_pixels_example = faults.other_pixels_example or row["frame_id"]
    return frame.duplicate_group


def _pixels(image: bytes, keys: Pseudonymizer) -> str | None:
    """The digest of an image's pixels, as ``frames`` has it; None if it does not decode."""
    import numpy as np

    from sono.curation.images.pixels import ExcludedError, without_equal_channels
    from sono.curation.images.stored_png import decode_png

    try:
        pixels = without_equal_channels(decode_png(image))
    except ExcludedError:
        return None
    return keys.pixels(pixels.shape, np.ascontiguousarray(pixels).data)


def _judge_masks(row: Mapping[str, Any], faults: RowFaults) -> None:
    regions = row["regions"] or ()
    size = _size(row["image"]["bytes"]) if regions else None
    for region in regions:
        if size is None or not _fits(region, size):
            faults.unfit_masks += 1
            faults.unfit_example = faults.unfit_example or row["frame_id"]


def _size(image: bytes) -> tuple[int, int] | None:
    """Height and width in px, from the image's header."""
    try:
        with Image.open(io.BytesIO(image)) as opened:
            return opened.height, opened.width
    except (UnidentifiedImageError, OSError):
        return None


def _fits(region: Mapping[str, Any], size: tuple[int, int]) -> bool:
    """Whether the mask has its image's size, and area and box are the mask's."""
    try:
        mask = masks.decode(region["mask"], size)
    except (UserError, ValueError):
        return False
    return masks.area_px(mask) == region["area_px"] > 0 and list(masks.bbox(mask)) == list(region["bbox"])


def _judge_captions(row: Mapping[str, Any], origin: Origin | None, guard: Guard, faults: RowFaults) -> None:
    frame = origin.frames.get(row["frame_id"]) if origin else None
    identity = frame.identity if frame else frozenset()
    for captioned in (row, *(row["regions"] or ())):
        text = captioned["caption"]
        if not guard(text, identity):
            faults.unguarded_captions += 1
            faults.unguarded_example = faults.unguarded_example or row["frame_id"]
        if origin is not None and origin.captions.get(captioned["caption_id"]) != text:
            faults.unknown_captions += 1
