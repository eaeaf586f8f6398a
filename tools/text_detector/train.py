"""Training of the detectors of text and of marks, from a seed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from sono.curation.cleaning.overlays.mark_detector import EDGE, window_views
from sono.curation.cleaning.overlays.views import network_input

from .backgrounds import HC18, hc18_images, phantom_sectors, textures
from .crops import ABSENT, IGNORED, PRESENT, Crop, draw_crop
from .network import CHANNELS, VIEWS, MarkNetwork, Network, TextNetwork, for_grey, without_normalization
from .onnx_file import onnx_bytes
from .windows import Window, draw_windows

PHANTOMS, PHANTOM_SEED = 600, 7
"""Frames that backgrounds are cut from, and their seed: whoever measures the detector on phantoms takes another."""

MEASURED = 1600
"""Phantoms with measurements, of the seed after it, that the second look at marks is trained on."""

CROPS = 26_000
"""Drawn for the second look at marks."""

TEXTURES = 80
BATCH, WINDOWS = 16, 64
KEPT = 160
"""Crops that are used again: half of each batch is. Drawing a crop takes as long as learning from it."""

LEARNING_RATE = 4e-3
HARDEST_SHARE = 0.03
"""Of the cells without text, how many count once more: a frame is flagged by its worst cells, not by its average."""

HARDEST_WEIGHT = 0.5
Pixels = npt.NDArray[np.uint8]
Random = np.random.Generator
Progress = Callable[[str], None]
"""Given a line now and then."""
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Images [B, C, H, W], targets and weights [B, K, H / 4, W / 4]."""


def train_text(
    seed: int, steps: int, hc18: Path | None = None, progress: Progress | None = None
) -> tuple[bytes, bytes]:
    """Train from scratch; the results are the content of two ONNX files, for frames in colour and for grey ones.

    Every number is drawn from ``seed``: on one machine the same call gives the same bytes. Processors differ in the
    last bits of a sum, so another machine gives another network that is as good.

    Args:
        hc18: folder with the images of HC18, of which ``backgrounds.HC18`` are used; None for phantoms alone.
        progress: told the loss now and then.
    """
    torch.manual_seed(seed)
    backgrounds = _backgrounds(seed, hc18)
    network = fit(TextNetwork(), crop_batches(backgrounds, np.random.default_rng(seed)), steps, progress)
    return _files(network, {"seed": str(seed), "steps": str(steps), "trained_on": _trained_on(hc18)})


def train_marks(
    seed: int, steps: int, hc18: Path | None = None, progress: Progress | None = None
) -> tuple[bytes, bytes]:
    """As ``train_text``, the network that looks again; it learns from what the text detector of the package doubts."""
    torch.manual_seed(seed)
    windows: list[Window] = []
    for window in draw_windows(_backgrounds(seed, hc18), CROPS, MEASURED, PHANTOM_SEED + 1):
        windows.append(window)
        if progress and len(windows) % 5000 == 0:
            progress(f"{len(windows)} windows drawn")
    network = fit(MarkNetwork(), window_batches(windows, np.random.default_rng(seed)), steps, progress)
    trained_on = f"{_trained_on(hc18)}, {MEASURED} measured phantoms of seed {PHANTOM_SEED + 1}"
    return _files(network, {"seed": str(seed), "steps": str(steps), "trained_on": trained_on})


def fit(network: Network, batches: Iterator[Batch], steps: int, progress: Progress | None = None) -> Network:
    """The network fitted to batches, with its last weights averaged over the end of the training."""
    network = network.to(memory_format=torch.channels_last)
    averaging = torch.optim.swa_utils.get_ema_multi_avg_fn(0.995)  # type: ignore[no-untyped-call]
    averaged = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=averaging, use_buffers=True)
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps + 1, pct_start=0.1)
    for step in range(steps):
        images_BCHW, target_BKHW, weight_BKHW = next(batches)
        logits_BKHW = network(images_BCHW)
        kinds = range(logits_BKHW.shape[1])
        losses = [_loss(logits_BKHW[:, k], target_BKHW[:, k], weight_BKHW[:, k]) for k in kinds]
        loss = torch.stack(losses).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        averaged.update_parameters(network)
        if progress and (step + 1) % 50 == 0:
            progress(f"step {step + 1}: loss {float(loss.detach()):.3f}")
    result = averaged.module
    assert isinstance(result, type(network))
    return result


def crop_batches(backgrounds: Sequence[Pixels], random: Random) -> Iterator[Batch]:
    """Crops, half of them drawn anew, half of them among the last that were."""
    kept: list[Crop] = []
    for step in itertools.count():
        new = [draw_crop(backgrounds, random) for _ in range(BATCH if step < KEPT // BATCH else BATCH // 2)]
        crops = [*new, *(kept[int(random.integers(len(kept)))] for _ in range(BATCH - len(new)))]
        kept = [*kept, *new][-KEPT:]
        images, targets, weights = zip(*((network_input(c.pixels), c.target, c.weight) for c in crops), strict=True)
        yield _batch(np.stack(images), np.stack(targets), np.stack(weights))


def window_batches(windows: Sequence[Window], random: Random) -> Iterator[Batch]:
    """Windows, half of them with marks, mirrored and turned; of what they show only the core has a target."""
    marked = [window for window in windows if PRESENT in window.target]
    others = [window for window in windows if PRESENT not in window.target]
    while True:
        chosen = [some[int(random.integers(len(some)))] for some in (marked, others) for _ in range(WINDOWS // 2)]
        images = np.stack([window_views(window.pixels) for window in chosen])
        target, weight = (
            np.pad(np.stack(cores)[:, None], ((0, 0), (0, 0), (EDGE, EDGE), (EDGE, EDGE)), constant_values=outside)
            for cores, outside in (
                ([window.target for window in chosen], IGNORED),
                ([window.weight for window in chosen], 0.0),
            )
        )
        turns, mirrored = int(random.integers(4)), bool(random.random() < 0.5)
        yield _batch(*(_turned(part, turns, mirrored=mirrored) for part in (images, target, weight)))


def _turned(parts: npt.NDArray[np.generic], turns: int, *, mirrored: bool) -> npt.NDArray[np.generic]:
    return np.rot90(parts[..., ::-1] if mirrored else parts, turns, axes=(-2, -1))


def _batch(images: npt.NDArray[np.generic], target: npt.NDArray[np.generic], weight: npt.NDArray[np.generic]) -> Batch:
    tensors = [torch.from_numpy(np.ascontiguousarray(part)) for part in (images, target, weight)]
    return tensors[0].float().to(memory_format=torch.channels_last), tensors[1], tensors[2]


def _backgrounds(seed: int, hc18: Path | None) -> list[Pixels]:
    real = [image for image in hc18_images(hc18) for _ in range(5)] if hc18 else []  # a quarter of all
    return [*phantom_sectors(PHANTOMS, PHANTOM_SEED), *textures(TEXTURES, seed), *real]


def _trained_on(hc18: Path | None) -> str:
    trained_on = f"{PHANTOMS} phantoms of seed {PHANTOM_SEED}, made-up texture"
    if hc18:
        trained_on += f", {len(HC18)} images of HC18 (doi 10.5281/zenodo.1327317, CC BY 4.0); drawn strings and marks"
    return trained_on


def _files(network: Network, notes: Mapping[str, str]) -> tuple[bytes, bytes]:
    whole, notes = without_normalization(network), {**notes, "license": "Apache-2.0"}
    return (
        onnx_bytes(whole, channels=CHANNELS, stride=4, notes=notes),
        onnx_bytes(for_grey(whole), channels=VIEWS, stride=4, notes=notes),
    )


def _loss(logits_BHW: torch.Tensor, target_BHW: torch.Tensor, weight_BHW: torch.Tensor) -> torch.Tensor:
    """Cross-entropy: what is there and what is not weigh the same, and the hardest empty cells weigh more."""
    loss = F.binary_cross_entropy_with_logits(logits_BHW, (target_BHW == PRESENT).float(), reduction="none")
    present, absent = target_BHW == PRESENT, loss[target_BHW == ABSENT]
    weight = weight_BHW[present]
    hardest = absent.topk(max(1, round(HARDEST_SHARE * len(absent)))).values
    missed = (weight * loss[present]).sum() / weight.sum().clamp(min=1.0)
    return missed + absent.mean() + HARDEST_WEIGHT * hardest.mean()
