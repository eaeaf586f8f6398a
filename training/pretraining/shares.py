"""This rank's shares of the batches; what goes wrong with one rank's data is raised on all."""

from __future__ import annotations

from collections.abc import Iterator

from sono.manifests.errors import UserError
from sono.training import recipes
from sono.training.data.pool import Pool
from sono.training.data.samples import Batch, batches_from

from .learner import Learner


def shares_from(first: int, last: int, learner: Learner, pool: Pool, recipe: recipes.Recipe) -> Iterator[Batch]:
    """The shares of the steps from ``first`` up to ``last``; all ranks call this together.

    Raises:
        UserError: a frame's image or mask is at fault, on whichever rank; the text names the frame.
    """
    ranks = learner.ranks
    batches = batches_from(
        first,
        last,
        pool,
        learner.transform,
        learner.model.tokenizer,
        recipe,
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
