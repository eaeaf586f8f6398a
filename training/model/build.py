"""Models ready to train from, or restored from a checkpoint, and the transform that goes with them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import nn

from sono.manifests.errors import UserError, first_line
from sono.training import recipes
from sono.training.model.portable import mask_stem
from sono.training.model.portable.mask_stem import build_clip

from . import weights
from .backbones import backbone_settings, unfit_backbone
from .mask_clip import MaskClip
from .transforms import PadToSquare

Channels = tuple[float, float, float]


def build_model(settings: recipes.Model, loss: recipes.Loss) -> MaskClip:
    """The recipe's architecture with the loss's temperature and bias; all else is drawn from torch's default generator.

    Raises:
        UserError: the backbone is unknown, does not fit, or cannot be built.
    """
    model = _architecture(settings.backbone)
    model.set_grad_checkpointing(settings.grad_checkpointing)
    _set_logits(model, loss)
    return model


def check_weights_given(settings: recipes.Model, loss: recipes.Loss) -> None:
    """Refuse a recipe that names no weights and does not ask for random ones: no one should get those by accident.

    Raises:
        UserError: it is such a recipe, or takes temperature or bias from weights that it does not name.
    """
    if settings.weights is None and settings.from_scratch and None in (loss.temperature, loss.bias):
        raise UserError(
            "loss.temperature and loss.bias cannot come from weights, because the recipe starts without any",
            fix="give both as numbers",
        )
    if settings.weights is None and not settings.from_scratch:
        raise UserError(
            f"training of {settings.backbone} starts from pretrained weights, but none are given",
            fix="add --weights FILE, --weights TAG or --weights hf-hub:OWNER/NAME (the latter two download them)",
        )


def load_pretrained(model: MaskClip, settings: recipes.Model, loss: recipes.Loss) -> None:
    """Give a new model the weights that the recipe names, if any.

    Temperature and bias stay the loss's; where it has none, they are those of the weights.

    Raises:
        UserError: the weights cannot be reached, do not fit the backbone, or lack a temperature or bias that the loss
            leaves to them.
    """
    if settings.weights is None:
        return
    image = _read_weights(model, settings.backbone, settings.weights)
    text_source = settings.text_weights
    text = None if text_source is None else _read_weights(model, settings.backbone, text_source)
    found = {*image.tensors, *(text.tensors if text else ())}
    for name, key in zip(weights.LOGITS, ("temperature", "bias"), strict=True):
        if getattr(loss, key) is None and name not in found:
            raise UserError(f"the weights have no {name}", where=settings.weights, fix=f"give loss.{key} as a number")
    weights.load(model.clip, model.stem_name, image, settings.weights, text=text, text_file=text_source or "")
    _set_logits(model, loss)


def restore_model(backbone: str, state: Mapping[str, torch.Tensor]) -> MaskClip:
    """A model with all its weights from a checkpoint.

    Raises:
        UserError: they do not fit the backbone.
    """
    model = _architecture(backbone)
    restore_weights(model, state)
    return model


def restore_weights(model: MaskClip, state: Mapping[str, torch.Tensor]) -> None:
    """Replace all weights by those of a checkpoint.

    Raises:
        UserError: they do not fit the backbone.
    """
    weights.put(model.clip, state, f"checkpoint of {model.backbone}")


def make_transform(model: MaskClip, settings: recipes.Model) -> PadToSquare:
    """The transform that the model's weights were trained with, as far as it is known: size, mean and deviation.

    The mean is that of the pretrained tag if ``settings.weights`` is one; else what a file beside the weights says, as
    of exports and of the Hub's repositories; else that of the backbone's tags if they agree; else OpenAI's.

    Raises:
        UserError: a file beside the weights is damaged, or cannot be reached.
    """
    tag = settings.weights or ""
    if (stated := _stated_normalisation(settings)) is not None:
        return PadToSquare(size=model.image_size, mean=stated[0], std=stated[1])
    tags = [tag] if open_clip.is_pretrained_cfg(settings.backbone, tag) else _tags(settings.backbone)
    normalisations = {
        (tuple(found["mean"]), tuple(found["std"]))
        for found in (open_clip.get_pretrained_cfg(settings.backbone, name) for name in tags)
        if found.get("mean") and found.get("std")
    }
    if len(normalisations) != 1:
        return PadToSquare(size=model.image_size)
    mean, std = normalisations.pop()
    return PadToSquare(size=model.image_size, mean=mean, std=std)


def _stated_normalisation(settings: recipes.Model) -> tuple[Channels, Channels] | None:
    """Mean and deviation by channel that a file beside the weights states."""
    if not _have_files_beside(settings.backbone, settings.weights):
        return None
    assert settings.weights
    for name, section in ((mask_stem.CONFIG, "preprocess_cfg"), ("processor_config.json", None)):
        content = weights.read_config_beside(settings.backbone, settings.weights, name)
        found = content if section is None or content is None else content.get(section)
        if isinstance(found, dict) and found.get("mean") and found.get("std"):
            return _channels(found["mean"]), _channels(found["std"])
    return None


def _channels(values: Any) -> Channels:
    red, green, blue = map(float, values)
    return red, green, blue


def _have_files_beside(backbone: str, source: str | None) -> bool:
    """Whether weights are a file or a repository, and no tag of open_clip."""
    if not source or open_clip.is_pretrained_cfg(backbone, source):
        return False
    return source.startswith(weights.HUB) or Path(source).is_file()


@torch.no_grad()
def center_features(model: MaskClip, x_B4HW: torch.Tensor, tokens_UL: torch.Tensor) -> None:
    """Shift both towers' last norm so that the features of these images and texts have mean zero.

    With random weights all features point the same way (mean cosine 0.98 for images), and a loss that compares
    directions takes hundreds of steps to pull them apart. Once the common part is gone, only the differences count.
    Trained weights do not need this and do not get it; nor do towers of timm and transformers, which do not end in a
    norm and a projection.
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


@torch.no_grad()
def _set_logits(model: MaskClip, loss: recipes.Loss) -> None:
    """Set temperature and bias to where the loss starts them, if it says where."""
    if loss.temperature is not None:
        model.clip.logit_scale.fill_(math.log(loss.temperature))
    if loss.bias is not None:
        model.clip.logit_bias.fill_(loss.bias)


def _architecture(backbone: str) -> MaskClip:
    settings = backbone_settings(backbone)
    try:
        clip = build_clip(settings)
    except ValueError as error:
        raise unfit_backbone(backbone, error) from error
    except (RuntimeError, OSError, ImportError) as error:
        raise _cannot_build(backbone, settings, error) from error
    model = MaskClip(clip, backbone)
    height, width = clip.visual.image_size
    if height != width:
        raise unfit_backbone(backbone, f"its image tower takes {width} x {height} px, which is not square")
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
        f"model.backbone: {backbone} cannot be built: {first_line(error)}",
        fix="check the network, or choose another backbone",
    )


def _read_weights(model: MaskClip, backbone: str, source: str) -> weights.Weights:
    has_quick_gelu = backbone_settings(backbone).get("quick_gelu", False)
    tag = open_clip.get_pretrained_cfg(backbone, source)
    if tag and bool(tag.get("quick_gelu")) != has_quick_gelu:  # checked before anything is downloaded
        raise _wrong_activation(backbone, f"the weights {source!r} were")
    if _have_files_beside(backbone, source):
        content = weights.read_config_beside(backbone, source, mask_stem.CONFIG) or {}
        stated = content.get("model_cfg")
        if isinstance(stated, dict) and bool(stated.get("quick_gelu")) != bool(has_quick_gelu):
            raise _wrong_activation(backbone, f"the weights {source!r} were")
    found = weights.read(weights.find_file(backbone, source), model.clip.state_dict(), model.stem_name)
    if found.quick_gelu and not has_quick_gelu:
        raise _wrong_activation(backbone, f"{source}: such files contain weights that were")
    return found


def _wrong_activation(backbone: str, what: str) -> UserError:
    other = backbone.removesuffix("-quickgelu") if backbone.endswith("-quickgelu") else f"{backbone}-quickgelu"
    exists = other in open_clip.list_models()
    return UserError(
        f"{what} trained with a different activation from {backbone}'s",
        fix=f"use --set model.backbone={other}" if exists else "choose a backbone with quick_gelu",
    )


def _tags(backbone: str) -> list[str]:
    return list(open_clip.list_pretrained_tags_by_model(backbone))
