"""Splits of several datasets as one: the rows of each follow those of the one before."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import pyarrow as pa

from .dataset import Frames


@dataclass(frozen=True)
class JoinedFrames:
    """The frames of all ``parts``, numbered without a gap; all parts have the same planes and columns."""

    parts: tuple[Frames, ...]

    def __len__(self) -> int:
        return self.starts[-1]

    @cached_property
    def starts(self) -> list[int]:
        """The first row of every part, and the number of rows of all."""
        return [0, *accumulate(len(part) for part in self.parts)]

    @property
    def planes(self) -> tuple[str, ...]:
        """The ids of the classes."""
        return self.parts[0].planes

    def place(self, row: int) -> tuple[int, int]:
        """Where a row is: the number of its part, and its row there."""
        part = bisect_right(self.starts, row) - 1
        return part, row - self.starts[part]

    def column(self, name: str) -> pa.ChunkedArray:
        """A complete column, of which nothing is copied; reads no other."""
        return pa.chunked_array([chunk for part in self.parts for chunk in part.column(name).chunks])
