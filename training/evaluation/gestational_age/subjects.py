"""The frames whose gestational age is estimated, with everything that an estimate is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sono.manifests.errors import UserError
from sono.training.arrays import Booleans, Floats, Integers
from sono.training.data.dataset import Frames, decode_image, decode_mask
from sono.training.evaluation.selection import Classes, number_classes, number_patients
from sono.training.features.predicted_masks import drawn

from .head_circumference import head_circumference

_HEAD = "head"


@dataclass(frozen=True)
class Subjects:
    """Frames with a plane and something to compare an estimated age with: an age, or a measured head.

    Days and circumferences are NaN where unknown.
    """

    indices: Integers
    patients: Integers
    names: tuple[str, ...]  # of planes, for sentences
    name_N: Integers
    spacing_N: Floats  # mm per px of the model's input
    days_N: Floats
    head_mm_N: Floats

    @classmethod
    def find(cls, frames: Frames, planes: Classes, display: Mapping[str, str], size: int) -> Subjects:
        """The subjects of a split, seen by a model with inputs of ``size`` px, whose sentences call planes ``display``.

        Raises:
            UserError: there is none, or all are of one patient.
        """
        number = number_classes(frames, planes)
        days = pc.fill_null(pc.cast(frames.column("ga_days"), pa.float64()), float("nan")).to_numpy()
        head_mm, spacing = _measure(frames, number >= 0, size)
        selected = (number >= 0) & (np.isfinite(days) | np.isfinite(head_mm))
        patients = number_patients(frames, selected, "has a plane, and an age or an outlined head with its pixel size")
        return cls(
            indices=np.flatnonzero(selected),
            patients=patients,
            names=_names(display, planes),
            name_N=number[selected],
            spacing_N=spacing[selected],
            days_N=days[selected],
            head_mm_N=head_mm[selected],
        )

    def require_spacing(self, source: str) -> None:
        """Check that every frame has a pixel size.

        Raises:
            UserError: one has none; the text counts them.
        """
        missing = int(np.isnan(self.spacing_N).sum())
        if missing:
            raise UserError(
                f"{missing} frames have no pixel size, but sentences with days state it",
                where=source,
                fix="use --step weeks, or give pixel sizes to sono-curate ingest --metadata",
            )


def _names(display: Mapping[str, str], planes: Classes) -> tuple[str, ...]:
    """What sentences call each class: its plane's display name, or for several planes the class's own name."""
    return tuple(display[ids[0]] if len(ids) == 1 else name.replace("_", " ") for name, ids in planes.items())


def _measure(frames: Frames, wanted: Booleans, size: int) -> tuple[Floats, Floats]:
    """For every frame its head's circumference in mm, and the pixel size of the model's input; NaN where unknown."""
    head_mm, spacing = np.full((2, len(frames)), np.nan)
    for index in np.flatnonzero(wanted).tolist():
        row = frames.row(index)
        if not row["pixel_mm"]:
            continue
        image = decode_image(row)
        x_mm, y_mm = row["pixel_mm"]
        spacing[index] = x_mm * max(image.size) / size
        for region in drawn(row["regions"]):
            if region["structure"] == _HEAD and (mask := decode_mask(row, region, image)).any():
                head_mm[index] = head_circumference(mask, (x_mm, y_mm))
    return head_mm, spacing
