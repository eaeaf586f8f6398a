"""A run in memory: model, optimizer, data, and how many steps are done."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sono.manifests.errors import UserError
from sono.manifests.filenames import RUN_LOG
from sono.manifests.store import write_atomically
from sono.training import recipes
from sono.training.data.dataset import Description, open_split
from sono.training.data.samples import Batch, batches_from, make_pool, with_cache
from sono.training.model.mask_clip import build_model, center_features, make_transform, restore_model
from sono.training.model.transforms import PadToSquare
from sono.training.planning.flops import train_flops_per_sample
from sono.training.step import schedule
from sono.training.step.distributed import Ranks
from sono.training.step.global_texts import encode_bank
from sono.training.step.losses import Settings
from sono.training.step.objective import Objective
from sono.training.step.optimizer import build_optimizer, freeze, make_state, set_learning_rates, state_tensors
from sono.training.step.parallel import Towers, clip_gradients, compile_blocks

from .checkpoints import Checkpoint, Writer
from .failures import memory_errors, no_number
from .meter import Meter, peak_flops
from .step_log import StepLog
from .trackers import Trackers

RECIPE = "recipe.json"


@dataclass(frozen=True)
class Progress:
    """Where the run is: ``step`` of ``total_steps`` are done; ``loss`` is that of the last one."""

    step: int
    total_steps: int
    loss: float
    samples_per_s: float


class Trainer:
    """Trains from ``last``, or from the start. All ranks make one and call its methods together.

    Raises:
        UserError: dataset, recipe or weights are at fault.
    """

    def __init__(
        self,
        run: Path,
        recipe: recipes.Recipe,
        description: Description,
        last: Checkpoint | None,
        ranks: Ranks,
        notice: Callable[[str], None],
    ) -> None:
        self.run, self.recipe, self.ranks = run, recipe, ranks
        torch.manual_seed(recipe.train.seed)
        if last:
            state, checkpointing = last.read("model."), recipe.model.grad_checkpointing
            self.model = restore_model(recipe.model.backbone, state, grad_checkpointing=checkpointing)
            self.transform = PadToSquare.from_dict(last.meta["transform"])
        else:
            self.model = build_model(recipe.model, recipe.loss)
            self.transform = make_transform(self.model, recipe.model)
        self.tokenizer = self.model.tokenizer
        frames = open_split(description, "train")
        pool = make_pool(frames, self.tokenizer, global_fraction=recipe.data.global_fraction)
        self.total_steps = recipe.train.total_steps(len(pool))
        self.pool = with_cache(pool, self.transform, recipe.data, notice)
        self.model.to(ranks.device)
        if last is None and recipe.model.from_scratch:
            self._center()
        self._distribute(last)
        self.step = int(last.meta["step"]) if last else 0
        self.writer = Writer(run, recipe.checkpoint.keep, ranks)
        self.writer.last_good = last.folder if last else None
        self._describe(notice)
        if last is None:
            self._begin()

    def steps(self, stop: Callable[[], bool], progress: Callable[[Progress], None]) -> None:
        """Train until the end, or until ``stop`` says so on any rank; the last checkpoint is then whole.

        Raises:
            UserError: see ``pretrain``; on all ranks.
        """
        recipe, batches, meter = self.recipe, self._batches(), None
        log = StepLog(self.run / RUN_LOG, self.step) if self.ranks.is_first else None
        trackers = Trackers(self.run, recipe, self.step) if self.ranks.is_first else None
        stopping = False
        try:
            while self.step < self.total_steps and not stopping:
                batch = next(batches)
                meter = meter or self._meter(batch)
                values = self.take_step(batch)
                meter.tick()
                ends = self.step == self.total_steps
                if log and trackers and (self.step % recipe.log.every == 0 or ends):
                    line = {**values, **meter.lap()}
                    log.append(line)
                    trackers.log(self.step, line)
                progress(Progress(self.step, self.total_steps, values["loss"], meter.rate))
                stopping = bool(self.ranks.any(stop()))
                if stopping or ends or self.step % recipe.checkpoint.every == 0:
                    if log:
                        log.sync()
                    self.save()
            self.writer.wait()
        finally:
            self.writer.close()
            if log and trackers:
                log.close()
                trackers.close()

    def take_step(self, batch: Batch) -> dict[str, float]:
        """One step of the optimizer on this rank's share of a batch; the values of its line in the log.

        Raises:
            UserError: loss or gradient is no finite number, on all ranks; the parameters are still those of the step
                before. Or the memory did not suffice, on this rank.
        """
        recipe, clip = self.recipe, self.model.clip
        factor = schedule.factor(self.step, warmup_steps=recipe.train.warmup_steps, total_steps=self.total_steps)
        rates = set_learning_rates(self.optimizer, factor)
        t, b = clip.logit_scale.exp().item(), clip.logit_bias.item()
        with memory_errors(self.run, recipe):
            self.optimizer.zero_grad(set_to_none=True)
            loss = self._add_gradients(batch).item()
            norm = clip_gradients(self.trained, recipe.optimizer.clip_norm or math.inf)
            if not (math.isfinite(norm) and math.isfinite(loss)):
                self._refuse(batch, loss, norm)
            self.optimizer.step()
        self.step += 1
        epoch = self.step * recipe.train.batch_size / len(self.pool)
        learned = {"loss": loss, "t": t, "b": b, "grad_norm": norm}
        return {"step": self.step, "epoch": epoch, **learned, **{f"lr_{name}": rate for name, rate in rates.items()}}

    def save(self) -> None:
        """Begin to write a checkpoint of the last step.

        Raises:
            UserError: it, or the one before, cannot be written.
        """
        frames, description = self.pool.frames, self.pool.frames.description
        epoch, position = divmod(self.step * self.recipe.train.batch_size, len(self.pool))
        meta: dict[str, Any] = {
            "step": self.step,
            "epoch": epoch,
            "position": position,  # samples of this epoch that were seen
            "recipe": recipes.flatten(self.recipe),
            "transform": self.transform.to_dict(),
            "planes": {plane: description.planes[plane] for plane in frames.planes},
            "dataset": {"source": description.source, "fingerprint": description.fingerprint, "frames": len(self.pool)},
            "created_by": f"sono-train {version('sono-curate')}",
        }
        tensors = {f"model.{name}": tensor for name, tensor in self.model.clip.state_dict().items()}
        self.writer.save(tensors | state_tensors(self.optimizer, self.model.clip), meta)

    def _center(self) -> None:
        """By the whole first batch on every rank, so that the start does not depend on their number."""
        first = next(batches_from(0, 1, self.pool, self.transform, self.tokenizer, self.recipe))
        center_features(self.model, self._images(first), first.tokens.to(self.ranks.device))

    def _distribute(self, last: Checkpoint | None) -> None:
        """Make of the model what every rank holds of it, and the optimizer for that."""
        recipe, clip = self.recipe, self.model.clip
        freeze(clip, recipe.optimizer)
        bank_KD = None if recipe.optimizer.lr_text > 0 else self._bank()
        if recipe.train.compile:
            compile_blocks(self.model)
        towers = Towers(self.model, self.ranks, recipe.train.strategy)
        settings = Settings(recipe.loss.kind, recipe.loss.positives, recipe.loss.chunk)
        accumulate = recipe.train.accumulate
        self.objective = Objective(self.model, towers, bank_KD, settings, self.ranks, accumulate, self._autocast)
        self.optimizer = build_optimizer(clip, recipe.optimizer)
        self.trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        if last and (saved := last.sizes("optimizer.")):
            last.load(make_state(self.optimizer, clip, saved))

    def _bank(self) -> torch.Tensor:
        self.model.eval()  # no dropout: these features stay for the whole run
        with memory_errors(self.run, self.recipe), self._autocast():
            bank_KD = encode_bank(
                lambda texts: self.model.encode_text(self.tokenizer(texts).to(self.ranks.device)),
                self.pool.bank.texts,
                self.ranks,
            )
        self.model.train()
        return bank_KD

    def _begin(self) -> None:
        """Write the recipe and the first checkpoint: a full disk then shows before hours of work."""
        if self.ranks.is_first:
            text = json.dumps(recipes.flatten(self.recipe), indent=2).encode()
            write_atomically(self.run / RECIPE, lambda file: file.write(text))
        self.save()
        self.writer.wait()

    def _batches(self) -> Iterator[Batch]:
        """This rank's shares; an error in one rank's data is raised on all."""
        batches = batches_from(
            self.step,
            self.total_steps,
            self.pool,
            self.transform,
            self.tokenizer,
            self.recipe,
            rank=self.ranks.rank,
            world_size=self.ranks.size,
        )
        while True:
            batch, error = None, None
            try:
                batch = next(batches)
            except UserError as fault:
                error = fault
            self.ranks.raise_together(error)
            assert batch is not None
            yield batch

    def _add_gradients(self, batch: Batch) -> torch.Tensor:
        step, device = self.step, self.ranks.device
        return self.objective.add_gradients(
            self._images(batch),
            batch.tokens.to(device),
            batch.caption_ids.to(device),
            batch.captions.to(device),
            # A function of the step, so that a model that draws random numbers resumes exactly, too.
            seed=lambda part: _seed(self.recipe.train.seed, step, self.ranks.rank, part),
        )

    def _images(self, batch: Batch) -> torch.Tensor:
        device = self.ranks.device
        images, masks = (one.to(device, non_blocking=True) for one in (batch.images, batch.masks))
        return self.transform.normalise(images, masks)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.ranks.device.type, torch.bfloat16, enabled=self.recipe.train.precision == "bf16")

    def _refuse(self, batch: Batch, loss: float, norm: float) -> None:
        self.writer.wait()
        samples = [sample for share in self.ranks.collect(batch.samples) for sample in share]
        error = None
        if self.ranks.is_first:
            error = no_number(self.run, self.step + 1, loss, norm, samples, self.writer.last_good)
        self.ranks.raise_together(error)

    def _meter(self, first: Batch) -> Meter:
        recipe, device = self.recipe, self.ranks.device
        peak, flops = peak_flops(device, recipe.train.precision), 0
        if peak is not None:
            captions = len(first.tokens) / len(first.images)
            flops = train_flops_per_sample(recipe, captions_per_sample=captions)
        return Meter(recipe.train.batch_size, flops, peak and peak * self.ranks.size, device)

    def _describe(self, notice: Callable[[str], None]) -> None:
        pool, ranks = self.pool, self.ranks
        on = (
            ranks.device.type
            if ranks.size == 1
            else f"{ranks.size} x {ranks.device.type} ({self.recipe.train.strategy})"
        )
        notice(
            f"{len(pool):,} frames ({pool.without_regions:,} of them without regions make whole-image pairs only; "
            f"{pool.without_caption:,} without a caption are left out), {self.total_steps:,} steps on {on}"
        )


def _seed(*numbers: int) -> None:
    torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1)
