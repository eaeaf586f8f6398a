"""Where the numbers of a run go besides ``log.csv``: TensorBoard's files, and a tracker of experiments."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sono.manifests.errors import UserError, import_extra
from sono.training import recipes

TENSORBOARD = "tensorboard"

Values = Mapping[str, float | None]


class Trackers:
    """All that the recipe asks for; each is imported only then.

    Args:
        run: folder of the run, after which a tracker's run is named.
        step: number of steps done; TensorBoard forgets what it was told of later ones before a process was killed.

    Raises:
        UserError: a library is not installed; the text names the command that installs it. Or a tracker cannot start.
    """

    def __init__(self, run: Path, recipe: recipes.Recipe, step: int) -> None:
        self._sinks: list[tuple[Callable[[int, Values], None], Callable[[], None]]] = []
        if recipe.log.tensorboard:
            self._sinks.append(_tensorboard(run, step))
        if recipe.log.tracker != "none":
            self._sinks.append(_tracker(recipe.log.tracker, run, recipe))

    def log(self, step: int, values: Values) -> None:
        """The values of the log's line of a step."""
        for tell, _ in self._sinks:
            tell(step, {name: value for name, value in values.items() if value is not None and name != "step"})

    def close(self) -> None:
        for _, close in self._sinks:
            close()


def check_installed(recipe: recipes.Recipe) -> None:
    """Before any work: that what the recipe asks for is there.

    Raises:
        UserError: it is not; the text names the command that installs it.
    """
    wanted: Sequence[str] = [TENSORBOARD] if recipe.log.tensorboard else []
    for module in [*wanted, *([] if recipe.log.tracker == "none" else [recipe.log.tracker])]:
        import_extra(module, "track")


def _tensorboard(run: Path, step: int) -> tuple[Callable[[int, Values], None], Callable[[], None]]:
    import_extra(TENSORBOARD, "track")
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(run / TENSORBOARD), purge_step=step + 1)

    def tell(step: int, values: Values) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    return tell, writer.close


def _tracker(name: str, run: Path, recipe: recipes.Recipe) -> tuple[Callable[[int, Values], None], Callable[[], None]]:
    """trackio's functions are wandb's."""
    module = import_extra(name, "track")
    place = run.resolve()
    options = {}
    if name == "wandb":
        options = {"id": hashlib.sha256(str(place).encode()).hexdigest()[:16], "dir": str(place)}
    try:
        module.init(
            project="sono-train",
            name=place.name,
            config=recipes.public(recipes.flatten(recipe)),
            resume="allow",
            **options,
        )
    except Exception as error:
        raise UserError(
            f"{name} cannot start: {(str(error).strip() or type(error).__name__).splitlines()[0]}",
            where="log.tracker",
            fix=f"set it up as its own pages say, or leave out --set log.tracker={name}",
        ) from error
    return lambda step, values: module.log(dict(values), step=step), module.finish
