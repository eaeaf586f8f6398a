"""Pretraining, from the first step or from the last checkpoint to the end."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

from sono.manifests.errors import UserError
from sono.manifests.store import exclusive, write_atomically

from . import checkpoints, data, recipes, schedule, step_log
from .captions import CaptionTokenizer
from .losses import pair_ids, sigmoid_loss, softmax_loss
from .model import MaskClip, build_model, center_features, restore_model
from .optimizer import build_optimizer, set_learning_rates
from .samples import Batch, Pool, batches_from, make_pool
from .transforms import PadToSquare

LOG = "log.csv"
RECIPE = "recipe.json"
_OURS = {".lock", LOG, RECIPE, checkpoints.FOLDER, "evaluation"}


@dataclass(frozen=True)
class Progress:
    """Where the run is: ``step`` of ``total_steps`` are done; ``loss`` is that of the last one."""

    step: int
    total_steps: int
    loss: float
    samples_per_s: float


@dataclass(frozen=True)
class Outcome:
    """How a run ended: at ``step`` of ``total_steps``, stopped by a signal or not."""

    step: int
    total_steps: int
    checkpoint: Path
    stopped_by: str | None = None


def pretrain(
    dataset: str,
    run: Path,
    recipe: recipes.Recipe,
    *,
    resume: bool = False,
    notice: Callable[[str], None] = print,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Outcome:
    """Train a mask-guided CLIP on the train split of ``dataset`` and write everything into the folder ``run``.

    With ``resume`` it goes on from the last checkpoint, or starts where there is none. A run that was killed at any
    moment and resumed ends with the weights of one that was not (to the bit on the CPU). SIGINT and SIGTERM save a
    checkpoint and end it in order.

    Args:
        dataset: a folder that ``sono-curate build`` wrote, or a Hub id.
        notice: is told what a person should know: what the data holds, what was fallen back to.
        progress: is called after every step.

    Raises:
        UserError: folder, dataset, recipe or weights are at fault; the resumed run differs from the one asked for; or
            the loss is no number any more. Checkpoints written before stay.
    """
    description = data.describe(dataset)
    _check_folder(run, resume)
    run.mkdir(parents=True, exist_ok=True)
    with exclusive(run, str(run)), _reproducible(recipe.train):
        checkpoints.clear_leftovers(run)
        last = checkpoints.latest(run, notice)
        if last:
            _check_same(run, last.content, recipe, description)
        torch.manual_seed(recipe.train.seed)
        if last:
            model = restore_model(recipe.model.backbone, last.content["model"])
        else:
            model = build_model(recipe.model, recipe.loss)
        trainer = _Trainer(run, recipe, model, description, notice)
        trainer.start(last)
        del last  # its weights would take up memory to the end
        return trainer.train(notice, progress)


class _Trainer:
    """A run in memory: model, optimizer, data and the number of steps done."""

    def __init__(
        self,
        run: Path,
        recipe: recipes.Recipe,
        model: MaskClip,
        description: data.Description,
        notice: Callable[[str], None],
    ) -> None:
        self.run, self.recipe = run, recipe
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device)
        self.optimizer = build_optimizer(model.clip, recipe.optimizer)
        self.trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self.forward: nn.Module = torch.compile(model) if recipe.train.compile else model  # type: ignore[assignment]
        self.transform = PadToSquare(size=model.image_size)
        self.tokenizer = CaptionTokenizer(model.context_length)
        self.pool = make_pool(data.open_split(description, "train"), self.tokenizer)
        self.total_steps = recipe.train.total_steps(len(self.pool))
        self.step = 0
        _describe_pool(self.pool, self.total_steps, self.device, notice)

    def start(self, last: checkpoints.Loaded | None) -> None:
        """Take up the checkpoint's place, or write the first one: a full disk then shows before hours of work."""
        if last:
            self.step = int(last.content["step"])
            self.optimizer.load_state_dict(last.content["optimizer"])
            self.checkpoint = last.file
            return
        if self.recipe.model.from_scratch:
            first = next(batches_from(0, 1, self.pool, self.transform, self.tokenizer, self.recipe))
            center_features(self.model, *self.inputs(first))
        text = json.dumps(recipes.flatten(self.recipe), indent=2).encode()
        write_atomically(self.run / RECIPE, lambda file: file.write(text))
        self.save()

    def train(self, notice: Callable[[str], None], progress: Callable[[Progress], None]) -> Outcome:
        if self.step:
            notice(f"going on from {self.checkpoint.name}, step {self.step} of {self.total_steps}")
        batches = batches_from(self.step, self.total_steps, self.pool, self.transform, self.tokenizer, self.recipe)
        stop = None
        with step_log.open_log(self.run / LOG, self.step) as log, _stop_requests() as requests:
            clock = _Clock(self.recipe.train.batch_size)
            for batch in batches:
                values = self.take_step(batch)
                clock.tick()
                if self.step % self.recipe.log.every == 0 or self.step == self.total_steps:
                    step_log.append(log, {**values, step_log.TIMING: clock.lap()})
                progress(Progress(self.step, self.total_steps, values["loss"], clock.rate))
                stop = requests[0] if requests else None
                if stop or self.step % self.recipe.checkpoint.every == 0 or self.step == self.total_steps:
                    step_log.sync(log)
                    self.save()
                if stop:
                    break
        finished = self.step == self.total_steps
        return Outcome(self.step, self.total_steps, self.checkpoint, None if finished else stop)

    def take_step(self, batch: Batch) -> dict[str, float]:
        """One step of the optimizer; the values of its line in the log.

        Raises:
            UserError: loss or gradient is no finite number; the parameters are still those of the step before.
        """
        # A function of the step, so that a model that draws random numbers resumes exactly, too.
        torch.manual_seed(self.recipe.train.seed * 1_000_003 + self.step)
        factor = schedule.factor(self.step, warmup_steps=self.recipe.train.warmup_steps, total_steps=self.total_steps)
        rates = set_learning_rates(self.optimizer, factor)
        clip = self.model.clip
        t, b = clip.logit_scale.exp().item(), clip.logit_bias.item()
        loss = self.loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        limit = self.recipe.optimizer.clip_norm or math.inf
        norm = float(nn.utils.clip_grad_norm_(self.trained, limit))
        if not (math.isfinite(norm) and math.isfinite(loss.item())):
            raise UserError(
                f"the loss is {loss.item()} and its gradient's norm {norm} at step {self.step + 1}",
                where=str(self.run),
                fix=f"start a new run with lower learning rates; {self.checkpoint.name} is the last good checkpoint",
            )
        self.optimizer.step()
        self.step += 1
        epoch = self.step * self.recipe.train.batch_size / len(self.pool)
        learned = {"loss": loss.item(), "t": t, "b": b, "grad_norm": norm}
        return {"step": self.step, "epoch": epoch, **learned, **{f"lr_{name}": rate for name, rate in rates.items()}}

    def loss(self, batch: Batch) -> torch.Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.train.precision == "bf16"):
            image_BD, text_UD = self.forward(*self.inputs(batch))
        captions_B = batch.captions.to(self.device)
        ids_B = pair_ids(captions_B, self.recipe.loss.positives)
        image_BD, text_BD = image_BD.float(), text_UD.float()[captions_B]  # every distinct caption is encoded once
        clip = self.model.clip
        if self.recipe.loss.kind == "softmax":
            return softmax_loss(image_BD, text_BD, ids_B, clip.logit_scale)
        chunk = self.recipe.loss.chunk
        return sigmoid_loss(image_BD, text_BD, ids_B, ids_B, clip.logit_scale, clip.logit_bias, chunk=chunk)

    def inputs(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """What the model takes: normalised images with masks, and the tokens of every distinct caption."""
        image_B3HW = batch.images.to(self.device, non_blocking=True)
        mask_BHW = batch.masks.to(self.device, non_blocking=True)
        return self.transform.normalise(image_B3HW, mask_BHW), batch.tokens.to(self.device)

    def save(self) -> None:
        frames, description = self.pool.frames, self.pool.frames.description
        epoch, position = divmod(self.step * self.recipe.train.batch_size, len(self.pool))
        content: dict[str, Any] = {
            "step": self.step,
            "epoch": epoch,
            "position": position,  # samples of this epoch that were seen
            "model": self.model.clip.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "recipe": recipes.flatten(self.recipe),
            "transform": self.transform.to_dict(),
            "planes": {plane: description.planes[plane] for plane in frames.planes},
            "dataset": {"source": description.source, "fingerprint": description.fingerprint, "frames": len(self.pool)},
            "created_by": f"sono-train {version('sono-curate')}",
        }
        self.checkpoint = checkpoints.save(self.run, content, self.recipe.checkpoint.keep)


class _Clock:
    """Samples per second since the last line of the log."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size, self.steps, self.since = batch_size, 0, time.perf_counter()
        self.rate = math.nan

    def tick(self) -> None:
        self.steps += 1
        self.rate = self.steps * self.batch_size / (time.perf_counter() - self.since)

    def lap(self) -> float:
        self.steps, self.since = 0, time.perf_counter()
        return round(self.rate, 1)


def _check_folder(run: Path, resume: bool) -> None:
    present = {path.name for path in run.iterdir()} - {".lock"} if run.is_dir() else set()
    if run.exists() and not run.is_dir():
        raise UserError("not a folder", where=str(run), fix="name a new folder for the run")
    if present and not resume:
        raise UserError("the folder is not empty", where=str(run), fix="add --resume to go on, or name a new folder")
    strange = sorted(name for name in present - _OURS if not name.startswith(".tmp-"))
    if strange:
        raise UserError(
            f"{strange[0]!r} is no part of a training run",
            where=str(run),
            fix="name the folder of the run to go on with",
        )


def _check_same(run: Path, content: dict[str, Any], recipe: recipes.Recipe, description: data.Description) -> None:
    before = recipes.from_flat(content["recipe"])
    key = recipes.first_difference(before, recipe)
    if key:
        old, new = recipes.flatten(before)[key], recipes.flatten(recipe)[key]
        raise UserError(
            f"{key} was {old} when this run began and is {new} now",
            where=str(run),
            fix="give the same settings, or start a new run",
        )
    if content["dataset"]["fingerprint"] != description.fingerprint:
        raise UserError(
            f"this run began with another dataset ({content['dataset']['source']})",
            where=str(run),
            fix="give the same dataset as it was then, or start a new run",
        )


def _describe_pool(pool: Pool, total_steps: int, device: torch.device, notice: Callable[[str], None]) -> None:
    notice(
        f"{len(pool):,} frames ({pool.without_regions:,} of them without regions make whole-image pairs only; "
        f"{pool.without_caption:,} without a caption are left out), {total_steps:,} steps on {device.type}"
    )


@contextlib.contextmanager
def _reproducible(train: recipes.Train) -> Iterator[None]:
    """Set the number of threads and whether only deterministic operations may run; put both back after."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS needs it to be deterministic
    torch.set_num_threads(train.threads or threads)
    torch.use_deterministic_algorithms(train.deterministic)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)


@contextlib.contextmanager
def _stop_requests() -> Iterator[list[str]]:
    """The names of the signals that asked to stop. A second one of the same kind acts as it would without us."""
    requests: list[str] = []
    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield requests
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def request(number: int, frame: FrameType | None) -> None:
        requests.append(signal.Signals(number).name)
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, request)
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
