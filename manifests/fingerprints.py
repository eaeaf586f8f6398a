"""Which content a page or a report is about: fingerprints of tables, from all that their parts hold but pictures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow.parquet as pq

from .schemas import TableSpec
from .store import TableStore, damage_named, part_name

_PICTURES = "image.bytes"


def tables_fingerprint(store: TableStore, tables: Iterable[TableSpec]) -> str:
    """Changes when a value of one of the tables does, however it was written.

    Raises:
        UserError: a part is damaged.
    """
    parts = [[table.name, part_name(path), part_digest(path)] for table in tables for path in store.paths(table)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def part_digest(path: Path) -> str:
    """A digest of a part's size, its footer, and every column but that of the pictures.

    The footer has the fingerprint that the part was made from, and the size of every column, but not its values. Of
    pictures, which are nearly all of a part, the digests in ``pixel_digest`` are enough. Copying a part leaves it as it
    is.

    Raises:
        UserError: it is no Parquet file.
    """
    digest = hashlib.sha256(path.stat().st_size.to_bytes(8, "little"))
    with damage_named(path):
        footer = pq.read_metadata(path)
    with path.open("rb") as file:
        for start, size in [*_columns(footer), (-footer.serialized_size - 8, footer.serialized_size)]:
            file.seek(start, 0 if start >= 0 else 2)
            digest.update(file.read(size))
    return digest.hexdigest()


def _columns(footer: pq.FileMetaData) -> Iterator[tuple[int, int]]:
    """Where each column but that of the pictures begins, and how many bytes it has."""
    for group in map(footer.row_group, range(footer.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            if column.path_in_schema != _PICTURES:
                yield column.dictionary_page_offset or column.data_page_offset, column.total_compressed_size
