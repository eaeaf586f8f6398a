"""Which frames of a split are scored, as what classes, and how many are left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sono.manifests.errors import UserError
from sono.manifests.schemas import PREDICTED_SOURCES
from sono.training.arrays import Booleans, Integers
from sono.training.data.dataset import Frames
from sono.training.data.visible_regions import are_visible, count_regions
from sono.training.features.predicted_masks import PredictedMasks, sources_of
from sono.training.features.views import MODES, choose_donors
from sono.training.model.transforms import PadToSquare

Classes = Mapping[str, Sequence[str]]
"""Classes by name, each with the ids of the planes that count as it."""


@dataclass(frozen=True)
class Selection:
    """The frames that are scored: their rows in the split, their classes and patients, and how many are left out.

    ``donors`` are, for shuffled masks, the position of the frame whose masks each frame is seen through.
    """

    names: tuple[str, ...]  # of the classes
    indices: Integers
    truth: Integers
    patients: Integers
    donors: Integers | None
    predicted: PredictedMasks | None
    seed: int  # of the donors
    without: Mapping[str, int]  # frames left out, by what they lack
    only_with_regions: bool
    without_regions: int  # among all frames with a plane, left out or not
    regions_vanished: int = 0  # regions of these frames of which no pixel is left at the size of the model's input

    def counts(self) -> dict[str, Any]:
        """The numbers of frames scored and left out, under the names that they have in a result."""
        counts: dict[str, Any] = {
            "frames": "with regions" if self.only_with_regions else "all",
            "n_frames": len(self.indices),
            "n_patients": len(set(self.patients.tolist())),
            "frames_without_plane": self.without["plane"],
            "frames_without_regions": self.without_regions,
            "regions_vanished": self.regions_vanished,
        }
        if self.predicted:
            counts["frames_without_predicted"] = self.without["predicted"]
            counts["predicted_dataset"] = self.predicted.dataset
        return counts

    @property
    def left_out(self) -> int:
        return sum(self.without.values())


def select_frames(
    frames: Frames,
    masks: Sequence[str],
    classes: Classes,
    transform: PadToSquare,
    *,
    predicted_dataset: str | None,
    seed: int,
) -> Selection:
    """The frames that have a class and everything that ``masks`` need, as a model with this transform sees them.

    Raises:
        UserError: no frame has, all that have are of one patient, or predicted masks are asked for and there are none.
    """
    truth = number_classes(frames, classes)
    regions, vanished = count_regions(frames, transform)
    needs_regions = any(MODES[name].kind == "region" and not MODES[name].predicted for name in masks)
    predicted = PredictedMasks.find(frames, predicted_dataset, transform) if "predicted" in masks else None
    has_plane = truth >= 0
    selected, without = has_plane, {"plane": int((~has_plane).sum())}
    if needs_regions:
        without["regions"] = int((selected & (regions == 0)).sum())
        selected = selected & (regions > 0)
    if predicted:
        has_predicted = predicted.has(frames)
        without["predicted"] = int((selected & ~has_predicted).sum())
        selected = selected & has_predicted
    need = "a plane" + (" and regions" if needs_regions else "") + (" and predicted masks" if predicted else "")
    patients = number_patients(frames, selected, f"has {need}")
    return Selection(
        names=tuple(classes),
        indices=np.flatnonzero(selected),
        truth=truth[selected],
        patients=patients,
        donors=choose_donors(patients, seed) if any(MODES[name].of_donor for name in masks) else None,
        predicted=predicted,
        seed=seed,
        without=without,
        only_with_regions=needs_regions,
        without_regions=int((has_plane & (regions == 0)).sum()),
        regions_vanished=int(vanished[has_plane].sum()),
    )


def each_plane(frames: Frames) -> Classes:
    """Every plane of the dataset as a class of its own."""
    return {plane: (plane,) for plane in frames.planes}


def number_classes(frames: Frames, classes: Classes) -> Integers:
    """For every frame the number of its class, -1 if it has none.

    Raises:
        UserError: a class has no plane in the dataset's vocabulary.
    """
    by_label = np.full(len(frames.planes) + 1, -1, dtype=np.int64)  # the last is for frames without a plane
    for number, (name, planes) in enumerate(classes.items()):
        labels = [frames.planes.index(plane) for plane in planes if plane in frames.planes]
        if not labels:
            raise UserError(
                f"the class {name!r} has no plane in the dataset's vocabulary",
                where=frames.description.source,
                fix=f"build the dataset with a vocabulary that has {' or '.join(planes)}",
            )
        by_label[labels] = number
    label = pc.fill_null(frames.column("plane"), len(frames.planes)).to_numpy()
    numbers: Integers = by_label[label]
    return numbers


def has_caption(frames: Frames) -> Booleans:
    """For every frame whether it has a caption for the whole image."""
    lengths = pc.fill_null(pc.utf8_length(frames.column("caption")), 0).to_numpy()
    return np.asarray(lengths > 0, dtype=np.bool_)


def number_patients(frames: Frames, selected: Booleans, need: str) -> Integers:
    """For every selected frame a number for its patient, from 0 without gaps.

    Args:
        need: what the selected frames have, for the error if there are none: "has a plane".

    Raises:
        UserError: no frame is selected, one has no patient, or all have the same patient: intervals are over patients.
    """
    where = frames.description.source
    if not selected.any():
        raise UserError(f"no frame of the {frames.split} split {need}", where=where, fix="score another split")
    patients = frames.column("patient_key").filter(pa.array(selected))
    if patients.null_count:
        raise UserError(
            f"{patients.null_count} frames have no patient_key, but intervals are computed over patients",
            where=where,
            fix="run sono-curate build again",
        )
    numbers = np.unique(patients.to_pylist(), return_inverse=True)[1]
    if numbers.max() == 0:
        raise UserError(
            f"all frames of the {frames.split} split that could be scored are of one patient, but intervals are over "
            "patients",
            where=where,
            fix="score a split with more patients",
        )
    return numbers


def count_sources(frames: Frames, selection: Selection, mask: str, transform: PadToSquare) -> dict[str, int]:
    """How many of the masks that frames were seen through come from each source."""
    mode = MODES[mask]
    if mode.kind == "whole":
        return {}
    if mode.predicted and selection.predicted and selection.predicted.elsewhere is not None:
        ids = frames.column("frame_id").take(pa.array(selection.indices)).to_pylist()
        sources = [region["source"] for key in ids for region in selection.predicted.elsewhere[key]]
    else:
        lists = frames.column("regions").take(pa.array(selection.indices))
        sources = [
            source
            for chunk in lists.chunks
            for source in sources_of(chunk).filter(pa.array(are_visible(chunk, transform))).to_pylist()
        ]
        if mode.predicted:
            sources = [source for source in sources if source in PREDICTED_SOURCES]
    names, numbers = np.unique(sources, return_counts=True)
    return dict(zip(names.tolist(), numbers.tolist(), strict=True))
