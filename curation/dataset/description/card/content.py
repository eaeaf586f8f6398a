"""What is in a dataset, counted in its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sono.curation.dataset.shards.configurations import METADATA
from sono.curation.dataset.store import DatasetStore
from sono.manifests.query import query
from sono.manifests.schemas import SPLITS
from sono.manifests.vocabulary import Vocabulary


@dataclass(frozen=True)
class Count:
    """Frames of something, and their patients."""

    name: str
    frames: int
    patients: int


@dataclass(frozen=True)
class RegionCount:
    """Regions of a structure, and how many of them a person drew or edited; the others a program proposed."""

    name: str
    regions: int
    by_people: int
    patients: int


@dataclass(frozen=True)
class Content:
    """Counts of a dataset; ``weeks`` are completed weeks of gestation, in order, without gaps."""

    total: Count
    splits: Sequence[Count]
    planes: Sequence[Count]
    centers: Sequence[Count]
    scanners: Sequence[Count]
    weeks: Sequence[Count]
    structures: Sequence[RegionCount]
    frames_without_age: int


def read_content(store: DatasetStore, vocabulary: Vocabulary) -> Content:
    """Count what the files of ``metadata`` hold."""
    paths = [str(path) for path in store.files(METADATA)]

    def counts(name: str, order: str) -> list[Count]:
        rows = query(
            f"SELECT {name} AS name, count(*) AS frames, count(DISTINCT patient_key) AS patients "
            f"FROM read_parquet($paths, filename = true) GROUP BY ALL ORDER BY {order}",
            {"paths": paths},
        ).to_pylist()
        return [
            Count("not known" if row["name"] is None else str(row["name"]), row["frames"], row["patients"])
            for row in rows
        ]

    def named_plane(count: Count) -> Count:
        known = count.name.isdecimal()
        name = vocabulary.planes[vocabulary.plane_ids[int(count.name)]].name if known else count.name
        return Count(name, count.frames, count.patients)

    splits = {each.name: each for each in counts("split_part(parse_filename(filename), '-', 1)", "name")}
    weeks = counts("ga_days // 7", "name")
    return Content(
        total=counts("'all'", "name")[0],
        splits=[splits[name] for name in SPLITS if name in splits],
        planes=[named_plane(count) for count in counts("plane", "frames DESC, name")],
        centers=counts("center", "frames DESC, name"),
        scanners=counts("nullif(trim(concat_ws(' ', manufacturer, model)), '')", "frames DESC, name"),
        weeks=_without_gaps([week for week in weeks if week.name.isdecimal()]),
        structures=_structures(paths, vocabulary),
        frames_without_age=sum(week.frames for week in weeks if not week.name.isdecimal()),
    )


def _structures(paths: list[str], vocabulary: Vocabulary) -> list[RegionCount]:
    rows = query(
        "SELECT region.structure AS name, count(*) AS regions, "
        "count(*) FILTER (region.source IN ('import', 'manual')) AS by_people, count(DISTINCT patient_key) AS patients "
        "FROM (SELECT patient_key, unnest(regions) AS region FROM read_parquet($paths)) "
        "GROUP BY ALL ORDER BY regions DESC, name",
        {"paths": paths},
    ).to_pylist()
    return [RegionCount(**{**row, "name": vocabulary.structures[row["name"]].name}) for row in rows]


def _without_gaps(weeks: Sequence[Count]) -> list[Count]:
    by_week = {int(week.name): week for week in weeks}
    if not by_week:
        return []
    return [by_week.get(week, Count(str(week), 0, 0)) for week in range(min(by_week), max(by_week) + 1)]
