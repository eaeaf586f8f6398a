"""Files of models: their digests, without holding them in memory."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sono.manifests.errors import UserError


def model_sha256(*paths: Path) -> str:
    """Hex SHA-256 of a model's file; of several files, of their digests in this order.

    Raises:
        UserError: a file is missing or cannot be read.
    """
    digests = [_file_sha256(path) for path in paths]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _file_sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise UserError("file not found", where=str(path), fix="check the path of the model") from None
    except (IsADirectoryError, PermissionError):
        raise UserError("not a file that can be read", where=str(path), fix="name the model's file") from None
