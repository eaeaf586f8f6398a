"""A CLIP of open_clip whose patch embedding takes a mask beside the image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.factory import load_checkpoint
from torch import nn

from sono.manifests.errors import UserError

from . import recipes

BACKBONES: Mapping[str, Mapping[str, Any]] = {
    "sono-tiny": {
        "embed_dim": 128,
        "vision_cfg": {"image_size": 64, "patch_size": 8, "layers": 4, "width": 128, "head_width": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "layers": 2, "width": 64, "heads": 2},
    },
}
"""Our own architectures in open_clip's terms; every other backbone is one of open_clip's."""


class MaskStem(nn.Module):
    """``tokens = dwconv3x3(conv_rgb(x) + conv_mask(m))``, in place of a ViT's patch-embedding convolution.

    At the start ``conv_mask`` is zero and ``dwconv`` (depthwise, over the grid of patches) the identity, so the tower
    computes exactly what it computed without a mask, for any mask.
    """

    def __init__(self, conv_rgb: nn.Conv2d) -> None:
        super().__init__()
        width = conv_rgb.out_channels
        assert conv_rgb.in_channels == 3
        assert conv_rgb.padding == (0, 0)
        self.conv_rgb = conv_rgb
        self.conv_mask = nn.Conv2d(
            1, width, kernel_size=_pair(conv_rgb.kernel_size), stride=_pair(conv_rgb.stride), bias=False
        )
        self.dwconv = nn.Conv2d(width, width, kernel_size=3, padding=1, groups=width, bias=False)
        nn.init.zeros_(self.conv_mask.weight)
        nn.init.dirac_(self.dwconv.weight, groups=width)

    def forward(self, x_B4HW: torch.Tensor) -> torch.Tensor:
        """Image and normalised mask, [batch, 3 + 1, height, width], as patches, [batch, width, rows, columns]."""
        patches_BDHW: torch.Tensor = self.conv_rgb(x_B4HW[:, :3]) + self.conv_mask(x_B4HW[:, 3:])
        return self.dwconv(patches_BDHW)  # type: ignore[no-any-return]


class MaskClip(nn.Module):
    """A CLIP with a mask stem. ``clip`` is open_clip's own model otherwise, and its state is what checkpoints hold."""

    def __init__(self, clip: open_clip.CLIP) -> None:
        super().__init__()
        clip.visual.conv1 = MaskStem(clip.visual.conv1)
        self.clip = clip

    @property
    def image_size(self) -> int:
        """Side of the square input in px."""
        return int(self.clip.visual.image_size[0])

    @property
    def context_length(self) -> int:
        return int(self.clip.context_length)

    def encode_image(self, x_B4HW: torch.Tensor) -> torch.Tensor:
        """L2-normalised features, [batch, dim], of images with their masks as ``PadToSquare.normalise`` gives them."""
        return F.normalize(self.clip.encode_image(x_B4HW), dim=-1)

    def encode_text(self, tokens_BL: torch.Tensor) -> torch.Tensor:
        """L2-normalised features, [batch, dim], of token ids."""
        return F.normalize(self.clip.encode_text(tokens_BL), dim=-1)

    def forward(self, x_B4HW: torch.Tensor, tokens_UL: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of both towers; the two inputs may differ in number."""
        return self.encode_image(x_B4HW), self.encode_text(tokens_UL)


def build_model(model: recipes.Model, loss: recipes.Loss) -> MaskClip:
    """A model to start training from: with the recipe's weights, and the loss's temperature and bias.

    Raises:
        UserError: weights are needed and none are given, cannot be reached, or do not fit the backbone.
    """
    if model.weights is None and not model.from_scratch:
        raise UserError(
            f"training of {model.backbone} starts from pretrained weights and none are given",
            fix="add --weights FILE or --weights openai (which downloads them)",
        )
    clip = _architecture(model.backbone)
    if model.weights is not None:
        _load_weights(clip, model.backbone, model.weights)
    with torch.no_grad():
        clip.logit_scale.fill_(math.log(loss.temperature))
        clip.logit_bias.fill_(loss.bias)
    return MaskClip(clip)


@torch.no_grad()
def center_features(model: MaskClip, x_B4HW: torch.Tensor, tokens_UL: torch.Tensor) -> None:
    """Shift both towers' last norm so that the features of these images and texts have the mean zero.

    With random weights all features point the same way (mean cosine 0.98 for images), and a loss that compares
    directions takes hundreds of steps to pull them apart. What differs between them is all that counts once the common
    part is gone. For weights that were trained this is neither needed nor done.
    """
    clip = model.clip
    for features, norm, projection in (
        (clip.encode_image(x_B4HW), clip.visual.ln_post, clip.visual.proj),
        (clip.encode_text(tokens_UL), clip.ln_final, clip.text_projection),
    ):
        norm.bias -= features.mean(dim=0) @ torch.linalg.pinv(projection)


def restore_model(backbone: str, state: Mapping[str, torch.Tensor]) -> MaskClip:
    """A model with all its weights from a checkpoint.

    Raises:
        UserError: they do not fit the backbone.
    """
    model = MaskClip(_architecture(backbone))
    try:
        model.clip.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(
            f"the checkpoint does not fit {backbone}: {_first_line(error)}",
            fix="use the version of sono-curate that wrote it",
        ) from error
    return model


def _architecture(backbone: str) -> open_clip.CLIP:
    settings = deepcopy(BACKBONES.get(backbone)) or open_clip.get_model_config(backbone)
    if settings is None:
        raise UserError(f"model.backbone: open_clip knows no {backbone!r}", fix="see open_clip.list_models()")
    vision, text = settings["vision_cfg"], settings["text_cfg"]
    is_plain = not (settings.get("custom_text") or "hf_model_name" in text or "hf_tokenizer_name" in text)
    if "timm_model_name" in vision or isinstance(vision["layers"], list) or not is_plain:
        raise UserError(
            f"model.backbone: {backbone} is no plain CLIP with a ViT", fix="choose one such as ViT-B-16 or ViT-L-14-336"
        )
    # Both are overwritten later; given here so that the model has the parameters at all.
    return open_clip.CLIP(**settings, init_logit_scale=0.0, init_logit_bias=0.0)


def _load_weights(clip: open_clip.CLIP, backbone: str, weights: str) -> None:
    file = Path(weights) if Path(weights).is_file() else _download(clip, backbone, weights)
    try:
        load_checkpoint(clip, str(file))
    except Exception as error:
        raise UserError(
            f"not weights of {backbone}: {_first_line(error)}",
            where=weights,
            fix="give a state dict of that backbone (.pt, .bin or .safetensors)",
        ) from error


def _download(clip: open_clip.CLIP, backbone: str, tag: str) -> Path:
    settings = open_clip.get_pretrained_cfg(backbone, tag)
    if not settings:
        tags = open_clip.list_pretrained_tags_by_model(backbone)
        raise UserError(
            "neither a file nor a tag of pretrained weights",
            where=tag,
            fix=f"tags of {backbone}: {', '.join(tags) or 'none'}",
        )
    if bool(settings.get("quick_gelu")) != (open_clip.get_model_config(backbone) or {}).get("quick_gelu", False):
        name = backbone.removesuffix("-quickgelu") if backbone.endswith("-quickgelu") else f"{backbone}-quickgelu"
        raise UserError(
            f"the weights {tag!r} were trained with another activation than {backbone}",
            fix=f"use --set model.backbone={name}",
        )
    try:
        return Path(open_clip.download_pretrained(settings))
    except Exception as error:
        raise UserError(
            f"the weights {tag!r} of {backbone} cannot be downloaded: {_first_line(error)}",
            fix="download them elsewhere and give the file with --weights FILE",
        ) from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] if lines else type(error).__name__


def _pair(size: tuple[int, ...]) -> tuple[int, int]:
    height, width = size
    return height, width
