"""Faults that the loopback Hub shows on request: which requests are struck, how, and how often."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["status", "drop", "lose", "slow"]


@dataclass
class Fault:
    """What happens to the next ``times`` requests whose method and path match.

    Attributes:
        path: a regular expression, found anywhere in the path.
        kind: ``status``: answered with ``status`` and ``headers``; ``drop``: the connection ends before anything is
            done; ``lose``: everything is done, and the connection ends in the middle of the answer; ``slow``: bodies
            travel at ``bytes_per_second`` both ways.
        skip: so many matching requests pass first.
    """

    method: str
    path: str
    kind: Kind = "status"
    status: int = 503
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int = 1
    skip: int = 0
    bytes_per_second: int = 1_000_000
    struck: int = 0

    def strikes(self, method: str, path: str) -> bool:
        """Whether the request is struck; counts it."""
        if self.method not in ("*", method) or not re.search(self.path, path) or self.struck >= self.times:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.struck += 1
        return True
