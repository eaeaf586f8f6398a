"""Which content a page or a report is about: fingerprints of tables, from the footers of their parts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from .schemas import TableSpec
from .store import TableStore, damaged, part_name

_MAGIC = b"PAR1"


def tables_fingerprint(store: TableStore, tables: Iterable[TableSpec]) -> str:
    """Changes when a part of one of the tables does, however it was written.

    Raises:
        UserError: a part is damaged.
    """
    parts = [[table.name, part_name(path), part_footer(path)] for table in tables for path in store.paths(table)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def part_footer(path: Path) -> str:
    """A digest of a part's size and footer, which has the size and the range of every column, and its fingerprint.

    Copying a workspace leaves it as it is, and it costs nothing next to reading images.

    Raises:
        UserError: it is no Parquet file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(size - 8, 0))
        end = file.read(8)
        length = int.from_bytes(end[:4], "little")
        if end[4:] != _MAGIC or length + 12 > size:
            raise damaged(path)
        file.seek(size - 8 - length)
        return hashlib.sha256(size.to_bytes(8, "little") + file.read(length)).hexdigest()
