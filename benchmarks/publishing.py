"""What others pay for the first row of a published dataset, and what the gate and the withdrawal of one patient cost.

    python -m benchmarks.publishing stream [--frames 2000] [--side 600]
    python -m benchmarks.publishing withdraw [--patients 100000] [--side 32]
    python -m benchmarks.publishing gate [--frames 200000] [--side 16] [--keep FOLDER]

``stream`` builds a dataset of synthetic frames (``benchmarks/build.py``), puts it on the Hub of the tests, on this
machine, and lets ``datasets`` stream its first row in a process of its own. Bytes are those of the answers' bodies. The
process has loaded its libraries and asked for nothing yet when the clock starts; nothing is in its cache.

``withdraw`` makes a workspace of that many patients with eight frames each, and withdraws one from its middle.

``gate`` builds a dataset of that many frames, each with one region, and judges it as ``publish`` does, in a process of
its own. What it refuses is printed: nobody has audited these frames. Hashing the files is not measured.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import build

ROUNDS = 5
REPO = "hospital/frames"
STREAM = """
import os, sys, time
import datasets
name, split = sys.argv[1:]
started = time.perf_counter()
row = next(iter(datasets.load_dataset("hospital/frames", name, split=split, streaming=True)))
print(time.perf_counter() - started, flush=True)
os._exit(0)  # pyarrow's threads read ahead, and would never let it end
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    stream = commands.add_parser("stream")
    stream.add_argument("--frames", type=int, default=2000)
    stream.add_argument("--side", type=int, default=600)
    withdraw = commands.add_parser("withdraw")
    withdraw.add_argument("--patients", type=int, default=100_000)
    withdraw.add_argument("--side", type=int, default=32)
    withdraw.add_argument("--only", type=Path, help=argparse.SUPPRESS)  # a process of its own
    gate = commands.add_parser("gate")
    gate.add_argument("--frames", type=int, default=200_000)
    gate.add_argument("--side", type=int, default=16)
    gate.add_argument("--keep", type=Path)
    gate.add_argument("--only", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ["HF_HUB_DISABLE_XET"] = "1"  # which that Hub does not speak
    if options.command != "stream" and options.only:
        {"withdraw": withdraw_one, "gate": judge_one}[options.command](options.only)
        return
    with tempfile.TemporaryDirectory(prefix="sono-benchmark-") as scratch:
        if options.command == "stream":
            measure_stream(Path(scratch), options.frames, options.side)
        elif options.command == "gate":
            measure_gate(options.keep or Path(scratch), options.frames, options.side)
        else:
            measure_withdrawal(Path(scratch), options.patients, options.side)


def measure_stream(folder: Path, frames: int, side: int) -> None:
    from tests.hub.fixtures import running_hub
    from tests.hub.server import HubServer

    build.make_workspace(folder, frames, side)
    build.run_build(folder, folder / "dataset")
    megabytes = sum(path.stat().st_size for path in (folder / "dataset").rglob("*.parquet")) / 1e6
    sent = count_bodies(HubServer)
    with running_hub(folder / "hub") as hub:
        hub.api.create_repo(REPO, repo_type="dataset")
        os.environ |= hub.environment
        hub.api.upload_folder(repo_id=REPO, folder_path=folder / "dataset", repo_type="dataset")
        print(f"{megabytes:,.0f} MB in three configurations")
        for name in ("default", "regions", "metadata"):
            rounds = [stream_once(folder / f"{name}-{number}", name, sent) for number in range(ROUNDS)]
            seconds, read, requests = (sorted(values)[ROUNDS // 2] for values in zip(*rounds, strict=True))
            print(f"{name:<9} first row {seconds:5.2f} s, {read / 1e6:6.2f} MB in {requests:.0f} answers")


def count_bodies(server: Any) -> list[int]:
    """The sizes of all answers from now on."""
    sizes: list[int] = []
    answer = server.__call__

    async def counting(self: Any, scope: Any, receive: Any, send: Any) -> None:
        async def counted(message: Any) -> None:
            if message["type"] == "http.response.body":
                sizes.append(len(message.get("body", b"")))
            await send(message)

        await answer(self, scope, receive, counted)

    server.__call__ = counting
    return sizes


def stream_once(home: Path, name: str, sent: list[int]) -> tuple[float, int, int]:
    """Seconds, bytes and answers."""
    sent.clear()
    done = subprocess.run(
        [sys.executable, "-c", STREAM, name, "train"],
        env={**os.environ, "HF_HOME": str(home)},
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout), sum(sent), len(sent)


def measure_withdrawal(folder: Path, patients: int, side: int) -> None:
    from sono.manifests.workspace import open_workspace

    build.make_workspace(folder, patients * build.PER_PATIENT, side)
    name_one_patient(open_workspace(folder / "workspace"))
    files = list((folder / "workspace").glob("*/part-*.parquet"))
    print(f"{patients:,} patients, {len(files):,} parts, {sum(path.stat().st_size for path in files) / 1e6:,.0f} MB")
    command = [sys.executable, "-m", "benchmarks.publishing", "withdraw", "--only", str(folder)]
    subprocess.run(command, check=True)


def withdraw_one(folder: Path) -> None:
    from sono.curation.publishing.patient_list import ListedPatient
    from sono.curation.publishing.withdraw import withdraw
    from sono.manifests.workspace import open_workspace

    workspace = open_workspace(folder / "workspace")
    started = time.perf_counter(), time.process_time()
    with workspace.writing():
        report = withdraw(workspace, [ListedPatient(1, "P1")])
    print(f"rows removed: {report.rows}; parts rewritten: {report.parts_rewritten}")
    print_cost(started)


def print_cost(started: tuple[float, float]) -> None:
    seconds, processor = time.perf_counter() - started[0], time.process_time() - started[1]
    status = Path("/proc/self/status").read_text()  # ru_maxrss would begin with the parent's
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    print(f"{seconds:.1f} s, {processor:.1f} s of processor time, peak {peak:.0f} MiB")


def measure_gate(folder: Path, frames: int, side: int) -> None:
    if not (folder / "workspace").exists():
        build.make_workspace(folder, frames, side)
    build.run_build(folder, folder / "dataset")
    subprocess.run([sys.executable, "-m", "benchmarks.publishing", "gate", "--only", str(folder)], check=True)


def judge_one(folder: Path) -> None:
    from sono.curation.commands.captions import caption_guard
    from sono.curation.publishing.gate import refusals
    from sono.manifests.publishable import DATASET_FILES, digest_files, find_files
    from sono.manifests.workspace import open_workspace

    workspace = open_workspace(folder / "workspace")
    files = digest_files(folder / "dataset", find_files(folder / "dataset", DATASET_FILES)[0])
    started = time.perf_counter(), time.process_time()
    found = refusals(folder / "dataset", files, workspace, caption_guard(workspace))
    print("; ".join(f"{refusal.check}: {refusal.what}" for refusal in found))
    print_cost(started)


def name_one_patient(workspace: Any) -> None:
    """Give a patient in the middle the keys that follow from a number; those of the others are made up."""
    from sono.manifests.schemas import FRAMES, RECORDS

    known = workspace.keys.patient_keys("P1", center=workspace.center)
    keys = {"patient_key": known.patient, "patient_center_key": known.center, "patient_number_key": known.number}
    chosen = None
    for table in (FRAMES, RECORDS):
        parts = workspace.store.parts(table)
        name = sorted(parts)[len(parts) // 2]
        rows = workspace.store.read(table, name).to_pylist()
        chosen = chosen or rows[len(rows) // 2]["patient_key"]
        for row in rows:
            if row["patient_key"] == chosen:
                row |= {column: key for column, key in keys.items() if column in row}
        workspace.store.write(table, parts[name], table.from_rows(rows))


if __name__ == "__main__":
    main()
