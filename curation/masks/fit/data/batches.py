"""The frames of one step: drawn in an order that the seed and the epoch decide, each changed at random."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .annotation import PRESENT, Known
from .augmentation import augment
from .prepared import Bytes, Prepared

_THREADS = 4


@dataclass(frozen=True)
class Batch:
    """Images [frames, size, size] and coverage [frames, structures, size, size], both 0 to 255; what is known."""

    images: Bytes
    coverage: Bytes
    known: Known


def training_batches(prepared: Prepared, chosen: Sequence[int], size: int, *, seed: int, epoch: int) -> Iterator[Batch]:
    """The chosen examples once, each augmented; the last batch is filled up from the beginning of the order.

    What happens to an example is a function of the seed, the epoch and its place, so an interrupted fit resumes with
    the same batches. The next batch is made while the network works on this one: OpenCV lets other threads run.
    """
    order = np.random.default_rng([seed, epoch, 1]).permutation(np.asarray(chosen))
    steps = -(-len(order) // size)
    filled = np.resize(order, steps * size).reshape(steps, size)
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting = None
        for step, numbers in enumerate(filled):
            seeds = [[seed, epoch, step * size + place, 2] for place in range(size)]
            coming = [pool.submit(_changed, prepared, int(n), key) for n, key in zip(numbers, seeds, strict=True)]
            if waiting is not None:
                yield _collect([future.result() for future in waiting[0]], prepared.known[waiting[1]])
            waiting = coming, numbers
        if waiting is not None:
            yield _collect([future.result() for future in waiting[0]], prepared.known[waiting[1]])


def plain_batches(prepared: Prepared, chosen: Sequence[int], size: int) -> Iterator[Batch]:
    """The chosen examples in order, unchanged."""
    for start in range(0, len(chosen), size):
        numbers = list(chosen[start : start + size])
        pairs = [(prepared.images[number], prepared.masks_of(number)) for number in numbers]
        yield _collect(pairs, prepared.known[numbers])


def _changed(prepared: Prepared, number: int, key: Sequence[int]) -> tuple[Bytes, Bytes]:
    return augment(prepared.images[number], prepared.masks_of(number), np.random.default_rng(key))


def _collect(pairs: Sequence[tuple[Bytes, Bytes]], known: Known) -> Batch:
    images = np.stack([image for image, _ in pairs])
    coverage: npt.NDArray[np.uint8] = np.zeros((*known.shape, *images.shape[1:]), np.uint8)
    for row, (_, masks) in enumerate(pairs):
        coverage[row, known[row] == PRESENT] = masks
    return Batch(images, coverage, known)
