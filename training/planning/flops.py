"""Floating-point operations of training, counted on tensors without memory, and the share of a device's peak rate.

A multiplication and an addition are two operations. Only matrix products and convolutions are counted, as is customary
for peak rates: not norms, activations and the optimizer. Counts are exact, not estimates.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sono.training import recipes
from sono.training.model.build import build_model
from sono.training.model.mask_clip import MaskClip
from sono.training.step.optimizer import freeze

from .devices import find_device


@dataclass(frozen=True, kw_only=True)
class Tower:
    """Operations of one tower for one input; ``recomputed`` are forward operations repeated for the backward pass."""

    forward: int
    backward: int
    recomputed: int = 0

    @property
    def trained(self) -> int:
        """What the mathematics needs, without what is computed twice to save memory."""
        return self.forward + self.backward


@dataclass(frozen=True, kw_only=True)
class TrainFlops:
    """Operations of training, by part.

    ``captions_per_sample`` is how many distinct captions of a batch the text tower encodes per sample: 0 if it is
    frozen, because each caption is then encoded once for the entire run (``text.forward`` operations each).
    ``loss`` and ``loss_recomputed`` are per sample.
    """

    image: Tower
    text: Tower
    loss: int
    loss_recomputed: int
    captions_per_sample: float

    @property
    def per_sample(self) -> int:
        """For utilisation: what one trained sample needs, without anything computed twice."""
        return round(self.image.trained + self.captions_per_sample * self.text.trained + self.loss)

    @property
    def executed_per_sample(self) -> int:
        """What the device computes for one trained sample, activation recomputation included."""
        again = self.image.recomputed + self.captions_per_sample * self.text.recomputed + self.loss_recomputed
        return round(self.per_sample + again)


def train_flops_per_sample(recipe_or_model: recipes.Recipe | MaskClip, **options: Any) -> int:
    """``train_flops(...).per_sample``: forward and backward of one trained sample, nothing counted twice."""
    return train_flops(recipe_or_model, **options).per_sample


def train_flops(
    recipe_or_model: recipes.Recipe | MaskClip,
    *,
    grad_checkpointing: bool = False,
    accumulate: int = 1,
    captions_per_sample: float = 1.0,
    batch_size: int = 0,
    kind: str = "sigmoid",
) -> TrainFlops:
    """Count a training step of a recipe's model, or of a model as its parameters are frozen now.

    No weights are allocated or read. A recipe has its own values for all options but ``captions_per_sample``.

    Args:
        grad_checkpointing: whether the towers recompute their blocks in the backward pass.
        accumulate: micro-batches per step; with more than one, every forward pass is done twice (features are cached).
        captions_per_sample: distinct captions of a batch divided by its samples, from 0 to 1.
        batch_size: that of all ranks; only the loss needs it, which compares every image with every distinct text.
        kind: of loss, ``sigmoid`` or ``softmax``.
    """
    assert 0 <= captions_per_sample <= 1
    if isinstance(recipe_or_model, recipes.Recipe):
        recipe = recipe_or_model
        model = meta_model(recipe)
        grad_checkpointing, accumulate = recipe.model.grad_checkpointing, recipe.train.accumulate
        batch_size, kind = recipe.train.batch_size, recipe.loss.kind
    else:
        model = meta_twin(recipe_or_model)
    image = _count_tower(model, model.encode_image, _images(model), grad_checkpointing, accumulate)
    text = _count_tower(model, model.encode_text, _tokens(model), grad_checkpointing, accumulate)
    is_trained = text.backward > 0
    # One image against every distinct text of the batch: its cosines, its gradient, and its share of the texts'.
    product = round(2 * batch_size * captions_per_sample * feature_dim(model))
    return TrainFlops(
        image=image,
        text=text,
        loss=(3 if is_trained else 2) * product,
        loss_recomputed=product if kind == "softmax" else 0,  # cosines are computed twice, first for the denominators
        captions_per_sample=captions_per_sample if is_trained else 0.0,
    )


def meta_model(recipe: recipes.Recipe) -> MaskClip:
    """The recipe's model without memory for its weights, frozen as the recipe says, in training mode."""
    with torch.device("meta"):
        model = build_model(recipe.model, recipe.loss)
    freeze(model.clip, recipe.optimizer)
    return model.train()


def meta_twin(model: MaskClip) -> MaskClip:
    """A copy of a model, frozen alike, whose weights have no memory and no values."""
    twins: dict[int, Any] = {
        id(parameter): nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=parameter.requires_grad)
        for parameter in model.parameters()
    }
    twins |= {id(buffer): torch.empty_like(buffer, device="meta") for buffer in model.buffers()}
    return copy.deepcopy(model, twins).train()


def feature_dim(model: MaskClip) -> int:
    """Length of a feature vector."""
    with torch.no_grad():
        return int(model.encode_image(_images(model)).shape[1])


def mfu(flops_per_sample: float, samples_per_s: float, device_name: str, precision: str) -> float | None:
    """Share of one device's peak rate, from 0 to 1: "model FLOPs utilisation" (Chowdhery et al. 2022, appendix B).

    Args:
        flops_per_sample: ``train_flops_per_sample``, without recomputation.
        samples_per_s: of one device.
        device_name: as ``torch.cuda.get_device_name()`` says it.
        precision: ``bf16`` or ``fp32``.

    Returns:
        None for a device or precision whose peak rate is not in ``devices.DEVICES``: nothing is guessed.
    """
    device = find_device(device_name)
    peak = device.peak_tflops(precision) if device else None
    return None if peak is None else flops_per_sample * samples_per_s / (peak * 1e12)


def _count_tower(
    model: MaskClip,
    encode: Callable[[torch.Tensor], torch.Tensor],
    inputs: torch.Tensor,
    grad_checkpointing: bool,
    accumulate: int,
) -> Tower:
    """Counted for one input: every counted operation is linear in the number of inputs."""
    model.set_grad_checkpointing(False)
    forward, backward = _count(encode, inputs)
    recomputed = 0
    if backward and grad_checkpointing:
        model.set_grad_checkpointing(True)
        recomputed = _count(encode, inputs)[1] - backward
    if backward and accumulate > 1:
        recomputed += forward
    return Tower(forward=forward, backward=backward, recomputed=recomputed)


def _count(encode: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor) -> tuple[int, int]:
    with _counter() as forward:
        features_BD = encode(inputs)
    if not features_BD.requires_grad:
        return forward.get_total_flops(), 0
    with _counter() as backward:
        features_BD.sum().backward()  # type: ignore[no-untyped-call]
    return forward.get_total_flops(), backward.get_total_flops()


def _counter() -> FlopCounterMode:
    return FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.convolution_backward: _convolution_backward_flops}
    )


def _convolution_backward_flops(
    grad_out: Any, x: Any, weight: Any, *args: Any, out_shape: Any = None, **kwargs: Any
) -> int:
    """Each of the two gradients costs as much as the forward pass. torch's own formula ignores groups: for the mask
    stem's depthwise convolution, with as many groups as channels, it gives a thousand times too much.
    """
    output_mask = args[-1]
    per_product = 2 * math.prod(grad_out) * math.prod(weight[1:])
    return int(per_product * sum(bool(wanted) for wanted in output_mask[:2]))


def _images(model: MaskClip) -> torch.Tensor:
    return torch.empty(1, 4, model.image_size, model.image_size, device="meta")


def _tokens(model: MaskClip) -> torch.Tensor:
    return torch.zeros(1, model.context_length, dtype=torch.long, device="meta")
