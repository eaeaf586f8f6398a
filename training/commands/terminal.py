"""What the commands of ``sono-train`` share: libraries that they need, notices, and a bar."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import typer

from sono.manifests import console
from sono.manifests.errors import import_extra

if TYPE_CHECKING:
    from sono.manifests.stages import Progress


def import_extras() -> None:
    """Import torch and open_clip, or say how to install them."""
    # Read when torch loads OpenMP. Threads that spin while they wait for one another fall from 200 to 20 samples/s as
    # soon as another process wants the processor; threads that sleep stay at 180 (tiny, two threads on two cores).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for module in ("torch", "open_clip"):
        import_extra(module, "train")


def say(text: str) -> None:
    typer.echo(text, err=True)


@contextlib.contextmanager
def bar_once_needed(enabled: bool) -> Iterator[Callable[[Progress], None]]:
    """The bar of ``sono-curate``, started when there is something to show: an error before that is one line."""
    with contextlib.ExitStack() as opened:
        show: Callable[[Progress], None] | None = None

        def tell(progress: Progress) -> None:
            nonlocal show
            if show is None:
                show = opened.enter_context(console.progress_bar(enabled))
            show(progress)

        yield tell
