"""The mask stem, and CLIP models of open_clip that have one.

Exported models carry a copy of this file, so it needs torch and open_clip and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import nn

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
DEFAULT_CONTEXT_LENGTH = 77  # open_clip's own, where a configuration names none


class MaskStem(nn.Module):
    """``tokens = dwconv3x3(conv_rgb(x) + conv_mask(m))``, in place of a tower's patch-embedding convolution.

    At the start ``conv_mask`` is zero and ``dwconv`` (depthwise, over the grid of patches) the identity, so the tower
    computes exactly what it computed without a mask, for any mask.
    """

    def __init__(self, conv_rgb: nn.Conv2d) -> None:
        super().__init__()
        width = conv_rgb.out_channels
        kernel, stride = _pair(conv_rgb.kernel_size), _pair(conv_rgb.stride)
        self.conv_rgb = conv_rgb
        self.conv_mask = nn.Conv2d(1, width, kernel_size=kernel, stride=stride, bias=False)
        self.dwconv = nn.Conv2d(width, width, kernel_size=3, padding=1, groups=width, bias=False)
        nn.init.zeros_(self.conv_mask.weight)
        nn.init.dirac_(self.dwconv.weight, groups=width)

    def forward(self, x_B4HW: torch.Tensor) -> torch.Tensor:
        """Image and normalised mask, [batch, 3 + 1, height, width], as patches, [batch, width, rows, columns]."""
        patches_BDHW: torch.Tensor = self.conv_rgb(x_B4HW[:, :3]) + self.conv_mask(x_B4HW[:, 3:])
        return self.dwconv(patches_BDHW)  # type: ignore[no-any-return]


def add_mask_stem(clip: nn.Module) -> str:
    """Put a mask stem in place of the patch embedding of ``clip.visual``; its name within ``clip.visual``.

    Raises:
        ValueError: the tower does not begin with a convolution that cuts the image into patches.
    """
    visual: nn.Module = clip.visual  # type: ignore[assignment]
    name = find_patch_embedding(visual)
    parent, _, attribute = name.rpartition(".")
    setattr(visual.get_submodule(parent), attribute, MaskStem(visual.get_submodule(name)))  # type: ignore[arg-type]
    return name


def find_patch_embedding(visual: nn.Module) -> str:
    """The name of the convolution that the image passes first, found by passing one.

    Raises:
        ValueError: what the image passes first is no convolution of three channels whose kernel equals its stride.
    """
    name = _first_layer(visual)
    first = visual.get_submodule(name)
    if not (
        isinstance(first, nn.Conv2d)
        and first.in_channels == 3
        and first.groups == 1
        and first.kernel_size == first.stride
        and first.padding in ((0, 0), "valid")
    ):
        raise ValueError(f"its image tower begins with {name} ({type(first).__name__}), which cuts no patches")
    return name


def build_clip(settings: Mapping[str, Any]) -> open_clip.CLIP | open_clip.CustomTextCLIP:
    """A plain CLIP with random weights, and with a learned bias of the logits in any case.

    Args:
        settings: ``model_cfg`` in open_clip's terms.

    Raises:
        ValueError: the settings describe no CLIP with two towers.
    """
    made = deepcopy(dict(settings))
    vision, text = made["vision_cfg"], made["text_cfg"]
    if "multimodal_cfg" in made:
        raise ValueError("it is a CoCa, which has a third tower")
    is_hugging_face = "hf_model_name" in text
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False  # weights come later, from one file, and all of them
    if is_hugging_face:
        text["hf_model_pretrained"] = False
    custom = made.pop("custom_text", False) or is_hugging_face
    made.setdefault("init_logit_bias", 0.0)
    clip = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**made)
    if is_hugging_face:  # what the tower could read; captions are padded to what the configuration says
        clip.context_length = text.get("context_length", DEFAULT_CONTEXT_LENGTH)
    return clip


def load(folder: str | Path) -> open_clip.CLIP | open_clip.CustomTextCLIP:
    """The model of an exported folder, in evaluation mode.

    ``encode_image`` takes [batch, 3 + 1, height, width]: the normalised image and, as the fourth channel, the
    normalised mask. Every tensor of the file must fit.
    """
    from safetensors.torch import load_file

    settings = json.loads((Path(folder) / CONFIG).read_text(encoding="utf-8"))["model_cfg"]
    clip = build_clip(settings)
    add_mask_stem(clip)
    clip.load_state_dict(load_file(str(Path(folder) / WEIGHTS)), strict=True)
    return clip.eval()


def _first_layer(visual: nn.Module) -> str:
    """The module with parameters and without children that an image reaches first; the pass ends there."""
    size: Any = visual.image_size
    height, width = size if isinstance(size, (tuple, list)) else (size, size)
    parameter = next(visual.parameters())
    image = torch.zeros(1, 3, height, width, dtype=parameter.dtype, device=parameter.device)
    with _reported_layers(visual) as reached, torch.no_grad(), suppress(_ReachedError):
        visual(image)
    if not reached:
        raise ValueError("its image tower has no layer with weights")
    return reached[0]


@contextmanager
def _reported_layers(visual: nn.Module) -> Iterator[list[str]]:
    reached: list[str] = []

    def stop_at(name: str) -> Any:
        def hook(module: nn.Module, inputs: object) -> None:
            reached.append(name)
            raise _ReachedError

        return hook

    handles = [
        module.register_forward_pre_hook(stop_at(name))
        for name, module in visual.named_modules()
        if not any(module.children()) and any(True for _ in module.parameters())
    ]
    try:
        yield reached
    finally:
        for handle in handles:
            handle.remove()


class _ReachedError(Exception):
    """Ends the pass at the first layer."""


def _pair(size: tuple[int, ...]) -> tuple[int, int]:
    height, width = size
    return height, width
