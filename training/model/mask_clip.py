"""A CLIP of open_clip whose patch embedding takes a mask beside the image."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from torch import nn

from sono.manifests.errors import UserError
from sono.training.model.portable.mask_stem import add_mask_stem

from .backbones import backbone_settings, unfit_backbone
from .tokenizer import CaptionTokenizer
from .weights import LOGITS

GROUPS = ("stem", "depthwise", "vision", "text", "logit")
"""Groups of parameters: each has its own learning rate, and 0 freezes it."""


class MaskClip(nn.Module):
    """A CLIP with a mask stem. ``clip`` is otherwise open_clip's own model, and its state is what checkpoints hold.

    Raises:
        UserError: the image tower does not begin with a convolution that cuts the image into patches.
    """

    def __init__(self, clip: open_clip.CLIP | open_clip.CustomTextCLIP, backbone: str | None = None) -> None:
        super().__init__()
        try:
            self.stem_name = add_mask_stem(clip)
        except ValueError as error:
            raise unfit_backbone(backbone, error) from error
        self.clip = clip
        self.backbone = backbone

    @property
    def image_size(self) -> int:
        """Side of the square input in px."""
        return int(self.clip.visual.image_size[0])

    @property
    def context_length(self) -> int:
        """How many tokens the text tower reads."""
        return int(self.clip.context_length)

    @cached_property
    def tokenizer(self) -> CaptionTokenizer:
        """The text tower's own.

        Raises:
            UserError: it needs a library that is not installed, or files that cannot be downloaded.
        """
        text = {} if self.backbone is None else backbone_settings(self.backbone)["text_cfg"]
        return CaptionTokenizer(self.context_length, text)

    def encode_image(self, x_B4HW: torch.Tensor) -> torch.Tensor:
        """L2-normalised features, [batch, dim], of images with masks as ``PadToSquare.normalise`` returns them."""
        return F.normalize(_at_least_fp32(self.clip.encode_image(x_B4HW)), dim=-1)

    def encode_text(self, tokens_BL: torch.Tensor) -> torch.Tensor:
        """L2-normalised features, [batch, dim], of token ids."""
        return F.normalize(_at_least_fp32(self.clip.encode_text(tokens_BL)), dim=-1)

    def forward(self, x_B4HW: torch.Tensor, tokens_UL: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of both towers; the two inputs may differ in number."""
        return self.encode_image(x_B4HW), self.encode_text(tokens_UL)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep only the input of every block for the backward pass, and recompute the rest there.

        Raises:
            UserError: a tower does not support it.
        """
        try:
            _checkpoint_image_tower(self.clip.visual, enable)
            _checkpoint_text_tower(self.clip, enable)
        except (AssertionError, AttributeError, ValueError) as error:
            raise UserError(
                f"a tower of {self.backbone or 'this model'} does not support gradient checkpointing",
                fix="leave out --set model.grad_checkpointing=true",
            ) from error


def group_of(name: str) -> str:
    """The group of the parameter called ``name`` in ``MaskClip.clip``, whatever its backbone.

    ``stem`` holds the convolution of the mask, ``depthwise`` the other one that the mask stem adds. Its RGB convolution
    is the backbone's own, pretrained like the rest of the visual tower, and belongs to ``vision``.
    """
    if name in LOGITS:
        return "logit"
    if not name.startswith("visual."):
        return "text"
    if name.endswith(".dwconv.weight"):
        return "depthwise"
    return "stem" if name.endswith(".conv_mask.weight") else "vision"


def _at_least_fp32(features: torch.Tensor) -> torch.Tensor:
    """Half precision is too little for cosines."""
    return features.to(torch.promote_types(features.dtype, torch.float32))


def _checkpoint_image_tower(visual: nn.Module, enable: bool) -> None:
    trunk = getattr(visual, "trunk", None)  # open_clip's wrapper of timm only logs that it cannot
    (visual if trunk is None else trunk).set_grad_checkpointing(enable)  # type: ignore[operator]


def _checkpoint_text_tower(clip: nn.Module, enable: bool) -> None:
    transformer: Any = getattr(clip, "text", clip).transformer
    if hasattr(transformer, "grad_checkpointing"):
        transformer.grad_checkpointing = enable
        return
    kind = "activation" if hasattr(transformer, "activation_checkpointing_enable") else "gradient"  # in older versions
    getattr(transformer, f"{kind}_checkpointing_{'enable' if enable else 'disable'}")()
