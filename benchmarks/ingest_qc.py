"""Frames per second of ``ingest`` and ``qc``, beside plain decoding and beside cleanvision, on the same images.

    python benchmarks/ingest_qc.py IMAGES [--copies 20] [--rounds 3]

IMAGES is a folder of image files. They are copied ``--copies`` times under other names into one folder, so that
starting the programs does not decide the result. In each round, in turn: every image is decoded by ``cv2.imread`` on
one thread; ``sono-curate ingest`` and ``sono-curate qc`` run as commands into a fresh workspace, on all cores; and
cleanvision looks for all its issues, on all cores. Whole wall-clock times; the median of the rounds is printed, and
ratios within each round, since a shared machine's speed drifts.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2

BIN = Path(sys.executable).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--copies", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="sono-benchmark-") as folder:
        images = copies(options.images, Path(folder) / "images", options.copies)
        rounds = [one_round(images, Path(folder), cores) for _ in range(options.rounds)]
    report(rounds, len(images), cores)


def copies(source: Path, target: Path, times: int) -> list[Path]:
    files = sorted(path for path in source.iterdir() if path.suffix.lower() in (".png", ".jpg", ".bmp", ".tif"))
    if not files:
        sys.exit(f"{source}: no images")
    target.mkdir()
    return [Path(shutil.copy(file, target / f"{number:03}_{file.name}")) for number in range(times) for file in files]


def one_round(images: list[Path], folder: Path, cores: int) -> dict[str, float]:
    """Seconds of each contestant."""
    return {
        "imread": seconds(lambda: decode(images)),
        "sono": seconds(lambda: curate(images[0].parent, folder)),
        "cleanvision": seconds(lambda: cleanvision(images[0].parent, cores)),
    }


def decode(images: list[Path]) -> None:
    cv2.setNumThreads(1)
    for path in images:
        assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED) is not None


def curate(images: Path, folder: Path) -> None:
    workspace = folder / "workspace"
    shutil.rmtree(workspace, ignore_errors=True)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([BIN / "sono-curate", "init", workspace], check=True, **quiet)
    subprocess.run(
        [BIN / "sono-curate", "ingest", workspace, images, "--patient-regex", r"^\d+_(\d+)"], check=True, **quiet
    )
    subprocess.run([BIN / "sono-curate", "qc", workspace], check=True, **quiet)


def cleanvision(images: Path, cores: int) -> None:
    """In a process of its own, as the commands are."""
    script = f"from cleanvision import Imagelab; Imagelab(data_path={str(images)!r}).find_issues(n_jobs={cores})"
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def report(rounds: list[dict[str, float]], frames: int, cores: int) -> None:
    def rate(name: str, divisor: int = 1) -> float:
        return statistics.median(frames / round_[name] / divisor for round_ in rounds)

    def ratio(name: str, divisor: int = 1) -> str:
        ratios = [round_[name] / round_["sono"] / divisor for round_ in rounds]
        return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})"

    print(f"{frames} frames, {cores} cores, {len(rounds)} rounds; frames per second, median")
    print(f"  cv2.imread, one core              {rate('imread'):8.0f}")
    print(f"  sono-curate ingest + qc, a core   {rate('sono', cores):8.0f}")
    print(f"  sono-curate ingest + qc           {rate('sono'):8.0f}")
    print(f"  cleanvision                       {rate('cleanvision'):8.0f}")
    print("ratios within a round, median (least - greatest)")
    print(f"  ingest + qc a core / cv2.imread   {ratio('imread', cores)}")
    print(f"  ingest + qc / cleanvision         {ratio('cleanvision')}")


if __name__ == "__main__":
    main()
