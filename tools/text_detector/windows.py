"""What the second look at marks is trained on: windows around marks, and around what the text detector doubts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from sono.curation.cleaning.overlays.mark_detector import CORE, MARGIN_PX, middles_of
from sono.curation.cleaning.overlays.text_detector import STRIDE, probabilities
from sono.curation.phantom.drawing.screen import MEASUREMENT_MARKS
from sono.curation.phantom.samples import Sample, draw_sample, draw_samples
from sono.manifests.vocabulary import load

from .crops import DARK, PRESENT, SIDE, Crop, as_crop, as_stored, draw_crop, in_color, with_other_levels
from .lettering import Drawn, contrast, hidden_parts
from .marks import LEAST_CONTRAST, LEAST_SPREADS

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
Random = np.random.Generator
Kind = TypeVar("Kind", bound=np.generic)

DOUBTFUL = 0.27
"""What the text detector gives cells that are learned from: less than what ``mark_detector`` looks at again."""

KEPT_WITHOUT_MARKS = 0.35
"""Of the windows of drawn crops in which no mark is: most of what the detector doubts is none."""

JITTER = 2
"""Cells by which a window is moved from what it is taken around."""

MODES = ("b_mode", "dual", "color_doppler", "b_mode", "color_doppler")
"""Of phantoms with measurements."""

CROPS_OF_A_PHANTOM, CROPS_OF_A_BACKGROUND = 6, 14
GAP_PX = 13
"""Between the dots of a line, at most."""


@dataclass(frozen=True)
class Window:
    """``pixels`` [72, 72, 3], with what strokes need around 64 px; ``target`` and ``weight`` of its core, [8, 8]."""

    pixels: Pixels
    target: Pixels
    weight: Floats


@dataclass(frozen=True)
class _View:
    """A window of a frame, perhaps mirrored and turned."""

    window: tuple[slice, slice]
    turns: int
    mirrored: bool

    def of(self, whole: npt.NDArray[Kind]) -> npt.NDArray[Kind]:
        part = whole[self.window]
        return np.ascontiguousarray(np.rot90(part[:, ::-1] if self.mirrored else part, self.turns))


def draw_windows(backgrounds: Sequence[Pixels], crops: int, phantoms: int, seed: int) -> Iterator[Window]:
    """Windows of drawn crops, of measured phantoms, and of backgrounds as they are."""
    random = np.random.default_rng(seed)
    for _ in range(crops):
        for window in _windows(draw_crop(backgrounds, random), random):
            if PRESENT in window.target or random.random() < KEPT_WITHOUT_MARKS:
                yield window
    for crop in _measured_crops(phantoms, seed, random):
        yield from _windows(crop, random)
    for image in backgrounds:
        yield from _windows_without_marks(image, random)


def _windows(crop: Crop, random: Random) -> Iterator[Window]:
    """Around what the detector doubts, and around two cells with marks, whether it sees them or not."""
    target, weight = crop.target[1], crop.weight[1]
    seen = probabilities(crop.pixels)[1]
    middles = middles_of(np.where(seen > DOUBTFUL, seen, 0))
    present = np.argwhere(target == PRESENT)
    if len(present):
        middles += [(int(row), int(column)) for row, column in present[random.integers(len(present), size=2)]]
    around = cv2.copyMakeBorder(crop.pixels, *(MARGIN_PX,) * 4, cv2.BORDER_CONSTANT)
    cells = len(target)
    for middle in middles:
        moved = np.clip(np.array(middle) + random.integers(-JITTER, JITTER + 1, 2), CORE // 2, cells - CORE // 2)
        row, column = (int(value) for value in moved)
        y, x = row * STRIDE, column * STRIDE
        core = np.s_[row - CORE // 2 : row + CORE // 2, column - CORE // 2 : column + CORE // 2]
        pixels = np.asarray(around[y : y + 2 * MARGIN_PX, x : x + 2 * MARGIN_PX], np.uint8)
        yield Window(pixels.copy(), target[core].copy(), weight[core].copy())


def _windows_without_marks(image: Pixels, random: Random) -> Iterator[Window]:
    if min(image.shape[:2]) < SIDE:
        return
    for _ in range(CROPS_OF_A_BACKGROUND):
        pixels = as_stored(in_color(_cut(image, random)), random)
        yield from _windows(as_crop(pixels, np.zeros((SIDE, SIDE), np.bool_), [], []), random)


def _measured_crops(count: int, seed: int, random: Random) -> Iterator[Crop]:
    """Crops of phantoms that were measured: marks lie at the edges of structures there, and beside their numbers."""
    vocabulary = load()
    for index, sample in enumerate(draw_samples(count, seed=seed, modes=MODES, identity_share=0.3, measured_share=1.0)):
        inside = sample.drawn.sector_mask()
        if min(inside.shape) < SIDE or not np.any(inside):
            continue
        bare = draw_sample(seed, index, MODES[index % len(MODES)], vocabulary, (0.0, 0.0))
        before, after = (in_color(each.pixels) * inside[..., None] for each in (bare, sample))
        marks = _marks(sample, before, after)
        for _ in range(CROPS_OF_A_PHANTOM):
            window = _window_at(marks, inside, random)
            turns = int(random.integers(4)) if random.random() < 0.5 else 0
            view = _View(window, turns, mirrored=bool(random.random() < 0.5))
            drawn = [
                Drawn(view.of(mark.region), view.of(mark.ink), mark.visible, view.of(mark.hidden))
                for mark in marks
                if np.any(mark.ink[window])
            ]
            pixels = view.of(after)
            if random.random() < 0.3:
                pixels = with_other_levels(pixels, random)
            yield as_crop(as_stored(pixels, random), ~view.of(inside), [], drawn)


def _marks(sample: Sample, before: Pixels, after: Pixels) -> list[Drawn]:
    """The marks of measurements on a phantom: where it differs from the one drawn without them, texts aside."""
    changed = np.any(before != after, axis=2)
    for line in sample.drawn.texts:
        if line.inside:
            changed[_box(line.box)] = False
    marks = []
    for mark in sample.drawn.marks:
        if not mark.inside or mark.kind not in MEASUREMENT_MARKS:
            continue
        ink = np.zeros_like(changed)
        ink[_box(mark.box)] = changed[_box(mark.box)]
        if np.count_nonzero(ink) < 8:
            continue
        padded = cv2.copyMakeBorder(ink.view(np.uint8), *(GAP_PX,) * 4, cv2.BORDER_CONSTANT)
        closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, np.ones((GAP_PX, GAP_PX), np.uint8))
        grown = cv2.dilate(closed, np.ones((5, 5), np.uint8))
        region = grown[GAP_PX:-GAP_PX, GAP_PX:-GAP_PX] > 0
        hidden = hidden_parts(before, after, ink, least=LEAST_CONTRAST, spreads=LEAST_SPREADS) & region
        marks.append(Drawn(region, ink, contrast(after, ink) >= LEAST_CONTRAST, hidden))
    return marks


def _window_at(marks: Sequence[Drawn], inside: Mask, random: Random) -> tuple[slice, slice]:
    """A square of ``SIDE`` around one of the marks, in a fifth of the cases anywhere."""
    height, width = inside.shape
    if marks and random.random() < 0.8:
        ink = np.argwhere(marks[int(random.integers(len(marks)))].ink)
        at = ink[int(random.integers(len(ink)))] - random.integers(10, SIDE - 10, 2)
    else:
        at = random.integers([0, 0], [height - SIDE + 1, width - SIDE + 1])
    top, left = (int(value) for value in np.clip(at, 0, [height - SIDE, width - SIDE]))
    return np.s_[top : top + SIDE, left : left + SIDE]


def _cut(image: Pixels, random: Random) -> Pixels:
    for _ in range(3):
        top, left = (int(random.integers(side - SIDE + 1)) for side in image.shape[:2])
        part = image[top : top + SIDE, left : left + SIDE]
        if np.any(part > DARK):
            break
    return part


def _box(box: Iterable[int]) -> tuple[slice, slice]:
    x, y, width, height = box
    return np.s_[max(y, 0) : y + height, max(x, 0) : x + width]
