"""Two readers of text that know nothing of the detector: what they can read after cleaning was not removed.

``rapidocr`` (PP-OCR; its wheel carries the models) looks for text in a whole frame: half a second each. ``tesserocr``
(Tesseract; its wheel has the program, and Debian the English language file) reads what was edited: some hundredths.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from sono.curation.cleaning.required import LANGUAGE, language_folder, missing
from sono.curation.images.pixels import Box, Pixels

from .views import brightness_and_colorfulness

if TYPE_CHECKING:
    import rapidocr
    import tesserocr

LONG_SIDE_PX = 960
"""What rapidocr shrinks a frame to before it looks for text."""

TALLEST_PX = 48
"""Boxes that are taller hold no text but anatomy."""

LEAST_SCORE = 0.5
"""What rapidocr must give a reading; scripts that it does not know it reads as Latin letters, with a low score."""

FEWEST_LETTERS = 4
"""Letters and digits of a word that Tesseract reads: fewer are read into any texture, and so are words of just as many,
which have to be read with more confidence."""

ENLARGED, STROKE_PX = 2, 11
"""How much Tesseract's pieces are enlarged, and the width from which something in them is no stroke."""

INVERTED_BELOW = "0.7"
"""Tesseract's own default: the confidence below which a line is read inverted, too."""

MARGIN_PX = 6


@dataclass(frozen=True)
class Reading:
    """What a reader made of a piece of a frame. ``text`` is for tests and stays out of tables, logs and reports."""

    text: str
    box: Box


def search(pixels: Pixels) -> list[Reading]:
    """What rapidocr finds and reads in a frame, [height, width] or [height, width, 3]."""
    from rapidocr.utils.output import RapidOCROutput

    result = _rapidocr()(_as_rgb(pixels), use_det=True, use_cls=False, use_rec=True)
    if not isinstance(result, RapidOCROutput) or result.boxes is None:
        return []  # nothing looks like text
    found = []
    for corners, text, score in zip(result.boxes, result.txts or (), result.scores or (), strict=True):
        box = _upright(corners, pixels.shape)
        if score >= LEAST_SCORE and min(box[2:]) <= TALLEST_PX and any(letter.isalnum() for letter in text):
            found.append(Reading(text, box))
    return found


def read_again(pixels: Pixels, boxes: tuple[Box, ...]) -> list[Reading]:
    """The words that Tesseract reads in the ``boxes`` of a frame and close around them."""
    return [reading for box in boxes for reading in _read_box(pixels, box)]


def _read_box(pixels: Pixels, box: Box) -> Iterator[Reading]:
    """Two ways of preparing a piece: each reads strings over echoes that the other does not."""
    x, y, width, height = box
    part = pixels[max(y - MARGIN_PX, 0) : y + height + MARGIN_PX, max(x - MARGIN_PX, 0) : x + width + MARGIN_PX]
    grey = brightness_and_colorfulness(part)[0] if part.ndim == 3 else part
    for turn in _turns(width, height):
        turned = np.ascontiguousarray(np.rot90(grey, -turn))
        image = cv2.resize(turned, None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_CUBIC)
        strokes = cv2.morphologyEx(image, cv2.MORPH_TOPHAT, np.ones((STROKE_PX,) * 2, np.uint8))
        for prepared, layout, confidence, inverted_too in (
            (image, "SPARSE_TEXT", (45.0, 45.0), True),
            # All strokes are bright. A block is read line by line, text or not, which takes three times as long.
            (strokes, "SINGLE_COLUMN", (70.0, 50.0), False),
        ):
            dark_on_light = 255 - _stretched(prepared)
            for word, sure in _words(dark_on_light, layout, inverted_too=inverted_too):
                letters = sum(map(str.isalnum, word))
                if letters >= FEWEST_LETTERS and sure >= confidence[letters > FEWEST_LETTERS]:
                    yield Reading(word, box)


def _stretched(image: npt.NDArray[Any]) -> Pixels:
    """From black to white."""
    lowest, highest = int(image.min()), int(image.max())
    return np.asarray((image.astype(np.float32) - lowest) * (255 / max(highest - lowest, 1)), np.uint8)


def _turns(width: int, height: int) -> tuple[int, ...]:
    """In quarters, how a box is turned to be read: a tall one may hold text that runs upwards or downwards."""
    if width > 1.5 * height:
        return (0,)
    return (1, 3) if height > 1.5 * width else (0, 1, 3)


def _words(image: Pixels, layout: str, *, inverted_too: bool) -> Iterator[tuple[str, float]]:
    """Tesseract's words in a grey image, each with its confidence in percent.

    ``inverted_too``: lines that it hardly reads are read as light on dark, too, which takes as long again.
    """
    from tesserocr import PSM, RIL, iterate_level

    tesseract = _tesseract()
    tesseract.SetVariable("invert_threshold", INVERTED_BELOW if inverted_too else "0.0")
    tesseract.SetPageSegMode(getattr(PSM, layout))
    tesseract.SetImageBytes(image.tobytes(), image.shape[1], image.shape[0], 1, image.shape[1])
    tesseract.SetSourceResolution(150)
    tesseract.Recognize()
    words = tesseract.GetIterator()
    for word in iterate_level(words, RIL.WORD) if words else ():
        if not word.Empty(RIL.WORD):
            yield word.GetUTF8Text(RIL.WORD), word.Confidence(RIL.WORD)


def _upright(corners: npt.NDArray[np.float32], shape: tuple[int, ...]) -> Box:
    """The upright box around four corners, within the frame."""
    (left, top), (right, bottom) = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0))
    x, y = max(int(left), 0), max(int(top), 0)
    return x, y, min(int(right), shape[1]) - x, min(int(bottom), shape[0]) - y


def _as_rgb(pixels: Pixels) -> Pixels:
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels


@functools.cache
def _rapidocr() -> rapidocr.RapidOCR:
    try:
        from rapidocr import RapidOCR
    except ModuleNotFoundError as error:
        raise missing("rapidocr") from error
    return RapidOCR(
        params={
            "Global.log_level": "error",
            "Det.limit_type": "max",
            "Det.limit_side_len": LONG_SIDE_PX,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )


@functools.cache
def _tesseract() -> tesserocr.PyTessBaseAPI:
    try:
        from tesserocr import LeptLogLevel, PyTessBaseAPI, set_leptonica_log_level
    except ModuleNotFoundError as error:
        raise missing("tesserocr") from error
    set_leptonica_log_level(LeptLogLevel.NONE)  # it tells the terminal about every piece without text
    return PyTessBaseAPI(path=str(language_folder()), lang=LANGUAGE)
