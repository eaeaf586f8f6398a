"""Masks that a program predicted: from the dataset itself, or from a second one with the same frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sono.manifests.errors import UserError
from sono.manifests.schemas import PREDICTED_SOURCES, SPLITS
from sono.training.arrays import Booleans
from sono.training.data.dataset import Description, Frames, Row, open_split, read_description
from sono.training.data.visible_regions import are_visible
from sono.training.model.transforms import PadToSquare

Region = Mapping[str, Any]


@dataclass(frozen=True)
class PredictedMasks:
    """Which frames have regions of a predicted source that the model can see, and these regions.

    ``dataset`` is the identity of the dataset that they are in. ``elsewhere`` maps the ids of frames to their regions
    in a second dataset; None if they are the frames' own.
    """

    dataset: Mapping[str, str]
    transform: PadToSquare
    elsewhere: Mapping[str, Sequence[Region]] | None = field(default=None, repr=False)

    @classmethod
    def find(cls, frames: Frames, dataset: str | None, transform: PadToSquare) -> PredictedMasks:
        """Those of ``dataset`` for the same frames, in whichever split; if omitted, the frames' own.

        Args:
            transform: of the model's input: masks of which it leaves nothing do not count.

        Raises:
            UserError: the dataset is at fault, or has no predicted mask for any of the frames.
        """
        if dataset is None:
            found = cls(frames.description.identity, transform)
        else:
            ids, description = set(frames.column("frame_id").to_pylist()), read_description(dataset)
            found = cls(description.identity, transform, dict(_regions_of(description, ids, transform)))
        if not found.has(frames).any():
            raise UserError(
                f"no frame of the {frames.split} split has a predicted mask: one with the source "
                f"{', '.join(PREDICTED_SOURCES[:-1])} or {PREDICTED_SOURCES[-1]}",
                where=dataset or frames.description.source,
                fix="with --predicted DATASET, give a dataset with predicted masks of the same frames",
            )
        return found

    def has(self, frames: Frames) -> Booleans:
        """For every frame, whether it has a predicted mask."""
        if self.elsewhere is not None:
            return np.array([key in self.elsewhere for key in frames.column("frame_id").to_pylist()], dtype=np.bool_)
        return np.concatenate([_has_predicted(lists, self.transform) for lists in frames.column("regions").chunks])

    def regions(self, row: Row) -> Sequence[Region]:
        """The predicted regions of a frame that has some."""
        if self.elsewhere is not None:
            return self.elsewhere[row["frame_id"]]
        return _predicted(row["regions"])


def sources_of(lists: pa.ListArray) -> pa.Array:
    """The sources of all members of lists of regions.

    Raises:
        UserError: the dataset is older than this column.
    """
    regions = pc.list_flatten(lists)
    if regions.type.get_field_index("source") < 0:
        raise UserError(
            "the regions of this dataset do not say where their masks come from", fix="run sono-curate build again"
        )
    return pc.fill_null(pc.struct_field(regions, "source"), "unknown")


def drawn(regions: Sequence[Region]) -> list[Region]:
    """Those that no program predicted: what predictions may be compared with."""
    return [region for region in regions if region["source"] not in PREDICTED_SOURCES]


def are_drawn(lists: pa.ListArray) -> Booleans:
    """For all members of lists of regions, whether no program predicted them."""
    return ~_are_predicted(lists)


def _are_predicted(lists: pa.ListArray) -> Booleans:
    found = pc.is_in(sources_of(lists), value_set=pa.array(PREDICTED_SOURCES)).to_numpy(zero_copy_only=False)
    return np.asarray(found, dtype=np.bool_)


def _has_predicted(lists: pa.ListArray, transform: PadToSquare) -> Booleans:
    parents = pc.list_parent_indices(lists).to_numpy()
    return np.bincount(parents[_are_predicted(lists) & are_visible(lists, transform)], minlength=len(lists)) > 0


def _regions_of(
    description: Description, wanted: set[str], transform: PadToSquare
) -> Iterator[tuple[str, Sequence[Region]]]:
    for split in SPLITS:
        if not description.rows(split):
            continue
        frames = open_split(description, split)
        chunks = zip(frames.column("frame_id").chunks, frames.column("regions").chunks, strict=True)
        for ids, lists in chunks:
            chosen = pc.is_in(ids, value_set=pa.array(sorted(wanted), pa.string())).to_numpy(zero_copy_only=False)
            places = pa.array(np.flatnonzero(chosen & _has_predicted(lists, transform)))
            for frame_id, regions in zip(ids.take(places).to_pylist(), lists.take(places).to_pylist(), strict=True):
                yield frame_id, _predicted(regions)


def _predicted(regions: Sequence[Region]) -> list[Region]:
    return [region for region in regions if region["source"] in PREDICTED_SOURCES]
