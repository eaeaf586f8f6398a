"""The text detector's network: a file for frames in colour, and the same function of grey ones, at a lower cost."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources


def detector_bytes(*, grey: bool) -> bytes:
    name = "text_detector_grey.onnx" if grey else "text_detector.onnx"
    return resources.files(__package__).joinpath(name).read_bytes()


@functools.cache
def detector_sha256() -> str:
    """Another network may find other text, so that frames are cleaned again; asked for with every part of a folder."""
    return hashlib.sha256(detector_bytes(grey=False) + detector_bytes(grey=True)).hexdigest()
