"""Masks per second of processor time, each format both ways, beside pycocotools and Pillow alone.

python benchmarks/mask_formats.py
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco

from sono.curation.masks.formats.encodings.labels import OTHER_VALUES
from sono.curation.masks.formats.encodings.rle import mask_of_coco
from sono.curation.masks.formats.protocol import ExportedFrame, ExportedRegion
from sono.curation.masks.formats.registry import FORMATS, mask_format
from sono.manifests import masks
from sono.manifests.vocabulary import load

SIZE = (540, 800)
STRUCTURES = ("head", "thalami", "cavum_septi_pellucidi", "falx")


def draw_frames(count: int, seed: int) -> list[ExportedFrame]:
    """Frames with four structures side by side: ellipses with a hole and a few specks."""
    random = np.random.default_rng(seed)
    height, width = SIZE
    band = width // len(STRUCTURES)
    frames = []
    for number in range(count):
        regions = []
        for place, structure in enumerate(STRUCTURES):
            part = np.zeros((height, band), np.uint8)
            center = (band // 2, int(random.integers(150, height - 150)))
            cv2.ellipse(part, center, (int(random.integers(30, 95)), int(random.integers(60, 150))), 20, 0, 360, 1, -1)
            cv2.circle(part, center, 12, 0, -1)
            part[random.integers(0, height, 5), random.integers(0, band, 5)] ^= 1
            mask = np.zeros(SIZE, np.bool_)
            mask[:, place * band : (place + 1) * band] = part > 0
            regions.append(ExportedRegion(structure, mask, f"{structure} of a head"))
        png = cv2.imencode(".png", random.integers(0, 255, SIZE, np.uint8))[1].tobytes()
        frame_id, study = f"{number:032x}", "0" * 32
        frames.append(ExportedFrame(frame_id, height, width, study, "tt", (0.2, 0.2), regions, png, "a head"))
    return frames


def per_second(work: Callable[[], object], items: int, repeats: int) -> float:
    """The median of ``repeats`` runs."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return items / statistics.median(seconds)


def each(function: Callable[[Any], object], items: Sequence[Any]) -> Callable[[], None]:
    """Calls a function on every item and keeps nothing: memory that is new each time would cost more than the work."""

    def run() -> None:
        for item in items:
            function(item)

    return run


def write(name: str, frames: list[ExportedFrame], folder: Path) -> None:
    writer = mask_format(name).writer(folder, load(), STRUCTURES)
    for frame in frames:
        writer.add(frame)
    writer.close()


def read(name: str, folder: Path) -> int:
    """Find and read every mask of a folder; how many there were."""
    reads, read_masks = mask_format(name), set[tuple[object, ...]]()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if reads.is_beside(path.name):
            continue
        shapes = [found for found in reads.find(path) if OTHER_VALUES not in found.place]
        reader = reads.reader(path)
        for found in shapes:
            if reader(found.place, SIZE).any():
                read_masks.add((found.image or path, found.labels or path.parent))
    return len(read_masks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    frames = draw_frames(options.frames, seed=2026)
    drawn = [region.mask for frame in frames for region in frame.regions]
    rles = [masks.encode(mask) for mask in drawn]

    def show(what: str, out: float, back: float) -> None:
        print(f"| {what} | {out:,.0f} | {back:,.0f} |", flush=True)

    def measured(work: Callable[[], object]) -> float:
        return per_second(work, len(drawn), options.repeats)

    columns = [np.asfortranarray(mask, dtype=np.uint8) for mask in drawn]
    binary = [{"size": rle["size"], "counts": rle["counts"].encode()} for rle in rles]
    print("| | written | read |\n|---|---:|---:|")
    show("RLE, pycocotools alone", measured(each(coco.encode, columns)), measured(each(coco.decode, binary)))
    show("RLE, ours", measured(each(masks.encode, drawn)), measured(each(mask_of_coco, rles)))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "pillow")
        folder.mkdir()
        paths = [folder / f"{number}.png" for number in range(len(drawn))]

        def save() -> None:
            for mask, path in zip(drawn, paths, strict=True):
                Image.fromarray(mask).save(path)

        out = measured(save)
        show("PNG, Pillow alone", out, measured(each(lambda path: np.asarray(Image.open(path)), paths)))
        for name in FORMATS:
            numbers = itertools.count()
            folders: list[Path] = []

            def export(name: str = name, numbers: itertools.count[int] = numbers, made: list[Path] = folders) -> None:
                made.append(Path(temporary, f"{name}{next(numbers)}"))
                made[-1].mkdir()
                write(name, frames, made[-1])

            out = measured(export)
            assert read(name, folders[-1]) == len(drawn), name
            show(f"`{name}`", out, measured(lambda name=name, made=folders: read(name, made[-1])))


if __name__ == "__main__":
    main()
