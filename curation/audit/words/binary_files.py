"""The text in binary files of a workspace that this program writes: as bytes, their numbers and keys spell anything."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from sono.curation.review.server.frame_index import FILE as FRAME_INDEX

_KEY_DIGITS = 32
_BESIDE = ("-wal", "-shm")  # a database's own files: SQLite reads them with it


def text_in(path: Path) -> list[str] | None:
    """Names and texts in an archive of arrays, an Arrow file, or the index of frames; no numbers, no pseudonyms.

    Returns:
        None if the file is another one, or is damaged: then nothing but its bytes can be searched.
    """
    main = path.with_name(path.name.removesuffix(_BESIDE[0]).removesuffix(_BESIDE[1]))
    read = _READERS.get(path.suffix) or (_text_of_index if main.name == FRAME_INDEX else None)
    if read is None:
        return None
    try:
        if path != main:
            next(read(main))
            return []
        return list(read(path))
    except (OSError, ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile, sqlite3.Error, StopIteration):
        return None  # Arrow's errors are among these


def strings_of(column: pa.Array) -> Iterator[list[str]]:
    """The distinct strings in a column, whatever it is made of."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        yield [value for value in column.unique().to_pylist() if value is not None]
    elif pa.types.is_dictionary(kind):
        yield from strings_of(column.dictionary)
    elif pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from strings_of(column.flatten())
    elif pa.types.is_struct(kind):
        for child in column.flatten():
            yield from strings_of(child)
    elif pa.types.is_binary(kind):
        yield [value.decode(errors="replace") for value in column.unique().to_pylist() if value is not None]


def _text_of_arrays(path: Path) -> Iterator[str]:
    """The cache of embeddings has only arrays of numbers."""
    with np.load(path, allow_pickle=False) as content:
        if content.zip.comment or any(content[name].dtype.kind not in "fiub" for name in content.files):
            raise ValueError("more than numbers")
        yield from content.files


def _text_of_arrow(path: Path) -> Iterator[str]:
    """The queue of the review, and what it has measured of decided masks."""
    with pa.memory_map(str(path)) as file:
        reader = pa.ipc.open_file(file)
        yield from reader.schema.names
        for key, value in (reader.schema.metadata or {}).items():
            yield key.decode(errors="replace")
            yield from _strings_of_json(json.loads(value))
        found: set[str] = set()
        for number in range(reader.num_record_batches):
            for column in reader.get_batch(number).columns:
                for values in strings_of(column):
                    found.update(value for value in values if not _is_key(value))
        yield from sorted(found)


def _strings_of_json(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _strings_of_json(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            yield key
            yield from _strings_of_json(each)


def _text_of_index(path: Path) -> Iterator[str]:
    """Where the rows of frames are: in columns of any name, because somebody may have added one."""
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        database.text_factory = lambda content: content.decode(errors="replace")
        tables = database.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
        yield from (sql for _, sql in tables)
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        for table in names:
            for _, column, *_ in database.execute(f"PRAGMA table_info({_quoted(table)})").fetchall():
                yield from (value for (value,) in database.execute(_others(_quoted(table), _quoted(column))))


def _others(table: str, column: str) -> str:
    """Asks for the texts of a column that are no pseudonyms: there are millions of those."""
    return (
        f"SELECT DISTINCT CAST({column} AS TEXT) FROM {table} WHERE typeof({column}) IN ('text', 'blob') "
        f"AND NOT (length({column}) = {_KEY_DIGITS} AND CAST({column} AS TEXT) NOT GLOB '*[^0-9a-f]*')"
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _is_key(value: str) -> bool:
    return len(value) == _KEY_DIGITS and set(value) <= set("0123456789abcdef")


_READERS: Mapping[str, Callable[[Path], Iterator[str]]] = {".npz": _text_of_arrays, ".arrow": _text_of_arrow}
"""By suffix; the index of frames is known by its name, because other databases may hold what was deleted from them."""
