"""The decoder of a segmentation: from the frozen model's dense features to a logit per structure and pixel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from sono.manifests.stages import Progress
from sono.training.arrays import Integers
from sono.training.features.encoder import Encoder

from .targets import OutlinedFrames, Target

BATCH_SIZE = 8

_WIDTH = 128


class Decoder(nn.Module):
    """Dense features, [batch, channels, rows, columns], to a logit for every structure and pixel of the square.

    Three convolutions and a bilinear enlargement.
    """

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
    """Normalised features of the last block for every patch, [batch, channels, rows, columns].

    They come from the model's own forward pass with the complete mask stem, always with a mask of all ones: a true mask
    would give the answer away.
    """
    mask_BSS = torch.full_like(image_B3SS[:, 0], 255)
    x_B4SS = encoder.transform.normalise(image_B3SS, mask_BSS)
    tower = encoder.model.clip.visual
    output = tower.forward_intermediates(x_B4SS, indices=1, normalize_intermediates=True, intermediates_only=True)
    features: torch.Tensor = output["image_intermediates"][-1]
    return features.float()


@dataclass(frozen=True)
class Segmenter:
    """A decoder on top of the frozen model."""

    encoder: Encoder
    decoder: nn.Module

    @classmethod
    def untrained(cls, encoder: Encoder, structures: int) -> Segmenter:
        """A decoder with random weights, as wide as the model's dense features."""
        size = encoder.transform.size
        black = torch.zeros(1, 3, size, size, dtype=torch.uint8, device=encoder.device)
        channels = dense_features(encoder, black).shape[1]
        return cls(encoder, Decoder(channels, structures).to(encoder.device))

    def outlined_logits(self, batch: Sequence[Target]) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and true masks of every outlined structure, frame by frame, [regions, size, size]."""
        device = self.encoder.device
        images = torch.from_numpy(np.stack([target.image for target in batch])).to(device)
        logits_BKSS = self.decoder(dense_features(self.encoder, images), self.encoder.transform.size)
        frames = [frame for frame, target in enumerate(batch) for _ in target.masks]
        structures = [number for target in batch for number in target.masks]
        masks = torch.from_numpy(np.concatenate([target.square_KS2 for target in batch])).to(device)
        return logits_BKSS[frames, structures], masks.float() / 255

    def batches(
        self, outlined: OutlinedFrames, order: Integers, stage: str, progress: Callable[[Progress], None]
    ) -> Iterator[list[Target]]:
        """The targets at the positions ``order``, in batches, with their progress reported as ``stage``."""
        subset = torch.utils.data.Subset(outlined, order.tolist())
        done, total = 0, -(-len(order) // BATCH_SIZE)
        for number, batch in enumerate(self.encoder.load_items(subset, BATCH_SIZE), start=1):
            yield batch
            done += len(batch)
            progress(Progress(stage, total, number, done, 0))
