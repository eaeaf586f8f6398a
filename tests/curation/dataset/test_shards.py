"""Shards: how they are cut and written, and which programs read them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sono.curation.dataset.shards import cut, write
from sono.curation.dataset.shards.images import ImageFormat
from sono.curation.dataset.store import MARKER
from sono.curation.images.stored_png import decode_png
from sono.manifests import masks
from sono.manifests.errors import UserError
from sono.manifests.schemas import DATASET, DATASET_METADATA, DATASET_REGIONS
from sono.manifests.splits import SplitPlan

from .curated import PLAN, Curation, rows_of

EVERY = ("data", "regions", "metadata")


def parquet(out: Path, folder: str) -> list[Path]:
    return sorted((out / folder).glob("*.parquet"))


def rows_by_id(out: Path) -> dict[str, dict[str, Any]]:
    return {row["frame_id"]: row for row in rows_of(out)}


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cuts that large archives have, in a small one."""
    monkeypatch.setattr(write, "_MIN_ROWS", 1)
    monkeypatch.setattr(write, "_MAX_ROWS", 3)
    monkeypatch.setattr(write, "_END_ONE_IN", 4)
    monkeypatch.setattr(cut, "_MIN_SHARD_BYTES", 60_000)
    monkeypatch.setattr(cut, "_MAX_SHARD_BYTES", 200_000)
    monkeypatch.setattr(cut, "_END_ONE_IN", 2)


def test_every_configuration_loads_by_name_in_a_process_without_this_project(
    curation: Curation, tmp_path: Path
) -> None:
    curation.build(tmp_path / "out")
    script = f"""
import json, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "sono":
            raise ImportError("this process must work without it")
sys.meta_path.insert(0, Refuse())
import numpy as np
from datasets import get_dataset_config_names, load_dataset
folder, cache = {str(tmp_path / "out")!r}, {str(tmp_path / "cache")!r}
assert get_dataset_config_names(folder) == ["default", "regions", "metadata"]
found = {{}}
for name in ("default", "regions", "metadata"):
    data = load_dataset(folder, name, cache_dir=cache)
    found[name] = sum(split.num_rows for split in data.values())
    for split in data.values():
        assert split.features["plane"].int2str(split[0]["plane"]) == "transthalamic"
    streamed = load_dataset(folder, name, split="train", streaming=True)
    assert [row["caption_id"] for row in streamed] == data["train"]["caption_id"][:]
for row in [row for split in load_dataset(folder, "regions", cache_dir=cache).values() for row in split]:
    mask = np.asarray(row["mask"])
    assert mask.shape == np.asarray(row["image"]).shape == (200, 260)
    assert set(np.unique(mask)) == {{0, 255}}
    assert (mask == 255).sum() == row["area_px"]
print(json.dumps(found))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"default": 12, "regions": 6, "metadata": 12}


def test_a_build_of_the_same_size_is_not_taken_for_the_one_before(curation: Curation, tmp_path: Path) -> None:
    import datasets

    def patients(name: str) -> set[str]:
        curation.build(tmp_path / "out", name=name)
        loaded = datasets.load_dataset(str(tmp_path / "out"), "metadata", cache_dir=str(tmp_path / "cache"))
        return {key for split in loaded.values() for key in split["patient_key"]}

    assert not patients("one") & patients("two")


def test_pandas_duckdb_and_polars_read_all_configurations(curation: Curation, tmp_path: Path) -> None:
    curation.build(tmp_path / "out")
    for folder, rows, key in (("data", 12, "frame_id"), ("regions", 6, "caption_id"), ("metadata", 12, "frame_id")):
        paths = [str(path) for path in parquet(tmp_path / "out", folder)]
        expected = {value for path in paths for value in pq.read_table(path)[key].to_pylist()}
        assert len(expected) == rows
        assert set(pd.concat([pd.read_parquet(path) for path in paths])[key]) == expected
        assert {row[0] for row in duckdb.sql(f"SELECT {key} FROM '{tmp_path}/out/{folder}/*.parquet'").fetchall()} == (
            expected
        )
        assert set(pl.read_parquet(paths)[key]) == expected


def test_the_configurations_say_the_same_of_a_frame(curation: Curation, tmp_path: Path) -> None:
    curation.build(tmp_path / "out")
    frames = rows_by_id(tmp_path / "out")
    tables = {name: [pq.read_table(path) for path in parquet(tmp_path / "out", name)] for name in EVERY}
    for spec, name in ((DATASET, "data"), (DATASET_REGIONS, "regions"), (DATASET_METADATA, "metadata")):
        assert all(table.schema.equals(spec.schema) for table in tables[name])
    for row in pa.concat_tables(tables["metadata"]).to_pylist():
        frame = frames[row["frame_id"]]
        assert decode_png(frame["image"]["bytes"]).shape == (row["height"], row["width"])
        for column in set(row) - {"width", "height", "regions"}:
            assert row[column] == frame[column]
        assert row["regions"] == [{k: v for k, v in region.items() if k != "mask"} for region in frame["regions"]]
    for row in pa.concat_tables(tables["regions"]).to_pylist():
        frame = frames[row["frame_id"]]
        (region,) = frame["regions"]
        assert row["image"] == frame["image"]
        assert np.array_equal(decode_png(row["mask"]["bytes"]) == 255, masks.decode(region["mask"]))
        assert {name: row[name] for name in region if name != "mask"} == {
            name: value for name, value in region.items() if name != "mask"
        }


@pytest.mark.parametrize(("at_once", "in_group", "plan"), [(1, 3, PLAN), (5, 3, PLAN), (32, 200, SplitPlan(0, 0, 0))])
def test_every_row_has_the_image_of_its_frame(
    curation: Curation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int, in_group: int, plan: SplitPlan
) -> None:
    from sono.captioning.captions.run import caption_workspace
    from sono.curation.masks.run import import_masks
    from sono.manifests.schemas import FRAMES
    from sono.manifests.stages import in_process

    for name in ("P1/scan1", "P2/scan0", "P2/scan2", "P4/scan0"):
        cv2.imwrite(str(curation.archive / f"{name}.png"), np.full((200, 260), 77, np.uint8))  # is left out
    curation.run()
    import_masks(curation.workspace, curation.drawn, structure="falx", mask_format="png", engine=in_process)
    caption_workspace(curation.workspace, [curation.records], templates="paper", engine=in_process)
    monkeypatch.setattr("sono.manifests.store._ROWS_AT_ONCE", at_once)
    monkeypatch.setattr(write, "_MAX_ROWS", in_group)
    curation.build(tmp_path / "out", plan, linkable=True)  # frames keep their ids
    frames = curation.workspace.store.read_all(FRAMES, ["frame_id", "image"]).to_pylist()
    stored = {frame["frame_id"]: {"bytes": frame["image"]["bytes"], "path": None} for frame in frames}
    assert len({image["bytes"] for image in stored.values()}) == 9
    for folder, expected in (("data", 8), ("regions", 12)):
        rows = [row for path in parquet(tmp_path / "out", folder) for row in pq.read_table(path).to_pylist()]
        assert len(rows) == expected
        assert all(row["image"] == stored[row["frame_id"]] for row in rows)


@pytest.mark.parametrize("name", ["webp", "jpeg"])
def test_webp_is_the_same_pixels_and_jpeg_about_the_same(curation: Curation, tmp_path: Path, name: str) -> None:
    curation.build(tmp_path / "png", name="fetal")
    curation.build(tmp_path / name, name="fetal", image_format=ImageFormat(name, 90))  # type: ignore[arg-type]
    expected, found = rows_by_id(tmp_path / "png"), rows_by_id(tmp_path / name)
    assert found.keys() == expected.keys()
    for key, row in found.items():
        content = np.frombuffer(row["image"]["bytes"], np.uint8)
        pixels = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE).astype(int)
        wanted = decode_png(expected[key]["image"]["bytes"]).astype(int)
        difference = np.abs(pixels - wanted)
        assert difference.max() == 0 if name == "webp" else 0 < difference.mean() < 8
        assert {k: v for k, v in row.items() if k != "image"} == {
            k: v for k, v in expected[key].items() if k != "image"
        }


def test_webp_keeps_every_colour() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    decoded = cv2.imdecode(np.frombuffer(ImageFormat("webp").encode(pixels), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.array_equal(decoded, pixels)


def test_unknown_formats_and_qualities_are_refused() -> None:
    with pytest.raises(UserError, match=r"unknown image format 'jpg'.*jpeg"):
        ImageFormat("jpg")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="--quality 0 is not JPEG's"):
        ImageFormat("jpeg", 0)


def test_row_groups_are_small_and_pages_have_an_index(curation: Curation, tmp_path: Path, small_groups: None) -> None:
    curation.build(tmp_path / "out")
    files = {name: [pq.ParquetFile(path) for path in parquet(tmp_path / "out", name)] for name in EVERY}
    assert len(files["data"]) > 3
    for file in files["data"]:
        groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
        assert max(group.num_rows for group in groups) <= 3
        columns = [group.column(index) for group in groups for index in range(group.num_columns)]
        assert all(column.has_offset_index for column in columns)
        assert {column.compression for column in columns if column.path_in_schema == "image.bytes"} == {"UNCOMPRESSED"}


def test_a_row_group_of_regions_holds_each_image_once(curation: Curation, tmp_path: Path) -> None:
    from sono.captioning.captions.run import caption_workspace
    from sono.curation.masks.run import import_masks
    from sono.manifests.stages import in_process

    for structure in ("falx", "thalami", "cerebellum"):
        import_masks(curation.workspace, curation.drawn, structure=structure, mask_format="png", engine=in_process)
    caption_workspace(curation.workspace, [curation.records], templates="paper", engine=in_process)
    assert curation.build(tmp_path / "out").regions == 24
    for path in parquet(tmp_path / "out", "regions"):
        table = pq.read_table(path)
        images = [row["bytes"] for row in table["image"].to_pylist()]
        assert len(images) == 4 * len(set(images))
        assert path.stat().st_size < 1.5 * sum(map(len, set(images)))


def test_one_frame_more_changes_the_row_groups_around_it_and_no_other_shard(
    curation: Curation, tmp_path: Path, small_groups: None
) -> None:
    everything_trains = SplitPlan(0, 0, 0)

    def images(out: Path) -> dict[str, list[bytes]]:
        return {
            path.name: [row["bytes"] for row in pq.read_table(path)["image"].to_pylist()]
            for path in parquet(out, "data")
        }

    curation.build(tmp_path / "out", everything_trains)
    before = images(tmp_path / "out")
    assert len(before) > 3
    picture = cv2.imread(str(curation.archive / "P1/scan0.png"), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(curation.archive / "P1" / "scan9.png"), np.roll(picture, 9))
    curation.describe()
    curation.run()
    curation.build(tmp_path / "out", everything_trains)
    after = images(tmp_path / "out")
    changed = [shard for shard in after.values() if shard not in before.values()]
    assert len(changed) <= 2
    assert sum(map(len, after.values())) == 13


def test_a_file_of_any_configuration_that_was_changed_is_written_again(curation: Curation, tmp_path: Path) -> None:
    curation.build(tmp_path / "out")
    for folder in ("regions", "metadata"):
        path = parquet(tmp_path / "out", folder)[0]
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + b"X")
        assert curation.build(tmp_path / "out").shards_written == 1
        assert path.read_bytes() == whole
        path.unlink()
        assert curation.build(tmp_path / "out").shards_written == 1
        assert path.read_bytes() == whole
    listed = json.loads((tmp_path / "out" / MARKER).read_bytes())["configurations"]
    assert {name for split in listed["regions"].values() for name in split["shards"]} == {
        f"regions/{path.name}" for path in parquet(tmp_path / "out", "regions")
    }


def test_a_killed_build_with_other_options_leaves_nothing_that_the_earlier_ones_take_for_theirs(
    curation: Curation, tmp_path: Path
) -> None:
    def killed(path: Path, target: Path) -> Path:
        if target.parent.name == "data":
            raise KeyboardInterrupt
        return real(path, target)

    out, real = tmp_path / "out", Path.replace
    curation.build(out)
    whole = {path: path.read_bytes() for folder in EVERY for path in parquet(out, folder)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            curation.build(out, max_side_px=64)
    assert {path: path.read_bytes() for folder in EVERY for path in parquet(out, folder)} != whole
    curation.build(out)
    assert {path: path.read_bytes() for folder in EVERY for path in parquet(out, folder)} == whole


def test_a_disk_without_room_is_noticed_before_arrow_ends_the_process(
    curation: Curation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match="No space"):
        curation.build(tmp_path / "out")
    assert not (tmp_path / "out" / MARKER).exists()
    assert not parquet(tmp_path / "out", "data")


@pytest.mark.parametrize(
    "where", [f"{write.__name__}.region_rows", "pyarrow.parquet.ParquetWriter.write_table"], ids=["rows", "groups"]
)
def test_a_shard_that_cannot_be_written_leaves_no_marker_and_no_half_of_it(
    curation: Curation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(where, full)
    with pytest.raises(OSError, match="No space"):
        curation.build(tmp_path / "out")
    assert not (tmp_path / "out" / MARKER).exists()
    assert not [
        path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.name not in {".lock", "sono.building"}
    ]
    monkeypatch.undo()
    assert sum(curation.build(tmp_path / "out").splits.values()) == 12
