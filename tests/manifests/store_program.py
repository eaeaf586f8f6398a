"""A program that test_store.py and test_stages.py kill while it writes. Started with what to do and a folder."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import pyarrow as pa

from sono.manifests.schemas import QC, TableSpec
from sono.manifests.stages import Part, StageOutput, in_process, run_stage
from sono.manifests.store import TableStore, write_atomically
from sono.manifests.workspace import open_workspace


def say_and_wait() -> None:
    print("now", flush=True)
    time.sleep(60)


def write_half(folder: Path) -> None:
    def write(file: IO[bytes]) -> None:
        file.write(b"half of the new")
        file.flush()
        say_and_wait()

    write_atomically(folder / "part-a.parquet", write)


def hold(folder: Path) -> None:
    with open_workspace(folder).writing():
        say_and_wait()


def hold_and_end(folder: Path) -> None:
    with open_workspace(folder).writing():
        print("had it", flush=True)


@dataclass(frozen=True)
class SlowStage:
    """Judges one frame a part, and waits on part c for as long as there is a file ``wait``."""

    folder: Path

    name = "qc"
    version = 1

    @property
    def output(self) -> TableSpec:
        return QC

    def config(self) -> Mapping[str, object]:
        return {}

    def __call__(self, part: pa.Table) -> StageOutput:
        name = part["frame_id"][0].as_py()
        with (self.folder / "computed").open("a") as file:
            file.write(name)
        if name == "c" and (self.folder / "wait").exists():
            say_and_wait()
        row = {"frame_id": name, "verdict": "accept", "reasons": [], "config_sha256": ""}
        return StageOutput(QC.from_rows([row]), [])


def load(name: str) -> pa.Table:
    return pa.table({"source_key": [name], "frame_id": [name]})


def run_slow_stage(folder: Path) -> None:
    parts = [Part(name, name, partial(load, name)) for name in "abcd"]
    report = run_stage(SlowStage(folder), parts, TableStore(folder), engine=in_process)
    print(report.computed, report.up_to_date)


RUNS = {"write_half": write_half, "hold": hold, "hold_and_end": hold_and_end, "stage": run_slow_stage}

if __name__ == "__main__":
    from sono.manifests.errors import UserError

    os.umask(0o077)
    try:
        RUNS[sys.argv[1]](Path(sys.argv[2]))
    except UserError as error:
        sys.exit(str(error))
