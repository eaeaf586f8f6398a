"""The network that a fit trains: a U-Net of segmentation_models_pytorch, one sigmoid channel per structure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sono.manifests.errors import UserError, first_line, import_extra

from .settings import Architecture

if TYPE_CHECKING:
    import torch

EXTRA = "fit"
_PRIOR = 0.02  # share of a frame that a structure covers, about: an untrained network should not say half


def build_network(
    architecture: Architecture, structures: int, *, weights: str | None = None, seed: int = 0
) -> torch.nn.Module:
    """A network from [frames, 1, size, size] to logits of shape [frames, structures, size, size].

    Channels are independent, because structures overlap: a head contains its thalami.

    Args:
        weights: pretrained ones of the encoder, as the library names them; None for random ones.
        seed: of the random weights.

    Raises:
        UserError: the library is not installed, does not know the encoder, or cannot get its weights.
    """
    smp = import_extra("segmentation_models_pytorch", EXTRA)
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network = smp.Unet(
                encoder_name=architecture.encoder,
                encoder_weights=weights,
                in_channels=1,
                classes=structures,
                decoder_channels=architecture.decoder_channels,
            )
        except Exception as error:
            raise UserError(
                f"the encoder {architecture.encoder!r} cannot be made: {first_line(error)}",
                fix="give an encoder of segmentation_models_pytorch, with weights that it has, or without",
            ) from error
    torch.nn.init.constant_(network.segmentation_head[0].bias, math.log(_PRIOR / (1 - _PRIOR)))
    return network  # type: ignore[no-any-return]


def network_input(images: torch.Tensor) -> torch.Tensor:
    """Grey levels as the network takes them: of each frame, the lit pixels with mean 0 and standard deviation 1.

    Gains differ between scanners and say nothing about anatomy. Black pixels, which are outside of the sector, get what
    black has on that scale.

    Args:
        images: 8-bit, of shape [frames, size, size].

    Returns:
        32-bit floats of shape [frames, 1, size, size].
    """
    values = images.float() / 255
    lit = (images > 0).float()
    number = lit.sum(dim=(1, 2), keepdim=True).clamp(min=1)
    mean = (values * lit).sum(dim=(1, 2), keepdim=True) / number
    variance = ((values - mean).square() * lit).sum(dim=(1, 2), keepdim=True) / number
    return ((values - mean) / (variance.sqrt() + 1e-3)).unsqueeze(1)
