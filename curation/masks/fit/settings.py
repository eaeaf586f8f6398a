"""What a fit can be asked for: the network, how long it trains, and the seed that decides everything else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from sono.manifests.errors import UserError

STRIDE = 32  # of the network's deepest features: the input's side is a multiple of it
_MAX_SIDE = 1024


@dataclass(frozen=True)
class Architecture:
    """The network: ``segmentation_models_pytorch.Unet`` on one of the library's encoders.

    Attributes:
        encoder: as the library names it: ``resnet34``, ``efficientnet-b0``, or ``tu-`` and a name of timm.
        decoder_channels: from the deepest stage to the one at full size.
        size_px: side of the square input.
    """

    encoder: str = "tu-regnetx_002"
    decoder_channels: tuple[int, ...] = (128, 64, 32, 16, 8)
    size_px: int = 256

    def __post_init__(self) -> None:
        if not 0 < self.size_px <= _MAX_SIDE or self.size_px % STRIDE:
            raise UserError(
                f"an input of {self.size_px} px does not fit the network",
                fix=f"give a multiple of {STRIDE}, up to {_MAX_SIDE}",
            )


@dataclass(frozen=True)
class FitSettings:
    """How a segmenter is trained.

    Attributes:
        architecture: the network.
        encoder_weights: pretrained weights that the library downloads, such as ``imagenet``; None for random ones.
        epochs: passes over the training frames, at most.
        minutes: of training, at most. The result then depends on how fast the machine is.
        patience: epochs without a better validation Dice after which training stops.
        batch: frames per step.
        learning_rate: of AdamW, at its highest.
        validation: share of the patients that validate.
        seed: decides the split, the first weights, and every frame's order and augmentation.
    """

    architecture: Architecture = Architecture()
    encoder_weights: str | None = None
    epochs: int = 60
    minutes: float | None = None
    patience: int = 15
    batch: int = 8
    learning_rate: float = 1e-3
    validation: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise UserError(f"{self.epochs} epochs", fix="give 1 or more")
        if self.minutes is not None and not (math.isfinite(self.minutes) and self.minutes > 0):
            raise UserError(f"{self.minutes} minutes", fix="give more than 0")
        if not 0 < self.validation < 1:
            raise UserError(
                f"a share of {self.validation} cannot be set apart for validation", fix="give one between 0 and 1"
            )

    def as_json(self) -> Mapping[str, object]:
        return asdict(self)
