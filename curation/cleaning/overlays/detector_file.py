"""The file of the text detector's network."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources


def detector_bytes() -> bytes:
    return resources.files(__package__).joinpath("text_detector.onnx").read_bytes()


@functools.cache
def detector_sha256() -> str:
    """Another network may find other text, so that frames are cleaned again; asked for with every part of a folder."""
    return hashlib.sha256(detector_bytes()).hexdigest()
