"""``log.csv``: a line for every so many steps, and after a resume the same lines as without the interruption."""

from __future__ import annotations

import contextlib
import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from sono.manifests.errors import UserError
from sono.manifests.store import write_atomically
from sono.training.model.mask_clip import GROUPS

TIMINGS = ("samples_per_s", "memory_mib", "mfu")
"""The columns that two equal runs do not share."""

COLUMNS = ("step", "epoch", "loss", *(f"lr_{group}" for group in GROUPS), "t", "b", "grad_norm", *TIMINGS)


class StepLog:
    """The log, ready for what comes after ``step``: lines of later steps, and one cut short, are taken off."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        lines = path.read_text(encoding="ascii").splitlines(keepends=True)[1:] if path.exists() else []
        kept = [line for line in lines if line.endswith("\n") and int(line.partition(",")[0]) <= step]
        text = "".join([",".join(COLUMNS) + "\n", *kept])
        write_atomically(path, lambda file: file.write(text.encode("ascii")))
        self._file: TextIO = path.open("a", encoding="ascii", newline="")

    def append(self, values: Mapping[str, float | None]) -> None:
        """Write one line; numbers in full precision, nothing for what is not known.

        Raises:
            UserError: the disk is full, or fails.
        """
        try:
            csv.DictWriter(self._file, COLUMNS, lineterminator="\n").writerow(values)
            self._file.flush()
        except OSError as error:
            raise self._cannot_write(error) from error

    def sync(self) -> None:
        """Bring the log to the disk: a checkpoint must not be newer than its log."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._cannot_write(error) from error

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what could not be written is tried once more, and was reported before
            self._file.close()

    def _cannot_write(self, error: OSError) -> UserError:
        return UserError(
            f"the log cannot be written: {error.strerror}",
            where=str(self.path),
            fix="make room or mend the disk, then go on with --resume",
        )
