"""Files of models: their digests, without holding them in memory."""

from __future__ import annotations

import hashlib
import mmap
import re
from pathlib import Path

from sono.manifests.errors import UserError

_LOCATION = re.compile(rb"\x0a\x08location\x12([\x01-\x7f])")
"""Before the name of a file with weights, and its length, in a message of onnx.proto's ``external_data``."""


def model_sha256(*paths: Path) -> str:
    """Hex SHA-256 of a model: of its file, or of the digests of its files in this order.

    ONNX files may keep their weights in files beside them, which count as well.

    Raises:
        UserError: a file is missing or cannot be read.
    """
    digests = [_file_sha256(file) for path in paths for file in (path, *_weights_beside(path))]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _file_sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise UserError("file not found", where=str(path), fix="check the path of the model") from None
    except (IsADirectoryError, PermissionError):
        raise UserError("not a file that can be read", where=str(path), fix="name the model's file") from None


def _weights_beside(path: Path) -> list[Path]:
    """The files beside an ONNX file that hold its weights, if it has any."""
    if path.suffix != ".onnx" or not path.is_file() or not path.stat().st_size:  # nothing cannot be mapped
        return []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        names = {
            content[found.end() : found.end() + found[1][0]].decode("utf-8", "replace")
            for found in _LOCATION.finditer(content)
        }
    return [file for file in (path.parent / name for name in sorted(names)) if file.is_file()]
