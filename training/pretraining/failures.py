"""Failures that are not the user's mistake, such as a lack of memory, each as a one-line error that says what helps."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from sono.manifests.errors import UserError
from sono.manifests.store import write_atomically
from sono.training import recipes
from sono.training.data.samples import Origin

NAN_BATCH = "nan-batch.json"


@contextlib.contextmanager
def memory_errors(run: Path, recipe: recipes.Recipe) -> Iterator[None]:
    """Turn a lack of memory into one line that says which setting helps.

    Raises:
        UserError: the memory of the device, or of the machine, did not suffice.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # the device's is a RuntimeError, too
        device = isinstance(error, torch.OutOfMemoryError)
        if not device and not isinstance(error, MemoryError) and "can't allocate memory" not in str(error):
            raise
        raise UserError(
            f"{'the device' if device else 'this machine'} has too little memory for a step",
            where=str(run),
            fix=f"{_how_to_save_memory(recipe)}, and continue with --resume",
        ) from error


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around code that writes the file or folder ``path``: a missing folder or permission, or a full disk, is one line.

    Raises:
        UserError: instead of any OSError.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UserError(
            f"cannot be written: {reason}", where=str(path), fix="free space, or name another place"
        ) from error


def not_finite(
    run: Path, step: int, loss: float, norm: float, origins: Sequence[Origin], last_good: Path | None
) -> UserError:
    """The error to raise for a step whose loss or gradient are not finite.

    Writes to ``RUN/nan-batch.json`` where the samples of the batch come from.
    """
    listed = [{**origin._asdict(), "structure": origin.structure or None} for origin in origins]
    text = json.dumps({"step": step, "loss": str(loss), "grad_norm": str(norm), "samples": listed}, indent=2).encode()
    write_atomically(run / NAN_BATCH, lambda file: file.write(text))
    good = f"; {last_good.name} is the last good checkpoint" if last_good else ""
    return UserError(
        f"at step {step} the loss is {loss} and the norm of its gradient is {norm}, so the step was not taken",
        where=str(run),
        fix=f"look at the batch's samples in {NAN_BATCH}, or start a new run with lower learning rates{good}",
    )


def _how_to_save_memory(recipe: recipes.Recipe) -> str:
    advice = [f"raise train.accumulate (now {recipe.train.accumulate})"]
    if not recipe.model.grad_checkpointing:
        advice.append("set model.grad_checkpointing=true")
    if recipe.train.precision == "fp32":
        advice.append("start a new run with train.precision=bf16")
    return " or ".join(advice)
