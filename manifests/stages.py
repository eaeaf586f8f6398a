"""The stage contract, and the runner that turns a stage and its parts into table files.

A stage is a picklable callable from one part of input to one part of output. It shares no state with other parts, so
any engine that can map a function over a list can run it. The runner writes each output part under a temporary name,
syncs and renames it; a part's Parquet metadata carries a fingerprint of everything that decided its content. Running
again does only what is missing or stale.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import pyarrow as pa

from .errors import UserError
from .schemas import EXCLUSIONS, SCHEMA_VERSION, TableSpec
from .store import PartInfo
from .withdrawn import MESSAGE, REASON

Argument = TypeVar("Argument")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Exclusion:
    """Something that was left out, and why. ``message`` never holds a name, a path or a header's value."""

    source_key: str
    reason: str
    message: str
    frame_index: int | None = None


class StageOutput(NamedTuple):
    """What one part became: rows of the stage's table, and what was left out of it."""

    table: pa.Table
    exclusions: list[Exclusion]


class Stage(Protocol):
    """One step of the flow. Implementations are frozen dataclasses, so that they pickle and cannot drift.

    Input rows are independent. Each has a ``source_key`` (and a ``frame_index`` if it is about one frame), so that it
    can be named if it is excluded.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int:
        """Increased by hand whenever the same input and configuration would give a different output."""
        ...

    @property
    def output(self) -> TableSpec: ...

    def config(self) -> Mapping[str, object]:
        """Everything besides the input that decides the output, as JSON values. No secrets."""
        ...

    def __call__(self, part: pa.Table) -> StageOutput: ...


@runtime_checkable
class Recorded(Protocol):
    """A stage whose parts also say in words what they were made with: a fingerprint cannot be read."""

    def made_with(self) -> Mapping[str, object]:
        """Versions and settings, as JSON values. No secrets."""
        ...


@runtime_checkable
class Indivisible(Protocol):
    """A stage that needs to see a part's rows together, so that a part that crashes cannot be run row by row."""

    rows_belong_together: bool


@dataclass(frozen=True)
class Part:
    """The unit of work, of resume and of distribution.

    Attributes:
        name: the part's name, the same in every table that descends from it.
        digest: changes exactly when the part's input changes.
        load: picklable; called in the worker, so that pixels need not travel between processes.
    """

    name: str
    digest: str
    load: Callable[[], pa.Table]


@dataclass(frozen=True)
class Crashed(Generic[Argument]):
    """What an engine yields for an argument whose worker process died, as native decoders on bad files can make it."""

    argument: Argument


class PartStore(Protocol):
    """Where parts are kept. Picklable, with no state other than its location."""

    def parts(self, table: TableSpec) -> dict[str, PartInfo]: ...

    def admitted(self, table: TableSpec, rows: pa.Table) -> pa.Table:
        """The rows that may be kept."""
        ...

    def write(self, table: TableSpec, info: PartInfo, content: pa.Table) -> None: ...

    def write_exclusions(self, info: PartInfo, content: pa.Table) -> None: ...

    def remove(self, table: TableSpec, name: str, stage: str) -> None: ...

    def remove_other_exclusions(self, stage: str, scope: str, names: Set[str]) -> None: ...


class Engine(Protocol):
    """Calls a picklable function on every argument, in any order, possibly elsewhere; yields results as they arrive.

    An exception from the function ends the run. An argument that kills its worker process is retried alone; if it
    does so again it is yielded as ``Crashed``. The other arguments still get their results.
    """

    def __call__(
        self, function: Callable[[Argument], Result], arguments: Sequence[Argument]
    ) -> Iterator[Result | Crashed[Argument]]: ...


def in_process(function: Callable[[Argument], Result], arguments: Sequence[Argument]) -> Iterator[Result]:
    """The simplest engine: one part after another in this process, with no protection from crashes."""
    return map(function, arguments)


@dataclass(frozen=True)
class Progress:
    """How far a run is; ``parts_done`` includes those found up to date."""

    stage: str
    parts_total: int
    parts_done: int
    rows: int
    exclusions: int


@dataclass
class RunReport:
    """What a run did: parts computed, found up to date and removed, and the rows now in the table's scope."""

    stage: str
    computed: int = 0
    up_to_date: int = 0
    removed: int = 0
    rows: int = 0
    exclusions: dict[str, int] = field(default_factory=dict)


def fingerprint(stage: Stage, part: Part) -> str:
    """Hex SHA-256 over stage, code version, schema version, configuration and input."""
    parts = [stage.name, stage.version, SCHEMA_VERSION, stage.config(), part.digest]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def run_stage(
    stage: Stage,
    parts: Sequence[Part],
    store: PartStore,
    *,
    engine: Engine,
    scope: str = "",
    remove_others: bool = True,
    progress: Callable[[Progress], None] = lambda _: None,
) -> RunReport:
    """Bring the stage's table up to date with ``parts``.

    Args:
        scope: which parts of the table belong to this call. Parts of the same scope that are not in ``parts`` are
            removed, once everything else is done; parts of other scopes are never touched.
        remove_others: False if ``parts`` are only some of the scope's parts, and the others have to stay.

    Raises:
        UserError: a worker died over a part whose rows belong together.
    """
    report = RunReport(stage.name)
    present = store.parts(stage.output)
    todo: list[_Task] = []
    for part in parts:
        wanted = fingerprint(stage, part)
        info = present.get(part.name)
        if info is not None and info.fingerprint == wanted and info.scope == scope:
            report.up_to_date += 1
            _add(report, info)
        else:
            todo.append(_Task(stage, part, store, wanted, scope))

    def tell() -> None:
        excluded = sum(report.exclusions.values())
        progress(Progress(stage.name, len(parts), report.computed + report.up_to_date, report.rows, excluded))

    tell()
    with _ended(engine(_run_task, todo)) as results:
        for result in results:
            report.computed += 1
            if isinstance(result, Crashed) and isinstance(stage, Indivisible):
                raise UserError(
                    f"a worker process died in {stage.name}", fix="run this again, with fewer --workers or more memory"
                )
            _add(report, _run_by_rows(result.argument, engine) if isinstance(result, Crashed) else result)
            tell()
    if not remove_others:
        return report
    current = {part.name for part in parts}
    for name, info in present.items():
        if info.scope == scope and info.stage == stage.name and name not in current:
            store.remove(stage.output, name, stage.name)
            report.removed += 1
    store.remove_other_exclusions(stage.name, scope, current)
    return report


def stale_parts(stage: Stage, parts: Iterable[Part], store: PartStore) -> int:
    """How many of ``parts`` a run would compute."""
    present = store.parts(stage.output)
    return sum(part.name not in present or present[part.name].fingerprint != fingerprint(stage, part) for part in parts)


@contextlib.contextmanager
def _ended(results: Iterator[Result]) -> Iterator[Iterator[Result]]:
    """Close an engine that is a generator right away, not at garbage collection: no worker may outlive an error."""
    try:
        yield results
    finally:
        if isinstance(results, Generator):
            results.close()


class _Task(NamedTuple):
    stage: Stage
    part: Part
    store: PartStore
    fingerprint: str
    scope: str


def _run_task(task: _Task) -> PartInfo:
    return _write_output(task, task.stage(task.part.load()))


class _Rows(NamedTuple):
    stage: Stage
    number: int
    rows: pa.Table


def _run_by_rows(task: _Task, engine: Engine) -> PartInfo:
    """Run a part that killed its worker row by row: only the rows that crash are lost, and they are counted."""
    rows = task.part.load()
    # Copied: a slice would travel with the buffers of the whole part behind it.
    slices = [_Rows(task.stage, index, rows.slice(index, 1).take([0])) for index in range(rows.num_rows)]
    outputs: dict[int, StageOutput] = {}
    with _ended(engine(_run_rows, slices)) as results:
        for result in results:
            if isinstance(result, Crashed):
                row = result.argument.rows.to_pylist()[0]
                exclusion = Exclusion(
                    row["source_key"], "crashed", "a library crashed while working on it", row.get("frame_index")
                )
                outputs[result.argument.number] = StageOutput(task.stage.output.empty(), [exclusion])
            else:
                outputs[result[0]] = result[1]
    ordered = [StageOutput(task.stage.output.empty(), []), *(outputs[index] for index in sorted(outputs))]
    return _write_output(
        task,
        StageOutput(
            pa.concat_tables([output.table for output in ordered]),
            [exclusion for output in ordered for exclusion in output.exclusions],
        ),
    )


def _run_rows(rows: _Rows) -> tuple[int, StageOutput]:
    return rows.number, rows.stage(rows.rows)


def _write_output(task: _Task, output: StageOutput) -> PartInfo:
    """Exclusions are written first: the table's own file marks the part as done."""
    stage = task.stage
    kept = task.store.admitted(stage.output, output.table)
    # Their rows and files are only counted: nothing may name a patient who has withdrawn.
    left_out = [Exclusion(REASON, REASON, MESSAGE)] * (output.table.num_rows - kept.num_rows)
    output = StageOutput(kept, [*output.exclusions, *left_out])
    counts: dict[str, int] = {}
    for exclusion in output.exclusions:
        counts[exclusion.reason] = counts.get(exclusion.reason, 0) + 1
    info = PartInfo(
        name=task.part.name,
        stage=stage.name,
        fingerprint=task.fingerprint,
        scope=task.scope,
        rows=output.table.num_rows,
        exclusions=counts,
        made_with=dict(stage.made_with()) if isinstance(stage, Recorded) else {},
    )
    rows: list[dict[str, object]] = [
        {
            "source_key": exclusion.source_key,
            "frame_index": exclusion.frame_index,
            "stage": stage.name,
            "reason": exclusion.reason,
            "message": exclusion.message,
        }
        for exclusion in output.exclusions
    ]
    task.store.write_exclusions(info, EXCLUSIONS.from_rows(rows))
    task.store.write(stage.output, info, output.table)
    return info


def _add(report: RunReport, info: PartInfo) -> None:
    report.rows += info.rows
    for reason, count in info.exclusions.items():
        report.exclusions[reason] = report.exclusions.get(reason, 0) + count
