"""The stages that turn a dataset's row groups into a workspace's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from sono.manifests.pulled import STAGE
from sono.manifests.schemas import CAPTIONS, FRAMES, RECORDS, REGIONS, TableSpec
from sono.manifests.stages import Exclusion, Part, StageOutput
from sono.manifests.store import PartInfo, TableStore
from sono.manifests.withdrawn import MESSAGE, REASON

from . import groups
from .rows import PulledKeys, caption_rows, excluded, frame_row, region_rows

_FRAMES_NEEDED = ["frame_id", "pixel_digest", "height", "width"]


@dataclass(frozen=True)
class PullFrames:
    """From rows of a dataset to ``frames``.

    Attributes:
        planes: ids of planes by their numbers.
        wanted: planes that were asked for; empty for all.
        text: what the dataset states of text in its pixels.
        withdrawn: keys, in the dataset, of patients who took back their consent.
    """

    keys: PulledKeys
    planes: tuple[str, ...]
    wanted: tuple[str, ...]
    text: str
    withdrawn: frozenset[str] = field(repr=False)

    name = STAGE
    version = 1

    @property
    def output(self) -> TableSpec:
        return FRAMES

    def config(self) -> Mapping[str, object]:
        return {
            "pseudonyms": self.keys.pseudonyms,
            "planes": list(self.planes),
            "wanted": list(self.wanted),
            "text": self.text,
            "withdrawn": _digest(self.keys, self.withdrawn),
        }

    def __call__(self, part: pa.Table) -> StageOutput:
        rows: list[dict[str, object]] = []
        exclusions: list[Exclusion] = []
        for row in part.to_pylist():
            if row["patient_key"] in self.withdrawn:
                exclusions.append(Exclusion(REASON, REASON, MESSAGE))
            elif self._wants(row):
                frame = frame_row(row, self.keys, self.planes, self.text)
                if frame is None:
                    exclusions.append(excluded(row, "undecodable"))
                else:
                    rows.append(frame)
        return StageOutput(FRAMES.from_rows(rows), exclusions)

    def _wants(self, row: Mapping[str, Any]) -> bool:
        return not self.wanted or (row["plane"] is not None and self.planes[row["plane"]] in self.wanted)


@dataclass(frozen=True)
class PullMasks:
    """From rows of a dataset to ``regions``, of those frames that the workspace has taken."""

    keys: PulledKeys
    store: TableStore
    structures: frozenset[str]

    name = "pull-masks"
    version = 1

    @property
    def output(self) -> TableSpec:
        return REGIONS

    def config(self) -> Mapping[str, object]:
        return {"pseudonyms": self.keys.pseudonyms, "structures": sorted(self.structures)}

    def __call__(self, part: pa.Table) -> StageOutput:
        rows: list[dict[str, object]] = []
        exclusions: list[Exclusion] = []
        frames = _frames_of(self.store, part)
        for row in part.to_pylist():
            frame = frames.get(self.keys.frame(row["frame_id"]))
            for region in region_rows(row, frame, self.keys, self.structures) if frame else ():
                if isinstance(region, Exclusion):
                    exclusions.append(region)
                else:
                    rows.append(region)
        return StageOutput(REGIONS.from_rows(rows), exclusions)


@dataclass(frozen=True)
class PullCaptions:
    """From rows of a dataset to ``captions``, of those frames that the workspace has taken."""

    keys: PulledKeys
    store: TableStore
    planes: tuple[str, ...]

    name = "pull-captions"
    version = 1

    @property
    def output(self) -> TableSpec:
        return CAPTIONS

    def config(self) -> Mapping[str, object]:
        return {"pseudonyms": self.keys.pseudonyms, "planes": list(self.planes)}

    def __call__(self, part: pa.Table) -> StageOutput:
        frames = _frames_of(self.store, part)
        rows = [
            caption
            for row in part.to_pylist()
            if self.keys.frame(row["frame_id"]) in frames
            for caption in caption_rows(row, self.keys, self.planes)
        ]
        return StageOutput(CAPTIONS.from_rows(rows), [])


@dataclass(frozen=True)
class PullExams:
    """From the examinations of a dataset to ``records``: of each, the gestational age is known, and no more."""

    keys: PulledKeys
    withdrawn: frozenset[str] = field(repr=False)

    name = "pull-records"
    version = 1

    @property
    def output(self) -> TableSpec:
        return RECORDS

    def config(self) -> Mapping[str, object]:
        return {"pseudonyms": self.keys.pseudonyms, "withdrawn": _digest(self.keys, self.withdrawn)}

    def __call__(self, part: pa.Table) -> StageOutput:
        rows: list[dict[str, object]] = [
            {
                "study_key": self.keys.study(row["study_key"]),
                "patient_key": self.keys.patient(row["patient_key"])["patient_key"],
                "ga_days": row["ga_days"],
                "ga_source": None if row["ga_days"] is None else "explicit",
                "provenance": "{}" if row["ga_days"] is None else '{"ga_days": "the dataset"}',
            }
            for row in part.to_pylist()
            if row["patient_key"] not in self.withdrawn
        ]
        return StageOutput(RECORDS.from_rows(rows), [])


def _digest(keys: PulledKeys, patients: Set[str]) -> str:
    return keys.keys.content("\n".join(["withdrawn", *sorted(patients)]))


def frame_part(path: Path, number: int, group: Mapping[str, str], keys: PulledKeys) -> Part:
    """The part of ``frames`` that a row group becomes."""
    load = partial(groups.load_group, path, number, [*groups.FRAMES, "pixel_mm"], keys.keys)
    return Part(group["name"], group["frames"], load)


def dependent_part(
    path: Path, number: int, group: Mapping[str, str], table: str, frames: PartInfo | None, keys: PulledKeys
) -> Part:
    """The part of ``regions`` or ``captions`` that a row group becomes; ``frames`` is what its frames became."""
    columns = ["frame_id", "regions"] if table == "masks" else ["frame_id", "plane", "ga_days", "caption", "regions"]
    made = [frames.fingerprint, frames.rows] if frames else []
    load = partial(_load_dependent, path, number, columns, group["name"], keys)
    return Part(group["name"], keys.keys.content(f"{group[table]} {made}"), load)


def _load_dependent(path: Path, number: int, columns: Sequence[str], name: str, keys: PulledKeys) -> pa.Table:
    rows = groups.load_group(path, number, columns, keys.keys)
    return rows.replace_schema_metadata({b"part": name.encode()})


def _frames_of(store: TableStore, part: pa.Table) -> Mapping[str, Mapping[str, Any]]:
    """The rows of ``frames`` in the part that has the same name, by frame."""
    name = part.schema.metadata[b"part"].decode()
    rows = store.read(FRAMES, name, _FRAMES_NEEDED).to_pylist()
    return {row["frame_id"]: row for row in rows}


def patients_of(keys: PulledKeys, patients: Set[str]) -> frozenset[str]:
    """The workspace's keys of a dataset's patients."""
    return frozenset(keys.patient(key)["patient_key"] for key in patients)
