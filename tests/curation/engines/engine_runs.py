"""Runs that test_local.py watches from outside: spawned workers import functions from the program that was started.

Started as ``python engine_runs.py RUN [FOLDER]``; prints one JSON value, except where a run is meant to be ended.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa

from sono.curation.engines.local import LocalEngine
from sono.manifests.errors import UserError
from sono.manifests.schemas import EXCLUSIONS, QC, TableSpec
from sono.manifests.stages import Crashed, Exclusion, Part, StageOutput, in_process, run_stage
from sono.manifests.store import TableStore

if multiprocessing.parent_process() is not None:  # a worker, which imports this file when it starts
    time.sleep(float(os.environ.get("START_DELAY_S", "0")))

PARTS, ROWS = 3, 5
BAD_ROWS = {("1", 0), ("1", 4)}


def square(number: int) -> int:
    return number * number


def square_and_pid(number: int) -> tuple[int, int]:
    time.sleep(0.05)
    return square(number), os.getpid()


def raise_at_seven(number: int) -> int:
    if number == 7:
        raise UserError("seven cannot be squared", where="the list", fix="leave it out")
    return square(number)


def abort_at_seven(number: int) -> int:
    if number == 7:
        os.abort()
    return square(number)


def abort_where_negative(number: int) -> int:
    if number < 0:
        os.abort()
    return square(number)


def abort_the_first_time(folder: Path, number: int) -> int:
    """As the out-of-memory killer may do: the work succeeds when it runs alone."""
    marker = folder / f"tried-{number}"
    if number == 3 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return square(number)


def write_pid_and_wait(folder: Path, number: int) -> int:
    started = folder / f"{number}.pid.new"
    started.write_text(str(os.getpid()))
    started.rename(folder / f"{number}.pid")
    time.sleep(60)
    return number


def write_on_stderr(number: int) -> int:
    print("PATIENT^NAME", file=sys.stderr, flush=True)
    os.write(2, b"PATIENT^NAME\n")
    return number


@dataclass(frozen=True)
class FragileStage:
    """Judges rows, excludes row 3 of every part, and dies on the bad ones."""

    dies: bool = True

    name = "qc"
    version = 1

    @property
    def output(self) -> TableSpec:
        return QC

    def config(self) -> Mapping[str, object]:
        return {}

    def __call__(self, part: pa.Table) -> StageOutput:
        rows: list[dict[str, object]] = []
        exclusions = []
        for row in part.to_pylist():
            if (row["source_key"], row["frame_index"]) in BAD_ROWS:
                if self.dies:
                    os.abort()
            elif row["frame_index"] == 3:
                exclusions.append(Exclusion(row["source_key"], "third", "the third is left out", row["frame_index"]))
            else:
                frame_id = f"{row['source_key']}/{row['frame_index']}"
                judged = {"verdict": "accept", "reasons": [], "config_sha256": ""}
                rows.append({"frame_id": frame_id, **judged})
        return StageOutput(QC.from_rows(rows), exclusions)


def load(name: str) -> pa.Table:
    return pa.table({"source_key": [name] * ROWS, "frame_index": list(range(ROWS))})


def run_fragile_stage(folder: Path) -> dict[str, object]:
    store = TableStore(folder / "crashing")
    parts = [Part(str(number), "digest", partial(load, str(number))) for number in range(PARTS)]
    progress: list[int] = []
    report = run_stage(
        FragileStage(), parts, store, engine=LocalEngine(2), progress=lambda now: progress.append(now.parts_done)
    )
    again = run_stage(FragileStage(), parts, store, engine=LocalEngine(2))
    calm = TableStore(folder / "calm")
    run_stage(FragileStage(dies=False), parts, calm, engine=in_process)
    excluded = store.read_all(EXCLUSIONS).to_pylist()
    return {
        "report": asdict(report),
        "again": asdict(again),
        "progress": progress,
        "frames": store.read_all(QC, ["frame_id"])["frame_id"].to_pylist(),
        "frames_without_crashes": calm.read_all(QC, ["frame_id"])["frame_id"].to_pylist(),
        "excluded": [[row["reason"], row["source_key"], row["frame_index"]] for row in excluded],
        "messages": [row["message"] for row in excluded if row["reason"] == "crashed"],
    }


def same_tables(folder: Path) -> bool:
    parts = [Part(str(number), "digest", partial(load, str(number))) for number in range(PARTS)]
    written = []
    for name, engine in (("one", in_process), ("other", LocalEngine(2))):
        run_stage(FragileStage(dies=False), parts, TableStore(folder / name), engine=engine)
        written.append({path.relative_to(folder / name): path.read_bytes() for path in folder.glob(f"{name}/*/*")})
    return written[0] == written[1] and len(written[0]) == 2 * PARTS


def results(workers: int, function: Callable[[int], int], arguments: list[int], pause_s: float = 0) -> list[object]:
    found: list[object] = []
    for result in LocalEngine(workers)(function, arguments):
        found.append({"crashed": result.argument} if isinstance(result, Crashed) else result)
        time.sleep(pause_s if len(found) == 1 else 0)
    return found


def first_error(workers: int) -> str:
    try:
        results(workers, raise_at_seven, list(range(30)))
    except UserError as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def stopped_early() -> int:
    for _ in LocalEngine(2)(square, list(range(1000))):
        break
    return len(multiprocessing.active_children())


def run_until_ended(folder: Path) -> list[object]:
    try:
        return results(2, partial(write_pid_and_wait, folder), list(range(40)))
    except KeyboardInterrupt:
        sys.exit(130)


RUNS: dict[str, Callable[[Path], object]] = {
    "all": lambda _: results(2, square, list(range(50))),
    "none": lambda _: results(2, square, []),
    "more_workers_than_work": lambda _: results(3, square, [5]),
    "pids": lambda _: results(2, square_and_pid, list(range(12))),
    "error": lambda _: first_error(2),
    "one_aborts": lambda _: results(2, abort_at_seven, list(range(20))),
    "several_abort": lambda _: results(2, abort_where_negative, [1, -1, 2, 3, -2, -3, 4, 5, 6, -4]),
    "aborts_while_the_caller_is_busy": lambda _: results(1, abort_where_negative, [1, -1, 2, 3, 4], pause_s=0.7),
    "aborts_once": lambda folder: results(2, partial(abort_the_first_time, folder), list(range(8))),
    "stage": run_fragile_stage,
    "same_tables": same_tables,
    "stderr": lambda _: results(2, write_on_stderr, [1, 2]),
    "stopped_early": lambda _: stopped_early(),
    "until_ended": run_until_ended,
}

if __name__ == "__main__":
    print(json.dumps(RUNS[sys.argv[1]](Path(sys.argv[2]))))
