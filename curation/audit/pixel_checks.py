"""The pixels of one stored frame, held against those of its source."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

import cv2
import numpy as np

from sono.curation.images.pixels import ExcludedError, Pixels
from sono.curation.images.stored_png import decode_png
from sono.manifests.pseudonyms import Pseudonymizer

from .cleaned import Box, Cleaning, Mask, boxes_area, cleaning_of, sector_area
from .findings import Findings
from .text_reader import text_reader

_PIXEL_CHUNKS = {b"IHDR", b"IDAT", b"IEND"}
_EDGE = np.ones((3, 3), np.uint8)  # a sector's outermost pixels may be on either side, by rounding


def check_pixels(row: Mapping[str, Any], source: Pixels, keys: Pseudonymizer, held: bool, findings: Findings) -> None:
    """Count what holds of a row of ``frames`` whose source frame is ``source``.

    Args:
        held: quality control keeps the frame out of datasets, so that it need not be shown clean.
    """
    cleaning = cleaning_of(row)
    stored = _stored(row, keys, findings)
    if stored is None:
        return
    x, y, width, height = cleaning.crop
    original = source[y : y + height, x : x + width] if min(x, y) >= 0 else source[:0]
    if original.shape[:2] != (height, width) or stored.shape[:2] != (height, width):
        findings.failed("pixels_retained", "another_crop")
        return
    area = sector_area(cleaning.sectors, height, width)
    same = _same(stored, original)
    _check_retained(area & ~boxes_area([*cleaning.text_boxes, *cleaning.mark_boxes], height, width), same, findings)
    _check_outside(area, stored, findings)
    _check_boxes(cleaning, stored, same, held, findings)
    if cleaning.shown_clean:
        findings.passed("pixels_hidden")
    elif held:
        findings.empty("pixels_hidden", "held_back_by_quality_control")
    else:
        findings.failed("pixels_hidden", "not_shown_clean")


def _stored(row: Mapping[str, Any], keys: Pseudonymizer, findings: Findings) -> Pixels | None:
    """The stored image; its digest and what its file holds besides pixels are judged, too."""
    content = row["image"]["bytes"] or b""
    try:
        stored = decode_png(content)
    except (ExcludedError, cv2.error):
        findings.failed("pixels_retained", "the_stored_image_does_not_decode")
        return None
    findings.judge("text_removed", "stored_image_holds_more_than_pixels", set(_chunks(content)) == _PIXEL_CHUNKS)
    digest = keys.pixels(stored.shape, np.ascontiguousarray(stored).data)
    findings.judge("pixels_retained", "another_pixel_digest", digest == row["pixel_digest"])
    return stored


def _chunks(png: bytes) -> Iterator[bytes]:
    """Names of a PNG's chunks; anything after the last is one more."""
    position = 8
    while position + 12 <= len(png):
        kind = png[position + 4 : position + 8]
        yield kind
        position += 12 + struct.unpack(">I", png[position : position + 4])[0]
        if kind == b"IEND" and position < len(png):
            yield b"more"
            return


def _same(stored: Pixels, original: Pixels) -> Mask:
    """Shape [height, width]: where the two are equal; a grey image equals a colour image of equal channels."""
    return np.asarray((np.atleast_3d(stored) == np.atleast_3d(original)).all(axis=2))


def _check_retained(kept: Mask, same: Mask, findings: Findings) -> None:
    inner = cv2.erode(kept.astype(np.uint8), _EDGE, borderValue=1).astype(bool)
    if not inner.any():
        findings.empty("pixels_retained", "no_pixel_in_the_sector")
    else:
        findings.judge("pixels_retained", "pixels_changed_in_the_sector", bool(same[inner].all()))


def _check_outside(area: Mask, stored: Pixels, findings: Findings) -> None:
    outside = ~cv2.dilate(area.astype(np.uint8), _EDGE).astype(bool)
    if not outside.any():
        findings.empty("pixels_hidden", "the_sector_fills_the_image")
    else:
        findings.judge("pixels_hidden", "not_blank_outside_the_sector", not stored[outside].any())


def _check_boxes(cleaning: Cleaning, stored: Pixels, same: Mask, held: bool, findings: Findings) -> None:
    """What was painted over has changed; where it was text, nothing can be read there."""
    for box in (*cleaning.text_boxes, *cleaning.mark_boxes):
        painted = boxes_area([box], *same.shape)
        findings.judge("pixels_hidden", "a_recorded_edit_was_not_made", not same[painted].all())
    for box in cleaning.text_boxes:
        found = _reading(stored, box)
        if found is None:
            findings.passed("pixels_hidden")
        elif held:
            findings.empty("pixels_hidden", "held_back_by_quality_control")
        else:
            findings.failed("pixels_hidden", found)


def _reading(stored: Pixels, box: Box) -> str | None:
    """Why a box is not shown to hold no text; None if it is."""
    read = text_reader()
    if read is None:
        return "tesseract_is_not_installed"
    return "text_can_be_read" if read(stored, box) else None
