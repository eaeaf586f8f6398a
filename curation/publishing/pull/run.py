"""Pull: from a published dataset to a workspace, whose masks can be corrected and whose datasets can be published."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from sono.curation.publishing.origin import own_keys, withdrawn_patients
from sono.curation.publishing.withdraw import remove_patients
from sono.manifests.errors import UserError, did_you_mean
from sono.manifests.pulled import STAGE, Pulled, in_vocabulary, read_pulled, scope_of, write_pulled
from sono.manifests.schemas import FRAMES, SPLITS, TableSpec
from sono.manifests.stages import Engine, Part, Progress, RunReport, Stage, fingerprint, in_process, run_stage
from sono.manifests.store import PartInfo, read_info
from sono.manifests.workspace import Workspace

from . import groups
from .described import Described, ShardFiles, read_described
from .exams import exam_parts
from .rows import PulledKeys
from .source import Source, find_source
from .stages import PullCaptions, PullExams, PullFrames, PullMasks, dependent_part, frame_part, patients_of
from .stated import check_keys, check_rows

_DOWNLOADS = Path("cache", "pull")


@dataclass(frozen=True)
class PullReport:
    """What a pull did.

    Attributes:
        dataset: which one, for people.
        fingerprint, licence: as the dataset states them.
        tables: what was done in every table.
        text: how the text in its pixels counts here: ``none``, ``removed`` or ``unchecked``.
        patients_left: who was in the workspace and is not in the dataset any more.
        decisions_forgotten: on their frames.
    """

    dataset: str
    fingerprint: str
    licence: str
    text: str
    tables: Mapping[str, RunReport]
    patients_left: int = 0
    decisions_forgotten: int = 0

    @property
    def up_to_date(self) -> bool:
        """Nothing was written or removed."""
        return not any(report.computed or report.removed for report in self.tables.values()) and not self.patients_left


def pull(
    workspace: Workspace,
    name: str,
    *,
    revision: str | None = None,
    splits: Sequence[str] = (),
    planes: Sequence[str] = (),
    force: bool = False,
    engine: Engine,
    progress: Callable[[Progress], None] = lambda _: None,
) -> PullReport:
    """Bring a published dataset into the workspace, or bring it up to date. The caller holds ``workspace.writing()``.

    Pixels are those of the dataset. Every file is compared with the SHA-256 in its ``sono.json`` before it is used.
    Only what has changed since the last pull is written, and decisions on it stay. Patients who are not in the dataset
    any more leave the workspace with everything that was decided on them.

    Args:
        name: of a repository on the Hub, or a folder.
        revision: a branch, tag or commit; None for main.
        splits, planes: the only ones to take; empty for all.
        force: go on even if most patients would leave.

    Raises:
        UserError: the dataset cannot be read, is damaged, or is not of this version; the workspace holds something
            else, or most patients would leave it.
    """
    source = find_source(name, revision, workspace.path / _DOWNLOADS)
    described = read_described(source)
    run = _Pull(workspace, source, described, tuple(splits), tuple(planes), engine, progress)
    run.check()
    report = run.report_if_current() or run.write(force)
    source.close()
    return report


class _Pull:
    """One pull: its stages, and what it has done."""

    def __init__(
        self,
        workspace: Workspace,
        source: Source,
        described: Described,
        splits: tuple[str, ...],
        planes: tuple[str, ...],
        engine: Engine,
        progress: Callable[[Progress], None],
    ) -> None:
        self._workspace, self._store, self._source, self._described = workspace, workspace.store, source, described
        self._engine, self._progress = engine, progress
        self._before = read_pulled(workspace.path)
        known = self._before.groups if self._before else {}
        listed = set(described.pulled.tables.values())
        self._pulled = replace(
            described.pulled,
            splits=splits,
            planes=planes,
            groups={sha256: found for sha256, found in known.items() if sha256 in listed},
        )
        self._shards = [shard for shard in described.shards if not splits or shard.split in splits]
        self._text = text_status(described)
        keys = PulledKeys(workspace.keys, self._pulled.pseudonyms)
        withdrawn = _withdrawn(workspace, self._pulled)
        self._keys = keys
        self._frames = PullFrames(keys, described.planes, planes, self._text, withdrawn)
        self._masks = PullMasks(keys, self._store, frozenset(described.structures))
        self._captions = PullCaptions(keys, self._store, described.planes)
        self._exams = PullExams(keys, withdrawn)
        self._reports = {name: RunReport(name) for name in ("frames", "regions", "captions", "records")}

    def check(self) -> None:
        """Nothing of another dataset is mixed with this one, and what was asked for is in it."""
        workspace, pulled, before = self._workspace, self._pulled, self._before
        if any(info.stage != STAGE for info in self._store.parts(FRAMES).values()):
            raise UserError(
                "the workspace has frames that were ingested",
                where=str(workspace.path),
                fix="run sono-curate init for a new folder, and pull there",
            )
        if before is not None and before.pseudonyms != pulled.pseudonyms:
            raise UserError(
                f"the workspace was pulled from {before.name}, and this dataset has other keys",
                where=str(workspace.path),
                fix="run sono-curate init for a new folder, and pull there",
            )
        in_vocabulary(self._described.planes, workspace.vocabulary.planes, "plane")
        in_vocabulary(self._described.structures, workspace.vocabulary.structures, "structure")
        for asked, known, what in (
            (pulled.splits, SPLITS, "split"),
            (pulled.planes, self._described.planes, "plane"),
        ):
            for word in asked:
                if word not in known:
                    fix = did_you_mean(word, known) or f"the dataset has: {', '.join(known)}"
                    raise UserError(f"{word!r} is no {what} of the dataset", where=self._source.place, fix=fix)
        if before is not None and (list(before.splits), list(before.planes)) != (
            list(pulled.splits),
            list(pulled.planes),
        ):
            options = [*(f"--split {name}" for name in before.splits), *(f"--plane {name}" for name in before.planes)]
            raise UserError(
                f"the workspace was pulled {'with ' + ' '.join(options) if options else 'as a whole'}",
                where=str(workspace.path),
                fix="ask for the same again, or run sono-curate init for a new folder",
            )

    def report_if_current(self) -> PullReport | None:
        """What a pull would say that has nothing to do; None if it has. No shard is asked for."""
        before, groups_of = self._before, self._pulled.groups
        if before is None or not before.complete or before.marker_sha256 != self._pulled.marker_sha256:
            return None
        if any(shard.data_sha256 not in groups_of for shard in self._shards):
            return None
        self._pulled = replace(self._pulled, exams=before.exams, complete=True)
        exams = [Part(name, digest, _never) for name, digest in before.exams]
        planned: list[tuple[Stage, str, list[Part]]] = [(self._exams, "pull", exams)]
        for shard in self._shards:
            planned += list(self._planned(shard, groups_of[shard.data_sha256], Path(shard.data)))
        if not all(self._current(stage, scope, parts) for stage, scope, parts in planned):
            return None
        if self._pulled != before:
            write_pulled(self._workspace.path, self._pulled)  # another commit with the same dataset
        self._finish(exams)
        return self._report()

    def write(self, force: bool) -> PullReport:
        """Bring every table up to date."""
        by_shard = {shard.data: self._metadata(shard) for shard in self._described.shards}
        self._refuse_doubles(by_shard.values())
        everybody = {key for rows in by_shard.values() for key in pc.unique(rows["patient_key"]).to_pylist()}
        staying = everybody - self._frames.withdrawn
        left, forgotten = self._remove_who_left(patients_of(self._keys, staying), force)
        wanted = [self._wanted(by_shard[shard.data]) for shard in self._shards]
        exams = exam_parts(pa.concat_tables(wanted) if wanted else None, self._keys, self._source.place)
        self._pulled = replace(self._pulled, complete=False, exams=[[part.name, part.digest] for part in exams])
        write_pulled(self._workspace.path, self._pulled)
        for done, shard in enumerate(self._shards):
            self._tell(done)
            self._write_shard(shard, by_shard[shard.data])
        self._tell(len(self._shards))
        self._finish(exams)
        self._pulled = replace(self._pulled, complete=True)
        write_pulled(self._workspace.path, self._pulled)
        return replace(self._report(), patients_left=left, decisions_forgotten=forgotten)

    def _metadata(self, shard: ShardFiles) -> pa.Table:
        """Who and what a shard's frames are about."""
        path = self._source.get(shard.metadata, shard.metadata_sha256)
        rows = groups.read_metadata_keys(path)
        check_keys(path)
        if groups.classes_of(path) != list(self._described.planes) or rows.num_rows != shard.rows:
            raise self._damaged(shard.metadata)
        return rows

    def _refuse_doubles(self, by_shard: Iterable[pa.Table]) -> None:
        frames = pa.chunked_array([chunk for rows in by_shard for chunk in rows["frame_id"].chunks], pa.string())
        if pc.count_distinct(frames).as_py() != len(frames):
            fix = "ask whoever published it to build it again"
            raise UserError("some of its frames are there twice", where=self._source.place, fix=fix)

    def _remove_who_left(self, present: frozenset[str], force: bool) -> tuple[int, int]:
        """Patients who are not in the dataset any more may have taken back their consent: nothing of them stays."""
        here = set(pc.unique(self._store.read_all(FRAMES, ["patient_key"])["patient_key"]).to_pylist())
        left = frozenset(here - present)
        if 2 * len(left) > len(here) and not force:
            raise UserError(
                f"{len(left):,} of {len(here):,} patients are not in this revision, and would leave with what was "
                "decided on them",
                where=str(self._workspace.path),
                fix="check the revision; to go on, give --force",
            )
        if not left:
            return 0, 0
        return len(left), remove_patients(self._workspace, left, progress=self._progress).events

    def _wanted(self, rows: pa.Table) -> pa.Table:
        if not self._pulled.planes:
            return rows
        numbers = {self._described.planes.index(name) for name in self._pulled.planes}
        return rows.filter(pa.array([plane in numbers for plane in rows["plane"].to_pylist()], pa.bool_()))

    def _write_shard(self, shard: ShardFiles, metadata: pa.Table) -> None:
        """Bring the parts of one shard up to date; it is fetched only if there is something to do."""
        path: Path | None = None
        if shard.data_sha256 not in self._pulled.groups:
            path = self._source.get(shard.data, shard.data_sha256)
            self._note_groups(shard, path, metadata)
        found = self._pulled.groups[shard.data_sha256]
        if path is None and not all(self._current(*each) for each in self._planned(shard, found, Path(shard.data))):
            path = self._source.get(shard.data, shard.data_sha256)
        if path is None:
            return
        for stage, scope, parts in self._planned(shard, found, path):
            engine = in_process if stage is self._captions else self._engine
            done = run_stage(stage, parts, self._store, engine=engine, scope=scope, remove_others=False)
            self._reports[stage.output.name].computed += done.computed
        self._source.release(shard.data)

    def _note_groups(self, shard: ShardFiles, path: Path, metadata: pa.Table) -> None:
        """Remember what is in a shard: the next pull need not fetch it if it is still the same."""
        if not groups.read_frame_keys(path).equals(metadata):
            raise self._damaged(shard.data)
        check_rows(path, len(self._described.planes))
        known = {**self._pulled.groups, shard.data_sha256: groups.read_groups(path, self._keys.keys)}
        self._pulled = replace(self._pulled, groups=known)
        write_pulled(self._workspace.path, self._pulled)

    def _planned(
        self, shard: ShardFiles, found: Sequence[Mapping[str, str]], path: Path
    ) -> Iterator[tuple[Stage, str, list[Part]]]:
        """Stage, scope and parts of a shard; those of masks and captions depend on what its frames are by then."""
        scope = scope_of(shard.split)
        yield self._frames, scope, [frame_part(path, n, group, self._keys) for n, group in enumerate(found)]
        made = {group["name"]: self._info(FRAMES, group["name"]) for group in found}
        for stage, table in ((self._masks, "masks"), (self._captions, "captions")):
            parts = [
                dependent_part(path, n, group, table, made[group["name"]], self._keys) for n, group in enumerate(found)
            ]
            yield stage, scope, parts

    def _current(self, stage: Stage, scope: str, parts: Sequence[Part]) -> bool:
        return all(
            (info := self._info(stage.output, part.name)) is not None
            and (info.fingerprint, info.scope) == (fingerprint(stage, part), scope)
            for part in parts
        )

    def _info(self, table: TableSpec, name: str) -> PartInfo | None:
        path = self._store.path(table, name)
        return read_info(path) if path.exists() else None

    def _finish(self, exams: Sequence[Part]) -> None:
        """Write the examinations; then remove what the dataset does not have any more."""
        planned: dict[str, dict[Stage, list[Part]]] = {
            scope_of(split): {self._frames: [], self._masks: [], self._captions: []} for split in SPLITS
        }
        for shard in self._shards:
            for stage, scope, parts in self._planned(shard, self._pulled.groups[shard.data_sha256], Path(shard.data)):
                planned[scope][stage] += parts
        self._add(run_stage(self._exams, exams, self._store, engine=in_process, scope="pull"), "records", computed=True)
        for scope, by_stage in planned.items():
            for stage in (self._captions, self._masks, self._frames):  # by their frames the others are found
                done = run_stage(stage, by_stage[stage], self._store, engine=in_process, scope=scope)
                self._add(done, stage.output.name, computed=False)

    def _add(self, done: RunReport, table: str, *, computed: bool) -> None:
        report = self._reports[table]
        report.computed += done.computed if computed else 0
        report.up_to_date += done.up_to_date
        report.removed += done.removed
        report.rows += done.rows
        for reason, count in done.exclusions.items():
            report.exclusions[reason] = report.exclusions.get(reason, 0) + count

    def _tell(self, done: int) -> None:
        rows = sum(shard.rows for shard in self._shards[:done])
        self._progress(Progress("pull", len(self._shards), done, rows, 0))

    def _report(self) -> PullReport:
        for report in self._reports.values():
            report.up_to_date = max(0, report.up_to_date - report.computed)
        return PullReport(self._pulled.name, self._pulled.fingerprint, self._pulled.licence, self._text, self._reports)

    def _damaged(self, path: str) -> UserError:
        return UserError(
            f"{path} contradicts what the dataset says elsewhere",
            where=self._source.place,
            fix="ask whoever published it to build it again",
        )


def text_status(described: Described) -> str:
    """What counts as known of text in a dataset's pixels: what it states, if that accounts for every frame."""
    stated = described.pulled.text
    rows = sum(shard.rows for shard in described.shards)
    if not isinstance(stated, Mapping) or not set(stated) <= {"none", "removed", "unchecked"}:
        return "unchecked"
    if stated.get("unchecked", 0) != 0 or sum(stated.values()) != rows:
        return "unchecked"
    return "removed" if stated.get("removed") else "none"


def _withdrawn(workspace: Workspace, pulled: Pulled) -> frozenset[str]:
    """Who took back the consent here, by their keys in a dataset that was built with this workspace's key."""
    names = [pulled.repository, pulled.repository.rpartition("/")[2]] if pulled.repository else []
    keys = own_keys(workspace, pulled.pseudonyms, names)
    return frozenset() if keys is None else withdrawn_patients(workspace, keys)


def _never() -> pa.Table:
    raise AssertionError("a part that is up to date is not loaded")
