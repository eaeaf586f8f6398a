"""What ends a training run through nobody's mistake, in one line each."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from sono.manifests.errors import UserError
from sono.manifests.store import write_atomically
from sono.training import recipes

NAN_BATCH = "nan-batch.json"


@contextlib.contextmanager
def memory_errors(run: Path, recipe: recipes.Recipe) -> Iterator[None]:
    """Turn a lack of memory into one line that says which setting helps.

    Raises:
        UserError: the memory of the device, or of the processor, did not suffice.
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
            fix=f"{_less_memory(recipe)}, and go on with --resume",
        ) from error


def no_number(
    run: Path, step: int, loss: float, norm: float, samples: Sequence[tuple[str, str]], last_good: Path | None
) -> UserError:
    """Write which samples the batch held to ``RUN/nan-batch.json``; the error to raise."""
    listed = [{"frame_id": frame_id, "structure": structure or None} for frame_id, structure in samples]
    text = json.dumps({"step": step, "loss": str(loss), "grad_norm": str(norm), "samples": listed}, indent=2).encode()
    write_atomically(run / NAN_BATCH, lambda file: file.write(text))
    good = f"; {last_good.name} is the last good checkpoint" if last_good else ""
    return UserError(
        f"the loss is {loss} and its gradient's norm {norm} at step {step}, which was not taken",
        where=str(run),
        fix=f"look at the batch's samples in {NAN_BATCH}, or start a new run with lower learning rates{good}",
    )


def _less_memory(recipe: recipes.Recipe) -> str:
    advice = [f"raise train.accumulate (now {recipe.train.accumulate})"]
    if not recipe.model.grad_checkpointing:
        advice.append("set model.grad_checkpointing=true")
    if recipe.train.precision == "fp32":
        advice.append("begin anew with train.precision=bf16")
    return " or ".join(advice)


@contextlib.contextmanager
def writing(where: Path) -> Iterator[None]:
    """Around what makes the file or folder ``where``: no such place, no permission or a full disk is one line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UserError(
            f"cannot be written: {reason}", where=str(where), fix="make room, or name another place"
        ) from error
