"""How well the mode and the sectors of frames are found, on phantoms and on real frames annotated by hand.

    python benchmarks/sectors.py [--frames 480] [--seed 2026] [--data ../shared/data]

Phantoms: frames of six modes from scanners drawn at random, with text and measurements over a fifth of them. Mode: from
pixels alone, and with a valid header. Sectors: of the true mode, from pixels alone and with the header's regions; the
mode is not to be blamed on the sector, nor the other way round. Real frames: by the mode that is found. IoU is with the
true pixels; a frame is accepted if it has no reason for review. Times are processor time on one core.
"""

from __future__ import annotations

import argparse
import collections
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Scores:
    """IoU, and whether accepted, of every frame."""

    ious: list[float] = field(default_factory=list)
    accepted: list[bool] = field(default_factory=list)
    reasons: collections.Counter[str] = field(default_factory=collections.Counter)

    def add(self, iou: float, reasons: Sequence[str]) -> None:
        self.ious.append(iou)
        self.accepted.append(not reasons)
        self.reasons.update(reasons)

    def row(self) -> str:
        import numpy as np

        ious, accepted = np.array(self.ious), np.array(self.accepted)
        worst = ious[accepted].min() if accepted.any() else float("nan")
        wrong = int(((ious < 0.9) & accepted).sum())
        return (
            f"| {len(ious)} | {ious.mean():.4f} | {np.quantile(ious, 0.01):.3f} | {accepted.mean():.1%} "
            f"| {worst:.3f} | {int((ious < 0.9).sum())} | {wrong} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=480)
    parser.add_argument("--seed", type=int, default=2026, help="below 100: seeds that thresholds were chosen on")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    import cv2

    cv2.setNumThreads(1)
    phantoms(options.frames, options.seed)
    if options.data.is_dir():
        real_frames(options.data)


def phantoms(frames: int, seed: int) -> None:
    from sono.curation.cleaning.frame_mode import frame_mode
    from sono.curation.cleaning.sectors.find import MODES_WITH_SECTORS, find_sectors
    from sono.curation.cleaning.sectors.geometry import iou, sector_mask
    from sono.curation.cleaning.sectors.screen import read_screen
    from sono.curation.phantom.samples import MODES, draw_samples

    seen: dict[str, collections.Counter[str]] = {mode: collections.Counter() for mode in MODES}
    stated = collections.Counter[str]()
    scores = {"pixels alone": Scores(), "with the header": Scores()}
    clock = Clock()
    for sample in draw_samples(frames, seed=seed):
        regions = header_regions(sample)
        clock.start()
        screen = read_screen(sample.pixels)
        _ = screen.layout
        clock.stop("reduced frame and layout")
        found = frame_mode(screen)
        clock.stop("mode")
        seen[sample.mode][found.mode] += 1
        stated[sample.mode] += frame_mode(screen, regions).mode == sample.mode
        if sample.mode not in MODES_WITH_SECTORS:
            continue
        truth = sample.drawn.sector_mask()
        for name, known in (("pixels alone", []), ("with the header", regions)):
            clock.start()
            finding = find_sectors(screen, sample.mode, known)
            clock.stop(f"sectors, {name}")
            scores[name].add(iou(sector_mask(finding.sectors, *truth.shape), truth), finding.reasons)
            if not finding.reasons:
                clock.start()
                find_sectors(screen, sample.mode, known, cine=finding)
                clock.stop("sectors, known from the cine")
    report_modes(seen, stated)
    print("\n| sectors | frames | mean IoU | worst 1 % | accepted | worst accepted | below 0.9 | accepted below 0.9 |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, score in scores.items():
        print(f"| {name} {score.row()}")
    for name, score in scores.items():
        print(f"\nFor review, {name}: " + ", ".join(f"{key} {count}" for key, count in score.reasons.most_common()))
    clock.report()


def report_modes(seen: dict[str, collections.Counter[str]], stated: collections.Counter[str]) -> None:
    total = sum(sum(counts.values()) for counts in seen.values())
    right = sum(counts[mode] for mode, counts in seen.items())
    print(f"\nMode from pixels alone: {right} of {total} right ({right / total:.1%}); with the header "
          f"{stated.total() / total:.1%}.\n\n| mode | right | taken for |\n|---|---:|---|")  # fmt: skip
    for mode, counts in seen.items():
        others = ", ".join(f"{name} {count}" for name, count in counts.most_common() if name != mode)
        print(f"| {mode} | {counts[mode]} of {counts.total()} | {others} |")


def header_regions(sample: Any) -> list[Any]:
    """What the header of the sample's file says, as ingest reads it."""
    from sono.curation.images.dicom.regions import Region
    from sono.curation.phantom.writer import ultrasound_regions

    return [
        Region(region.spatial_format, region.data_type, region.box, region.pixel_mm)
        for region in ultrasound_regions(sample.drawn)
    ]


def real_frames(data: Path) -> None:
    from sono.curation.cleaning.frame_mode import frame_mode
    from sono.curation.cleaning.sectors.find import find_sectors
    from sono.curation.cleaning.sectors.geometry import iou, sector_mask
    from sono.curation.cleaning.sectors.screen import read_screen
    from sono.curation.images.pixels import without_equal_channels
    from tests.curation.cleaning.real_frames import SOURCES, annotated_frames

    print("\n| real frames | mode right | frames | mean IoU | worst 1 % | accepted | worst accepted | below 0.9 "
          "| accepted below 0.9 |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|")  # fmt: skip
    for source in SOURCES:
        score, right = Scores(), 0
        for pixels, annotation in annotated_frames(data, source):
            screen = read_screen(without_equal_channels(pixels))
            mode = frame_mode(screen).mode
            right += mode in annotation.modes
            finding = find_sectors(screen, mode)
            truth = annotation.sector_mask()
            score.add(iou(sector_mask(finding.sectors, *truth.shape), truth), finding.reasons)
        print(f"| {source} | {right} {score.row()}")


class Clock:
    """Processor time by step, in ms per frame."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}
        self._since = 0.0

    def start(self) -> None:
        self._since = time.process_time()

    def stop(self, step: str) -> None:
        now = time.process_time()
        self.times.setdefault(step, []).append(1000 * (now - self._since))
        self._since = now

    def rows(self) -> Iterator[str]:
        import numpy as np

        for step, times in self.times.items():
            yield f"| {step} | {np.median(times):.1f} | {np.mean(times):.1f} | {np.quantile(times, 0.95):.1f} |"

    def report(self) -> None:
        print("\n| ms per frame | median | mean | 95 % |\n|---|---:|---:|---:|")
        print("\n".join(self.rows()))


if __name__ == "__main__":
    main()
