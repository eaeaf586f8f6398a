"""Where the numbers of a run go besides ``log.csv``: TensorBoard's files, and an experiment tracker."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sono.manifests.errors import UserError, first_line, import_extra
from sono.training import recipes

TENSORBOARD = "tensorboard"

Values = Mapping[str, float | None]


class Trackers:
    """The trackers that the recipe asks for; no other is imported.

    Args:
        run: folder of the run, after which a tracker's run is named.
        step: number of steps done; TensorBoard discards values of later ones, from before a process was killed.

    Raises:
        UserError: a library is not installed (the text names the command that installs it), or a tracker cannot start.
    """

    def __init__(self, run: Path, recipe: recipes.Recipe, step: int) -> None:
        self._sinks: list[tuple[Callable[[int, Values], None], Callable[[], None]]] = []
        if recipe.log.tensorboard:
            self._sinks.append(_tensorboard(run, step))
        if recipe.log.tracker != "none":
            self._sinks.append(_tracker(recipe.log.tracker, run, recipe))

    def log(self, step: int, values: Values) -> None:
        """Pass on the values of a step's line in the log."""
        for write, _ in self._sinks:
            write(step, {name: value for name, value in values.items() if value is not None and name != "step"})

    def close(self) -> None:
        """End the trackers' runs."""
        for _, close in self._sinks:
            close()


def check_installed(recipe: recipes.Recipe) -> None:
    """Check, before any work, that the trackers which the recipe asks for are installed.

    Raises:
        UserError: one is not; the text names the command that installs it.
    """
    modules: Sequence[str] = [TENSORBOARD] if recipe.log.tensorboard else []
    for module in [*modules, *([] if recipe.log.tracker == "none" else [recipe.log.tracker])]:
        import_extra(module, "track")


def _tensorboard(run: Path, step: int) -> tuple[Callable[[int, Values], None], Callable[[], None]]:
    import_extra(TENSORBOARD, "track")
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(run / TENSORBOARD), purge_step=step + 1)

    def write(step: int, values: Values) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    return write, writer.close


def _tracker(name: str, run: Path, recipe: recipes.Recipe) -> tuple[Callable[[int, Values], None], Callable[[], None]]:
    """trackio has the same functions as wandb."""
    module = import_extra(name, "track")
    folder = run.resolve()
    options = {}
    if name == "wandb":
        options = {"id": hashlib.sha256(str(folder).encode()).hexdigest()[:16], "dir": str(folder)}
    try:
        module.init(
            project="sono-train",
            name=folder.name,
            config=recipes.public(recipes.flatten(recipe)),
            resume="allow",
            **options,
        )
    except Exception as error:
        raise UserError(
            f"{name} cannot start: {first_line(error)}",
            where="log.tracker",
            fix=f"set it up as described in its documentation, or leave out --set log.tracker={name}",
        ) from error
    return lambda step, values: module.log(dict(values), step=step), module.finish
