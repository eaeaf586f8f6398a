"""Segmentation with a small decoder on the frozen model's dense features: how much of a shape they hold."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset

from sono.manifests.errors import UserError
from sono.manifests.masks import Mask
from sono.manifests.stages import Progress
from sono.training.arrays import Booleans, Floats, Integers
from sono.training.data.dataset import Frames, decode_image, decode_mask, open_split, read_description
from sono.training.features.encoder import Encoder, Report
from sono.training.features.predicted_masks import are_drawn, drawn
from sono.training.model.transforms import PadToSquare, Pixels

from . import metrics
from .metrics import RESAMPLES, Draws
from .results import describe, write_result
from .selection import number_patients

FOREGROUND = "foreground"
"""The only structure where ``foreground`` is asked for: all regions of a frame together."""

EPOCHS, BATCH_SIZE = 10, 8

_WIDTH, _RATE, _DECAY = 128, 1e-3, 1e-2


def segment(
    run: Path,
    dataset: str,
    *,
    foreground: bool = False,
    split: str = "test",
    epochs: int = EPOCHS,
    name: str | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    notice: Callable[[str], None] = print,
    progress: Report = lambda _: None,
) -> dict[str, Any]:
    """Outline structures with a decoder that is trained on the newest checkpoint's frozen dense features.

    The features are those of the last block, through the model's own forward pass with all of the mask stem, and always
    with a mask of all one: a true mask would give the answer away. The decoder, three convolutions and a bilinear
    enlargement, is trained on the train split; the epoch with the best Dice on the validation split is kept. ``split``
    is looked at after that is settled and decides nothing.

    A structure is scored where a frame has it outlined; where it has not, nobody said that it is not there. Masks are
    compared in the image's own pixels.

    Args:
        foreground: all regions of a frame are one structure.
        split: what to score; ``train`` and ``validation`` are refused.
        epochs: over the train split.
        name: of the file that is written; by default ``<split>-segment``.
        seed: of the decoder's weights, the order of frames, and the draws of patients.

    Returns:
        Dice and intersection over union, means over structures and over planes, with 95 % intervals over patients, and
        those of each; under ``chosen`` what the validation split decided. Also written to
        ``RUN/evaluation/<name>.json``.

    Raises:
        UserError: there is no checkpoint, a split is empty or has no regions, or the scored one is of one patient.
    """
    if split in ("train", "validation"):
        raise UserError(f"the decoder is made with the {split} split", fix="score the test split")
    encoder = Encoder.load(run, notice)
    description = read_description(dataset)
    parts = {part: open_split(description, part) for part in ("train", "validation", split)}
    structures = (FOREGROUND,) if foreground else _structures(parts["train"])
    train, validation = (Outlined(parts[part], structures, encoder.transform) for part in ("train", "validation"))
    decoder, chosen = choose_decoder(encoder, train, validation, epochs, seed, progress)
    test = Outlined(parts[split], structures, encoder.transform)
    patients = number_patients(parts[split], test.has_regions, "has regions")
    scores = _score(encoder, decoder, test, progress)
    result = {
        **describe(encoder, parts[split], resamples, seed),
        "chosen": {**chosen, "on": "validation"},
        "structures": list(structures),
        "structures_not_trained": sorted(set() if foreground else set(_structures(parts[split])) - set(structures)),
        "n_frames": len(test),
        "n_patients": int(patients.max()) + 1,
        "frames_without_regions": int((~test.has_regions).sum()),
        **_figures(scores, test, patients, resamples, seed),
    }
    write_result(run, name or f"{split}-segment", result)
    return result


@dataclass(frozen=True)
class Target:
    """A frame's image, [3, size, size], and its true masks in the image's own pixels by number of their structure.

    ``square_KS2`` are the same masks as the transform makes them, [structures outlined, size, size].
    """

    position: int
    image: Pixels
    masks: dict[int, Mask]
    square_KS2: Pixels


class Outlined(Dataset[Target | UserError]):
    """The frames of a split that have drawn regions. An error in the data is returned, not raised."""

    def __init__(self, frames: Frames, structures: Sequence[str], transform: PadToSquare) -> None:
        self.frames, self.structures, self.transform = frames, tuple(structures), transform
        self.has_regions = _has_structure(frames, None if structures == (FOREGROUND,) else structures)
        self.indices = np.flatnonzero(self.has_regions)
        if not len(self.indices):
            raise UserError(
                f"no frame of the {frames.split} split has drawn regions"
                + ("" if self._all else " of the train split's"),
                where=frames.description.source,
                fix="import masks with sono-curate masks import, then build again",
            )

    @property
    def _all(self) -> bool:
        return self.structures == (FOREGROUND,)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Target | UserError:
        row = self.frames.row(int(self.indices[position]))
        try:
            image = decode_image(row)
            masks: dict[int, Mask] = {}
            for region in drawn(row["regions"]):
                name = FOREGROUND if self._all else region["structure"]
                if name in self.structures:
                    number, mask = self.structures.index(name), decode_mask(row, region, image)
                    masks[number] = masks[number] | mask if number in masks else mask
        except UserError as error:
            return error
        pixels = self.transform.image(image)
        square = np.stack([self.transform.mask(mask) for mask in masks.values()])
        return Target(position, np.broadcast_to(pixels, (3, *pixels.shape[1:])), masks, square)


class Decoder(nn.Module):
    """Dense features, [batch, channels, rows, columns], to a logit for every structure and pixel of the square."""

    def __init__(self, channels: int, structures: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, _WIDTH, 3, padding=1),
            nn.GroupNorm(8, _WIDTH),
            nn.ReLU(),
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1),
            nn.GroupNorm(8, _WIDTH),
            nn.ReLU(),
            nn.Conv2d(_WIDTH, structures, 1),
        )

    def forward(self, features_BCHW: torch.Tensor, size: int) -> torch.Tensor:
        return F.interpolate(self.layers(features_BCHW), size=(size, size), mode="bilinear", align_corners=False)


@torch.no_grad()
def dense_features(encoder: Encoder, image_B3SS: torch.Tensor) -> torch.Tensor:
    """Normalised features of the last block for every patch, [batch, channels, rows, columns]; the mask is all one."""
    mask_BSS = torch.full_like(image_B3SS[:, 0], 255)
    x_B4SS = encoder.transform.normalise(image_B3SS, mask_BSS)
    tower = encoder.model.clip.visual
    found = tower.forward_intermediates(x_B4SS, indices=1, normalize_intermediates=True, intermediates_only=True)
    features: torch.Tensor = found["image_intermediates"][-1]
    return features.float()


def choose_decoder(
    encoder: Encoder, train: Outlined, validation: Outlined, epochs: int, seed: int, progress: Report
) -> tuple[Decoder, dict[str, Any]]:
    """The decoder after the epoch with the best mean Dice on the validation split, and the Dice after every epoch."""
    torch.manual_seed(seed)
    size = encoder.transform.size
    black = torch.zeros(1, 3, size, size, dtype=torch.uint8, device=encoder.device)
    channels = dense_features(encoder, black).shape[1]
    decoder = Decoder(channels, len(train.structures)).to(encoder.device)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=_RATE, weight_decay=_DECAY)
    steps = epochs * -(-len(train) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best, dices = copy.deepcopy(decoder.state_dict()), []
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(train))
        for batch in _batches(encoder, train, order, f"epoch {epoch + 1}", progress):
            loss = _loss(decoder, encoder, batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        scores = _score(encoder, decoder, validation, lambda _: None)
        dices.append(_mean_by_structure(scores.dice_R, scores.structure_R))
        if dices[-1] > max(dices[:-1], default=-1.0):
            best = copy.deepcopy(decoder.state_dict())
    decoder.load_state_dict(best)
    return decoder.eval(), {"epoch": int(np.argmax(dices)) + 1, "dice_by_epoch": dices}


def _loss(decoder: Decoder, encoder: Encoder, batch: Sequence[Target]) -> torch.Tensor:
    """Cross entropy and Dice, half of each, over the structures that each frame has outlined."""
    logits_RSS, targets_RSS = _outlined_logits(decoder, encoder, batch)
    chances = logits_RSS.sigmoid()
    shared = (chances * targets_RSS).sum(dim=(1, 2))
    dice = (2 * shared + 1) / (chances.sum(dim=(1, 2)) + targets_RSS.sum(dim=(1, 2)) + 1)
    return 0.5 * F.binary_cross_entropy_with_logits(logits_RSS, targets_RSS) + 0.5 * (1 - dice).mean()


def _outlined_logits(decoder: Decoder, encoder: Encoder, batch: Sequence[Target]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and true masks of every outlined structure of every frame in turn, [regions, size, size]."""
    images = torch.from_numpy(np.stack([target.image for target in batch])).to(encoder.device)
    logits_BKSS = decoder(dense_features(encoder, images), encoder.transform.size)
    frames = [frame for frame, target in enumerate(batch) for _ in target.masks]
    structures = [number for target in batch for number in target.masks]
    masks = torch.from_numpy(np.concatenate([target.square_KS2 for target in batch])).to(encoder.device)
    return logits_BKSS[frames, structures], masks.float() / 255


@dataclass(frozen=True)
class Scores:
    """Dice and intersection over union of every outlined structure of every frame, and which they are of."""

    dice_R: Floats
    iou_R: Floats
    structure_R: Integers
    position_R: Integers


@torch.no_grad()
def _score(encoder: Encoder, decoder: Decoder, outlined: Outlined, progress: Report) -> Scores:
    dice, iou, structure, position = [], [], [], []
    for batch in _batches(encoder, outlined, np.arange(len(outlined)), outlined.frames.split, progress):
        logits_RSS, _ = _outlined_logits(decoder, encoder, batch)
        for (number, mask, place), logits_SS in zip(_flat(batch), logits_RSS, strict=True):
            found = _uncut(logits_SS, mask.shape) > 0
            shared, total = int((found & mask).sum()), int(found.sum()) + int(mask.sum())
            dice.append(2 * shared / total if total else 1.0)
            iou.append(shared / (total - shared) if total else 1.0)
            structure.append(number)
            position.append(place)
    return Scores(np.array(dice), np.array(iou), np.array(structure), np.array(position))


def _flat(batch: Sequence[Target]) -> Iterator[tuple[int, Mask, int]]:
    for target in batch:
        for number, mask in target.masks.items():
            yield number, mask, target.position


def _uncut(logits_SS: torch.Tensor, shape: tuple[int, ...]) -> Floats:
    """Logits of the padded square in the image's own pixels, [height, width]: enlarged, and the padding cut off."""
    height, width = shape
    side = max(height, width)
    square = F.interpolate(logits_SS[None, None], size=(side, side), mode="bilinear", align_corners=False)[0, 0]
    top, left = (side - height) // 2, (side - width) // 2
    found: Floats = square[top : top + height, left : left + width].double().cpu().numpy()
    return found


def _batches(
    encoder: Encoder, outlined: Outlined, order: Integers, stage: str, progress: Report
) -> Iterator[list[Target]]:
    subset = torch.utils.data.Subset(outlined, order.tolist())
    done, total = 0, -(-len(order) // BATCH_SIZE)
    for number, batch in enumerate(encoder.load_items(subset, BATCH_SIZE), start=1):
        yield batch
        done += len(batch)
        progress(Progress(stage, total, number, done, 0))


def _figures(scores: Scores, outlined: Outlined, patients: Integers, resamples: int, seed: int) -> dict[str, Any]:
    draws = Draws(np.unique(patients[scores.position_R], return_inverse=True)[1], resamples, seed)
    plane_R = pc.fill_null(outlined.frames.column("plane"), -1).to_numpy()[outlined.indices[scores.position_R]]
    planes = (*outlined.frames.planes, "unknown")
    named_R = plane_R >= 0  # frames of no known plane are no plane of their own
    named_R = named_R if named_R.any() else ~named_R
    plane_R = np.where(plane_R < 0, len(planes) - 1, plane_R)

    def over_planes(values_R: Floats) -> dict[str, Any]:
        return asdict(metrics.mean_per_class(values_R[named_R], plane_R[named_R], draws.of(named_R)))

    return {
        "dice": asdict(metrics.mean_per_class(scores.dice_R, scores.structure_R, draws)),
        "iou": asdict(metrics.mean_per_class(scores.iou_R, scores.structure_R, draws)),
        "dice_over_planes": over_planes(scores.dice_R),
        "iou_over_planes": over_planes(scores.iou_R),
        "per_structure": _grouped(scores, scores.structure_R, outlined.structures),
        "per_plane": _grouped(scores, plane_R, planes),
    }


def _grouped(scores: Scores, groups_R: Integers, names: Sequence[str]) -> dict[str, Any]:
    return {
        names[group]: {
            "n_masks": int((groups_R == group).sum()),
            "dice": float(scores.dice_R[groups_R == group].mean()),
            "iou": float(scores.iou_R[groups_R == group].mean()),
        }
        for group in np.unique(groups_R)
    }


def _mean_by_structure(values_R: Floats, structure_R: Integers) -> float:
    return float(np.mean([values_R[structure_R == number].mean() for number in np.unique(structure_R)]))


def _structures_of(lists: pa.ListArray) -> pa.Array:
    return pc.struct_field(pc.list_flatten(lists), "structure")


def _structures(frames: Frames) -> tuple[str, ...]:
    names = {
        name
        for lists in frames.column("regions").chunks
        for name in pc.unique(_structures_of(lists).filter(pa.array(are_drawn(lists)))).to_pylist()
    }
    return tuple(sorted(name for name in names if name))


def _has_structure(frames: Frames, structures: Sequence[str] | None) -> Booleans:
    """For every frame whether it has a drawn region of one of the structures, or any drawn region at all."""
    found = []
    for lists in frames.column("regions").chunks:
        wanted = are_drawn(lists)
        if structures is not None:
            named = pc.is_in(_structures_of(lists), value_set=pa.array(structures, pa.string()))
            wanted &= named.to_numpy(zero_copy_only=False)
        parents = pc.list_parent_indices(lists).to_numpy()
        found.append(np.bincount(parents[wanted], minlength=len(lists)) > 0)
    return np.concatenate(found)
