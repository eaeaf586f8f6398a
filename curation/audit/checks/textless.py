"""Images in which no reader found anything: an audit that runs again need not read them again.

Reading costs half a second an image. What was read is never kept, so images with any text are read each time.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sono.curation.audit.findings import TEXTLESS
from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.query import query

from .readable_text import reader_versions

Known = npt.NDArray[np.uint64]


def textless_key(row: Mapping[str, Any], keys: Pseudonymizer) -> str:
    """Of a row's image, of where it was painted over, and of the readers; keyed."""
    image = hashlib.sha256(row["image"]["bytes"]).hexdigest()
    return keys.content(json.dumps(["audit textless", image, row["text_boxes"], reader_versions()]))


def is_known(key: str, known: Known) -> bool:
    """Whether the image was found without text; wrongly once in 2^64 over the number of images."""
    place = int(known.searchsorted(_number(key)))
    return place < len(known) and bool(known[place] == _number(key))


def save_textless(parts: Sequence[Path], path: Path) -> None:
    """Write what the parts of ``FINDINGS`` of an earlier audit say, for the workers of the next."""
    sql = "SELECT DISTINCT pseudonym FROM read_parquet($paths) WHERE outcome = $textless"
    paths = [str(part) for part in parts]
    keys = query(sql, {"paths": paths, "textless": TEXTLESS})["pseudonym"].to_pylist() if paths else []
    numbers = np.array([_number(key) for key in keys], np.uint64)
    numbers.sort()
    path.write_bytes(numbers.tobytes())


@functools.lru_cache(2)
def load_textless(path: Path) -> Known:
    """What ``save_textless`` wrote; once per process."""
    return np.frombuffer(path.read_bytes(), np.uint64)


def _number(key: str) -> np.uint64:
    return np.uint64(int(key[:16], 16))
