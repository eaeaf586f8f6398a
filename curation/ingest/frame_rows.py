"""The rows of ``frames`` that one file gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from sono.curation.cleaning.clean_frames import CleanedFrame, clean_frames
from sono.curation.cleaning.config import CleaningSection
from sono.curation.images.pixels import ExcludedError, Pixels, without_equal_channels
from sono.curation.images.statistics import pixel_statistics
from sono.curation.images.stored_png import bare_png, encode_png
from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.stages import Exclusion
from sono.manifests.vocabulary import Vocabulary

from .config import IngestSection
from .source import open_source


def frame_rows(
    file: Mapping[str, object],
    keys: Pseudonymizer,
    vocabulary: Vocabulary,
    section: IngestSection,
    cleaning: CleaningSection,
    center: str,
    *,
    cropped: bool,
) -> Iterator[dict[str, object] | Exclusion]:
    """One row per frame of the file, cleaned, or the reason why the frame, or the file, is left out.

    Args:
        file: an input row; its columns are those of ``parts.INPUT``.
        center: of the file, if its row names none.
        cropped: the files show nothing but ultrasound.
    """
    source_key = str(file["source_key"])
    try:
        center = str(file["center"] or center)
        source = open_source(file, keys, vocabulary, section, center)
        cleaned = clean_frames(source.frames, source.regions, cleaning, cine=source.cine, cropped=cropped)
        for index, (frame, time_ms) in enumerate(zip(cleaned, source.times_ms, strict=True)):
            if isinstance(frame, ExcludedError):
                yield Exclusion(source_key, frame.reason, frame.message, index)
                continue
            yield {
                **source.columns,
                "center": center,
                "frame_id": keys.frame(source_key, index),
                "frame_index": index,
                "frame_time_ms": time_ms,
                **_cleaning_columns(frame),
                **_pixel_columns(frame.pixels, source.png if frame.unchanged else None, keys),
            }
        for error in source.left_out:
            yield Exclusion(source_key, error.reason, error.message)
    except ExcludedError as error:
        yield Exclusion(source_key, error.reason, error.message)


def _cleaning_columns(frame: CleanedFrame) -> dict[str, object]:
    return {
        "crop": list(frame.crop),
        "mode": frame.mode,
        "mode_source": frame.mode_source,
        "sectors": [sector.row() for sector in frame.sectors],
        "text_boxes": list(map(list, frame.text_boxes)),
        "mark_boxes": list(map(list, frame.mark_boxes)),
        "text_readers": list(frame.text_readers),
        "burned_in_text": frame.burned_in_text,
        "edited_fraction": frame.edited_fraction,
        "cleaning_reasons": list(frame.reasons),
    }


def _pixel_columns(cleaned: Pixels, png: bytes | None, keys: Pseudonymizer) -> dict[str, object]:
    """The columns that come from a frame's pixels; ``png`` holds exactly these, if given."""
    pixels = without_equal_channels(cleaned)
    return {
        "image": {"bytes": (png and bare_png(png, pixels)) or encode_png(pixels), "path": None},
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "pixel_digest": keys.pixels(pixels.shape, np.ascontiguousarray(pixels).data),
        **vars(pixel_statistics(pixels)),
    }
