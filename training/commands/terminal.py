"""What commands of ``sono-train`` do at the terminal: load optional libraries, print notices, show progress."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import typer

from sono.manifests import console
from sono.manifests.errors import import_extra

if TYPE_CHECKING:
    from sono.manifests.stages import Progress
    from sono.training.pretraining.loop import TrainingProgress


def import_extras() -> None:
    """Import torch and open_clip.

    Raises:
        UserError: one is not installed; the text names the command that installs it.
    """
    # Read when torch loads OpenMP. Threads that spin while they wait for one another fall from 200 to 20 samples/s as
    # soon as another process wants the processor; threads that sleep stay at 180 (tiny, two threads on two cores).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for module in ("torch", "open_clip"):
        import_extra(module, "train")


def print_notice(text: str) -> None:
    """Print a line to stderr."""
    typer.echo(text, err=True)


@contextlib.contextmanager
def progress_bar(as_json: bool) -> Iterator[Callable[[Progress], None]]:
    """The bar of ``sono-curate``, started with the first progress, so that an earlier error is a single line.

    With ``as_json`` nothing is shown beside the JSON, not even the bar that ``datasets`` draws when it reads a split
    for the first time.
    """
    if as_json:
        import datasets

        datasets.disable_progress_bars()
    with contextlib.ExitStack() as opened:
        show: Callable[[Progress], None] | None = None

        def report(progress: Progress) -> None:
            nonlocal show
            if show is None:
                show = opened.enter_context(console.progress_bar(enabled=not as_json))
            show(progress)

        yield report


@contextlib.contextmanager
def training_bar() -> Iterator[tuple[Callable[[str], None], Callable[[TrainingProgress], None]]]:
    """Where notices go, and a bar on stderr: steps, loss, rate and remaining time."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = [
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps  loss {task.fields[loss]:.3f}, {task.fields[samples_per_s]:.0f} samples/s"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    bar = Bar(*columns, console=Console(stderr=True))
    task = bar.add_task("steps", total=None, loss=0.0, samples_per_s=0.0)
    started = False

    def report(progress: TrainingProgress) -> None:
        nonlocal started
        if not started:  # not earlier, so that an error before the first step is a single line
            bar.start()
            started = True
        fields = dataclasses.asdict(progress)
        bar.update(task, completed=fields.pop("step"), total=fields.pop("total_steps"), **fields)

    try:
        yield lambda text: bar.console.print(text, highlight=False, markup=False, soft_wrap=True), report
    finally:
        if started:
            bar.stop()
