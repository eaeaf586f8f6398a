"""AdamW over named groups of parameters, each with its own learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from sono.training import recipes
from sono.training.model.mask_clip import GROUPS, group_of

_PREFIX = "optimizer."


def build_optimizer(model: nn.Module, settings: recipes.Optimizer) -> torch.optim.AdamW:
    """AdamW over ``model``'s parameters; a group whose rate is 0 is frozen and left out.

    Every group carries ``name`` and ``base_lr``. Unless ``decay`` is ``all``, biases, norms, the temperature and the
    loss's bias (everything with fewer than two dimensions) do not decay.
    """
    freeze(model, settings)
    groups: list[dict[str, Any]] = []
    for group in GROUPS:
        rate = settings.rate(group)
        members = [parameter for name, parameter in model.named_parameters() if group_of(name) == group]
        for decays in (True, False):
            chosen = [parameter for parameter in members if (settings.decay == "all" or parameter.ndim >= 2) == decays]
            if chosen and rate > 0:
                decay = settings.weight_decay if decays else 0.0
                groups.append({"name": group, "params": chosen, "lr": rate, "base_lr": rate, "weight_decay": decay})
    return torch.optim.AdamW(groups, betas=(settings.beta1, settings.beta2), eps=settings.eps)


def freeze(model: nn.Module, settings: recipes.Optimizer) -> None:
    """Let only those parameters learn whose group has a rate. DDP and FSDP must know before they wrap a model."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(settings.rate(group_of(name)) > 0)


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> dict[str, float]:
    """Set every group's rate to ``factor`` of its own; the rates by name, 0 for frozen groups."""
    rates = dict.fromkeys(GROUPS, 0.0)
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
        rates[group["name"]] = group["lr"]
    return rates


def state_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, torch.Tensor]:
    """The optimizer's tensors by the name of their parameter in ``model``, complete or in this rank's shards.

    Its other values are the recipe's, or follow from the step.
    """
    return {
        f"{_PREFIX}{name}.{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def make_state(
    optimizer: torch.optim.Optimizer, model: nn.Module, saved: Mapping[str, torch.Size]
) -> dict[str, torch.Tensor]:
    """Give ``optimizer`` empty tensors for what ``state_tensors`` had ``saved``; returns them, to be filled."""
    parameters = dict(model.named_parameters())
    for full_name in saved:
        name, _, key = full_name.removeprefix(_PREFIX).rpartition(".")
        # AdamW counts steps on the CPU, whatever the parameter's device.
        value = torch.tensor(0.0) if key == "step" else torch.zeros_like(parameters[name])
        optimizer.state[parameters[name]][key] = value
    return state_tensors(optimizer, model)
