"""The rows of ``frames`` that one file gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from sono.curation.images.pixels import ExcludedError, Pixels, without_equal_channels
from sono.curation.images.statistics import pixel_statistics
from sono.curation.images.stored_png import bare_png, encode_png
from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.stages import Exclusion
from sono.manifests.vocabulary import Vocabulary

from .config import IngestSection
from .source import open_source


def frame_rows(
    file: Mapping[str, object], keys: Pseudonymizer, vocabulary: Vocabulary, section: IngestSection, center: str
) -> Iterator[dict[str, object] | Exclusion]:
    """One row per frame of the file, or the reason why the frame, or the file, is left out.

    Args:
        file: an input row; its columns are those of ``parts.INPUT``.
        center: of the file, if its row names none.
    """
    source_key = str(file["source_key"])
    try:
        center = str(file["center"] or center)
        source = open_source(file, keys, vocabulary, section, center)
        shared = {
            **source.columns,
            "center": center,
            "edited_fraction": 0.0,
            "burned_in_text": "unchecked",
        }
        for frame in source.frames:
            if isinstance(frame.pixels, ExcludedError):
                yield Exclusion(source_key, frame.pixels.reason, frame.pixels.message, frame.index)
                continue
            yield {
                **shared,
                "frame_id": keys.frame(source_key, frame.index),
                "frame_index": frame.index,
                "frame_time_ms": frame.time_ms,
                **_pixel_columns(frame.pixels, frame.png, keys),
            }
        for error in source.left_out:
            yield Exclusion(source_key, error.reason, error.message)
    except ExcludedError as error:
        yield Exclusion(source_key, error.reason, error.message)


def _pixel_columns(decoded: Pixels, png: bytes | None, keys: Pseudonymizer) -> dict[str, object]:
    """The columns that come from a frame's pixels; ``png`` is the file they were decoded from, if it is a PNG."""
    pixels = without_equal_channels(decoded)
    return {
        "image": {"bytes": (png and bare_png(png, pixels)) or encode_png(pixels), "path": None},
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "pixel_digest": keys.pixels(pixels.shape, np.ascontiguousarray(pixels).data),
        **vars(pixel_statistics(pixels)),
    }
