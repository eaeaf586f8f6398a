"""What a fitted network does on the validating patients, at the frames' own size: Dice, misses and confidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sono.curation.masks.fit.data.annotation import PRESENT, UNKNOWN
from sono.curation.masks.fit.data.examples import Example
from sono.curation.masks.fit.data.prepared import Prepared
from sono.curation.masks.fit.letterbox import Letterbox
from sono.curation.masks.fit.model_file import square_logits
from sono.manifests import masks
from sono.manifests.masks import Mask, Rle
from sono.manifests.schemas import FRAMES, REGIONS
from sono.manifests.store import TableStore

from .calibration import Booleans, Floats, sigmoid

if TYPE_CHECKING:
    import torch

_PIXELS = 1000  # per mask: enough for a curve, and every mask counts alike
_MARGIN = 0.25  # of a mask's box: farther away everything is surely outside, which would hide errors near the mask
_AT_ONCE = 8


@dataclass
class Found:
    """How one structure was found in the validating frames.

    Attributes:
        example, patient, dice, inside: of every frame that has the structure: its number, the group of its patient, the
            Dice (0 where nothing was found), and the logits of the pixels that were found, for the confidence.
        absent, alarms: how many frames are known not to have it, and in how many of these something was found.
        logits, truth, group: of every mask, true or found: pixels in it and around it, and the group of its patient.
    """

    example: list[int] = field(default_factory=list)
    patient: list[str] = field(default_factory=list)
    dice: list[float] = field(default_factory=list)
    inside: list[Floats] = field(default_factory=list)
    absent: int = 0
    alarms: int = 0
    logits: list[Floats] = field(default_factory=list)
    truth: list[Booleans] = field(default_factory=list)
    group: list[str] = field(default_factory=list)


def find_structures(
    store: TableStore,
    network: torch.nn.Module,
    prepared: Prepared,
    examples: Sequence[Example],
    validating: Sequence[int],
    groups: Sequence[str],
    structures: Sequence[str],
    seed: int,
) -> list[Found]:
    """Run the network over the validating examples; one entry per structure."""
    found = [Found() for _ in structures]
    sizes = _sizes(store, [examples[number] for number in validating])
    truths = _true_masks(store, [examples[number] for number in validating])
    for number, logits in _predictions(network, prepared, validating):
        example = examples[number]
        box = Letterbox(*sizes[example.frame_id], prepared.images.shape[1])
        for column, structure in enumerate(structures):
            known = prepared.known[number, column]
            if known == UNKNOWN:
                continue
            truth = _decoded(truths, example, structure, box) if known == PRESENT else None
            random = np.random.default_rng([seed, number, column])
            add_frame(found[column], number, groups[number], box.unfit(logits[column]), truth, random)
    return found


def add_frame(
    found: Found,
    number: int,
    group: str,
    logits: npt.NDArray[np.float32],
    truth: Mask | None,
    random: np.random.Generator,
) -> None:
    """Add what a network says of one structure in one frame, at the frame's size; truth is None where it is absent."""
    mask = logits > 0
    if truth is None:
        found.absent += 1
        if not mask.any():
            return
        found.alarms += 1
        truth = np.zeros_like(mask)
    else:
        found.example.append(number)
        found.patient.append(group)
        found.dice.append(2 * np.count_nonzero(mask & truth) / (np.count_nonzero(mask) + np.count_nonzero(truth)))
        found.inside.append(_sample(logits[mask], random).astype(np.float64))
    near = _around(mask | truth)
    chosen = _sample(np.flatnonzero(near), random)
    found.logits.append(logits.reshape(-1)[chosen].astype(np.float64))
    found.truth.append(truth.reshape(-1)[chosen])
    found.group.append(group)


def confidence(inside: Floats, temperature: float) -> float:
    """The mean calibrated confidence of a mask's pixels, from their logits; 0 for an empty mask."""
    return float(sigmoid(inside / temperature).mean()) if inside.size else 0.0


def _predictions(
    network: torch.nn.Module, prepared: Prepared, validating: Sequence[int]
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    for start in range(0, len(validating), _AT_ONCE):
        numbers = list(validating[start : start + _AT_ONCE])
        yield from zip(numbers, square_logits(network, prepared.images[numbers]), strict=True)


def _around(mask: Mask) -> Mask:
    """The box of a mask, larger by a margin."""
    x, y, width, height = masks.bbox(mask)
    across, down = round(_MARGIN * width) + 1, round(_MARGIN * height) + 1
    near = np.zeros_like(mask)
    near[max(y - down, 0) : y + height + down, max(x - across, 0) : x + width + across] = True
    return near


def _sample(values: npt.NDArray[np.generic], random: np.random.Generator) -> npt.NDArray[np.generic]:
    return values if len(values) <= _PIXELS else random.choice(values, _PIXELS, replace=False)


def _sizes(store: TableStore, examples: Sequence[Example]) -> dict[str, tuple[int, int]]:
    keys = {example.frame_id for example in examples}
    return {
        row["frame_id"]: (row["height"], row["width"])
        for path in sorted({example.frame_path for example in examples})
        for row in store.find_rows(Path(path), FRAMES, keys, ["height", "width"])
    }


def _true_masks(store: TableStore, examples: Sequence[Example]) -> Mapping[tuple[str, str], Rle]:
    """The regions' masks as they are stored, by region and part."""
    regions = {region for example in examples for region in example.regions.values()}
    return {
        (row["region_id"], path): row["mask"]
        for path in sorted({path for _, path in regions})
        for row in store.find_rows(Path(path), REGIONS, {region for region, part in regions if part == path}, ["mask"])
    }


def _decoded(truths: Mapping[tuple[str, str], Rle], example: Example, structure: str, box: Letterbox) -> Mask:
    return masks.decode(truths[example.regions[structure]], (box.height, box.width))
