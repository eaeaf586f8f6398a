"""The pixels of one stored frame, held against those of its source."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

import cv2
import numpy as np

from sono.curation.audit.findings import Findings
from sono.curation.images.codestreams import png
from sono.curation.images.codestreams.stream import DamagedStreamError
from sono.curation.images.pixels import ExcludedError, Pixels
from sono.curation.images.stored_png import decode_png
from sono.manifests.pseudonyms import Pseudonymizer

from .cleaned import Cleaning, Mask, boxes_area, cleaning_of, sector_area
from .readable_text import Identity, identifies, read_text

_PIXEL_CHUNKS = {b"IHDR", b"IDAT", b"IEND"}
_EDGE = np.ones((3, 3), np.uint8)  # a sector's outermost pixels may be on either side, by rounding
_FRACTION_DIGITS = 1e-4  # of ``edited_fraction``, for the same reason and for its 32 bits


def check_pixels(row: Mapping[str, Any], source: Pixels, keys: Pseudonymizer, findings: Findings) -> Pixels | None:
    """Count what holds of a row of ``frames`` whose source frame is ``source``.

    Returns:
        The stored image, to be read; None where it does not decode.
    """
    cleaning = cleaning_of(row)
    stored = _stored(row, keys, findings)
    if stored is None:
        return None
    x, y, width, height = cleaning.crop
    original = source[y : y + height, x : x + width] if min(x, y) >= 0 else source[:0]
    if original.shape[:2] != (height, width) or stored.shape[:2] != (height, width):
        findings.failed("pixels_retained", "another_crop")
        return stored
    area = sector_area(cleaning.sectors, height, width)
    same = _same(stored, original)
    _check_retained(cleaning, area, same, findings)
    _check_outside(area, stored, findings)
    _check_edits(cleaning, area, original, same, findings)
    return stored


def check_text(row: Mapping[str, Any], stored: Pixels, said: Identity, verdict: str | None, findings: Findings) -> bool:
    """Read the stored image of a row and judge what can be read.

    Args:
        said: by the source.
        verdict: of quality control; frames for review, or rejected, need not be shown clean, since no dataset gets
            them, but even they must identify nobody.

    Returns:
        Whether there was nothing at all to read.
    """
    cleaning = cleaning_of(row)
    held = verdict in ("review", "reject") or (verdict is None and not cleaning.shown_clean)
    text = read_text(stored, cleaning.text_boxes)
    if identifies(text.readings, said):
        findings.failed("pixels_hidden", "what_the_source_says_can_be_read")
    elif text.nothing:
        findings.passed("pixels_hidden")
    elif not (text.readable or text.seen):
        findings.empty("pixels_hidden", "single_letters_can_be_read")
    elif held:
        findings.empty("pixels_hidden", "other_text_on_a_frame_for_review")
    else:
        findings.failed("pixels_hidden", "text_can_be_read" if text.readable else "text_can_be_seen")
    return text.nothing


def check_shown_clean(row: Mapping[str, Any], verdict: str | None, findings: Findings) -> None:
    """A frame that cleaning doubts is for review."""
    if cleaning_of(row).shown_clean:
        findings.passed("pixels_hidden")
    elif verdict == "accept":
        findings.failed("pixels_hidden", "accepted_but_not_shown_clean")
    else:
        findings.empty("pixels_hidden", "for_review")


def _stored(row: Mapping[str, Any], keys: Pseudonymizer, findings: Findings) -> Pixels | None:
    """The stored image; its digest and what its file holds besides pixels are judged, too."""
    content = row["image"]["bytes"] or b""
    try:
        stored = decode_png(content)
    except (ExcludedError, cv2.error):
        findings.failed("pixels_retained", "the_stored_image_does_not_decode")
        return None
    findings.judge("text_removed", "stored_image_holds_more_than_pixels", _only_pixels(content))
    digest = keys.pixels(stored.shape, np.ascontiguousarray(stored).data)
    findings.judge("pixels_retained", "another_pixel_digest", digest == row["pixel_digest"])
    return stored


def _chunks(content: bytes) -> Iterator[bytes]:
    """Names of a PNG's chunks; anything after the last is one more."""
    position = 8
    while position + 12 <= len(content):
        kind = content[position + 4 : position + 8]
        yield kind
        position += 12 + struct.unpack(">I", content[position : position + 4])[0]
        if kind == b"IEND" and position < len(content):
            yield b"more"
            return


def _only_pixels(content: bytes) -> bool:
    """Whether a PNG that decodes holds nothing else: not beside its pixels, nor after them."""
    if set(_chunks(content)) != _PIXEL_CHUNKS:
        return False
    try:
        png.inflate(content, png.read_header(content))
    except DamagedStreamError:
        return False
    return True


def _same(stored: Pixels, original: Pixels) -> Mask:
    """Shape [height, width]: where the two are equal; a grey image equals a colour image of equal channels."""
    return np.asarray((np.atleast_3d(stored) == np.atleast_3d(original)).all(axis=2))


def _check_retained(cleaning: Cleaning, area: Mask, same: Mask, findings: Findings) -> None:
    """Inside the sector nothing has changed but what is recorded: where, and how much."""
    inner = _inside(area)
    if not inner.any():
        findings.empty("pixels_retained", "no_pixel_in_the_sector")
        return
    kept = inner & ~boxes_area([*cleaning.text_boxes, *cleaning.mark_boxes], *area.shape)
    if not kept.any():
        findings.empty("pixels_retained", "edits_fill_the_sector")
    else:
        findings.judge("pixels_retained", "pixels_changed_in_the_sector", bool(same[kept].all()))
    changed = np.count_nonzero(inner & ~same) / np.count_nonzero(area)
    recorded = bool(changed <= cleaning.edited_fraction + _FRACTION_DIGITS)
    findings.judge("pixels_retained", "more_pixels_changed_than_recorded", recorded)


def _check_edits(cleaning: Cleaning, area: Mask, original: Pixels, same: Mask, findings: Findings) -> None:
    """Something has changed in the box of every edit, besides what had to turn black.

    Not where one level is all that there was: a cine's text is painted over in all of its frames, and where it is not
    shown over fluid, for instance, painting changes nothing.
    """
    inner = _inside(area)
    for box in (*cleaning.text_boxes, *cleaning.mark_boxes):
        painted = boxes_area([box], *area.shape) & inner
        if not painted.any() or (original[painted] == original[painted][0]).all():
            findings.empty("pixels_hidden", "nothing_under_the_edit")
            continue
        findings.judge("pixels_hidden", "a_recorded_edit_was_not_made", not same[painted].all())


def _inside(area: Mask) -> Mask:
    """Without the outermost pixels."""
    return cv2.erode(area.view(np.uint8), _EDGE, borderValue=1).astype(bool)


def _check_outside(area: Mask, stored: Pixels, findings: Findings) -> None:
    outside = ~cv2.dilate(area.astype(np.uint8), _EDGE).astype(bool)
    if not outside.any():
        findings.empty("pixels_hidden", "the_sector_fills_the_image")
    else:
        findings.judge("pixels_hidden", "not_blank_outside_the_sector", not stored[outside].any())
