"""Training of the detector of text and marks, from a seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from .backgrounds import HC18, hc18_images, phantom_sectors, textures
from .crops import ABSENT, PRESENT, Crop, draw_crop
from .network import CHANNELS, KINDS, VIEWS, TextNetwork, for_grey, without_normalization
from .onnx_file import onnx_bytes

PHANTOMS, PHANTOM_SEED = 600, 7
"""Frames that backgrounds are cut from, and their seed: whoever measures the detector on phantoms takes another."""

TEXTURES = 80
BATCH = 16
KEPT = 160
"""Crops that are used again: half of each batch is. Drawing a crop takes as long as learning from it."""

LEARNING_RATE = 4e-3
HARDEST_SHARE = 0.03
"""Of the cells without text, how many count once more: a frame is flagged by its worst cells, not by its average."""

HARDEST_WEIGHT = 0.5
Pixels = npt.NDArray[np.uint8]


def train(
    seed: int, steps: int, hc18: Path | None = None, progress: Callable[[int, float], None] | None = None
) -> tuple[bytes, bytes]:
    """Train from scratch; the results are the content of two ONNX files, for frames in colour and for grey ones.

    Every number is drawn from ``seed``: on one machine the same call gives the same bytes. Processors differ in the
    last bits of a sum, so another machine gives another network that is as good.

    Args:
        hc18: folder with the images of HC18, of which ``backgrounds.HC18`` are used; None for phantoms alone.
        progress: called after every step with its number and its loss.
    """
    backgrounds = [*phantom_sectors(PHANTOMS, PHANTOM_SEED), *textures(TEXTURES, seed)]
    if hc18:
        backgrounds += [image for image in hc18_images(hc18) for _ in range(5)]  # a quarter of all
    network = fit(backgrounds, seed, steps, progress)
    trained_on = f"{PHANTOMS} phantoms of seed {PHANTOM_SEED}, made-up texture"
    if hc18:
        trained_on += f", {len(HC18)} images of HC18 (doi 10.5281/zenodo.1327317, CC BY 4.0); drawn strings and marks"
    notes = {"trained_on": trained_on, "seed": str(seed), "steps": str(steps), "license": "Apache-2.0"}
    whole = without_normalization(network)
    return (
        onnx_bytes(whole, channels=CHANNELS, stride=4, notes=notes),
        onnx_bytes(for_grey(whole), channels=VIEWS, stride=4, notes=notes),
    )


def fit(
    backgrounds: Sequence[Pixels], seed: int, steps: int, progress: Callable[[int, float], None] | None = None
) -> TextNetwork:
    """A network fitted to crops of ``backgrounds``, whose last weights are averaged over the end of the training."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    network = TextNetwork().to(memory_format=torch.channels_last)
    averaging = torch.optim.swa_utils.get_ema_multi_avg_fn(0.995)  # type: ignore[no-untyped-call]
    averaged = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=averaging, use_buffers=True)
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps + 1, pct_start=0.1)
    kept: list[Crop] = []
    for step in range(steps):
        new = [draw_crop(backgrounds, random) for _ in range(BATCH if step < KEPT // BATCH else BATCH // 2)]
        crops = [*new, *(kept[int(random.integers(len(kept)))] for _ in range(BATCH - len(new)))]
        kept = [*kept, *new][-KEPT:]
        logits_BKHW = network(_images(crops))
        target_BKHW = torch.from_numpy(np.stack([crop.target for crop in crops]))
        weight_BKHW = torch.from_numpy(np.stack([crop.weight for crop in crops]))
        losses = [_loss(logits_BKHW[:, k], target_BKHW[:, k], weight_BKHW[:, k]) for k in range(KINDS)]
        loss = torch.stack(losses).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        averaged.update_parameters(network)
        if progress:
            progress(step + 1, float(loss.detach()))
    result = averaged.module
    assert isinstance(result, TextNetwork)
    return result


def _images(crops: Sequence[Crop]) -> torch.Tensor:
    images = torch.from_numpy(np.stack([crop.image for crop in crops])).float()
    return images.to(memory_format=torch.channels_last)


def _loss(logits_BHW: torch.Tensor, target_BHW: torch.Tensor, weight_BHW: torch.Tensor) -> torch.Tensor:
    """Cross-entropy: what is there and what is not weigh the same, and the hardest empty cells weigh more."""
    loss = F.binary_cross_entropy_with_logits(logits_BHW, (target_BHW == PRESENT).float(), reduction="none")
    present, absent = target_BHW == PRESENT, loss[target_BHW == ABSENT]
    weight = weight_BHW[present]
    hardest = absent.topk(max(1, round(HARDEST_SHARE * len(absent)))).values
    missed = (weight * loss[present]).sum() / weight.sum().clamp(min=1.0)
    return missed + absent.mean() + HARDEST_WEIGHT * hardest.mean()
