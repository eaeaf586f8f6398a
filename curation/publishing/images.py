"""Reads the images and masks of a dataset, a few rows at a time."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError

from sono.manifests import masks
from sono.manifests.errors import UserError
from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.store import damage_named

_BATCH_ROWS = 32
_BUFFER = 2**20  # bytes of a column


def count_unfit_masks(shards: Iterable[Path]) -> tuple[int, str | None]:
    """How many masks do not fit their images, and the id of a frame that has one.

    Raises:
        UserError: a shard cannot be read.
    """
    unfit, example = 0, None
    for row in _rows(shards, ["image", "frame_id", "regions"]):
        regions = row["regions"] or ()
        size = _size(row["image"]["bytes"]) if regions else None
        for region in regions:
            if size is None or not _fits(region, size):
                unfit += 1
                example = example or row["frame_id"]
    return unfit, example


def pixels_of(shards: Iterable[Path], keys: Pseudonymizer) -> Iterator[tuple[str, str | None]]:
    """Every frame's id, and the digest of its pixels as ``frames`` has it; None if the image does not decode."""
    for row in _rows(shards, ["image", "frame_id"]):
        yield row["frame_id"], _pixels(row["image"]["bytes"], keys)


def _rows(shards: Iterable[Path], columns: list[str]) -> Iterator[Mapping[str, Any]]:
    for path in shards:
        with damage_named(path, "run sono-curate build again"), pq.ParquetFile(path, buffer_size=_BUFFER) as file:
            for batch in file.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
                yield from batch.to_pylist()


def _pixels(image: bytes, keys: Pseudonymizer) -> str | None:
    import numpy as np

    from sono.curation.images.pixels import ExcludedError, without_equal_channels
    from sono.curation.images.stored_png import decode_png

    try:
        pixels = without_equal_channels(decode_png(image))
    except ExcludedError:
        return None
    return keys.pixels(pixels.shape, np.ascontiguousarray(pixels).data)


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
