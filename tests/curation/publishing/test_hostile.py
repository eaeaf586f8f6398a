"""Datasets of people who mean harm, or whose programs are faulty: none of what they state is taken on trust."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sono.curation.publishing.pull.run import pull
from sono.manifests.dataset_marker import describe_shard, fingerprint_of
from sono.manifests.errors import UserError
from sono.manifests.schemas import FRAMES
from sono.manifests.stages import in_process
from sono.manifests.workspace import Workspace, create
from tests.curation.publishing.conftest import Ready

Row = dict[str, Any]


@pytest.fixture
def other(tmp_path: Path) -> Workspace:
    return create(tmp_path / "other", "Hospital B")


def forge(folder: Path, change: Callable[[list[Row]], object], **options: Any) -> None:
    """Change the rows of the first shard of two configurations, and state digests and a fingerprint that are right."""
    marker = json.loads((folder / "sono.json").read_bytes())
    for configuration, splits in (("data", marker["splits"]), ("metadata", marker["configurations"]["metadata"])):
        path = min((folder / configuration).glob("train-*.parquet"))
        table = pq.read_table(path)
        rows = table.to_pylist()
        change(rows)
        pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path, **{"use_dictionary": False, **options})
        splits["train"]["shards"][f"{configuration}/{path.name}"] = describe_shard(path, len(rows))
    state(folder, marker)


def state(folder: Path, marker: dict[str, Any]) -> None:
    (folder / "sono.json").write_text(json.dumps({**marker, "fingerprint": fingerprint_of(marker)}))


def refused(workspace: Workspace, folder: Path) -> str:
    with pytest.raises(UserError) as error, workspace.writing():
        pull(workspace, str(folder), engine=in_process)
    assert "\n" not in str(error.value)
    assert workspace.store.count_rows(FRAMES) == 0
    return str(error.value)


def in_region(**values: object) -> Callable[[list[Row]], object]:
    return lambda rows: next(row for row in rows if row["regions"])["regions"][0].update(values)


def in_row(**values: object) -> Callable[[list[Row]], object]:
    return lambda rows: rows[0].update(values)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (in_row(plane=-1), "state what cannot be"),
        (in_row(plane=99), "state what cannot be"),
        (lambda rows: [row.update(ga_days=-5) for row in rows], "state what cannot be"),
        (in_row(pixel_mm=[0.2]), "state what cannot be"),
        (in_row(pixel_mm=[float("nan")] * 2), "state what cannot be"),
        (in_row(caption=None), "state what cannot be"),
        (in_row(center="x" * 1000), "state what cannot be"),
        (in_row(sectors=[{"kind": "convex", "box": [0], "apex": [1.0]}]), "state what cannot be"),
        (in_region(caption_id=None), "state what cannot be"),
        (in_region(bbox=[]), "state what cannot be"),
        (in_row(patient_key="../" * 3), "have no keys"),
        (in_row(study_key=None), "have no keys"),
        (lambda rows: rows[1].update(frame_id=rows[0]["frame_id"]), "frames are there twice"),
    ],
)
def test_rows_that_state_what_cannot_be_are_refused(
    ready: Ready, other: Workspace, change: Callable[[list[Row]], object], named: str
) -> None:
    forge(ready.folder, change)
    assert named in refused(other, ready.folder)


@pytest.mark.parametrize("path", ["data/../../{}", "/{}", "data/train-00000.parquet/../{}", "data/test-00000.parquet"])
def test_a_shard_whose_name_leads_elsewhere_is_refused(ready: Ready, other: Workspace, path: str) -> None:
    marker: Any = ready.marker
    for splits in (marker["splits"], marker["configurations"]["metadata"]):
        shards = splits["train"]["shards"]
        splits["train"]["shards"] = {path.format(name.rpartition("/")[2]): shard for name, shard in shards.items()}
    state(ready.folder, marker)
    assert "sono.json is damaged" in refused(other, ready.folder)


def test_an_image_that_is_repeated_for_every_row_is_refused(ready: Ready, other: Workspace) -> None:
    """A few bytes of such a file unpack to any size."""

    def same(rows: list[Row]) -> None:
        for row in rows:
            row.update({"image": rows[0]["image"]} if "image" in row else {})

    forge(ready.folder, same, use_dictionary=True)
    assert "its row groups are larger than any that sono-curate writes" in refused(other, ready.folder)


def test_a_column_that_unpacks_to_more_than_memory_is_refused(ready: Ready, other: Workspace) -> None:
    forge(ready.folder, in_row(caption="a" * 2**26), compression="zstd")
    assert "larger than any that sono-curate writes" in refused(other, ready.folder)
