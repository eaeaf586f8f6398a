"""A model that is being trained, and one step of its optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from sono.training import recipes
from sono.training.data.patients import TrainedPatients
from sono.training.data.samples import Batch
from sono.training.model.mask_clip import MaskClip
from sono.training.model.transforms import PadToSquare
from sono.training.step import schedule
from sono.training.step.distributed import Ranks
from sono.training.step.objective import Objective
from sono.training.step.optimizer import set_learning_rates, state_tensors
from sono.training.step.parallel import clip_gradients

from .failures import memory_errors


class NotFiniteError(ArithmeticError):
    """Loss or gradient of a step are not finite. Both are those of the global batch, so all ranks raise it together."""

    def __init__(self, loss: float, norm: float) -> None:
        super().__init__(loss, norm)
        self.loss, self.norm = loss, norm


@dataclass
class Learner:
    """The model as this rank holds it, its optimizer, and how far training is: ``step`` of ``total_steps`` are done.

    ``trained`` are the patients that it is trained on, here and before.
    """

    run: Path
    recipe: recipes.Recipe
    transform: PadToSquare
    objective: Objective
    optimizer: torch.optim.Optimizer
    total_steps: int
    step: int
    trained: TrainedPatients

    @property
    def model(self) -> MaskClip:
        """The model whose towers the objective trains."""
        return self.objective.model

    @property
    def ranks(self) -> Ranks:
        """All ranks that train it."""
        return self.objective.ranks

    def take_step(self, batch: Batch) -> dict[str, float]:
        """One step of the optimizer on this rank's share of a batch; the values to log.

        Raises:
            NotFiniteError: the step was not taken: the parameters are still those of the step before.
            UserError: the memory did not suffice, on this rank.
        """
        recipe, clip = self.recipe, self.model.clip
        factor = schedule.factor(
            self.step,
            warmup_steps=recipe.train.warmup_steps,
            total_steps=self.total_steps,
            cosine_steps=recipe.train.cosine_steps,
        )
        rates = set_learning_rates(self.optimizer, factor)
        t, b = clip.logit_scale.exp().item(), clip.logit_bias.item()
        with memory_errors(self.run, recipe):
            self.optimizer.zero_grad(set_to_none=True)
            loss = self._add_gradients(batch).item()
            norm = clip_gradients(self._trained, recipe.optimizer.clip_norm or math.inf)
            if not (math.isfinite(norm) and math.isfinite(loss)):
                raise NotFiniteError(loss, norm)
            self.optimizer.step()
        self.step += 1
        return {"loss": loss, "t": t, "b": b, "grad_norm": norm, **{f"lr_{name}": rate for name, rate in rates.items()}}

    def loss(self, batch: Batch) -> float:
        """The loss of a batch, of which this rank has a share, as training computes it; nothing is learned from it.

        Raises:
            UserError: the memory did not suffice, on this rank.
        """
        with memory_errors(self.run, self.recipe):
            return self.objective.loss(self.inputs(batch), *self._texts(batch)).item()

    def state(self) -> dict[str, torch.Tensor]:
        """The tensors of a checkpoint, complete or in this rank's shards: model and optimizer."""
        clip = self.model.clip
        model = {f"model.{name}": tensor for name, tensor in clip.state_dict().items()}
        return model | state_tensors(self.optimizer, clip)

    @cached_property
    def _trained(self) -> list[torch.nn.Parameter]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def _add_gradients(self, batch: Batch) -> torch.Tensor:
        step = self.step
        return self.objective.add_gradients(
            self.inputs(batch),
            *self._texts(batch),
            # A function of the step, so that a model that draws random numbers resumes exactly, too.
            seed=lambda part: _seed(self.recipe.train.seed, step, self.ranks.rank, part),
        )

    def _texts(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Tokens and numbers of the batch's captions, and each pair's, on the device."""
        device = self.ranks.device
        return batch.tokens.to(device), batch.caption_ids.to(device), batch.captions.to(device)

    def inputs(self, batch: Batch) -> torch.Tensor:
        """The images and masks of a batch as the image tower takes them, on the device."""
        images, masks = (tensor.to(self.ranks.device, non_blocking=True) for tensor in (batch.images, batch.masks))
        return self.transform.normalise(images, masks)


def autocast(device: torch.device, train: recipes.Train) -> Callable[[], torch.autocast]:
    """Contexts for forward passes in the recipe's precision."""
    return lambda: torch.autocast(device.type, torch.bfloat16, enabled=train.precision == "bf16")


def _seed(*numbers: int) -> None:
    torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1)
