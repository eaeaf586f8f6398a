"""Figures by center, scanner and trimester: a single figure hides where a model fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sono.training.arrays import Booleans, Integers
from sono.training.data.dataset import Frames

from . import metrics
from .bootstrap import Bootstrap

TRIMESTER_DAYS = (14 * 7, 28 * 7)
"""Days at which the second and the third trimester begin, as captions count them."""

_UNKNOWN = "unknown"


@dataclass(frozen=True)
class Groups:
    """For every selected frame its group, by what frames are grouped by."""

    of: Mapping[str, npt.NDArray[np.str_]]

    @classmethod
    def find(cls, frames: Frames, indices_N: Integers) -> Groups:
        rows = pa.array(indices_N)
        return cls(
            {
                "center": _names(frames, rows, "center"),
                "scanner": _names(frames, rows, "manufacturer", "model"),
                "trimester": _trimesters(frames, rows),
            }
        )

    def figures(
        self, hits1_N: Booleans, hits5_N: Booleans | None, truth_N: Integers, bootstrap: Bootstrap
    ) -> dict[str, Any]:
        """Mean per-class top-1 and top-5 over the classes present in each group; None for a top-5 that is always right.

        Groups hold different planes: a gap between two of them may be due to the planes.
        """
        return {
            by: {
                str(name): _figures(groups_N == name, hits1_N, hits5_N, truth_N, bootstrap)
                for name in np.unique(groups_N)
            }
            for by, groups_N in self.of.items()
        }


def _figures(
    members_N: Booleans, hits1_N: Booleans, hits5_N: Booleans | None, truth_N: Integers, bootstrap: Bootstrap
) -> dict[str, Any]:
    inside = bootstrap.take(members_N)
    figures: dict[str, Any] = {
        "n_frames": int(members_N.sum()),
        "n_patients": inside.patients,
        "planes_present": len(np.unique(truth_N[members_N])),
    }
    for name, hits_N in (("top1", hits1_N), ("top5", hits5_N)):
        figures[name] = (
            None if hits_N is None else asdict(metrics.mean_per_class(hits_N[members_N], truth_N[members_N], inside))
        )
    return figures


def _names(frames: Frames, rows: pa.Array, *columns: str) -> npt.NDArray[np.str_]:
    cells = [pc.fill_null(frames.column(name).take(rows), "").to_pylist() for name in columns]
    return np.array([" ".join(filter(None, parts)) or _UNKNOWN for parts in zip(*cells, strict=True)], dtype=np.str_)


def _trimesters(frames: Frames, rows: pa.Array) -> npt.NDArray[np.str_]:
    days = pc.fill_null(frames.column("ga_days").take(rows), -1).to_numpy()
    names = np.array(["first", "second", "third"])[np.searchsorted(TRIMESTER_DAYS, days, side="right")]
    return np.where(days < 0, _UNKNOWN, names)
