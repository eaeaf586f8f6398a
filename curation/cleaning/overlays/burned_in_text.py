"""Burned-in text within the ultrasound: found, removed whatever it says, and shown to be gone.

What the detector finds is filled from its surroundings, readable or not, in any script. Then it is looked for again: by
the detector in the whole frame, and by a reader that knows nothing of it where something was removed. A frame in which
one of them finds anything is for a person to review.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from sono.curation.images.pixels import Box, Mask, Pixels

from .find import Overlays, boxes_of, find_overlays
from .inpainting import inpaint
from .text_readers import read_again, search

ROUNDS = 3
"""How often text is removed that shows after a removal, such as a line's faint end."""

MARGIN_PX = 2
"""Removed around what was found: ink that was smoothed into its surroundings."""

NEAR_PX = 24
"""How far from text what may be text is believed to be: the distance between words and lines."""

AROUND_PX = 48
"""Searched by rapidocr again around what was removed: more than the height of a line that it reads."""

MOST_TEXT = 0.45
"""Share of the sector that may be removed: a page of a report has more, three lines over a small sector a third."""


@dataclass(frozen=True)
class TextFinding:
    """A frame without its text.

    Attributes:
        pixels: as they came, except where ``edited`` is set.
        edited: [height, width], what was removed and filled from its surroundings.
        boxes: around each piece of text that was removed, x, y, width, height in px.
        status: as in the frames table: ``none`` or ``removed`` with its proof, else ``unchecked``.
        reasons: keys of ``reasons.TEXT``; empty unless the status is ``unchecked``.
        readers: what looked for text, of ``detector``, ``rapidocr``, ``tesserocr``.
        overlays: what the detector sees in ``pixels``: for ``remove_calipers``.
    """

    pixels: Pixels
    edited: Mask
    boxes: tuple[Box, ...]
    status: str
    reasons: tuple[str, ...]
    readers: tuple[str, ...]
    overlays: Overlays


def clean_text(
    pixels: Pixels,
    sector_mask: Mask,
    *,
    search_too: bool = False,
    known_boxes: Sequence[Box] = (),
    overlays: Overlays | None = None,
) -> TextFinding:
    """Remove the text within the sector and prove that it is gone.

    Call ``required.require_readers`` first, once: without its readers nothing can be called clean.

    Args:
        pixels: [height, width] grey, or [height, width, 3] RGB.
        sector_mask: [height, width], where the frame shows ultrasound; the rest is not looked at.
        search_too: let rapidocr search the frame, too, before and after (about a second).
        known_boxes: x, y, width, height in px, where other frames of the same cine have text: removed at once, so that
            the detector looks at the frame once if it has no other.
        overlays: what the detector found in exactly these pixels; looked for if omitted. Not with ``known_boxes``.
    """
    if not np.any(sector_mask):
        raise ValueError("no pixel of the frame shows ultrasound")
    readers = ["detector"]
    assert overlays is None or not known_boxes, "the detector has to look once these are gone"
    known = np.zeros(sector_mask.shape, np.bool_)
    for box in known_boxes:
        known |= _boxed(box, sector_mask)
    edited = _grown(known) & sector_mask
    cleaned = inpaint(pixels, edited) if known_boxes else pixels
    left = overlays or find_overlays(cleaned, sector_mask)
    text = _with_neighbours(left, left.text | edited)
    if search_too:
        readers.append("rapidocr")
        text |= _searched(cleaned, sector_mask)
    if doubtful := boxes_of(left.possible_text & ~text):
        readers.append("tesserocr")
        for reading in read_again(cleaned, doubtful):
            text |= _boxed(reading.box, sector_mask)
    if not np.any(text | edited):
        return TextFinding(pixels, text, (), "none", (), tuple(readers), left)
    remains = text
    if np.any(text):
        cleaned, edited, remains, left = _remove(pixels, sector_mask, text | known)
    boxes = boxes_of(edited)
    reasons = ["text_remains"] if np.any(remains) else []
    if np.count_nonzero(edited) > MOST_TEXT * np.count_nonzero(sector_mask):
        reasons.append("text_covers_sector")
    if not reasons:  # reading takes longest, and a person looks at the others anyway
        readers = [*dict.fromkeys([*readers, "tesserocr"])]
        if read_again(cleaned, boxes) or (search_too and np.any(_searched(cleaned, _around(edited) & sector_mask))):
            reasons.append("text_readable")
    status = "unchecked" if reasons else "removed"
    return TextFinding(cleaned, edited, boxes, status, tuple(reasons), tuple(readers), left)


def _remove(pixels: Pixels, sector_mask: Mask, text: Mask) -> tuple[Pixels, Mask, Mask, Overlays]:
    """The frame without ``text`` and what shows once it is gone; what was edited; text and all overlays left."""
    edited = np.zeros(text.shape, np.bool_)
    for _ in range(ROUNDS):
        edited |= _grown(text) & sector_mask
        cleaned = inpaint(pixels, edited)
        left = find_overlays(cleaned, sector_mask)
        text = _with_neighbours(left, edited)
        if not np.any(text):
            break
    return cleaned, edited, text, left


def _with_neighbours(overlays: Overlays, near: Mask) -> Mask:
    """Text, with pieces that the detector is less sure of close to ``near``: the rest of a line that it found."""
    text = overlays.text.copy()
    if not np.any(near):
        return text
    doubtful = overlays.possible_text & ~text
    if not np.any(doubtful):
        return text
    around = cv2.dilate(near.view(np.uint8), np.ones((2 * NEAR_PX + 1,) * 2, np.uint8)).astype(np.bool_)
    count, labels = cv2.connectedComponents(doubtful.view(np.uint8), connectivity=8)
    close = np.zeros(count, np.bool_)
    close[labels[around & doubtful]] = True
    return np.asarray(text | close[labels], np.bool_)


def _grown(mask: Mask) -> Mask:
    return np.asarray(cv2.dilate(mask.view(np.uint8), np.ones((2 * MARGIN_PX + 1,) * 2, np.uint8)), dtype=np.bool_)


def _around(edited: Mask) -> Mask:
    """The box around all edits and what may be one line with them: what was read elsewhere is as it was."""
    x, y, width, height = cv2.boundingRect(edited.view(np.uint8))
    return _boxed((x - AROUND_PX, y - AROUND_PX, width + 2 * AROUND_PX, height + 2 * AROUND_PX), np.ones_like(edited))


def _searched(pixels: Pixels, mask: Mask) -> Mask:
    """Where rapidocr reads text within a mask."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    window = np.s_[y : y + height, x : x + width]
    inside = cv2.copyTo(pixels[window], np.ascontiguousarray(mask[window]).view(np.uint8))
    found = np.zeros(mask.shape, np.bool_)
    for reading in search(np.asarray(inside, np.uint8)):
        found |= _boxed((reading.box[0] + x, reading.box[1] + y, *reading.box[2:]), mask)
    return found


def _boxed(box: Box, sector_mask: Mask) -> Mask:
    x, y, width, height = box
    mask = np.zeros(sector_mask.shape, np.bool_)
    mask[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)] = True
    return mask & sector_mask
