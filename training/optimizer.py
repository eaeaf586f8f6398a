"""AdamW over named groups of parameters, each with its own learning rate."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from . import recipes

GROUPS = ("stem", "vision", "text", "logit")

_STEM = ("visual.conv1.conv_mask.", "visual.conv1.dwconv.")
_LOGIT = ("logit_scale", "logit_bias")


def group_of(name: str) -> str:
    """The group of the parameter called ``name`` in a mask-guided CLIP.

    ``stem`` holds what the mask stem adds. Its RGB convolution is the backbone's own, pretrained like the rest of the
    visual tower, and belongs to ``vision``.
    """
    if name.startswith(_STEM):
        return "stem"
    if name in _LOGIT:
        return "logit"
    return "vision" if name.startswith("visual.") else "text"


def build_optimizer(model: nn.Module, settings: recipes.Optimizer) -> torch.optim.AdamW:
    """AdamW over ``model``'s parameters; a group whose rate is 0 is frozen and not in it.

    Every group carries ``name`` and ``base_lr``. Biases, norms, the temperature and the loss's bias (everything of
    fewer than two dimensions) do not decay.
    """
    groups: list[dict[str, Any]] = []
    for group in GROUPS:
        rate = getattr(settings, f"lr_{group}")
        members = [parameter for name, parameter in model.named_parameters() if group_of(name) == group]
        for parameter in members:
            parameter.requires_grad_(rate > 0)
        for decays in (True, False):
            chosen = [parameter for parameter in members if (parameter.ndim >= 2) == decays]
            if chosen and rate > 0:
                decay = settings.weight_decay if decays else 0.0
                groups.append({"name": group, "params": chosen, "lr": rate, "base_lr": rate, "weight_decay": decay})
    return torch.optim.AdamW(groups, betas=(settings.beta1, settings.beta2), eps=settings.eps)


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> dict[str, float]:
    """Set every group's rate to ``factor`` of its own; the rates by name, 0 for frozen groups."""
    rates = dict.fromkeys(GROUPS, 0.0)
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
        rates[group["name"]] = group["lr"]
    return rates
