"""Atomic Parquet parts in a workspace's folders."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .decided_rows import SUBJECTS, with_decisions
from .errors import UserError
from .journal import Journal, open_journal
from .journal_file import FOLDER as REVIEW
from .schemas import EXCLUSIONS, TableSpec
from .withdrawn import admitted, read_withdrawn

METADATA = b"sono"
"""The key in a schema's metadata under which a part's ``PartInfo`` is."""

_PART = "part-"
TEMPORARY = ".tmp-"
_ROWS_AT_ONCE = 32
_BUFFER = 2**20  # bytes of a column
_UNCOMPRESSED = ("image.bytes",)  # PNG is compressed already
_GROUP_BYTES, _GROUP_ROWS = 4 * 2**20, 16  # of pictures in a row group, about, and the fewest rows of one


@dataclass(frozen=True)
class PartInfo:
    """What a part's Parquet metadata says about it.

    Attributes:
        exclusions: counts by reason what was left out of it.
        made_with: versions and settings that it was made with, as its stage names them; for people to read.
        decisions: a digest of what people decided on its rows, which is no part of what its stage wrote.
    """

    name: str
    stage: str
    fingerprint: str
    scope: str
    rows: int
    exclusions: dict[str, int] = field(default_factory=dict)
    made_with: dict[str, Any] = field(default_factory=dict)
    decisions: str = ""

    @property
    def content_id(self) -> str:
        """Changes whenever the content may: with what the part was made from, and with every decision on its rows."""
        return f"{self.fingerprint}+{self.decisions}" if self.decisions else self.fingerprint


@dataclass(frozen=True)
class TableStore:
    """The tables under one folder. Holds no state besides the path, so it travels to workers."""

    root: Path

    def folder(self, table: TableSpec) -> Path:
        return self.root / table.name

    def path(self, table: TableSpec, name: str) -> Path:
        return self.folder(table) / f"{_PART}{name}.parquet"

    def parts(self, table: TableSpec) -> dict[str, PartInfo]:
        """The parts of a table by name, in name order.

        Raises:
            UserError: a file cannot be read as a part.
        """
        found = (read_info(path) for path in sorted(self.folder(table).glob(f"{_PART}*.parquet")))
        return {info.name: info for info in found}

    def paths(self, table: TableSpec) -> list[Path]:
        return sorted(self.folder(table).glob(f"{_PART}*.parquet"))

    def read(self, table: TableSpec, name: str, columns: list[str] | None = None) -> pa.Table:
        return _read(self.path(table, name), columns)

    def read_all(self, table: TableSpec, columns: list[str] | None = None) -> pa.Table:
        """Every part of a table at once; only for small tables and small columns."""
        names = columns if columns is not None else table.schema.names
        tables = [_read(path, names) for path in self.paths(table)]
        schema = pa.schema([table.schema.field(name) for name in names])
        if not tables:
            return pa.Table.from_batches([], schema)  # schema.empty_table() would load pandas
        return pa.concat_tables([_with_schema(part, schema) for part in tables])

    def read_first(self, path: Path, columns: list[str]) -> list[dict[str, object]]:
        """The first row of a part, if it has one, without reading the others."""
        with damage_named(path), pq.ParquetFile(path) as file:
            batch = next(file.iter_batches(batch_size=1, columns=columns), None)
        return [] if batch is None else batch.slice(0, 1).select(columns).to_pylist()

    def find_rows(
        self, path: Path, table: TableSpec, keys: Set[str], columns: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        """The rows of a part that have these keys; of the others, no more than a few are in memory at a time."""
        for batch, found in self.find_batches(path, table, keys, columns):
            yield from (batch if len(found) == batch.num_rows else batch.take(pa.array(found))).to_pylist()

    def find_batches(
        self, path: Path, table: TableSpec, keys: Set[str], columns: Sequence[str]
    ) -> Iterator[tuple[pa.RecordBatch, list[int]]]:
        """As ``find_rows`` for code that leaves pictures where they were read: a few rows, and which have these keys.

        Batches in which none has are left out.
        """
        names = [table.key, *columns]
        with damage_named(path), pq.ParquetFile(path, buffer_size=_BUFFER, page_checksum_verification=True) as file:
            groups = [number for number in range(file.num_row_groups) if _has_any(file, number, table.key, keys)]
            for batch in file.iter_batches(_ROWS_AT_ONCE, groups, columns=names, use_threads=False):
                found = [index for index, key in enumerate(batch[table.key].to_pylist()) if key in keys]
                if found:
                    yield batch, found

    def count_rows(self, table: TableSpec) -> int:
        return sum(_count_rows(path) for path in self.paths(table))

    def admitted(self, table: TableSpec, rows: pa.Table) -> pa.Table:
        """What a stage wrote, without patients who took back their consent."""
        return admitted(read_withdrawn(self.root), table, rows)

    def write(self, table: TableSpec, info: PartInfo, content: pa.Table) -> None:
        """Write one part atomically: it is on disk when this returns, and a partial file is never visible.

        What people decided on its rows stays: the part gets it, too.
        """
        journal = open_journal(self.root) if table.name in SUBJECTS else None
        if journal is None:
            write_part(self.path(table, info.name), table, info, content)
        else:
            with contextlib.closing(journal):
                self.write_decided(journal, table, info, content, always=True)

    def write_decided(
        self, journal: Journal, table: TableSpec, info: PartInfo, content: pa.Table, *, always: bool = False
    ) -> bool:
        """Write a part with what people decided on its rows.

        What its stage wrote of these rows is kept beside the journal, for the case that they take it back.

        Args:
            content: as a stage wrote it, or as the part has it now.
            always: write the part even if no decision changes ``content``.

        Returns:
            Whether a decision changed ``content``.
        """
        beside = self.beside(table, info.name)
        decided = with_decisions(journal, table, content, _read(beside, None) if beside.exists() else None)
        if always or decided.changed:
            if decided.underneath.num_rows:
                write_part(beside, table, replace(info, rows=decided.underneath.num_rows), decided.underneath)
            write_part(self.path(table, info.name), table, replace(info, decisions=decided.decisions), decided.table)
            if not decided.underneath.num_rows:
                beside.unlink(missing_ok=True)
        return decided.changed

    def beside(self, table: TableSpec, name: str) -> Path:
        """Where what a stage wrote of a part's decided rows is, if there are any."""
        return self.root / REVIEW / table.name / f"{_PART}{name}.parquet"

    def write_exclusions(self, info: PartInfo, content: pa.Table) -> None:
        path = self.path(EXCLUSIONS, f"{info.stage}-{info.name}")
        if content.num_rows:
            write_part(path, EXCLUSIONS, info, content)
        else:
            path.unlink(missing_ok=True)

    def remove(self, table: TableSpec, name: str, stage: str) -> None:
        """Remove a part and what was excluded from it."""
        # The part goes last: while it exists, the next run knows that there is still something to remove.
        self.path(EXCLUSIONS, f"{stage}-{name}").unlink(missing_ok=True)
        self.path(table, name).unlink(missing_ok=True)
        self.beside(table, name).unlink(missing_ok=True)

    def remove_other_exclusions(self, stage: str, scope: str, names: Set[str]) -> None:
        """Remove exclusions of a stage and scope that belong to none of the parts ``names``.

        They are written before their part, so a process killed in between leaves them without one.
        """
        for path in self.folder(EXCLUSIONS).glob(f"{_PART}{stage}-*.parquet"):
            info = read_info(path)
            if (info.stage, info.scope) == (stage, scope) and info.name not in names:
                path.unlink()

    def clear_leftovers(self) -> int:
        """Remove temporary files left by killed runs. Call it only while holding the workspace's lock."""
        leftovers = [
            *self.root.glob(f"*/{TEMPORARY}*"),
            *(path for name in SUBJECTS for path in (self.root / REVIEW / name).glob(f"{TEMPORARY}*")),
        ]
        for path in leftovers:
            path.unlink(missing_ok=True)
        return len(leftovers)


def part_name(path: Path | str) -> str:
    """The name of a part by its file: the inverse of ``TableStore.path``."""
    return Path(path).stem.removeprefix(_PART)


def _read(path: Path, columns: list[str] | None) -> pa.Table:
    """One file, its columns in the order asked for."""
    # Not pq.read_table: it loads pyarrow.dataset and pandas, which take longer than reading a small table.
    with damage_named(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        table = file.read(columns)
    return table if columns is None else table.select(columns)


def _count_rows(path: Path) -> int:
    with damage_named(path):
        return int(pq.read_metadata(path).num_rows)


@contextlib.contextmanager
def damage_named(path: Path, fix: str | None = None) -> Iterator[None]:
    """Around code that reads a part: what Arrow says of a damaged file becomes one line that names it.

    Args:
        fix: what to do about it, of a file that is no part of a workspace.

    Raises:
        UserError: the part is damaged. Faults of the machine, which have an error number, pass.
    """
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise damaged(path, fix) from error


def damaged(path: Path | str, fix: str | None = None) -> UserError:
    """The error for a part that cannot be read."""
    check = f"run: sono-curate check {Path(path).parent.parent}"
    return UserError("this file is damaged" if fix else "this part is damaged", where=str(path), fix=fix or check)


def _with_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    if table.schema.equals(schema):
        return table.replace_schema_metadata(schema.metadata)
    return table.cast(schema)  # which loads pyarrow.compute


def write_atomically(path: Path, write: Callable[[IO[bytes]], object], mode: int = 0o644) -> None:
    """Give ``write`` a file that gets the name ``path`` only once it is complete and on disk."""
    with atomic_file(path, mode) as file:
        write(file)


@contextlib.contextmanager
def atomic_file(path: Path, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """A file that gets the name ``path`` at the end of the block, once it is on disk; none is left after an error."""
    with atomic_path(path, mode) as temporary, temporary.open("wb") as file:
        yield file


@contextlib.contextmanager
def atomic_path(path: Path, mode: int = 0o644) -> Iterator[Path]:
    """``atomic_file`` for code that opens the file itself, an empty one, and has closed it by the end of the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
    try:
        # Open all the while: the system reports to it whatever fails after the file was written.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            yield temporary
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def make_private(folder: Path) -> None:
    """Make a folder that only its owner may enter; one that exists keeps the mode that its owner gave it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


@contextlib.contextmanager
def in_turn(folder: Path, waiting: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Hold the folder's lock, after waiting for other processes; the system releases it when a process ends.

    Args:
        waiting: called if there is another process to wait for.
    """
    import fcntl

    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def exclusive(
    folder: Path,
    what: str,
    *,
    held: Callable[[], str] = lambda: "another command is writing here",
    fix: str = "wait for it to finish, then run this command again",
) -> Iterator[None]:
    """Hold the folder's lock; the system releases it when the process ends, however it ends.

    Args:
        held, fix: what the error says if another process holds it.

    Raises:
        UserError: another process holds it.
    """
    import fcntl

    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(held(), where=what, fix=fix) from None
        yield


def write_part(path: Path, table: TableSpec, info: PartInfo, content: pa.Table) -> None:
    """Write one Parquet file atomically, with ``info`` in its schema's metadata."""
    if content.schema.names != table.schema.names:
        raise ValueError(f"{table.name}: columns {content.schema.names} are not the schema's")
    rows = content.cast(table.schema).replace_schema_metadata(info_metadata(info))
    columns = leaves(table.schema)
    compression = {leaf: "none" if leaf in _UNCOMPRESSED else "zstd" for leaf in columns}
    coded = [leaf for leaf in columns if leaf not in _UNCOMPRESSED]

    def write(file: IO[bytes]) -> None:
        pq.write_table(
            rows,
            file,
            row_group_size=_rows_in_group(rows),
            compression=compression,
            use_dictionary=coded,
            write_statistics=coded,
            write_page_checksum=True,
        )

    write_atomically(path, write)


def _rows_in_group(rows: pa.Table) -> int | None:
    """Few where there are pictures: who looks for some rows reads the groups that have them, and no other."""
    count: int = rows.num_rows
    if "image" not in rows.schema.names or not count:
        return None
    size: int = pc.sum(pc.binary_length(pc.struct_field(rows["image"], "bytes"))).as_py() or 1
    return max(_GROUP_BYTES * count // size, _GROUP_ROWS)


def _has_any(file: pq.ParquetFile, number: int, column: str, keys: Set[str]) -> bool:
    """Whether a row group has a row with one of these keys."""
    return not keys.isdisjoint(file.read_row_group(number, [column], use_threads=False)[column].to_pylist())


def leaves(kind: pa.DataType | pa.Schema, prefix: str = "") -> list[str]:
    """Parquet's paths of the primitive columns, as the writer's options name them."""
    if isinstance(kind, pa.Schema) or pa.types.is_struct(kind):
        children = [kind.field(index) for index in range(len(kind) if isinstance(kind, pa.Schema) else kind.num_fields)]
        return [leaf for child in children for leaf in leaves(child.type, f"{prefix}.{child.name}".lstrip("."))]
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return leaves(kind.value_type, f"{prefix}.list.element")
    return [prefix]


def info_metadata(info: PartInfo) -> dict[bytes, bytes]:
    """What ``read_info`` reads, for a schema's metadata."""
    return {METADATA: json.dumps(asdict(info), sort_keys=True).encode()}


def read_info(path: Path) -> PartInfo:
    """What a part's metadata says about it.

    Raises:
        UserError: the file is damaged or was not written by this program.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
        return PartInfo(**json.loads(metadata[METADATA]))
    except (pa.ArrowInvalid, KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(
            "not a part that sono-curate wrote", where=str(path), fix="move it away and run again"
        ) from error


def sync_folder(folder: Path) -> None:
    """Make new names in a folder survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
