"""The file of the text detector's network."""

from __future__ import annotations

import hashlib
from importlib import resources


def detector_bytes() -> bytes:
    return resources.files(__package__).joinpath("text_detector.onnx").read_bytes()


def detector_sha256() -> str:
    """Another network may find other text, so that frames are cleaned again."""
    return hashlib.sha256(detector_bytes()).hexdigest()
