"""Captions per second from clinical records to the captions table, and the memory that it takes.

    python benchmarks/captions.py [--frames 1440000] [--frames-a-part 512] [--planes] [--keep FOLDER]

Makes a workspace of drawn-up tables (frames with an image of one pixel, four accepted regions each, their masks empty;
captioning reads neither) and a CSV of clinical records, one row an examination; with --planes also one row for each
plane of it, ten times as many. Then it runs

    sono-curate caption WORKSPACE --records records.csv

on two processors as a user would, start-up included, and samples the memory of all its processes (proportional set
size, so that what they share counts once). Beside it, in the same run and on the same facts, a plain loop: one Jinja2
template compiled once, a dictionary and a ``render`` for every caption, nothing read, checked, counted or written.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from sono.manifests import vocabulary
from sono.manifests.query import query
from sono.manifests.schemas import CAPTIONS, FRAMES, REGIONS, TableSpec
from sono.manifests.store import PartInfo, write_part
from sono.manifests.workspace import Workspace, create

REGIONS_A_FRAME = 4
FRAMES_AN_EXAM = 12
LOOP_CAPTIONS = 400_000
_PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b5500"
    "00000a49444154789c636000000002000148afa4710000000049454e44ae426082"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1_440_000)
    parser.add_argument("--frames-a-part", type=int, default=512, help="a part of ingest is 64 files, cines included")
    parser.add_argument("--planes", action="store_true", help="records have a row for each plane, too")
    parser.add_argument("--keep", type=Path, help="make the workspace here, or use the one that is here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        if not (folder / "workspace").exists():
            make(folder, options.frames, options.frames_a_part)
        records = folder / ("planes.csv" if options.planes else "exams.csv")
        report(folder, *run(folder, records), loop(Workspace(folder / "workspace")))


# ------------------------------------------------------------------------------------------------------ the workspace


def make(folder: Path, frames: int, frames_a_part: int) -> None:
    """A workspace and its records; examinations of twelve frames over ages and planes, all drawn from one seed."""
    folder.mkdir(parents=True, exist_ok=True)
    workspace = create(folder / "workspace", "center")
    random = np.random.default_rng(0)
    exams = -(-frames // FRAMES_AN_EXAM)
    ages = random.integers(11 * 7, 41 * 7, exams)
    planes = list(workspace.vocabulary.planes.values())
    shown = random.integers(0, len(planes), (exams, FRAMES_AN_EXAM))
    for planes_too in (False, True):
        path = folder / ("planes.csv" if planes_too else "exams.csv")
        write_records(path, ages, shown, workspace.vocabulary, planes_too=planes_too)
    for part, first in enumerate(range(0, frames, frames_a_part)):
        rows = range(first, min(first + frames_a_part, frames))
        write_frames(workspace, part, rows, shown)


def write_records(
    path: Path, ages: np.ndarray, shown: np.ndarray, words: vocabulary.Vocabulary, *, planes_too: bool
) -> None:
    planes = list(words.planes.values())
    columns = ["patient_id", "study_id", "plane", "ga_weeks", "bpd_mm", "hc_mm", "ac_mm", "fl_mm", "structures_seen"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for exam, age in enumerate(ages.tolist()):
            who = f"P{exam // 2:07d}", f"1.2.826.0.1.{exam}"
            weeks = age / 7
            sizes = [f"{value:.1f}" for value in (2.5 * weeks, 9.3 * weeks, 8.6 * weeks, 1.9 * weeks)]
            writer.writerow([*who, "", f"{age // 7}+{age % 7}", *sizes, ""])
            for plane in sorted(set(shown[exam].tolist())) if planes_too else ():
                writer.writerow([*who, planes[plane].id, "", "", "", "", "", ";".join(planes[plane].structures)])


def write_frames(workspace: Workspace, part: int, rows: range, shown: np.ndarray) -> None:
    """A part of frames, and a part of their regions; not synced one by one, since this is not what is measured."""
    keys = workspace.keys
    planes = list(workspace.vocabulary.planes.values())
    frames, regions = [], []
    for row in rows:
        exam, number = divmod(row, FRAMES_AN_EXAM)
        plane = planes[shown[exam, number]]
        source_key = keys.source(f"{row}")
        frame_id = keys.frame(source_key, 0)
        patient = keys.patient_keys(f"P{exam // 2:07d}", center="center")
        frames.append(
            {
                "frame_id": frame_id,
                "image": {"bytes": _PNG, "path": None},
                "height": 1,
                "width": 1,
                "crop": [0, 0, 1, 1],
                "patient_key": patient.patient,
                "patient_center_key": patient.center,
                "patient_number_key": patient.number,
                "study_key": keys.study(f"1.2.826.0.1.{exam}"),
                "source_key": source_key,
                "source_digest": "",
                "frame_index": 0,
                "center": "center",
                "plane": plane.id,
                "plane_source": "header",
                "pixel_digest": "",
                "grey_histogram": [0] * 256,
                "laplacian_energy": 0.0,
                "burned_in_text": "none",
            }
        )
        structures = (plane.structures * REGIONS_A_FRAME)[:REGIONS_A_FRAME]
        for index, structure in enumerate(structures):
            regions.append(
                {
                    "region_id": keys.region(frame_id, structure, f"import{index}"),
                    "frame_id": frame_id,
                    "pixel_digest": "",
                    "structure": structure,
                    "mask": {"size": [1, 1], "counts": "1"},
                    "area_px": 0,
                    "bbox": [0, 0, 0, 0],
                    "source": "import",
                    "status": "accepted",
                }
            )
    name = keys.content(f"part {part}")
    _write(workspace, FRAMES, name, frames)
    _write(workspace, REGIONS, name, regions)


def _write(workspace: Workspace, table: TableSpec, name: str, rows: list[dict[str, object]]) -> None:
    info = PartInfo(name=name, stage="made", fingerprint="", scope="", rows=len(rows))
    write_part(workspace.store.path(table, name), table, info, table.from_rows(rows))


# ------------------------------------------------------------------------------------------------------- the measures


def run(folder: Path, records: Path) -> tuple[float, float, float]:
    """Seconds until the last caption was written, seconds of the whole command, and the most MiB held at once."""
    for table in ("statements", "records", "captions"):
        for path in (folder / "workspace" / table).glob("part-*"):
            path.unlink()
    command = [Path(sys.executable).with_name("sono-curate"), "caption", folder / "workspace"]
    os.sync()
    began, start = time.time(), time.perf_counter()
    process = subprocess.Popen([*map(str, command), "--records", str(records), "--workers", "2"])
    most = [0]
    watcher = threading.Thread(target=_watch, args=(process, most))
    watcher.start()
    if process.wait():
        raise SystemExit("the command failed")
    seconds = time.perf_counter() - start
    watcher.join()
    captions = max(path.stat().st_mtime for path in (folder / "workspace" / "captions").glob("part-*"))
    return captions - began, seconds, most[0] / 1024


def _watch(process: subprocess.Popen[bytes], most: list[int]) -> None:
    while process.poll() is None:
        most[0] = max(most[0], sum(map(_kibibytes, _tree(process.pid))))
        time.sleep(0.25)


def _tree(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found.extend(int(child) for child in task.read_text().split())
            except OSError:
                continue
    return found


def _kibibytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def loop(workspace: Workspace) -> float:
    """Captions a second of the plain loop, over the first captions' facts."""
    import jinja2

    paths = [str(path) for path in workspace.store.paths(CAPTIONS)]
    facts = query(f"SELECT facts FROM read_parquet($paths) LIMIT {LOOP_CAPTIONS}", {"paths": paths})[
        "facts"
    ].to_pylist()
    planes, structures = workspace.vocabulary.planes, workspace.vocabulary.structures
    whole = jinja2.Template(
        "A {{ ga }}-week fetal ultrasound image of {{ plane }} plane showing {{ structures | join(', ') }}."
    )
    region = jinja2.Template(
        "A {{ ga }}-week fetal ultrasound {{ plane }} plane. The segmentation highlights the {{ structure }}."
    )
    values = [json.loads(text) for text in facts]
    start = time.perf_counter()
    for value in values:
        words = {"ga": value["ga_days"]["value"] // 7, "plane": planes[value["plane"]["value"]].name}
        if "structure" in value:
            region.render(**words, structure=structures[value["structure"]["value"]].name)
        else:
            whole.render(**words, structures=[structures[name].name for name in value["structures"]["value"]])
    return len(values) / (time.perf_counter() - start)


def report(folder: Path, to_captions: float, seconds: float, mebibytes: float, loop_rate: float) -> None:
    paths = [str(path) for path in Workspace(folder / "workspace").store.paths(CAPTIONS)]
    found = query("SELECT count(*) AS n, count(DISTINCT text) AS texts FROM read_parquet($paths)", {"paths": paths})
    captions, looped = found["n"][0].as_py(), found["n"][0].as_py() / loop_rate
    print(f"captions                        {captions:>12,}  ({found['texts'][0].as_py():,} distinct)")
    rate = captions / to_captions
    print(f"records to captions             {to_captions:>12.1f} s, {rate:,.0f} a second, two processors")
    print(f"the whole command, with page    {seconds:>12.1f} s")
    print(f"memory of all processes, most   {mebibytes:>12,.0f} MiB")
    print(f"plain Jinja2 loop, one core     {looped:>12.1f} s, {loop_rate:,.0f} a second, rendering only")
    print(f"loop : records to captions      {looped / to_captions:>12.2f}")


if __name__ == "__main__":
    main()
