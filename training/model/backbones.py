"""Backbones by name, in open_clip's terms: ours, open_clip's own, and those on the Hub."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import open_clip

from sono.manifests.errors import UserError, did_you_mean, first_line

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


def backbone_settings(backbone: str) -> dict[str, Any]:
    """The architecture of a backbone in open_clip's terms: ours, one of open_clip's, or ``hf-hub:owner/name``.

    Raises:
        UserError: no backbone has that name (the text suggests the nearest), or it cannot be downloaded.
    """
    if backbone in BACKBONES:
        return deepcopy(dict(BACKBONES[backbone]))
    if backbone.startswith("local-dir:"):  # open_clip would take it; exports would then name a folder of this machine
        raise UserError("model.backbone: a folder is not a backbone's name", fix="give its weights with --weights FILE")
    try:
        settings = open_clip.get_model_config(backbone)
    except Exception as error:
        raise UserError(
            f"model.backbone: the configuration of {backbone} cannot be read: {first_line(error)}",
            fix="check the name and the network, or choose a name from open_clip.list_models()",
        ) from error
    if settings is None:
        raise UserError(
            f"model.backbone: open_clip has no model {backbone!r}",
            fix=did_you_mean(backbone, [*BACKBONES, *open_clip.list_models()]) or "see open_clip.list_models()",
        )
    return dict(settings)


def unfit_backbone(backbone: str | None, reason: object) -> UserError:
    """The error for an image tower that cannot take a mask stem."""
    return UserError(
        f"model.backbone: {backbone or 'this model'} cannot take a mask stem: {reason}",
        fix="choose a vision transformer, such as ViT-B-16, ViT-L-14-336 or ViT-B-16-SigLIP",
    )
