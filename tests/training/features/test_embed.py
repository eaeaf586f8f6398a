from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from sono.manifests.errors import UserError
from sono.training.cli import app
from sono.training.data.dataset import Row, decode_image, decode_mask, open_split, read_description
from sono.training.features import embed as embedding
from sono.training.features.embed import embed
from sono.training.features.search import search
from sono.training.model.mask_clip import MaskClip
from sono.training.model.transforms import PadToSquare
from sono.training.pretraining import checkpoints

pytestmark = pytest.mark.usefixtures("small_backbones")


@pytest.fixture(scope="module")
def run(small_run: Callable[[str], Path]) -> Path:
    return small_run("test-vit")


@pytest.fixture(scope="module")
def dataset(
    tmp_path_factory: pytest.TempPathFactory, make_rows: Callable[..., Any], write_dataset: Callable[..., Path]
) -> Path:
    """Twelve frames; one without regions, one without a plane, one without a caption."""
    rows = make_rows(12, seed=4)
    rows[3]["regions"], rows[4]["plane"], rows[5]["caption"] = [], None, None
    return write_dataset(tmp_path_factory.mktemp("data") / "few", {"test": rows})


def expected(model: MaskClip, transform: PadToSquare, row: Row, region: int | None) -> np.ndarray[Any, Any]:
    """One frame's features, computed by itself."""
    image = decode_image(row)
    mask = transform.all_one()
    if region is not None:
        mask = transform.mask(decode_mask(row, row["regions"][region], image))
    x_1CHW, m_1HW = torch.from_numpy(transform.image(image).copy())[None], torch.from_numpy(mask.copy())[None]
    with torch.inference_mode():
        return model.eval().encode_image(transform.normalise(x_1CHW, m_1HW))[0].numpy()


@pytest.mark.parametrize("mask", ["none", "region"])
def test_every_frame_or_region_has_a_row_with_its_features(mask: str, run: Path, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "features.parquet"
    result = embed(run, str(dataset), out, mask=mask, frames_per_part=5)
    model, transform, _ = checkpoints.load_model(run, pytest.fail)
    frames = open_split(read_description(str(dataset)), "test")
    rows = [frames.row(index) for index in range(12)]
    wanted = [
        (row["frame_id"], number, region["structure"], region["caption"], row["plane"], index)
        for index, row in enumerate(rows)
        for number, region in (
            enumerate(row["regions"]) if mask == "region" else [(None, {"structure": None, "caption": row["caption"]})]
        )
    ]
    assert (result["rows"], result["frames"]) == ((22, 11) if mask == "region" else (12, 12))
    assert result["frames_without_rows"] == 12 - result["frames"]
    table = pq.read_table(out)
    assert table.schema.field("features").type == pa.list_(pa.float32(), 32)
    assert len(table) == len(wanted)
    for found, (frame_id, number, structure, caption, plane, index) in zip(table.to_pylist(), wanted, strict=True):
        features = np.array(found.pop("features"), dtype=np.float32)
        name = None if plane is None else frames.planes[plane]
        assert found == {
            "frame_id": frame_id, "region": number, "structure": structure, "caption": caption, "plane": name,
        }  # fmt: skip
        assert np.linalg.norm(features) == pytest.approx(1, abs=1e-5)
        assert np.abs(features - expected(model, transform, rows[index], number)).max() < 1e-5
    assert pq.read_metadata(out).num_row_groups == 3
    assert [path.name for path in tmp_path.iterdir()] == ["features.parquet"]


class KilledError(BaseException):
    pass


def test_a_killed_run_keeps_its_complete_parts(
    run: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, computed, features = tmp_path / "features.parquet", [], embedding._features

    def compute(encoder: Any, frames: Any, indices: Any, mask: str) -> Any:
        if len(computed) == 2:
            raise KilledError
        computed.append(int(indices[0]))
        return features(encoder, frames, indices, mask)

    monkeypatch.setattr(embedding, "_features", compute)
    with pytest.raises(KilledError):
        embed(run, str(dataset), out, frames_per_part=5)
    assert (computed, out.exists()) == ([0, 5], False)
    computed.clear()
    with pytest.raises(KilledError):  # other masks are other features: nothing of them is there
        embed(run, str(dataset), out, frames_per_part=5, mask="region")
    assert computed == [0, 6]  # the fourth frame has no region
    computed.clear()
    embed(run, str(dataset), out, frames_per_part=5)
    assert computed == [10]
    monkeypatch.undo()
    whole = tmp_path / "whole.parquet"
    embed(run, str(dataset), whole, frames_per_part=5)
    assert pq.read_table(out).equals(pq.read_table(whole))


def test_duckdb_finds_the_same_rows_as_search(run: Path, dataset: Path, tmp_path: Path) -> None:
    out, query = tmp_path / "features.parquet", "A 20-week fetal ultrasound femur plane."
    embed(run, str(dataset), out, mask="region")
    found = search(out, query, run, count=3)
    model = checkpoints.load_model(run, pytest.fail)[0].eval()
    with torch.inference_mode():
        text = model.encode_text(model.tokenizer([query]))[0].numpy()
    table = pq.read_table(out)
    scores = np.array(table["features"].to_pylist()) @ text
    best = np.argsort(-scores)[:3]
    assert [row["score"] for row in found] == pytest.approx(scores[best].tolist(), abs=1e-5)
    assert [(row["frame_id"], row["region"]) for row in found] == [
        (table["frame_id"][int(row)].as_py(), table["region"][int(row)].as_py()) for row in best
    ]
    beside = tmp_path / "plane=femur"  # which is no column of it
    beside.mkdir()
    assert search(out.rename(beside / out.name), query, run, count=3) == found
    out = beside / out.name
    by_hand = duckdb.execute(  # as docs/training.md has it
        "select frame_id, structure, array_cosine_similarity(features::float[32], $text::float[32]) as score "
        "from read_parquet($file) order by score desc limit 3",
        {"text": text.tolist(), "file": str(out)},
    ).fetchall()
    assert [row[0] for row in by_hand] == [row["frame_id"] for row in found]


def test_features_of_another_checkpoint_are_not_compared(
    run: Path, small_run: Callable[[str], Path], dataset: Path, tmp_path: Path
) -> None:
    out = tmp_path / "features.parquet"
    embed(run, str(dataset), out)
    with pytest.raises(UserError, match=r"its features come from the checkpoint step-00001234 and cannot be compared"):
        search(out, "femur", small_run("test-vit-quickgelu"))
    with pytest.raises(UserError, match="has 32 tokens, but the text tower reads 24"):
        search(out, "fetal " * 30, run)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    (tmp_path / "text.parquet").write_text("no")
    for name in ("other.parquet", "text.parquet", "missing.parquet"):
        with pytest.raises(UserError, match="sono-train embed did not write this file"):
            search(tmp_path / name, "femur", run)


def test_features_never_overwrite_anything_but_themselves(
    run: Path, small_run: Callable[[str], Path], dataset: Path, shapes: Path, tmp_path: Path
) -> None:
    out = tmp_path / "features.parquet"
    embed(run, str(dataset), out)
    before = out.read_bytes()
    embed(run, str(dataset), out)
    calls: dict[str, tuple[Path, Path, str]] = {
        "checkpoint": (small_run("test-vit-quickgelu"), dataset, "none"),
        "dataset": (run, shapes, "none"),
        "mask": (run, dataset, "region"),
    }
    for differing, (other_run, other_dataset, mask) in calls.items():
        with pytest.raises(UserError, match=f"features of another {differing}; name another file, or delete this"):
            embed(other_run, str(other_dataset), out, mask=mask)
    assert out.read_bytes() == before
    (tmp_path / "notes.parquet").write_text("mine")
    for other in (tmp_path / "notes.parquet", next(dataset.glob("data/*.parquet")), dataset / "features.parquet"):
        with pytest.raises(UserError, match=r"sono-train embed did not write it|finished dataset or checkpoint"):
            embed(run, str(dataset), other)
    assert (tmp_path / "notes.parquet").read_text() == "mine"
    assert read_description(str(dataset)).rows("test") == 12  # complete, with no file that it does not list


@pytest.mark.parametrize("query", ["", " ", "\n\t"])
def test_an_empty_text_is_not_searched(query: str, run: Path, dataset: Path, tmp_path: Path) -> None:
    embed(run, str(dataset), tmp_path / "features.parquet")
    with pytest.raises(UserError, match="the text to search for is empty; describe what to look for"):
        search(tmp_path / "features.parquet", query, run)


def test_impossible_requests_are_one_line_errors(
    run: Path, dataset: Path, tmp_path: Path, make_rows: Callable[..., Any], write_dataset: Callable[..., Path]
) -> None:
    with pytest.raises(UserError, match="this is a folder"):
        embed(run, str(dataset), tmp_path)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=r"file/out.parquet: cannot be written: Not a directory; free space"):
        embed(run, str(dataset), tmp_path / "file" / "out.parquet")
    (tmp_path / "file").unlink()
    with pytest.raises(UserError, match="no checkpoint found"):
        embed(tmp_path, str(dataset), tmp_path / "out.parquet")
    rows = [{**row, "regions": []} for row in make_rows(3, seed=8)]
    bare = write_dataset(tmp_path / "bare", {"test": rows})
    with pytest.raises(UserError, match="no frame of the test split has a region"):
        embed(run, str(bare), tmp_path / "out.parquet", mask="region")
    assert [path.name for path in tmp_path.iterdir()] == ["bare"]


def test_embed_and_search_find_matching_frames(
    learned: Path, shapes: Path, sono_train: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    out = tmp_path / "features.parquet"
    done = sono_train("embed", learned, shapes, out, "--mask", "region", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["rows"] == 160
    query = "A 21-week fetal ultrasound femur plane. The segmentation highlights the spine."
    found = CliRunner().invoke(app, ["search", str(out), query, "--run", str(learned), "--count", "20"])
    assert found.exit_code == 0
    lines = found.stdout.splitlines()
    assert len(lines) == 20
    assert sum("  femur  " in line for line in lines) > 10  # a quarter of the rows is of that plane
    exported = CliRunner().invoke(app, ["export", str(learned), str(tmp_path / "out"), "--format", "transformers"])
    assert exported.exit_code == 0
    assert "model.safetensors" in exported.stdout
