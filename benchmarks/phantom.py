"""Frames per second of drawing phantoms on one core, where the time goes, and whether memory grows.

    python benchmarks/phantom.py [--exams 8 16 32] [--seed 0]

For each number of examinations, a fresh process on one core draws them into a fresh folder with everything that
``sono-curate phantom`` writes: DICOM files, masks, records, truth. Then it writes the same bytes again, syncing each
file and doing nothing else: no generator of these files can be faster than this floor on this disk. Starting Python and
importing are not counted. Times by step do not overlap: when a step waits for the disk, only the waiting is counted.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

STEPS = ("drawing", "DICOM", "masks and truth", "records", "waiting for the disk", "the rest")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exams", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--measure", type=int, metavar="EXAMS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.seed)))
    else:
        report([in_fresh_process(exams, options.seed) for exams in options.exams])


def in_fresh_process(exams: int, seed: int) -> dict[str, Any]:
    """The result of ``measure`` from a process of its own, so that its peak memory is its own."""
    command = [sys.executable, __file__, "--measure", str(exams), "--seed", str(seed)]
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env={**os.environ, **one_thread}, stdout=subprocess.PIPE, check=True)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def measure(exams: int, seed: int) -> dict[str, Any]:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    import cv2

    from sono.curation.phantom import writer
    from sono.curation.phantom.run import draw_phantom
    from sono.manifests.stages import in_process

    cv2.setNumThreads(1)
    before_mib = peak_mib()
    clock = Clock()
    clock.watch(writer, "draw_image", "drawing")
    clock.watch(writer, "write_instance", "DICOM")
    clock.watch(writer.ExamWriter, "_add_truth", "masks and truth")
    clock.watch(writer.ExamWriter, "_write_record", "records")
    clock.watch(os, "fsync", "waiting for the disk")
    with tempfile.TemporaryDirectory(prefix="sono-benchmark-") as folder:
        out = Path(folder) / "phantoms"
        started, worked = time.perf_counter(), time.process_time()
        drawn = draw_phantom(out, exams=exams, seed=seed, engine=in_process)
        total_s, processor_s = time.perf_counter() - started, time.process_time() - worked
        peak = peak_mib()  # before the floor, which reads one file at a time
        steps = {**clock.seconds, "the rest": total_s - sum(clock.seconds.values())}
        files = [path for path in out.rglob("*") if path.is_file() and path.name != ".lock"]
        floor_s = write_again(files, Path(folder) / "floor")
        written = sum(path.stat().st_size for path in files)
    return {
        "exams": exams,
        "frames": drawn.rows,
        "files": len(files),
        "written_mib": written / 2**20,
        "total_s": total_s,
        "processor_s": processor_s,
        "floor_s": floor_s,
        "steps": steps,
        "before_mib": before_mib,
        "peak_mib": peak,
    }


class Clock:
    """Seconds by step. If steps are nested, only the innermost clock runs."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._running: list[str] = []
        self._since = 0.0

    def watch(self, owner: Any, name: str, step: str) -> None:
        function: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            self._switch(lambda: self._running.append(step))
            try:
                return function(*arguments, **options)
            finally:
                self._switch(self._running.pop)

        setattr(owner, name, timed)

    def _switch(self, change: Callable[[], object]) -> None:
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        change()
        self._since = now


def peak_mib() -> float:
    """The most memory that this process has used."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def write_again(files: Sequence[Path], target: Path) -> float:
    """Seconds to write these files' bytes to one folder, syncing each file; reading is not counted."""
    target.mkdir()
    seconds = 0.0
    for number, path in enumerate(files):
        content = path.read_bytes()
        started = time.perf_counter()
        with (target / str(number)).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        seconds += time.perf_counter() - started
    return seconds


def report(runs: Sequence[dict[str, Any]]) -> None:
    print("| exams | frames | files | MiB written | frames/s | frames/processor s | times the floor | peak MiB |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for run in runs:
        print(
            f"| {run['exams']} | {run['frames']} | {run['files']:,} | {run['written_mib']:.0f} "
            f"| {run['frames'] / run['total_s']:.1f} | {run['frames'] / run['processor_s']:.1f} "
            f"| {run['total_s'] / run['floor_s']:.1f} | {run['peak_mib']:.0f} |"
        )
    last = runs[-1]
    print(f"\nOf {last['total_s']:.0f} s for {last['exams']} exams ({last['processor_s']:.0f} s on the processor):\n")
    print("| step | share |\n|---|---:|")
    for step in STEPS:
        print(f"| {step} | {last['steps'].get(step, 0.0) / last['total_s']:.0%} |")
    print(f"\nThe floor: {last['floor_s']:.1f} s. Memory before drawing: {last['before_mib']:.0f} MiB.")


if __name__ == "__main__":
    main()
