"""Verifies a workspace: that every part of every table can be read and is what it says, and how to repair it if not."""

from __future__ import annotations

import io
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from sono.curation.cleaning.config import CleaningSection
from sono.curation.ingest.config import IngestSection
from sono.curation.masks.backends.registry import BACKENDS, prefix_of
from sono.curation.qc.stage import QcSection
from sono.manifests import masks
from sono.manifests.contradictions import find_contradictions
from sono.manifests.errors import UserError
from sono.manifests.journal_file import journal_path
from sono.manifests.projection import STAGE as REVIEW_STAGE
from sono.manifests.projection import applied_path
from sono.manifests.query import query
from sono.manifests.schemas import (
    CAPTIONS,
    EXCLUSIONS,
    FRAMES,
    MASK_CHECKS,
    QC,
    RECORDS,
    REGIONS,
    STATEMENTS,
    TABLES,
    TableSpec,
)
from sono.manifests.stages import Progress
from sono.manifests.store import TEMPORARY, PartInfo, exclusive, part_name, read_info
from sono.manifests.workspace import Workspace

WRITTEN_BY: Mapping[str, str] = {
    FRAMES.name: "ingest {workspace} SOURCE",
    QC.name: "qc {workspace}",
    REGIONS.name: "masks import {workspace} DIR",
    MASK_CHECKS.name: "masks check {workspace}",
    STATEMENTS.name: "caption {workspace} --records FILE",
    RECORDS.name: "caption {workspace} --records FILE",
    CAPTIONS.name: "caption {workspace} --records FILE",
}
"""The command that writes each table, as one types it after ``sono-curate``."""

WRITTEN_OTHERWISE: Mapping[str, str] = {
    "pull-": "pull REPO {workspace}",
    "drawn-": "caption {workspace}",
    "carry-": "masks carry {workspace}",
    f"{REVIEW_STAGE}-": "masks check {workspace}",
    **{
        prefix_of(name): " ".join(
            [f"masks propose {{workspace}} --backend {name}", *(f"--{option} FILE" for option in kind.files)]
        )
        for name, kind in BACKENDS.items()
    },
}
"""The same for parts of tables that several commands write to, by how the parts' names begin."""

TABLE_OF_STAGE: Mapping[str, TableSpec] = {
    "ingest": FRAMES,
    "qc": QC,
    "masks-import": REGIONS,
    "masks-carry": REGIONS,
    "masks-check": MASK_CHECKS,
    "masks-propose": REGIONS,
    REVIEW_STAGE: REGIONS,
    "statements": STATEMENTS,
    "records": RECORDS,
    "caption": CAPTIONS,
    "pull-frames": FRAMES,
    "pull-masks": REGIONS,
    "pull-captions": CAPTIONS,
    "pull-records": RECORDS,
    "drawn-captions": CAPTIONS,
}


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file (``place``, relative to the workspace), and what to do."""

    place: str
    what: str
    repair: str


@dataclass(frozen=True)
class CheckReport:
    """How many parts were read, and everything that is wrong."""

    parts: int
    problems: list[Problem]


def check_workspace(workspace: Workspace, *, progress: Callable[[Progress], None] = lambda _: None) -> CheckReport:
    """Read every part of every table. Changes nothing.

    Raises:
        UserError: another command is writing to the workspace.
    """
    with exclusive(workspace.path, str(workspace.path)):
        check = _Check(workspace, progress)
        check.configuration()
        check.leftovers()
        for table in TABLES.values():
            check.table(table)
        check.exclusions()
        check.keys()
        check.decisions()
        return CheckReport(check.parts, check.problems)


class _Check:
    """Collects problems; ``_sound`` has the parts that can be read, by table and name."""

    def __init__(self, workspace: Workspace, progress: Callable[[Progress], None]) -> None:
        self.parts = 0
        self.problems: list[Problem] = []
        self._workspace = workspace
        self._store = workspace.store
        self._progress = progress
        self._total = sum(len(self._store.paths(table)) for table in TABLES.values())
        self._sound: dict[str, dict[str, PartInfo]] = {name: {} for name in TABLES}

    def configuration(self) -> None:
        """``sono.toml``, the vocabulary and the key."""
        workspace = self._workspace
        for read in (
            lambda: workspace.center,
            workspace.check_format,
            lambda: workspace.vocabulary,
            lambda: workspace.section("ingest", IngestSection),
            lambda: workspace.section("cleaning", CleaningSection),
            lambda: workspace.section("qc", QcSection),
            lambda: workspace.keys,
        ):
            try:
                read()
            except UserError as error:
                problem = Problem(Path(error.where or "sono.toml").name, error.what, error.fix or "correct it")
                if problem not in self.problems:
                    self.problems.append(problem)

    def leftovers(self) -> None:
        """Temporary files of killed runs, and files in the tables' folders that are no parts."""
        for path in sorted(self._workspace.path.glob(f"*/{TEMPORARY}*")):
            self._add(path, "left by a command that was killed", "any command that writes to the workspace removes it")
        for table in TABLES.values():
            folder = self._store.folder(table)
            for path in sorted(folder.iterdir()) if folder.is_dir() else []:
                if path not in self._store.paths(table) and not path.name.startswith("."):
                    self._add(path, "not a part of a table", "move it away")

    def table(self, table: TableSpec) -> None:
        """Every part of one table."""
        for path in self._store.paths(table):
            found = _damage(path, table)
            if found is None:
                info = read_info(path)
                self._sound[table.name][info.name if table is not EXCLUSIONS else part_name(path)] = info
            else:
                self._add(path, found, self._removal(path, table))
            self.parts += 1
            self._progress(Progress("check", self._total, self.parts, self.parts, len(self.problems)))

    def exclusions(self) -> None:
        """Parts and the lists of what was left out of them belong together."""
        lists = self._sound[EXCLUSIONS.name]
        for name, info in lists.items():
            table = TABLE_OF_STAGE.get(info.stage)
            if table is not None and not self._store.path(table, info.name).exists():
                path = self._store.path(EXCLUSIONS, name)
                repair = self._rerun(table, self._store.path(table, info.name))
                self._add(path, "belongs to no part: a run was interrupted", repair)
        for table in {table.name: table for table in TABLE_OF_STAGE.values()}.values():
            for name, info in self._sound[table.name].items():
                if info.exclusions and not self._store.path(EXCLUSIONS, f"{info.stage}-{name}").exists():
                    path = self._store.path(table, name)
                    self._add(path, "the list of what was left out of it is missing", self._removal(path, table))

    def keys(self) -> None:
        """No frame, region or caption is in two parts. Only asked of tables that can be read."""
        for table in (FRAMES, QC, REGIONS, MASK_CHECKS, CAPTIONS):
            paths = [str(path) for path in self._store.paths(table)]
            if not paths or len(paths) != len(self._sound[table.name]):
                continue
            sql = f"SELECT count(*) - count(DISTINCT {table.key}) AS twice FROM read_parquet($paths)"
            twice = query(sql, {"paths": paths})["twice"][0].as_py()
            if twice:
                what = f"{twice:,} rows are in two parts: a run was interrupted, or a part was copied"
                self._add(self._store.folder(table), what, self._rerun(table))

    def decisions(self) -> None:
        """The journal of decisions is whole, and the tables say what it says."""
        place = journal_path(self._workspace.path)
        for table in (REGIONS, QC):
            for path in sorted(self._store.beside(table, "").parent.glob("part-*.parquet")):
                damage = _damage(path, table)
                if damage:
                    self._add(path, damage, f"remove {shlex.quote(str(path))}: it is needed to undo decisions alone")
        sound = [table for table in (REGIONS, QC) if len(self._store.paths(table)) == len(self._sound[table.name])]
        try:
            found = find_contradictions(self._store, sound)
        except UserError as error:
            self._add(place, error.what, error.fix or "put a copy from your backup in its place")
            return
        rerun = self._rerun(REGIONS, self._store.path(REGIONS, f"{REVIEW_STAGE}-"), first=False)
        again = f"remove {shlex.quote(str(applied_path(self._store)))}, {rerun}"
        backup = "put the newest copy of it from your backup in its place"
        if found.damage:
            self._add(place, found.damage, "keep this file and put a copy from your backup in its place")
        for name, count in found.missing.items():
            self._add(self._store.root / name, f"{count:,} rows are not as people decided", again)
        for name, count in found.unknown.items():
            self._add(place, f"{count:,} decisions in the table {name} are not in it", backup)

    def _add(self, path: Path, what: str, repair: str) -> None:
        self.problems.append(Problem(path.relative_to(self._workspace.path).as_posix(), what, repair))

    def _removal(self, path: Path, table: TableSpec) -> str:
        """How to have a part written again. A list of exclusions is written with its part, so both have to go."""
        if table is not EXCLUSIONS:
            return f"remove {shlex.quote(str(path))}, {self._rerun(table, path, first=False)}"
        stage = next((stage for stage in TABLE_OF_STAGE if part_name(path).startswith(f"{stage}-")), None)
        if stage is None:
            return f"remove {shlex.quote(str(path))}"
        owner = self._store.path(TABLE_OF_STAGE[stage], part_name(path).removeprefix(f"{stage}-"))
        both = shlex.join([str(path), str(owner)]) if owner.exists() else shlex.quote(str(path))
        return f"remove {both}, {self._rerun(TABLE_OF_STAGE[stage], owner, first=False)}"

    def _rerun(self, table: TableSpec, path: Path | None = None, first: bool = True) -> str:
        name = part_name(path) if path else ""
        otherwise = next((line for begin, line in WRITTEN_OTHERWISE.items() if name.startswith(begin)), None)
        command = (otherwise or WRITTEN_BY[table.name]).format(workspace=shlex.quote(str(self._workspace.path)))
        return f"{'' if first else 'then '}run: sono-curate {command}"


def _damage(path: Path, table: TableSpec) -> str | None:
    """What is wrong with one part; None if nothing is."""
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError):
        return "truncated, or its footer is damaged"
    with file:
        try:
            info = read_info(path)
        except UserError:
            return "has no fingerprint: sono-curate did not write it"
        if not file.schema_arrow.remove_metadata().equals(table.schema):
            return "has other columns than the table"
        if file.metadata.num_rows != (sum(info.exclusions.values()) if table is EXCLUSIONS else info.rows):
            return "has another number of rows than it was written with"
        name = info.name if table is not EXCLUSIONS else f"{info.stage}-{info.name}"
        if part_name(path) != name:
            return f"is a copy of part {name}, or was renamed"
        try:
            return next(filter(None, (_undecodable(rows, table) for rows in _row_groups(file))), None)
        except (pa.ArrowException, OSError):
            return "its pages are damaged"


def _row_groups(file: pq.ParquetFile) -> Iterator[pa.Table]:
    return (file.read_row_group(number) for number in range(file.num_row_groups))


def _undecodable(rows: pa.Table, table: TableSpec) -> str | None:
    """Images and masks are opened, too: a part may have been written damaged."""
    if table is FRAMES:
        for row in rows.select(["image", "height", "width"]).to_pylist():
            if not _is_image(row["image"]["bytes"], (row["width"], row["height"])):
                return "an image in it cannot be decoded, or has another size"
    if table is REGIONS:
        for row in rows.select(["mask", "area_px"]).to_pylist():
            try:
                if masks.area_px(masks.decode(row["mask"])) != row["area_px"]:
                    return "a mask in it has another area than was written"
            except (ValueError, KeyError, TypeError, MemoryError):
                return "a mask in it cannot be decoded"
    return None


def _is_image(png: bytes, size: tuple[int, int]) -> bool:
    """By the checksums that PNG has for each of its chunks, which is much faster than to decode it."""
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            image.verify()
            return image.size == size
    except (OSError, SyntaxError, ValueError):
        return False
