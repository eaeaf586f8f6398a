"""A CLIP of open_clip whose patch embedding takes a mask beside the image."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from copy import deepcopy
from functools import cached_property
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from torch import nn

from sono.manifests.errors import UserError
from sono.training import recipes
from sono.training.model.portable.mask_stem import add_mask_stem, build_clip

from . import weights
from .tokenizer import CaptionTokenizer
from .transforms import PadToSquare

BACKBONES: Mapping[str, Mapping[str, Any]] = {
    "sono-tiny": {
        "embed_dim": 128,
        "vision_cfg": {"image_size": 64, "patch_size": 8, "layers": 4, "width": 128, "head_width": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "layers": 2, "width": 64, "heads": 2},
    },
    # https://github.com/BioMedIA-MBZUAI/FetalCLIP, whose weights are a state dict for it
    "FetalCLIP": {
        "embed_dim": 768,
        "vision_cfg": {"image_size": 224, "patch_size": 14, "layers": 24, "width": 1024},
        "text_cfg": {"context_length": 117, "vocab_size": 49408, "layers": 12, "width": 768, "heads": 12},
    },
}
"""Our own architectures in open_clip's terms; every other backbone is one of open_clip's."""

GROUPS = ("stem", "vision", "text", "logit")
"""Groups of parameters: each has its own learning rate, and 0 freezes it."""


class MaskClip(nn.Module):
    """A CLIP with a mask stem. ``clip`` is open_clip's own model otherwise, and its state is what checkpoints hold.

    Raises:
        UserError: the image tower does not begin with a convolution that cuts the image into patches.
    """

    def __init__(self, clip: open_clip.CLIP | open_clip.CustomTextCLIP, backbone: str | None = None) -> None:
        super().__init__()
        try:
            self.stem_name = add_mask_stem(clip)
        except ValueError as error:
            raise _unfit(backbone, error) from error
        self.clip = clip
        self.backbone = backbone

    @property
    def image_size(self) -> int:
        """Side of the square input in px."""
        return int(self.clip.visual.image_size[0])

    @property
    def context_length(self) -> int:
        return int(self.clip.context_length)

    @cached_property
    def tokenizer(self) -> CaptionTokenizer:
        """The text tower's own.

        Raises:
            UserError: it needs a library that is not installed, or files that cannot be had.
        """
        text = {} if self.backbone is None else settings_of(self.backbone)["text_cfg"]
        return CaptionTokenizer(self.context_length, text)

    def encode_image(self, x_B4HW: torch.Tensor) -> torch.Tensor:
        """L2-normalised features, [batch, dim], of images with their masks as ``PadToSquare.normalise`` gives them."""
        return F.normalize(_single(self.clip.encode_image(x_B4HW)), dim=-1)

    def encode_text(self, tokens_BL: torch.Tensor) -> torch.Tensor:
        """L2-normalised features, [batch, dim], of token ids."""
        return F.normalize(_single(self.clip.encode_text(tokens_BL)), dim=-1)

    def forward(self, x_B4HW: torch.Tensor, tokens_UL: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of both towers; the two inputs may differ in number."""
        return self.encode_image(x_B4HW), self.encode_text(tokens_UL)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep of every block only its input for the backward pass, and compute the rest again there.

        Raises:
            UserError: a tower cannot do so.
        """
        try:
            _checkpoint_image_tower(self.clip.visual, enable)
            _checkpoint_text_tower(self.clip, enable)
        except (AssertionError, AttributeError, ValueError) as error:
            raise UserError(
                f"a tower of {self.backbone or 'this model'} has no gradient checkpointing",
                fix="leave out --set model.grad_checkpointing=true",
            ) from error


def build_model(model: recipes.Model, loss: recipes.Loss) -> MaskClip:
    """A model to start training from: with the recipe's weights, and the loss's temperature and bias.

    Raises:
        UserError: weights are needed and none are given, cannot be reached, or do not fit the backbone.
    """
    if model.weights is None and not model.from_scratch:
        raise UserError(
            f"training of {model.backbone} starts from pretrained weights and none are given",
            fix="add --weights FILE, --weights TAG or --weights hf-hub:OWNER/NAME (the latter two download them)",
        )
    made = _architecture(model.backbone)
    if model.weights is not None:
        _load_weights(made, model.backbone, model.weights, model.text_weights)
    made.set_grad_checkpointing(model.grad_checkpointing)
    with torch.no_grad():
        made.clip.logit_scale.fill_(math.log(loss.temperature))
        made.clip.logit_bias.fill_(loss.bias)
    return made


def restore_model(backbone: str, state: Mapping[str, torch.Tensor], *, grad_checkpointing: bool = False) -> MaskClip:
    """A model with all its weights from a checkpoint.

    Raises:
        UserError: they do not fit the backbone.
    """
    model = _architecture(backbone)
    weights.put(model.clip, state, f"checkpoint of {backbone}")
    model.set_grad_checkpointing(grad_checkpointing)
    return model


def make_transform(model: MaskClip, settings: recipes.Model) -> PadToSquare:
    """The transform that the model's weights were trained with, as far as it is known: size, mean and deviation.

    The mean is that of the pretrained tag, where ``settings.weights`` is one; else that of the backbone's tags where
    they agree; else OpenAI's.
    """
    tag = settings.weights or ""
    tags = [tag] if open_clip.is_pretrained_cfg(settings.backbone, tag) else _tags(settings.backbone)
    known = {
        (tuple(found["mean"]), tuple(found["std"]))
        for found in (open_clip.get_pretrained_cfg(settings.backbone, name) for name in tags)
        if found.get("mean") and found.get("std")
    }
    if len(known) != 1:
        return PadToSquare(size=model.image_size)
    mean, std = known.pop()
    return PadToSquare(size=model.image_size, mean=mean, std=std)


def group_of(name: str) -> str:
    """The group of the parameter called ``name`` in ``MaskClip.clip``, whatever its backbone.

    ``stem`` holds what the mask stem adds. Its RGB convolution is the backbone's own, pretrained like the rest of the
    visual tower, and belongs to ``vision``.
    """
    if name in weights.LOGITS:
        return "logit"
    if not name.startswith("visual."):
        return "text"
    return "stem" if name.endswith((".conv_mask.weight", ".dwconv.weight")) else "vision"


@torch.no_grad()
def center_features(model: MaskClip, x_B4HW: torch.Tensor, tokens_UL: torch.Tensor) -> None:
    """Shift both towers' last norm so that the features of these images and texts have the mean zero.

    With random weights all features point the same way (mean cosine 0.98 for images), and a loss that compares
    directions takes hundreds of steps to pull them apart. What differs between them is all that counts once the common
    part is gone. For weights that were trained this is neither needed nor done; nor is it for towers of timm and
    transformers, which do not end in a norm and a projection.
    """
    clip = model.clip
    text = clip.text if isinstance(clip, open_clip.CustomTextCLIP) else clip
    ends = [
        (clip.encode_image(x_B4HW), getattr(clip.visual, "ln_post", None), getattr(clip.visual, "proj", None)),
        (clip.encode_text(tokens_UL), getattr(text, "ln_final", None), getattr(text, "text_projection", None)),
    ]
    for features, norm, projection in ends:
        if norm is not None and isinstance(projection, nn.Parameter):
            norm.bias -= features.mean(dim=0) @ torch.linalg.pinv(projection)


def settings_of(backbone: str) -> dict[str, Any]:
    """The architecture of a backbone in open_clip's terms: ours, one of open_clip's, or ``hf-hub:owner/name``.

    Raises:
        UserError: there is none of that name, or it cannot be downloaded.
    """
    if backbone in BACKBONES:
        return deepcopy(dict(BACKBONES[backbone]))
    if backbone.startswith("local-dir:"):  # open_clip would take it; exports would then name a folder of this machine
        raise UserError("model.backbone: a folder is no name", fix="give its weights with --weights FILE")
    try:
        settings = open_clip.get_model_config(backbone)
    except Exception as error:
        raise UserError(
            f"model.backbone: the configuration of {backbone} cannot be read: {weights.first_line(error)}",
            fix="check the name and the network, or give a name out of open_clip.list_models()",
        ) from error
    if settings is None:
        near = difflib.get_close_matches(backbone, [*BACKBONES, *open_clip.list_models()], n=1, cutoff=0.4)
        raise UserError(
            f"model.backbone: open_clip knows no {backbone!r}",
            fix=f"did you mean {near[0]}?" if near else "see open_clip.list_models()",
        )
    return dict(settings)


def _single(features: torch.Tensor) -> torch.Tensor:
    """In single precision at least: half of it is too little for cosines."""
    return features.to(torch.promote_types(features.dtype, torch.float32))


def _architecture(backbone: str) -> MaskClip:
    settings = settings_of(backbone)
    try:
        clip = build_clip(settings)
    except ValueError as error:
        raise _unfit(backbone, error) from error
    except (RuntimeError, OSError, ImportError) as error:
        raise _cannot_build(backbone, settings, error) from error
    model = MaskClip(clip, backbone)
    height, width = clip.visual.image_size
    if height != width:
        raise _unfit(backbone, f"its image tower takes {width} x {height} px, which is no square")
    return model


def _cannot_build(backbone: str, settings: Mapping[str, Any], error: Exception) -> UserError:
    if "hf_model_name" in settings["text_cfg"]:
        try:
            import transformers  # noqa: F401
        except ImportError:
            return UserError(
                f"the text tower of {backbone} needs transformers, which is not installed",
                fix="run: pip install transformers",
            )
    return UserError(
        f"model.backbone: {backbone} cannot be built: {weights.first_line(error)}",
        fix="check the network, or choose another backbone",
    )


def _unfit(backbone: str | None, why: object) -> UserError:
    return UserError(
        f"model.backbone: {backbone or 'this model'} takes no mask stem: {why}",
        fix="choose a vision transformer, such as ViT-B-16, ViT-L-14-336 or ViT-B-16-SigLIP",
    )


def _load_weights(model: MaskClip, backbone: str, source: str, text_source: str | None) -> None:
    image = _read_weights(model, backbone, source)
    text = None if text_source is None else _read_weights(model, backbone, text_source)
    weights.load(model.clip, model.stem_name, image, source, text=text, text_file=text_source or "")


def _read_weights(model: MaskClip, backbone: str, source: str) -> weights.Weights:
    has_quick_gelu = settings_of(backbone).get("quick_gelu", False)
    tag = open_clip.get_pretrained_cfg(backbone, source)
    if tag and bool(tag.get("quick_gelu")) != has_quick_gelu:  # asked before anything is downloaded
        raise _wrong_activation(backbone, f"the weights {source!r} were")
    found = weights.read(weights.find_file(backbone, source), model.clip.state_dict(), model.stem_name)
    if found.quick_gelu and not has_quick_gelu:
        raise _wrong_activation(backbone, f"{source}: such files hold weights that were")
    return found


def _wrong_activation(backbone: str, what: str) -> UserError:
    other = backbone.removesuffix("-quickgelu") if backbone.endswith("-quickgelu") else f"{backbone}-quickgelu"
    known = other in open_clip.list_models()
    return UserError(
        f"{what} trained with another activation than {backbone}",
        fix=f"use --set model.backbone={other}" if known else "choose a backbone with quick_gelu",
    )


def _tags(backbone: str) -> list[str]:
    return list(open_clip.list_pretrained_tags_by_model(backbone))


def _checkpoint_image_tower(visual: nn.Module, enable: bool) -> None:
    trunk = getattr(visual, "trunk", None)  # open_clip's wrapper of timm only logs that there is none
    (visual if trunk is None else trunk).set_grad_checkpointing(enable)  # type: ignore[operator]


def _checkpoint_text_tower(clip: nn.Module, enable: bool) -> None:
    transformer: Any = getattr(clip, "text", clip).transformer
    if hasattr(transformer, "grad_checkpointing"):
        transformer.grad_checkpointing = enable
        return
    kind = "activation" if hasattr(transformer, "activation_checkpointing_enable") else "gradient"  # in older versions
    getattr(transformer, f"{kind}_checkpointing_{'enable' if enable else 'disable'}")()
