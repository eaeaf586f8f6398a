"""The frames and masks of a fit, decoded and scaled once, in files that epochs map into memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sono.curation.images.stored_png import decode_png
from sono.curation.masks.fit.letterbox import Letterbox, grey
from sono.manifests import masks
from sono.manifests.schemas import FRAMES, REGIONS
from sono.manifests.store import TableStore, write_atomically

from .annotation import PRESENT, Known
from .examples import Example

_IMAGES, _MASKS, _DONE = "images.npy", "masks.npy", "prepared.json"

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Prepared:
    """What a fit reads, by example.

    Attributes:
        images: grey frames in the network's square, [examples, size, size].
        masks: share of each pixel that a region covers, times 255, [regions, size, size]; the regions of an example
            stand together, in the order of the structures.
        first: of each example, and one more: where its regions begin in ``masks``.
        known: what is known of the structures, [examples, structures].
    """

    images: Bytes
    masks: Bytes
    first: npt.NDArray[np.int64]
    known: Known

    def masks_of(self, example: int) -> Bytes:
        """Of the structures that are present, in their order."""
        return self.masks[self.first[example] : self.first[example + 1]]


def prepare(
    store: TableStore,
    examples: Sequence[Example],
    structures: Sequence[str],
    known: Known,
    size_px: int,
    folder: Path,
    identity: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Prepared:
    """Fill ``folder``, or take what an interrupted fit of the same ``identity`` has left there complete.

    Args:
        progress: called with the frames done and their number.
    """
    counts = (known == PRESENT).sum(axis=1)
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    if prepared_identity(folder) != identity:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _fill(store, examples, structures, first, size_px, folder, progress)
        write_atomically(folder / _DONE, lambda file: file.write(json.dumps(identity).encode()))
    images, coverage = (np.load(folder / name, mmap_mode="r") for name in (_IMAGES, _MASKS))
    return Prepared(images, coverage, first, known)


def prepared_identity(folder: Path) -> str | None:
    """The identity of the fit that filled the folder; None if nothing complete is there."""
    try:
        return str(json.loads((folder / _DONE).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _fill(
    store: TableStore,
    examples: Sequence[Example],
    structures: Sequence[str],
    first: npt.NDArray[np.int64],
    size_px: int,
    folder: Path,
    progress: Callable[[int, int], None],
) -> None:
    images = _new_file(folder / _IMAGES, len(examples), size_px)
    coverage = _new_file(folder / _MASKS, int(first[-1]), size_px)
    number = {example.frame_id: index for index, example in enumerate(examples)}
    boxes: dict[str, Letterbox] = {}
    for path in sorted({example.frame_path for example in examples}):
        for row in store.find_rows(Path(path), FRAMES, number.keys(), ["image"]):
            pixels = grey(decode_png(row["image"]["bytes"]))
            boxes[row["frame_id"]] = Letterbox(pixels.shape[0], pixels.shape[1], size_px)
            images[number[row["frame_id"]]] = boxes[row["frame_id"]].fit(pixels)
            progress(len(boxes), len(examples))
    places = {
        example.regions[structure]: int(first[index]) + place
        for index, example in enumerate(examples)
        for place, structure in enumerate(name for name in structures if name in example.regions)
    }
    for path in sorted({path for _, path in places}):
        wanted = {region for region, part in places if part == path}
        for row in store.find_rows(Path(path), REGIONS, wanted, ["frame_id", "mask"]):
            box = boxes[row["frame_id"]]
            mask = masks.decode(row["mask"], (box.height, box.width))
            coverage[places[row["region_id"], path]] = box.fit(mask.astype(np.uint8) * 255)
    images.flush()
    coverage.flush()


def _new_file(path: Path, number: int, size_px: int) -> np.memmap[tuple[int, ...], np.dtype[np.uint8]]:
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(number, size_px, size_px))
