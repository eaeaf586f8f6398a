"""Brings ``regions`` and ``qc`` up to date with the journal of decisions.

A stage that runs again writes its rows with the decisions on them (``TableStore.write``). What is left to do is here:
decisions made since, masks that people drew, and decided regions whose own part no longer has them. The latter two are
in parts of the stage ``review``. What was done is noted last, so a process that is killed leaves work that is done
again, and nothing half done that counts as done.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .decided_rows import SUBJECTS, decided_row
from .journal import Journal, open_journal
from .journal_events import Event
from .journal_file import FOLDER
from .query import connect, insert_rows
from .schemas import REGIONS, TABLES, TableSpec
from .store import PartInfo, TableStore, part_name, read_info, write_atomically, write_part

if TYPE_CHECKING:
    import duckdb

STAGE = "review"
APPLIED = "applied.json"
_MEMORY = "128MB"  # of DuckDB; beyond it the keys of decided rows are on disk


@dataclass(frozen=True)
class _Applied:
    """What was done: decisions up to ``n``, and when and how large each part of each table was written."""

    n: int = 0
    files: Mapping[str, Mapping[str, Sequence[int]]] = field(default_factory=dict)


def applied_path(store: TableStore) -> Path:
    """Where it is noted what the tables have; without the note, everything is looked at again."""
    return store.root / FOLDER / APPLIED


def applied_until(store: TableStore) -> int:
    """The number of the last event that the tables have."""
    return _read_applied(store).n


def decisions_pending(store: TableStore) -> int:
    """How many decisions are not in the tables yet."""
    journal = open_journal(store.root)
    if journal is None:
        return 0
    with contextlib.closing(journal):
        return journal.count_deciding(applied_until(store))


def decisions_applied(store: TableStore) -> bool:
    """Whether ``apply_decisions`` has nothing to do."""
    journal = open_journal(store.root)
    if journal is None:
        return True
    with contextlib.closing(journal):
        return _nothing_to_do(store, journal)


def apply_decisions(store: TableStore) -> int:
    """Bring the tables up to date with the journal. The caller holds the workspace's lock.

    Returns:
        How many parts were written or removed.

    Raises:
        UserError: the journal or a part is damaged.
    """
    journal = open_journal(store.root)
    if journal is None:
        return 0
    with contextlib.closing(journal):
        if _nothing_to_do(store, journal):
            return 0
        last, applied = journal.last(), _read_applied(store)
        if last < applied.n:  # an older copy of the journal was put back
            applied = _Applied()
        written = sum(_apply(journal, store, TABLES[name], applied) for name in SUBJECTS)
        _write_applied(store, _Applied(last, _files(store)))
    return written


def _nothing_to_do(store: TableStore, journal: Journal) -> bool:
    last, applied = journal.last(), _read_applied(store)
    return last == applied.n and (last == 0 or applied.files == _files(store))


def _apply(journal: Journal, store: TableStore, table: TableSpec, applied: _Applied) -> int:
    """Bring one table up to date: the parts that were written since, and those with rows decided on since."""
    before, now = applied.files.get(table.name, {}), _files(store)[table.name]
    moved = {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
    # Whichever part was written or removed, any region that was ever decided on may have come or gone with it.
    since = 0 if moved and table is REGIONS else applied.n
    with _decided_keys(journal, store, table, since) as database:
        found = database.execute(_PARTS_WITH_DECISIONS, {"after": applied.n}).fetchall()
        touched = {part_name(path) for (path,) in found} | {name for name in moved if name in now}
        written = sum(
            store.write_decided(journal, table, read_info(store.path(table, name)), store.read(table, name))
            for name in sorted(touched)
            if not _is_of_review(name)
        )
        if table is REGIONS:
            written += _write_homeless(journal, store, database)
    return written


@contextlib.contextmanager
def _decided_keys(
    journal: Journal, store: TableStore, table: TableSpec, since: int
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database of the subjects of decisions after ``since``, and of the keys in parts of stages and of the review."""
    with connect() as database:
        database.execute(f"SET memory_limit = '{_MEMORY}'")
        database.execute("CREATE TABLE decided (key VARCHAR, frame_id VARCHAR, n BIGINT)")
        insert_rows(database, "decided", journal.changed(SUBJECTS[table.name], since))
        for name, of_review in (("in_stages", False), ("in_review", True)):
            paths = [str(path) for path in store.paths(table) if _is_of_review(part_name(path)) == of_review]
            _view_keys(database, name, table, paths)
        yield database


def _view_keys(database: duckdb.DuckDBPyConnection, name: str, table: TableSpec, paths: Sequence[str]) -> None:
    if paths:
        parts = database.read_parquet(list(paths), filename=True, hive_partitioning=False)
        parts.project(f"{table.key} AS key, frame_id, filename").create_view(name)
    else:
        database.execute(f"CREATE VIEW {name} AS SELECT '' AS key, '' AS frame_id, '' AS filename LIMIT 0")


_PARTS_WITH_DECISIONS = """
SELECT DISTINCT filename FROM in_stages SEMI JOIN (SELECT key FROM decided WHERE n > $after) USING (key)
"""

_HOMELESS = """
CREATE TEMP TABLE homeless AS
SELECT key, frame_id FROM (SELECT key, frame_id FROM decided UNION SELECT key, frame_id FROM in_review)
ANTI JOIN in_stages USING (key)
"""

_BUCKETS = """
SELECT DISTINCT frame_id[1:2] FROM (
    SELECT frame_id FROM homeless SEMI JOIN decided USING (key)
    UNION ALL SELECT frame_id FROM in_review SEMI JOIN in_stages USING (key)
) ORDER BY ALL
"""


def _write_homeless(journal: Journal, store: TableStore, database: duckdb.DuckDBPyConnection) -> int:
    """Write the parts of drawn and decided regions that no stage's part has; a region is never in two parts."""
    database.execute(_HOMELESS)
    written = 0
    for (bucket,) in database.execute(_BUCKETS).fetchall():
        keys = database.execute("SELECT key FROM homeless WHERE frame_id[1:2] = $bucket", {"bucket": bucket}).fetchall()
        standing = journal.standing([key for (key,) in keys])
        decided = {key: stands for key, (_, stands) in sorted(standing.items()) if stands is not None}
        written += _write_bucket(store, f"{STAGE}-{bucket}", decided)
    return written


def _write_bucket(store: TableStore, name: str, decided: Mapping[str, Event]) -> bool:
    """Write or remove a part, unless it is as it should be."""
    path = store.path(REGIONS, name)
    if not decided:
        there = path.exists()
        store.remove(REGIONS, name, STAGE)
        return there
    digest = hashlib.sha256(json.dumps([[key, stands.n] for key, stands in decided.items()]).encode()).hexdigest()
    if path.exists() and read_info(path).fingerprint == digest:
        return False
    rows = [decided_row(REGIONS, stands, {}) for stands in decided.values()]
    write_part(path, REGIONS, PartInfo(name, STAGE, digest, STAGE, len(rows)), REGIONS.from_rows(rows))
    return True


def _is_of_review(name: str) -> bool:
    return name.startswith(f"{STAGE}-")


def _files(store: TableStore) -> dict[str, dict[str, list[int]]]:
    """When each part of the tables was written, in ns, and its size in bytes."""
    return {
        name: {part_name(path): [path.stat().st_mtime_ns, path.stat().st_size] for path in store.paths(TABLES[name])}
        for name in SUBJECTS
    }


def _read_applied(store: TableStore) -> _Applied:
    """What was noted last; nothing if there is no such note, so that everything is done again."""
    try:
        content = json.loads(applied_path(store).read_bytes())
        return _Applied(int(content["n"]), content["files"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return _Applied()


def _write_applied(store: TableStore, applied: _Applied) -> None:
    content = json.dumps(asdict(applied)).encode()
    write_atomically(applied_path(store), lambda file: file.write(content))
