"""Takes patients who took back their consent out of everything that a workspace holds."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from sono.curation.review.server.alone import reviewing_alone
from sono.manifests.decided_rows import SUBJECTS
from sono.manifests.errors import UserError
from sono.manifests.filenames import ANSWERS_FILE
from sono.manifests.journal import open_journal
from sono.manifests.journal_file import FOLDER as REVIEW
from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.query import connect, insert_rows, view_table
from sono.manifests.schemas import (
    CAPTIONS,
    EXCLUSIONS,
    FRAMES,
    MASK_CHECKS,
    QC,
    RECORDS,
    REGIONS,
    STATEMENTS,
    TableSpec,
)
from sono.manifests.stages import Progress
from sono.manifests.store import PartInfo, TableStore, make_private, read_info, write_atomically, write_part
from sono.manifests.withdrawn import FILE, PATIENT_COLUMNS, PROOFS, TABLES_OF_PATIENTS, Withdrawn, read_withdrawn
from sono.manifests.workspace import Workspace

from .begun import NOTED, Begun, forget_begun, note_begun, read_begun
from .patient_list import ListedPatient

if TYPE_CHECKING:
    import duckdb

_MADE_AGAIN = ("cache", "reports", "audit")
"""Folders of what follows from the tables: pictures, embeddings and pages of patients who stay are made again."""


@dataclass
class WithdrawalReport:
    """What was removed.

    Attributes:
        patients: of the list, that the workspace had anything of.
        unknown: of the list, that it had nothing of: a later ingest leaves them out all the same.
        rows: removed, by table.
        parts_rewritten: of all tables.
        events: of the journal of decisions, of which only the numbers stay.
        proof: the file that lists what was removed, by key.
        namesakes: patients who stay, because their number in the same center is another issuer's.
        resumed: an earlier run broke off. What it had removed is in the proof, and in none of the counts.
    """

    patients: int
    unknown: int
    rows: dict[str, int] = field(default_factory=dict)
    parts_rewritten: int = 0
    events: int = 0
    proof: str = ""
    namesakes: int = 0
    resumed: bool = False


def withdraw(
    workspace: Workspace,
    patients: Sequence[ListedPatient],
    *,
    progress: Callable[[Progress], None] = lambda _: None,
) -> WithdrawalReport:
    """Remove patients from every table, the journal, caches and reports.

    The caller holds ``workspace.writing(withdrawing=True)``. Their keys, and those of everything that has to go, are
    remembered first: an interrupted withdrawal resumes where it stopped, and no later ingest takes them in.

    Raises:
        UserError: a number may be several patients', the workspace is being reviewed, a part is damaged, or pictures
            cannot be deleted.
    """
    with (
        reviewing_alone(workspace, "stop its server with Ctrl-C first"),
        _found(workspace, patients) as (database, known),
    ):
        _remember(workspace, database, known)
        report = WithdrawalReport(
            len(known.with_data),
            len(patients) - len(known.with_data),
            namesakes=known.namesakes,
            resumed=known.unfinished,
        )
        _remove(workspace, database, report, progress, known_here=bool(known.with_data) or known.unfinished)
        report.proof = str(_prove(workspace, database, report))
        _write_list(workspace, replace(read_withdrawn(workspace.path), unfinished=False))
        forget_begun(workspace.path)
    return report


def remove_patients(
    workspace: Workspace, patients: frozenset[str], *, progress: Callable[[Progress], None] = lambda _: None
) -> WithdrawalReport:
    """Remove patients like ``withdraw``, but remember nothing of them: they may come back.

    Args:
        patients: by ``patient_key``.

    Raises:
        UserError: the workspace is being reviewed, a part is damaged, or pictures cannot be deleted.
    """
    report = WithdrawalReport(len(patients), 0)
    with reviewing_alone(workspace, "stop its server with Ctrl-C first"), _viewed(workspace.store) as database:
        _make_known(database, {})
        _find_rows(database, Withdrawn({"patient_key": patients}), {})
        _remove(workspace, database, report, progress)
    return report


def _remove(
    workspace: Workspace,
    database: duckdb.DuckDBPyConnection,
    report: WithdrawalReport,
    progress: Callable[[Progress], None],
    *,
    known_here: bool = True,
) -> None:
    """What depends on frames goes before them, because it is found by them.

    Args:
        known_here: something of the patients is here, or was when an earlier run began. A list of others, perhaps with
            a mistake in it, costs nobody the audit.
    """
    _remove_rows(workspace.store, database, report, progress)
    journal = open_journal(workspace.path)
    if journal is not None:
        with contextlib.closing(journal):
            report.events = journal.forget([frame_id for (frame_id,) in database.sql("FROM gone").fetchall()])
    if known_here or report.rows or report.events:
        _remove_what_follows(workspace.path)
    _remove_frames(workspace.store, database, report)
    progress(Progress("withdraw", len(_GOING) + 1, len(_GOING) + 1, sum(report.rows.values()), 0))


def _remove_what_follows(workspace: Path) -> None:
    """Delete pictures, embeddings and pages, also of those folders that are links to another disk.

    Raises:
        UserError: some cannot be deleted. The withdrawal stays unfinished.
    """
    for folder in (workspace / name for name in _MADE_AGAIN):
        try:
            _empty(folder, workspace)
            if folder.is_dir() and not folder.is_symlink():
                folder.rmdir()
        except OSError as error:
            what = f"{folder.name}/ cannot be deleted: {error.strerror or error}"
            raise UserError(
                what, where=str(folder), fix="make that possible, and run the same command again"
            ) from error
    for path in workspace.glob(f"{ANSWERS_FILE}*"):  # answers about everybody's texts, by their hashes
        path.unlink()


def _empty(folder: Path, workspace: Path) -> None:
    """Delete what is in a folder; not what further links in it lead to, which may be anything."""
    links = [Path(at, name) for at, names, _ in os.walk(folder) for name in names if Path(at, name).is_symlink()]
    if workspace.resolve().is_relative_to(folder.resolve()):
        links.append(folder)
    if links:
        fix = "delete what it leads to if that is of patients, and the link, and run the same command again"
        raise UserError("a link to a folder is not followed", where=str(links[0]), fix=fix)
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextlib.contextmanager
def _viewed(store: TableStore) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as database:
        for table in (FRAMES, STATEMENTS, RECORDS, REGIONS):
            view_table(database, store, table)
        yield database


@dataclass(frozen=True)
class _Known:
    """Keys of the listed patients by column, and what the report says of them.

    Attributes:
        with_data: those of the list whom a table names.
        unfinished: an earlier run broke off.
    """

    keys: Mapping[str, frozenset[str]]
    with_data: Sequence[ListedPatient]
    namesakes: int
    unfinished: bool


@contextlib.contextmanager
def _found(
    workspace: Workspace, patients: Sequence[ListedPatient]
) -> Iterator[tuple[duckdb.DuckDBPyConnection, _Known]]:
    """A database with the tables of ``NOTED``: keys of what goes."""
    begun = read_begun(workspace.path)
    with _viewed(workspace.store) as database:
        _make_known(database, begun)
        keys: dict[str, set[str]] = {column: set() for column in PATIENT_COLUMNS}
        shared: set[str] = set()
        with_data = [patient for patient in patients if _add_keys(database, patient, workspace.keys, keys, shared)]
        withdrawn = read_withdrawn(workspace.path).with_keys({name: frozenset(some) for name, some in keys.items()})
        _find_rows(database, withdrawn, begun)
        sql = (
            "SELECT DISTINCT patient_key FROM known ANTI JOIN gone_patients USING (patient_key) "
            "WHERE patient_center_key IN (SELECT unnest($shared::VARCHAR[]))"
        )
        namesakes = len(database.execute(sql, {"shared": sorted(shared)}).fetchall())
        yield database, _Known(withdrawn.keys, with_data, namesakes, withdrawn.unfinished)


def _make_known(database: duckdb.DuckDBPyConnection, begun: Begun) -> None:
    """The table ``known``: by which keys the tables name patients, or named them before a withdrawal broke off."""
    columns = ", ".join(PATIENT_COLUMNS)
    names = [name for name in TABLES_OF_PATIENTS if name != RECORDS.name]
    _collect(database, "known", begun.get("gone_known", ()), *(f"SELECT {columns} FROM {name}" for name in names))


def _collect(
    database: duckdb.DuckDBPyConnection, table: str, begun: Sequence[Sequence[str | None]], *selects: str
) -> None:
    """Make a table of what the statements find, and of what was noted before a withdrawal broke off."""
    columns = ", ".join(f"{column} VARCHAR" for column in NOTED.get(table, PATIENT_COLUMNS))
    database.execute(f"CREATE TEMP TABLE begun ({columns})")
    insert_rows(database, "begun", begun)
    database.execute(f"CREATE TEMP TABLE {table} AS FROM begun UNION {' UNION '.join(selects)}")
    database.execute("DROP TABLE begun")


def _add_keys(
    database: duckdb.DuckDBPyConnection,
    patient: ListedPatient,
    pseudonyms: Pseudonymizer,
    keys: dict[str, set[str]],
    shared: set[str],
) -> bool:
    """Add every key by which rows may name a patient. False if none does.

    Files and records that name the issuer of a number, its center, or neither, have different keys of one patient.

    Args:
        shared: gets the center's key if patients of other issuers have it as well. Then rows that name no issuer go,
            because they may be this patient's, and those of the others stay.

    Raises:
        UserError: the list has a number without an issuer, and several issuers or centers use it.
    """
    column, key = patient.rule(pseudonyms)
    rows = _known_as(database, column, key)
    by_number = {row[2] for row in rows if row[2] is not None}
    centers = {row[1] for row in rows if row[1] is not None} - by_number
    if column != "patient_key":
        _refuse_several(patient, len(centers), len(_issued(rows)))
    if not rows or column != "patient_number_key":  # a bare number must not keep out another center's patient later
        keys[column].add(key)
    keys["patient_key"] |= {row[0] for row in rows}
    for center in centers:
        if column == "patient_key" and _issued(_known_as(database, "patient_center_key", center)) - {key}:
            keys["patient_key"].add(center)
            shared.add(center)
        else:
            keys["patient_center_key"].add(center)
    for number in by_number:
        others = {row[1] for row in _known_as(database, "patient_number_key", number) if row[1] is not None}
        if others <= centers | by_number:  # nobody else has it, so rows with the number alone are this patient's
            keys["patient_key"].add(number)
    return bool(rows)


def _refuse_several(patient: ListedPatient, centers: int, issuers: int) -> None:
    """A number without an issuer may be several patients'."""
    if centers > 1 or issuers > 1:
        used, column = (
            (f"in {centers} centers", "center or issuer") if centers > 1 else (f"by {issuers} issuers", "issuer")
        )
        raise UserError(
            f"the number in line {patient.line} is used {used} of this workspace",
            fix=f"add a column {column} to the list, which says whose number it is",
        )


_Row = tuple[str, str | None, str | None]
"""The keys of rows that name one patient in one way: patient, center, number."""


def _issued(rows: Sequence[_Row]) -> set[str]:
    """The patients of rows that name an issuer: their keys are neither the center's nor the number's."""
    return {patient for patient, center, number in rows if patient not in (center, number)}


def _known_as(database: duckdb.DuckDBPyConnection, column: str, key: str) -> list[_Row]:
    """The keys of rows that have this one."""
    sql = f"SELECT DISTINCT {', '.join(PATIENT_COLUMNS)} FROM known WHERE {column} = $key"
    return [(patient, center, number) for patient, center, number in database.execute(sql, {"key": key}).fetchall()]


def _find_rows(database: duckdb.DuckDBPyConnection, withdrawn: Withdrawn, begun: Begun) -> None:
    """Make the tables of ``NOTED``: everything of patients who withdrew, now or in a withdrawal that broke off."""
    for column in PATIENT_COLUMNS:
        database.execute(f"CREATE TEMP TABLE by_{column} ({column} VARCHAR)")
        insert_rows(database, f"by_{column}", ((key,) for key in sorted(withdrawn.keys.get(column, ()))))
    named = " OR ".join(f"{column} IN (SELECT {column} FROM by_{column})" for column in PATIENT_COLUMNS)
    theirs = f"coalesce({named}, false)"
    selects: Mapping[str, Sequence[str]] = {
        "gone_known": (f"SELECT * FROM known WHERE {theirs}",),
        "gone_patients": (f"SELECT patient_key FROM known WHERE {theirs}", "FROM by_patient_key"),
        "gone_studies": (
            f"SELECT study_key FROM frames WHERE {theirs}",
            f"SELECT study_key FROM statements WHERE {theirs} AND study_key IS NOT NULL",
        ),
        # A document, such as a FHIR Bundle, may be about several patients: as long as one stays, so does its key.
        "gone_sources": (
            f"SELECT source_key FROM frames WHERE {theirs}",
            f"SELECT source_key FROM statements GROUP BY source_key HAVING bool_and({theirs})",
        ),
        "gone": (f"SELECT frame_id FROM frames WHERE {theirs}",),
        "gone_regions": ("SELECT region_id FROM regions SEMI JOIN gone USING (frame_id)",),
    }
    for table, statements in selects.items():
        _collect(database, table, begun.get(table, ()), *statements)


def _remember(workspace: Workspace, database: duckdb.DuckDBPyConnection, known: _Known) -> None:
    """What has to go first, and whose it is second: from then on, the withdrawal counts as begun."""
    note_begun(workspace.path, database)
    patients = frozenset(key for (key,) in database.sql("FROM gone_patients").fetchall())
    withdrawn = replace(Withdrawn(known.keys).with_keys({"patient_key": patients}), unfinished=True)
    _write_list(workspace, withdrawn)


def _write_list(workspace: Workspace, withdrawn: Withdrawn) -> None:
    content = json.dumps(withdrawn.as_json(), indent=1).encode() + b"\n"
    write_atomically(workspace.path / FILE, lambda file: file.write(content), mode=0o600)


_GOING: Sequence[tuple[TableSpec, str, str]] = (
    (CAPTIONS, "frame_id", "gone"),
    (MASK_CHECKS, "region_id", "gone_regions"),
    (QC, "frame_id", "gone"),
    (REGIONS, "frame_id", "gone"),
    (EXCLUSIONS, "source_key", "gone_sources"),
    (RECORDS, "study_key", "gone_studies"),
    (RECORDS, "patient_key", "gone_patients"),
    *((STATEMENTS, column, f"by_{column}") for column in PATIENT_COLUMNS),
)
"""What goes before the frames: table, column, and the table of keys."""


def _remove_rows(
    store: TableStore,
    database: duckdb.DuckDBPyConnection,
    report: WithdrawalReport,
    progress: Callable[[Progress], None],
) -> None:
    for done, (table, column, keys) in enumerate(_GOING):
        progress(Progress("withdraw", len(_GOING) + 1, done, sum(report.rows.values()), 0))
        _rewrite(store, database, table, column, keys, report)
        if table.name in SUBJECTS:  # what stages wrote underneath decisions
            _rewrite(TableStore(store.root / REVIEW), database, table, column, keys, Counter())
    _remove_verdicts_that_name_them(store, database)


def _remove_frames(store: TableStore, database: duckdb.DuckDBPyConnection, report: WithdrawalReport) -> None:
    _rewrite(store, database, FRAMES, "frame_id", "gone", report)


def _rewrite(
    store: TableStore,
    database: duckdb.DuckDBPyConnection,
    table: TableSpec,
    column: str,
    keys: str,
    report: WithdrawalReport | Counter[str],
) -> None:
    """Write the parts without these rows that have any. They stay as up to date as they were."""
    paths = [str(path) for path in store.paths(table)]
    if not paths:
        return
    sql = f"SELECT DISTINCT filename FROM read_parquet($paths, filename = true) SEMI JOIN {keys} USING ({column})"
    for (path,) in sorted(database.execute(sql, {"paths": paths}).fetchall()):
        info = read_info(Path(path))
        rows = store.read(table, info.name if table is not EXCLUSIONS else Path(path).stem.removeprefix("part-"))
        going = _membership(database, rows, column, keys)
        kept = rows.take(pa.array([number for number, goes in enumerate(going) if not goes], pa.int64()))
        if isinstance(report, WithdrawalReport):
            report.rows[table.name] = report.rows.get(table.name, 0) + rows.num_rows - kept.num_rows
            report.parts_rewritten += 1
        _write(Path(path), store, table, info, kept)


def _membership(database: duckdb.DuckDBPyConnection, rows: pa.Table, column: str, keys: str) -> list[bool]:
    """Which rows go, in their own order: a join in DuckDB gives its answers in any."""
    gone = {key for (key,) in database.execute(f"SELECT {column} FROM {keys}").fetchall()}
    return [key is not None and key in gone for key in rows[column].to_pylist()]


def _write(path: Path, store: TableStore, table: TableSpec, info: PartInfo, kept: pa.Table) -> None:
    if table is EXCLUSIONS:
        _write_exclusions(path, store, info, kept)
    else:
        write_part(path, table, replace(info, rows=kept.num_rows), kept)


def _write_exclusions(path: Path, store: TableStore, info: PartInfo, kept: pa.Table) -> None:
    """An exclusions' part and the counts in the part that it belongs to."""
    counts = dict(Counter(kept["reason"].to_pylist()))
    if kept.num_rows:
        write_part(path, EXCLUSIONS, replace(info, exclusions=counts), kept)
    for table in (FRAMES, QC, REGIONS, STATEMENTS, RECORDS, CAPTIONS):
        beside = store.path(table, info.name)
        if beside.exists() and (its := read_info(beside)).stage == info.stage:
            write_part(beside, table, replace(its, exclusions=counts), store.read(table, info.name))
    if not kept.num_rows:
        path.unlink()


def _remove_verdicts_that_name_them(store: TableStore, database: duckdb.DuckDBPyConnection) -> None:
    """Duplicates of a frame that goes are named after it: the next ``qc`` judges these parts again."""
    paths = [str(path) for path in store.paths(QC)]
    if not paths:
        return
    sql = "SELECT DISTINCT filename FROM read_parquet($paths, filename = true) WHERE duplicate_group IN (FROM gone)"
    for (path,) in database.execute(sql, {"paths": paths}).fetchall():
        info = read_info(Path(path))
        store.remove(QC, info.name, info.stage)


def _prove(workspace: Workspace, database: duckdb.DuckDBPyConnection, report: WithdrawalReport) -> Path:
    folder = workspace.path / PROOFS
    make_private(folder)
    numbers = [int(path.stem) for path in folder.glob("*.json") if path.stem.isdigit()]
    path = folder / f"{max(numbers, default=0) + 1:04d}.json"
    listed = {
        name: sorted(key for (key,) in database.sql(f"FROM {table}").fetchall() if key is not None)
        for name, table in (("patient_keys", "gone_patients"), ("study_keys", "gone_studies"), ("frame_ids", "gone"))
    }
    content = {
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "removed": {name: value for name, value in asdict(report).items() if name != "proof"},
        "remembered": {column: len(keys) for column, keys in read_withdrawn(workspace.path).keys.items()},
        **listed,
    }
    write_atomically(path, lambda file: file.write(json.dumps(content, indent=1).encode() + b"\n"), mode=0o600)
    return path
