"""``log.csv``: a line for every so many steps, and after a resume the same lines as without the interruption."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from sono.manifests.store import write_atomically

from .optimizer import GROUPS

COLUMNS = ("step", "epoch", "loss", *(f"lr_{group}" for group in GROUPS), "t", "b", "grad_norm", "samples_per_s")
TIMING = "samples_per_s"  # the one column that two equal runs do not share


def open_log(path: Path, step: int) -> TextIO:
    """The log, ready for what comes after ``step``: lines of later steps, and one cut short, are taken off."""
    lines = path.read_text(encoding="ascii").splitlines(keepends=True)[1:] if path.exists() else []
    kept = [line for line in lines if line.endswith("\n") and int(line.partition(",")[0]) <= step]
    text = "".join([",".join(COLUMNS) + "\n", *kept])
    write_atomically(path, lambda file: file.write(text.encode("ascii")))
    return path.open("a", encoding="ascii", newline="")


def append(file: TextIO, values: Mapping[str, float]) -> None:
    """Write one line; numbers in full precision."""
    csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(values)
    file.flush()


def sync(file: TextIO) -> None:
    """Bring the log to the disk: a checkpoint must not be newer than its log."""
    os.fsync(file.fileno())
