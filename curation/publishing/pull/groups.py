"""Row groups of a dataset's files: what a workspace's parts are made from, and digests that tell which have changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sono.manifests.errors import UserError
from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.schemas import DATASET, DATASET_METADATA, TableSpec
from sono.manifests.store import damage_named

from .source import OTHER_COPY
from .stated import check_size

FRAMES = ("frame_id", "image", "patient_key", "study_key", "center", "manufacturer", "model", "plane", "sectors")
"""Columns that frames are made from, beside ``pixel_mm``."""

_REGION = "regions.list.element."
_LEAVES: Mapping[str, Sequence[str]] = {
    "frames": (*FRAMES, "pixel_mm"),
    "masks": (
        "frame_id",
        *(_REGION + name for name in ("structure", "caption_id", "mask", "bbox", "area_px", "source")),
    ),
    "captions": (
        *("frame_id", "plane", "ga_days", "caption", "caption_id"),
        *(_REGION + name for name in ("structure", "caption_id", "caption")),
    ),
}
"""What each table of a workspace is made from; a name stands for everything below it, too."""

_PART = "pull-"
_KEYS = ["frame_id", "patient_key", "study_key", "plane", "ga_days"]


def read_groups(path: Path, keys: Pseudonymizer) -> list[dict[str, str]]:
    """The row groups of a file of ``default``: each with the name of its parts, and a digest for every table.

    A group is named after its first frame: where a file's groups end is decided by the frames there, so a frame more or
    less leaves the others' names as they are.

    Raises:
        UserError: the file is damaged.
    """
    with damage_named(path, OTHER_COPY), pq.ParquetFile(path) as file:
        _check_schema(path, file.schema_arrow, DATASET)
        groups = []
        for number in range(file.num_row_groups):
            first = next(file.iter_batches(1, row_groups=[number], columns=["frame_id"]))["frame_id"][0].as_py()
            digests = {
                table: _digest(path, file.metadata.row_group(number), leaves) for table, leaves in _LEAVES.items()
            }
            groups.append({"name": _PART + keys.content(first), **digests})
        return groups


def load_group(path: Path, number: int, columns: Sequence[str], keys: Pseudonymizer) -> pa.Table:
    """Rows of a group, each with the ``source_key`` and ``frame_index`` that its frame has in the workspace."""
    with (
        damage_named(path, OTHER_COPY),
        pq.ParquetFile(path, page_checksum_verification=True) as file,
    ):
        rows = file.read_row_group(number, list(columns), use_threads=False)
    sources = [keys.source(frame_id) for frame_id in rows["frame_id"].to_pylist()]
    return rows.append_column("source_key", pa.array(sources, pa.string())).append_column(
        "frame_index", pa.array([0] * len(sources), pa.int32())
    )


def read_frame_keys(path: Path) -> pa.Table:
    """Who and what the rows of a file of ``default`` are about, as ``read_metadata_keys`` has it."""
    return _read_keys(path, DATASET)


def read_metadata_keys(path: Path) -> pa.Table:
    """Who and what the rows of a file of ``metadata`` are about.

    Columns: frame_id, patient_key, study_key, plane, ga_days.

    Raises:
        UserError: the file is damaged, or another version's.
    """
    return _read_keys(path, DATASET_METADATA)


def _read_keys(path: Path, table: TableSpec) -> pa.Table:
    check_size(path, "data" if table is DATASET else "metadata")
    with (
        damage_named(path, OTHER_COPY),
        pq.ParquetFile(path, page_checksum_verification=True) as file,
    ):
        _check_schema(path, file.schema_arrow, table)
        return file.read(_KEYS, use_threads=False).replace_schema_metadata(None)


def classes_of(path: Path) -> list[str]:
    """The ids of the planes that a file's column ``plane`` has the numbers of.

    Raises:
        UserError: it does not say.
    """
    with damage_named(path, OTHER_COPY):
        metadata = pq.read_schema(path).metadata or {}
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"]["plane"]["names"]
        return list(map(str, names))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError("this file does not say which planes there are", where=path.name) from error


def _check_schema(path: Path, found: pa.Schema, table: TableSpec) -> None:
    if not found.remove_metadata().equals(table.schema):
        raise UserError(
            "the table has other columns than this version of sono-curate writes",
            where=path.name,
            fix="pull it with the version that built it",
        )


def _digest(path: Path, group: pq.RowGroupMetaData, leaves: Sequence[str]) -> str:
    """Of the bytes that hold these columns."""
    digest = hashlib.sha256(str(group.num_rows).encode())
    with path.open("rb") as file:
        for start, size in _places(group, leaves):
            file.seek(start)
            while size > 0 and (chunk := file.read(min(size, 1 << 20))):
                digest.update(chunk)
                size -= len(chunk)
    return digest.hexdigest()


def _places(group: pq.RowGroupMetaData, leaves: Sequence[str]) -> Iterator[tuple[int, int]]:
    for column in map(group.column, range(group.num_columns)):
        name = column.path_in_schema
        if any(name == leaf or name.startswith(f"{leaf}.") for leaf in leaves):
            yield column.dictionary_page_offset or column.data_page_offset, column.total_compressed_size
