"""Build against datasets' own writer, and what an update of a dataset re-sends to the Hub.

    python benchmarks/build.py [--frames 20000] [--side 128] [--rounds 3] [--workers 1] [--keep FOLDER]
    python benchmarks/build.py --update [--frames 4000] [--side 400]

The first form makes a workspace of ``--frames`` different frames with one region each, builds it with ``--workers``
processes, and writes the rows of that dataset with ``datasets.Dataset.from_generator(...).to_parquet``, in turns, each
in a process of its own. MB are those of the images of ``default``. The peer gets finished rows, read from the built
files, and writes ``default``, then the other configurations, too; build joins tables, derives keys, checks masks, draws
them, and hashes what it has written. Memory is the process's peak, that of workers beside it left out.

The second form uploads ``data/`` and ``metadata/`` of a build with the Hub's own client (hf-xet) into a storage on this
disk, then those of a build with one caption changed, and of one with a frame more. What is counted are the bytes of
chunks that the client sends because the storage has no equal ones, as it reports them, and its list of chunks.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PART_FRAMES = 1000
PER_PATIENT = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--only", choices=["build", "datasets"], help=argparse.SUPPRESS)  # a process of its own
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    if options.only:
        if options.only == "build":
            measure_build(options.keep, options.workers)
        else:
            measure_datasets(options.keep)
        return
    with tempfile.TemporaryDirectory(prefix="sono-benchmark-") as scratch:
        folder = options.keep or Path(scratch)
        if not (folder / "workspace").exists():
            make_workspace(folder, options.frames, options.side)
        compare_updates(folder) if options.update else compare_writers(folder, options.rounds, options.workers)


def compare_writers(folder: Path, rounds: int, workers: int) -> None:
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(rounds):
        for name in ("build", "datasets"):
            command = [sys.executable, __file__, "--only", name, "--keep", str(folder), "--workers", str(workers)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            for line in done.stdout.splitlines():
                if line.startswith("["):
                    what, figures = json.loads(line)
                    found.setdefault(f"{name}, {what}", []).append(figures)
    for name, measures in found.items():
        rate = statistics.median(each["mb_per_s"] for each in measures)
        processor = statistics.median(each["mb_per_cpu_s"] for each in measures)
        peak = max(each["peak_mib"] for each in measures)
        print(f"{name:<29}{rate:7.1f} MB/s {processor:7.1f} MB per s of processor, peak {peak:6.0f} MiB")


def measure_build(folder: Path, workers: int) -> None:
    import datasets  # noqa: F401 - build asks it for features, and the peer's import is not measured either

    import sono.curation.dataset.run  # noqa: F401

    shutil.rmtree(folder / "dataset", ignore_errors=True)
    started = time.perf_counter(), processor_time()
    run_build(folder, folder / "dataset", workers)
    report(folder, started, "all configurations")


def run_build(folder: Path, out: Path, workers: int = 1) -> None:
    from sono.curation.dataset.run import build
    from sono.curation.engines.local import LocalEngine
    from sono.manifests.splits import SplitPlan
    from sono.manifests.stages import in_process
    from sono.manifests.workspace import open_workspace

    engine = in_process if workers == 1 else LocalEngine(workers)
    build(open_workspace(folder / "workspace"), out, name="benchmark", plan=SplitPlan(), engine=engine)


def measure_datasets(folder: Path) -> None:
    import datasets
    import pyarrow.parquet as pq

    def rows(folder: str) -> Iterator[dict[str, Any]]:
        for path in sorted(Path(folder).glob("*.parquet")):
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(128):
                    yield from batch.to_pylist()

    started = time.perf_counter(), processor_time()
    cache = folder / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    for name in ("data", "regions", "metadata"):
        source = folder / "dataset" / name
        features = datasets.Features.from_arrow_schema(pq.read_schema(next(source.glob("*.parquet"))))
        dataset = datasets.Dataset.from_generator(
            rows, features=features, cache_dir=str(cache), gen_kwargs={"folder": str(source)}
        )
        dataset.to_parquet(str(folder / f"peer-{name}.parquet"))
        if name == "data":
            report(folder, started, "default alone")
    report(folder, started, "all configurations")


def processor_time() -> float:
    """Seconds of this process and of the workers that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def report(folder: Path, started: tuple[float, float], what: str) -> None:
    import duckdb

    wall, processor = time.perf_counter() - started[0], processor_time() - started[1]
    status = Path("/proc/self/status").read_text()  # ru_maxrss would begin with the parent's
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    sizes = duckdb.sql(f"SELECT sum(octet_length(image.bytes)) FROM '{folder}/dataset/data/*.parquet'").fetchall()
    megabytes = sizes[0][0] / 1e6
    figures = {"mb_per_s": megabytes / wall, "mb_per_cpu_s": megabytes / processor, "peak_mib": peak}
    print(json.dumps([what, figures]))


def compare_updates(folder: Path) -> None:
    run_build(folder, folder / "dataset")
    upload(folder, "first upload")
    change_caption(folder)
    run_build(folder, folder / "dataset")
    upload(folder, "one caption changed")
    add_frame(folder)
    run_build(folder, folder / "dataset")
    upload(folder, "one frame added")


def upload(folder: Path, what: str) -> None:
    import hf_xet

    storage = folder / "storage"
    storage.mkdir(exist_ok=True)
    os.environ["HF_XET_CACHE"] = str(storage / "cache")
    commit = hf_xet.XetSession().new_upload_commit(endpoint=f"local://{storage}")
    for name in ("data", "regions", "metadata"):
        for path in sorted((folder / "dataset" / name).glob("*.parquet")):
            commit.start_upload_file(str(path))
    metrics = commit.wait_to_finish().dedup_metrics
    share = metrics.new_bytes / metrics.total_bytes
    print(
        f"{what:<20} {metrics.total_bytes:>13,} bytes, new {metrics.new_bytes:>13,} ({share:.2%}), "
        f"{metrics.new_chunks} of {metrics.total_chunks} chunks"
    )


def make_workspace(folder: Path, frames: int, side: int) -> None:
    """A workspace of a few drawn frames, taken as far as captions, whose tables are then multiplied."""
    import cv2

    from sono.captioning.captions.run import caption_workspace
    from sono.curation.ingest.run import ingest
    from sono.curation.masks.run import import_masks
    from sono.curation.qc.run import qc
    from sono.manifests.stages import in_process
    from sono.manifests.workspace import create

    archive, drawn = folder / "archive", folder / "masks"
    lines, ages = ["file,patient_id,plane,center,pixel_mm"], ["patient_id,ga_days"]
    for number in range(PER_PATIENT):
        name = f"P1/{number}.png"
        for root, picture in ((archive, picture_of(number, side)), (drawn, mask_of(side))):
            (root / "P1").mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / name), picture)
        lines.append(f"{name},P1,transthalamic,A,0.2")
    (folder / "metadata.csv").write_text("\n".join(lines))
    (folder / "records.csv").write_text("\n".join([*ages, "P1,150"]))
    workspace = create(folder / "workspace", "A")
    toml = workspace.path / "sono.toml"
    toml.write_text(toml.read_text().replace("# min_short_side_px = 128", f"min_short_side_px = {min(side, 128)}"))
    with workspace.writing():
        ingest(workspace, [archive], engine=in_process, metadata=folder / "metadata.csv", cropped=True)
        qc(workspace, engine=in_process)
        import_masks(workspace, drawn, structure="head", mask_format="png", engine=in_process)
        caption_workspace(workspace, [folder / "records.csv"], templates="paper", engine=in_process)
        multiply(workspace, frames, side)
        qc(workspace, engine=in_process)


def multiply(workspace: Any, frames: int, side: int) -> None:
    """Replace the tables by ones with many patients, each with the frames of the first and with pixels of its own."""
    from sono.manifests.schemas import CAPTIONS, FRAMES, QC, RECORDS, REGIONS

    store = workspace.store
    tables = {table: store.read_all(table).to_pylist() for table in (FRAMES, REGIONS, CAPTIONS, RECORDS)}
    infos = {table: next(iter(store.parts(table).values())) for table in tables}
    for table in (*tables, QC):
        for path in store.paths(table):
            path.unlink()
    patients = range(frames // PER_PATIENT)
    at_once = PART_FRAMES // PER_PATIENT
    for first in range(0, len(patients), at_once):
        for table, rows in tables.items():
            copies = [copy_of(row, patient, side) for patient in patients[first : first + at_once] for row in rows]
            write(store, table, infos[table], f"{first:032x}", copies)


def write(store: Any, table: Any, info: Any, name: str, rows: list[dict[str, Any]]) -> None:
    import hashlib
    from dataclasses import replace

    digest = hashlib.sha256(json.dumps([name, len(rows), rows[0].get("text")]).encode()).hexdigest()
    store.write(table, replace(info, name=name, rows=len(rows), fingerprint=digest), table.from_rows(rows))


def copy_of(row: dict[str, Any], patient: int, side: int) -> dict[str, Any]:
    """A row of another patient: every key is another, and so are the pixels."""
    import hashlib

    changed = dict(row)
    for name, value in row.items():
        if (name.endswith(("_key", "_id")) or name == "pixel_digest") and isinstance(value, str):
            changed[name] = hashlib.md5(f"{value}/{patient}".encode()).hexdigest()
    if "image" in row:
        import cv2

        seed = int(changed["frame_id"][:8], 16)
        changed["image"] = {"bytes": cv2.imencode(".png", picture_of(seed, side))[1].tobytes(), "path": None}
    return changed


def picture_of(seed: int, side: int) -> Any:
    """Smooth speckle; another one for every seed."""
    import cv2
    import numpy as np

    noise = np.random.default_rng(seed).integers(0, 256, (side // 4, side // 4), dtype=np.uint8)
    smooth = cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
    return (smooth & 0xF8) | 4


def mask_of(side: int) -> Any:
    import cv2
    import numpy as np

    mask = np.zeros((side, side), np.uint8)
    cv2.circle(mask, (side // 2, side // 2), side // 4, 255, -1)
    return mask


def change_caption(folder: Path) -> None:
    from sono.manifests.schemas import CAPTIONS
    from sono.manifests.workspace import open_workspace

    store = open_workspace(folder / "workspace").store
    parts = store.parts(CAPTIONS)
    name = sorted(parts)[len(parts) // 2]
    rows = store.read(CAPTIONS, name).to_pylist()
    row = next(row for row in rows if row["region_id"] is None)
    row["text"] = row["text"].replace("image", "picture")
    rows.remove(row)
    write(store, CAPTIONS, parts[name], name, [row, *rows])


def add_frame(folder: Path) -> None:
    """A frame more of a patient in the middle of the tables, without regions."""
    from sono.curation.qc.run import qc
    from sono.manifests.schemas import CAPTIONS, FRAMES
    from sono.manifests.stages import in_process
    from sono.manifests.workspace import open_workspace

    workspace = open_workspace(folder / "workspace")
    for table in (FRAMES, CAPTIONS):
        parts = workspace.store.parts(table)
        name = sorted(parts)[len(parts) // 2]
        rows = workspace.store.read(table, name).to_pylist()
        row = dict(next(row for row in rows if row.get("region_id") is None))
        frames = {row["frame_id"] for row in workspace.store.read(FRAMES, name).to_pylist()}
        side = workspace.store.read(FRAMES, name, ["width"])["width"][0].as_py()
        if table is CAPTIONS:
            row["frame_id"] = (frames - {each["frame_id"] for each in rows}).pop()
            row["caption_id"] = "0" * 32
        else:
            row |= {name: copy_of(row, -1, side)[name] for name in ("frame_id", "source_key", "pixel_digest", "image")}
        place = len(rows) // 2
        write(workspace.store, table, parts[name], name, [*rows[:place], row, *rows[place:]])
    with workspace.writing():
        qc(workspace, engine=in_process)


if __name__ == "__main__":
    main()
