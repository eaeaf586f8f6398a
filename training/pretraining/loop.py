"""The training loop: batches, steps, the log, and checkpoints, until the end or until it is asked to stop."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sono.manifests.filenames import RUN_LOG, VALIDATION_LOG
from sono.training.data.pool import Pool
from sono.training.data.samples import Batch

from .checkpoint_writer import CheckpointWriter
from .failures import not_finite
from .learner import Learner, NotFiniteError
from .meter import start_meter
from .saving import save
from .shares import shares_from
from .step_log import StepLog
from .trackers import Trackers
from .validation import COLUMNS as VALIDATION_COLUMNS
from .validation import ValidationLoss, is_due, validate


@dataclass(frozen=True)
class TrainingProgress:
    """How far the run is: ``step`` of ``total_steps`` are done; ``loss`` is that of the last one."""

    step: int
    total_steps: int
    loss: float
    samples_per_s: float


def train(
    learner: Learner,
    pool: Pool,
    validation: Mapping[str, Pool],
    writer: CheckpointWriter,
    stop: Callable[[], bool],
    progress: Callable[[TrainingProgress], None],
) -> None:
    """Train until the end, or until ``stop`` says so on any rank; the last checkpoint is then complete.

    Args:
        validation: what is validated on, by dataset.

    Raises:
        UserError: see ``pretrain``; on all ranks.
    """
    recipe, ranks, meter = learner.recipe, learner.ranks, None
    reports = _Reports(learner) if ranks.is_first else None
    try:
        if is_due(learner) and not ranks.from_first(reports and reports.validated):  # stopped in the middle of it
            _validate(learner, validation, reports, stop)
        for batch in shares_from(learner.step, learner.total_steps, learner, pool, recipe):
            meter = meter or start_meter(recipe, ranks, batch)
            values = _take_step(learner, writer, batch)
            meter.tick()
            ends = learner.step == learner.total_steps
            if reports and (learner.step % recipe.log.every == 0 or ends):
                epoch = learner.step * recipe.train.batch_size / len(pool)
                reports.add({"step": learner.step, "epoch": epoch, **values, **meter.lap()})
            progress(TrainingProgress(learner.step, learner.total_steps, values["loss"], meter.rate))
            stopping = bool(ranks.any(stop()))
            if is_due(learner) and not stopping:
                meter.leave_out(_validate(learner, validation, reports, stop))
                stopping = bool(ranks.any(stop()))
            if stopping or ends or learner.step % recipe.checkpoint.every == 0:
                if reports:
                    reports.sync()
                save(writer, learner, pool)
            if stopping:
                break
        writer.wait()
    finally:
        writer.close()
        if reports:
            reports.close()


def _take_step(learner: Learner, writer: CheckpointWriter, batch: Batch) -> dict[str, float]:
    """Take a step; if its loss or gradient are not finite, name the samples of the batch, on all ranks."""
    try:
        return learner.take_step(batch)
    except NotFiniteError as found:
        loss, norm = found.loss, found.norm
    writer.wait()
    ranks = learner.ranks
    origins = [origin for share in ranks.collect(batch.origins) for origin in share]
    error = None
    if ranks.is_first:
        error = not_finite(learner.run, learner.step + 1, loss, norm, origins, writer.last_good)
    ranks.raise_together(error)
    raise AssertionError("the first rank has an error to raise")


def _validate(
    learner: Learner, validation: Mapping[str, Pool], reports: _Reports | None, stop: Callable[[], bool]
) -> float:
    """Report the loss on the validation splits, unless asked to stop meanwhile; returns the seconds that it took."""
    start = time.perf_counter()
    losses = validate(learner, validation, stop)
    if reports and losses:
        reports.add_validation(learner.step, losses)
    return time.perf_counter() - start


class _Reports:
    """Everything that is told the values of a step: the log, and the trackers that the recipe asks for."""

    def __init__(self, learner: Learner) -> None:
        self._log = StepLog(learner.run / RUN_LOG, learner.step)
        self._validation = None
        if learner.recipe.log.validation:
            self._validation = StepLog(learner.run / VALIDATION_LOG, learner.step, VALIDATION_COLUMNS)
        self.validated = self._validation is not None and self._validation.last == learner.step
        self._trackers = Trackers(learner.run, learner.recipe, learner.step)

    def add(self, values: Mapping[str, float | None]) -> None:
        self._log.append(values)
        step = values["step"]
        assert step is not None
        self._trackers.log(int(step), values)

    def add_validation(self, step: int, losses: Sequence[ValidationLoss]) -> None:
        assert self._validation is not None
        for each in losses:
            self._validation.append({"step": step, **dataclasses.asdict(each)})
        self._trackers.log(step, {f"validation_loss/{each.dataset}": each.loss for each in losses})

    def sync(self) -> None:
        """Bring the logs to the disk: a checkpoint must not be newer than its log."""
        for log in self._logs():
            log.sync()

    def close(self) -> None:
        for log in self._logs():
            log.close()
        self._trackers.close()

    def _logs(self) -> list[StepLog]:
        return [self._log, *([self._validation] if self._validation else [])]
