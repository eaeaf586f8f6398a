"""The training loop: batches, steps, the log, and checkpoints, until the end or until it is asked to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from sono.manifests.errors import UserError
from sono.manifests.filenames import RUN_LOG
from sono.training.data.pool import Pool
from sono.training.data.samples import Batch, batches_from

from .checkpoint_writer import CheckpointWriter
from .failures import not_finite
from .learner import Learner, NotFiniteError
from .meter import start_meter
from .saving import save
from .step_log import StepLog
from .trackers import Trackers


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
    writer: CheckpointWriter,
    stop: Callable[[], bool],
    progress: Callable[[TrainingProgress], None],
) -> None:
    """Train until the end, or until ``stop`` says so on any rank; the last checkpoint is then complete.

    Raises:
        UserError: see ``pretrain``; on all ranks.
    """
    recipe, ranks, meter = learner.recipe, learner.ranks, None
    reports = _Reports(learner) if ranks.is_first else None
    try:
        for batch in _batches(learner, pool):
            meter = meter or start_meter(recipe, ranks, batch)
            values = _take_step(learner, writer, batch)
            meter.tick()
            ends = learner.step == learner.total_steps
            if reports and (learner.step % recipe.log.every == 0 or ends):
                epoch = learner.step * recipe.train.batch_size / len(pool)
                reports.add({"step": learner.step, "epoch": epoch, **values, **meter.lap()})
            progress(TrainingProgress(learner.step, learner.total_steps, values["loss"], meter.rate))
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


def _batches(learner: Learner, pool: Pool) -> Iterator[Batch]:
    """This rank's shares from the next step to the last; an error in one rank's data is raised on all."""
    ranks, first, last = learner.ranks, learner.step, learner.total_steps
    batches = batches_from(
        first,
        last,
        pool,
        learner.transform,
        learner.model.tokenizer,
        learner.recipe,
        rank=ranks.rank,
        world_size=ranks.size,
    )
    for _ in range(first, last):
        batch, error = None, None
        try:
            batch = next(batches)
        except UserError as found:
            error = found
        ranks.raise_together(error)
        assert batch is not None
        yield batch


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


class _Reports:
    """Everything that is told the values of a step: the log, and the trackers that the recipe asks for."""

    def __init__(self, learner: Learner) -> None:
        self._log = StepLog(learner.run / RUN_LOG, learner.step)
        self._trackers = Trackers(learner.run, learner.recipe, learner.step)

    def add(self, values: Mapping[str, float | None]) -> None:
        self._log.append(values)
        step = values["step"]
        assert step is not None
        self._trackers.log(int(step), values)

    def sync(self) -> None:
        """Bring the log to the disk: a checkpoint must not be newer than its log."""
        self._log.sync()

    def close(self) -> None:
        self._log.close()
        self._trackers.close()
