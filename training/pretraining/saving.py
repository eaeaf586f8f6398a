"""What a run records about itself: its recipe, and its position in every checkpoint."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

from sono.manifests.store import write_atomically
from sono.training import recipes
from sono.training.data.pool import Pool

from .checkpoint_writer import CheckpointWriter
from .checkpoints import Checkpoint
from .learner import Learner

RECIPE = "recipe.json"


def open_writer(learner: Learner, pool: Pool, last: Checkpoint | None) -> CheckpointWriter:
    """A writer that continues after ``last``. A new run first gets its recipe and a checkpoint of step 0: a full disk
    then shows before hours of work.

    Raises:
        UserError: they cannot be written.
    """
    ranks = learner.ranks
    writer = CheckpointWriter(
        learner.run, learner.recipe.checkpoint.keep, ranks, last_good=last.folder if last else None
    )
    if last is None:
        if ranks.is_first:
            text = json.dumps(recipes.flatten(learner.recipe), indent=2).encode()
            write_atomically(learner.run / RECIPE, lambda file: file.write(text))
        save(writer, learner, pool)
        writer.wait()
    return writer


def save(writer: CheckpointWriter, learner: Learner, pool: Pool) -> None:
    """Begin to write a checkpoint of the last step.

    Raises:
        UserError: it, or the one before, cannot be written.
    """
    writer.save(learner.state(), _describe(learner, pool))


def _describe(learner: Learner, pool: Pool) -> dict[str, Any]:
    mixture, display = pool.mixture, pool.frames.parts[0].description.planes
    epoch, position = divmod(learner.step * learner.recipe.train.batch_size, len(pool))
    return {
        "step": learner.step,
        "epoch": epoch,
        "position": position,  # samples of this epoch that were seen
        "recipe": recipes.flatten(learner.recipe),
        "transform": learner.transform.to_dict(),
        "captions": pool.captions_read.to_dict(),
        "planes": {plane: display[plane] for plane in pool.frames.planes},
        "datasets": [
            {**part.description.identity, "source": part.description.source, "frames": frames, "share": share}
            for part, frames, share in zip(pool.frames.parts, mixture.sizes, mixture.shares, strict=True)
        ],
        "trained_patients": learner.trained.to_json(),
        "created_by": f"sono-train {version('sono-curate')}",
    }
