"""Reads text in boxes of a frame with Tesseract, which is no part of what removes it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from sono.curation.images.pixels import Pixels

from .cleaned import Box

Reader = Callable[[Pixels, Box], list[str]]

_LANGUAGE_FILE = "eng.traineddata"
_FOLDERS = ("/usr/share/tesseract-ocr/5/tessdata", "/usr/share/tesseract-ocr/4.00/tessdata", "/usr/share/tessdata")
_MARGIN_PX = 6
_ENLARGED = 2
_LEAST_CONFIDENCE, _LEAST_LETTERS = 60.0, 3  # below, a word is read into any texture


@functools.cache
def text_reader() -> Reader | None:
    """The reader, once per process; None where Tesseract or its language file is not installed."""
    folder = _language_folder()
    if folder is None:
        return None
    try:
        from tesserocr import PSM, RIL, PyTessBaseAPI, iterate_level
    except ModuleNotFoundError:
        return None
    tesseract = PyTessBaseAPI(path=str(folder), lang="eng", psm=PSM.SPARSE_TEXT)

    def read(pixels: Pixels, box: Box) -> list[str]:
        """Words of at least three letters or digits in and close around a box."""
        image = _prepared(pixels, box)
        if image is None:
            return []
        tesseract.SetImageBytes(image.tobytes(), image.shape[1], image.shape[0], 1, image.shape[1])
        tesseract.SetSourceResolution(150)
        tesseract.Recognize()
        found = tesseract.GetIterator()
        words = [
            word.GetUTF8Text(RIL.WORD)
            for word in (iterate_level(found, RIL.WORD) if found else ())
            if not word.Empty(RIL.WORD) and word.Confidence(RIL.WORD) >= _LEAST_CONFIDENCE
        ]
        return [word for word in words if sum(map(str.isalnum, word)) >= _LEAST_LETTERS]

    return read


def _prepared(pixels: Pixels, box: Box) -> Pixels | None:
    """The piece as dark text on light ground, enlarged; None if the box lies outside the frame."""
    x, y, width, height = box
    part = pixels[max(y - _MARGIN_PX, 0) : y + height + _MARGIN_PX, max(x - _MARGIN_PX, 0) : x + width + _MARGIN_PX]
    if 0 in part.shape:
        return None
    grey = part.max(axis=2) if part.ndim == 3 else part
    large = cv2.resize(np.ascontiguousarray(grey), None, fx=_ENLARGED, fy=_ENLARGED, interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(255 - large, dtype=np.uint8)


def _language_folder() -> Path | None:
    """Where the language file is: where ``TESSDATA_PREFIX`` says, or where Linux distributions put it."""
    prefix = os.environ.get("TESSDATA_PREFIX")
    named = [Path(prefix), Path(prefix) / "tessdata"] if prefix else []
    return next((folder for folder in (*named, *map(Path, _FOLDERS)) if (folder / _LANGUAGE_FILE).is_file()), None)
