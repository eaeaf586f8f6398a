"""A run computes what is missing or stale and nothing else, and what it has done survives whatever ends it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sono.manifests import stages
from sono.manifests.errors import UserError
from sono.manifests.schemas import EXCLUSIONS, QC, TableSpec
from sono.manifests.stages import (
    Crashed,
    Exclusion,
    Part,
    Progress,
    RunReport,
    StageOutput,
    fingerprint,
    in_process,
    run_stage,
    stale_parts,
)
from sono.manifests.store import PartInfo, TableStore
from sono.manifests.workspace import create

PROGRAM = Path(__file__).with_name("store_program.py")


@dataclass(frozen=True)
class Judge:
    """Accepts frames up to a limit and excludes the others; raises on a frame of the value ``raises_at``."""

    limit: int = 100
    version: int = 1
    raises_at: int | None = None
    seen: list[list[int]] = field(default_factory=list, compare=False)

    name = "qc"

    @property
    def output(self) -> TableSpec:
        return QC

    def config(self) -> Mapping[str, object]:
        return {"limit": self.limit}

    def __call__(self, part: pa.Table) -> StageOutput:
        values = part["frame_index"].to_pylist()
        self.seen.append(values)
        if self.raises_at in values:
            raise RuntimeError("an error of the stage")
        rows: list[dict[str, object]] = [
            {"frame_id": str(value), "verdict": "accept", "reasons": [], "config_sha256": "c"}
            for value in values
            if value <= self.limit
        ]
        beyond = [value for value in values if value > self.limit]
        return StageOutput(
            QC.from_rows(rows), [Exclusion(f"s{value}", "beyond", "too large", value) for value in beyond]
        )


def load(values: Sequence[int]) -> pa.Table:
    return pa.table({"source_key": [f"s{value}" for value in values], "frame_index": list(values)})


def part(name: str, *values: int, digest: str | None = None) -> Part:
    return Part(name, digest if digest is not None else str(values), partial(load, values))


PARTS = [part("a", 1, 2), part("b", 3, 4), part("c", 5, 6)]


@pytest.fixture
def store(tmp_path: Path) -> TableStore:
    return TableStore(tmp_path)


def run(stage: Judge, parts: Sequence[Part], store: TableStore, **options: Any) -> RunReport:
    return run_stage(stage, parts, store, **{"engine": in_process, **options})


def content(store: TableStore) -> dict[str, bytes]:
    return {str(path.relative_to(store.root)): path.read_bytes() for path in sorted(store.root.glob("*/*"))}


def excluded(store: TableStore) -> list[str]:
    return store.read_all(EXCLUSIONS)["source_key"].to_pylist()


def test_the_first_run_computes_every_part(store: TableStore) -> None:
    stage = Judge(limit=4)
    report = run(stage, PARTS, store)
    assert report == RunReport("qc", computed=3, rows=4, exclusions={"beyond": 2})
    assert stage.seen == [[1, 2], [3, 4], [5, 6]]
    assert store.read_all(QC)["frame_id"].to_pylist() == ["1", "2", "3", "4"]
    assert store.read_all(EXCLUSIONS).to_pylist() == [
        {"source_key": f"s{index}", "frame_index": index, "stage": "qc", "reason": "beyond", "message": "too large"}
        for index in (5, 6)
    ]


def test_an_unchanged_run_computes_nothing(store: TableStore) -> None:
    run(Judge(limit=4), PARTS, store)
    before, stage = content(store), Judge(limit=4)
    report = run(stage, PARTS, store)
    assert report == RunReport("qc", up_to_date=3, rows=4, exclusions={"beyond": 2})
    assert stage.seen == []
    assert content(store) == before


def test_an_unchanged_run_loads_no_input(store: TableStore) -> None:
    run(Judge(), PARTS, store)
    unreadable = [replace(part, load=partial(os.listdir, "/does not exist")) for part in PARTS]
    assert run(Judge(), unreadable, store).up_to_date == 3


def test_only_the_changed_part_is_recomputed(store: TableStore) -> None:
    run(Judge(), PARTS, store)
    stage = Judge()
    report = run(stage, [PARTS[0], part("b", 3, 9), PARTS[2]], store)
    assert (report.computed, report.up_to_date) == (1, 2)
    assert stage.seen == [[3, 9]]
    assert store.read_all(QC)["frame_id"].to_pylist() == ["1", "2", "3", "9", "5", "6"]


def test_only_a_new_part_is_computed(store: TableStore) -> None:
    run(Judge(), PARTS[:2], store)
    stage = Judge()
    run(stage, PARTS, store)
    assert stage.seen == [[5, 6]]


@pytest.mark.parametrize("changed", [Judge(limit=5), Judge(version=2)], ids=["configuration", "version"])
def test_every_part_is_recomputed_if_the_stage_changes(store: TableStore, changed: Judge) -> None:
    run(Judge(), PARTS, store)
    assert run(changed, PARTS, store).computed == 3
    assert run(replace(changed), PARTS, store).computed == 0


def test_everything_that_decides_the_content_is_in_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(Judge):
        name = "other"

    one = part("a", 1)
    found = {
        fingerprint(Judge(), one),
        fingerprint(Judge(limit=5), one),
        fingerprint(Judge(version=2), one),
        fingerprint(Judge(), part("a", 2)),
        fingerprint(Other(), one),
    }
    monkeypatch.setattr(stages, "SCHEMA_VERSION", stages.SCHEMA_VERSION + 1)
    found.add(fingerprint(Judge(), one))
    assert len(found) == 6


def test_nothing_else_is_in_the_fingerprint() -> None:
    class Sorted(Judge):
        def config(self) -> Mapping[str, object]:
            return {"a": 1, "b": 2}

    class Unsorted(Judge):
        def config(self) -> Mapping[str, object]:
            return {"b": 2, "a": 1}

    assert fingerprint(Sorted(), part("a", 1)) == fingerprint(Unsorted(), part("a", 1))
    assert fingerprint(Judge(raises_at=7), part("a", 1)) == fingerprint(Judge(), part("b", 1))


def test_the_same_input_gives_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    def backwards(function: Callable[[Any], Any], arguments: Sequence[Any]) -> Iterator[Any]:
        return map(function, reversed(arguments))

    one, other = TableStore(tmp_path / "one"), TableStore(tmp_path / "other")
    run(Judge(limit=3), PARTS, one)
    run(Judge(limit=3), list(reversed(PARTS)), other, engine=backwards)
    assert content(one) == content(other)
    assert len(content(one)) == 5


def test_exclusions_follow_their_part(store: TableStore) -> None:
    run(Judge(limit=3), PARTS, store)
    assert excluded(store) == ["s4", "s5", "s6"]
    run(Judge(limit=5), PARTS, store)
    assert excluded(store) == ["s6"]
    run(Judge(limit=3), PARTS[:2], store)
    assert excluded(store) == ["s4"]
    run(Judge(limit=9), PARTS, store)
    assert excluded(store) == []
    assert list(store.root.glob("exclusions/*")) == []


def test_parts_no_longer_planned_are_removed(store: TableStore) -> None:
    run(Judge(limit=5), PARTS, store)
    report = run(Judge(limit=5), PARTS[:1], store)
    assert (report.removed, report.rows, report.exclusions) == (2, 2, {})
    assert list(store.parts(QC)) == ["a"]
    assert run(Judge(limit=5), [], store).removed == 1
    assert content(store) == {}


def test_parts_of_other_scopes_are_untouched(store: TableStore) -> None:
    run(Judge(), [part("x", 1)], store, scope="one archive")
    run(Judge(), [part("y", 2)], store, scope="another")
    assert run(Judge(), [part("z", 3)], store, scope="another").removed == 1
    assert {name: info.scope for name, info in store.parts(QC).items()} == {"x": "one archive", "z": "another"}


def test_parts_of_other_stages_are_not_removed(store: TableStore) -> None:
    class Other(Judge):
        name = "other"

    run(Other(), [part("x", 1)], store)
    assert run(Judge(), [part("y", 2)], store).removed == 0
    assert list(store.parts(QC)) == ["x", "y"]


def test_a_part_that_changes_scope_is_rewritten(store: TableStore) -> None:
    run(Judge(), [part("x", 1)], store, scope="one archive")
    assert run(Judge(), [part("x", 1)], store, scope="another").computed == 1
    assert store.parts(QC)["x"].scope == "another"


def test_a_failing_stage_keeps_finished_parts_and_removes_nothing(store: TableStore) -> None:
    run(Judge(), [part("old", 0), part("b", 3, 3)], store)
    with pytest.raises(RuntimeError, match="an error of the stage"):
        run(Judge(raises_at=5), PARTS, store)
    assert list(store.parts(QC)) == ["a", "b", "old"]
    assert store.read(QC, "b")["frame_id"].to_pylist() == ["3", "4"]
    stage = Judge()
    report = run(stage, PARTS, store)
    assert stage.seen == [[5, 6]]
    assert (report.computed, report.up_to_date, report.removed) == (1, 2, 1)


def test_a_part_that_cannot_be_written_keeps_its_old_content(store: TableStore) -> None:
    class Careless(Judge):
        def __call__(self, part: pa.Table) -> StageOutput:
            table, exclusions = super().__call__(part)
            empty = QC.from_rows([{**row, "verdict": None} for row in table.to_pylist()])
            return StageOutput(empty, exclusions)

    run(Judge(), PARTS, store)
    before = content(store)
    with pytest.raises(ValueError, match=r"verdict.*null"):
        run(Careless(version=2), PARTS, store)
    assert content(store) == before


@pytest.mark.slow
def test_a_killed_run_resumes_where_it_stopped(tmp_path: Path) -> None:
    workspace = create(tmp_path / "workspace", "A")
    command = [sys.executable, str(PROGRAM), "stage", str(workspace.path)]
    (workspace.path / "wait").touch()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "now\n"
        assert list(workspace.store.parts(QC)) == ["a", "b"]
        killed.kill()
    (workspace.path / "wait").unlink()
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "2 2\n"
    assert (workspace.path / "computed").read_text() == "abc" + "cd"
    assert workspace.store.read_all(QC)["frame_id"].to_pylist() == ["a", "b", "c", "d"]


def test_progress_counts_parts_found_and_computed(store: TableStore) -> None:
    run(Judge(limit=4), PARTS[:1], store)
    told: list[Progress] = []
    run(Judge(limit=4), PARTS, store, progress=told.append)
    assert told == [Progress("qc", 3, 1, 2, 0), Progress("qc", 3, 2, 4, 0), Progress("qc", 3, 3, 4, 2)]


def test_stale_parts_are_those_that_a_run_would_compute(store: TableStore) -> None:
    assert stale_parts(Judge(), PARTS, store) == 3
    run(Judge(), PARTS[:2], store)
    assert stale_parts(Judge(), PARTS, store) == 1
    assert stale_parts(Judge(limit=5), PARTS, store) == 3
    assert stale_parts(Judge(), [part("a", 7), *PARTS[1:]], store) == 2


def test_rows_travel_alone_when_their_part_has_crashed(store: TableStore) -> None:
    """An Arrow slice pickles the buffers of its whole table: a part's pixels, once for each of its rows."""
    pixels = os.urandom(100_000)
    table = pa.table({"source_key": list("abcdefgh"), "frame_index": range(8), "pixels": [pixels] * 8})
    sizes: list[int] = []

    def crashes_once(function: Callable[[Any], Any], arguments: Sequence[Any]) -> Iterator[Any]:
        for argument in arguments:
            if not sizes and len(arguments) == 1:
                yield Crashed(argument)
            else:
                sizes.append(len(pickle.dumps(argument)))
                yield function(argument)

    report = run(Judge(limit=6), [Part("a", "digest", partial(table.slice, 0))], store, engine=crashes_once)
    assert (report.rows, report.exclusions) == (7, {"beyond": 1})
    assert len(sizes) == 8
    assert max(sizes) < 110_000


class Together(Judge):
    rows_belong_together = True


def test_a_part_whose_rows_belong_together_is_not_run_row_by_row(store: TableStore) -> None:
    def crashes(function: Callable[[Any], Any], arguments: Sequence[Any]) -> Iterator[Any]:
        yield from map(Crashed, arguments)

    with pytest.raises(UserError, match="a worker process died in"):
        run(Together(), [part("a", 7)], store, engine=crashes)
    assert store.parts(Judge().output) == {}


def test_exclusions_of_a_killed_part_that_is_no_longer_planned_are_removed(store: TableStore) -> None:
    row = {"source_key": "a" * 32, "stage": "gone", "reason": "r", "message": "m"}
    info = PartInfo(name="orphan", stage="stage", fingerprint="f", scope="mine", rows=0)
    store.write_exclusions(info, EXCLUSIONS.from_rows([row]))
    assert len(store.paths(EXCLUSIONS)) == 1
    store.remove_other_exclusions("stage", "other", set())
    assert len(store.paths(EXCLUSIONS)) == 1
    store.remove_other_exclusions("stage", "mine", {"orphan"})
    assert len(store.paths(EXCLUSIONS)) == 1
    store.remove_other_exclusions("stage", "mine", set())
    assert store.paths(EXCLUSIONS) == []


class Recorded(Judge):
    def made_with(self) -> Mapping[str, object]:
        return {"limit": self.limit}


def test_a_part_says_what_it_was_made_with_if_its_stage_does(tmp_path: Path) -> None:
    store = TableStore(tmp_path)
    run_stage(Recorded(limit=7), PARTS, store, engine=in_process)
    assert [part.made_with for part in store.parts(QC).values()] == [{"limit": 7}] * 3
    run_stage(Judge(limit=8), PARTS, store, engine=in_process)
    assert [part.made_with for part in store.parts(QC).values()] == [{}] * 3
