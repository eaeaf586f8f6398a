"""A run's logs: lines every few steps, and after a resume the same lines as without the interruption."""

from __future__ import annotations

import contextlib
import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from sono.manifests.errors import UserError
from sono.manifests.store import write_atomically
from sono.training.model.mask_clip import GROUPS

TIMINGS = ("samples_per_s", "memory_mib", "mfu")
"""The columns in which two equal runs differ."""

STEP = "step"
"""The first column of every log."""

COLUMNS = (STEP, "epoch", "loss", *(f"lr_{group}" for group in GROUPS), "t", "b", "grad_norm", *TIMINGS)


class StepLog:
    """A log, ready for what comes after ``step``: lines of later steps, and a truncated one, are removed.

    ``last`` is the step of the last line, None if there is none.
    """

    def __init__(self, path: Path, step: int, columns: Sequence[str] = COLUMNS) -> None:
        assert columns[0] == STEP
        self.path, self.columns = path, columns
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)[1:] if path.exists() else []
        kept = [line for line in lines if line.endswith("\n") and int(line.partition(",")[0]) <= step]
        self.last = int(kept[-1].partition(",")[0]) if kept else None
        text = "".join([",".join(columns) + "\n", *kept])
        write_atomically(path, lambda file: file.write(text.encode("utf-8")))
        self._file: TextIO = path.open("a", encoding="utf-8", newline="")

    def append(self, values: Mapping[str, float | str | None]) -> None:
        """Write one line: numbers in full precision, nothing for an unknown value.

        Raises:
            UserError: the disk is full, or fails.
        """
        try:
            csv.DictWriter(self._file, self.columns, lineterminator="\n").writerow(values)
            self._file.flush()
        except OSError as error:
            raise self._cannot_write(error) from error

    def sync(self) -> None:
        """Flush the log to the disk: a checkpoint must not be newer than its log."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._cannot_write(error) from error

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):  # of what could not be written before, and was reported
            self._file.close()

    def _cannot_write(self, error: OSError) -> UserError:
        return UserError(
            f"the log cannot be written: {error.strerror}",
            where=str(self.path),
            fix="free space or fix the disk, then continue with --resume",
        )
