"""Masks that a program made, in the dataset itself or in a second one with the same frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from sono.manifests.errors import UserError
from sono.manifests.schemas import PREDICTED_SOURCES
from sono.training.data.dataset import open_split, read_description
from sono.training.evaluation.scoring import Scoring
from sono.training.evaluation.zero_shot.run import evaluate
from sono.training.features.predicted_masks import PredictedMasks
from sono.training.model.transforms import PadToSquare

Rows = list[dict[str, Any]]
FIGURES = ("top1", "top5", "f1", "per_plane", "confusion", "calibration")


def from_program(region: dict[str, Any], number: int = 0) -> dict[str, Any]:
    return {**region, "source": PREDICTED_SOURCES[number % len(PREDICTED_SOURCES)]}


def with_regions(row: dict[str, Any], regions: list[dict[str, Any]]) -> dict[str, Any]:
    return {**row, "regions": regions}


def figures(result: dict[str, Any], mask: str) -> dict[str, Any]:
    return {name: result["masks"][mask][name] for name in FIGURES}


@pytest.fixture
def score(
    random_run: Callable[..., Path], write_dataset: Callable[..., Path], tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    run = random_run(5)

    def write_and_score(rows: Rows, masks: tuple[str, ...], second: Rows | None = None, **options: Any) -> Any:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        dataset = write_dataset(folder / "dataset", {"test": rows})
        if second is not None:
            splits = {"train": second[::2], "test": second[1::2]}  # where a frame is in there does not matter
            options["predicted"] = str(write_dataset(folder / "second", splits))
        return evaluate(Scoring(run, str(dataset), resamples=10), masks=masks, **options)

    return write_and_score


@pytest.mark.slow
def test_predicted_uses_only_predicted_masks(
    score: Callable[..., dict[str, Any]], make_rows: Callable[..., Rows]
) -> None:
    rows = make_rows(16, seed=31)
    first = [with_regions(row, [row["regions"][0], from_program(row["regions"][1], n)]) for n, row in enumerate(rows)]
    result = score(first, ("none", "region", "predicted"))
    made_by = {"sam": 4, "onnx": 3, "grabcut": 3, "model": 3, "flow": 3}
    assert result["masks"]["predicted"]["sources"] == made_by
    assert result["masks"]["region"]["sources"] == {"import": 16, **made_by}
    second_only = score([with_regions(row, [row["regions"][1]]) for row in rows], ("region",))
    assert figures(result, "predicted") == figures(second_only, "region") != figures(result, "region")
    assert list(result["minus_none"]) == ["region", "predicted"]
    assert list(result["minus_region"]) == ["predicted"]
    gain, ours, theirs = (
        result["minus_region"]["predicted"]["top1"]["value"],
        result["masks"]["predicted"]["top1"]["value"],
        result["masks"]["region"]["top1"]["value"],
    )
    assert gain == pytest.approx(ours - theirs)


@pytest.mark.slow
def test_a_second_dataset_provides_masks_and_frames_without_one_are_counted(
    score: Callable[..., dict[str, Any]], make_rows: Callable[..., Rows]
) -> None:
    rows = make_rows(16, seed=32)
    rows[15]["regions"] = []
    moved = [
        with_regions(row, [from_program(rows[number - 3]["regions"][0] if number >= 3 else row["regions"][0])])
        for number, row in enumerate(rows[:12])
    ]  # three back is a frame of the same size
    moved[11]["regions"] = [{**moved[11]["regions"][0], "source": "manual"}]
    result = score(rows, ("none", "region", "predicted"), moved)
    counts = ("n_frames", "frames_without_regions", "frames_without_predicted", "frames_without_plane")
    assert [result[name] for name in counts] == [11, 1, 4, 0]
    assert result["predicted_dataset"]["name"].endswith("second")
    assert result["predicted_dataset"]["fingerprint"] != result["dataset"]["fingerprint"]
    assert result["masks"]["predicted"]["sources"] == {"sam": 11}
    assert result["masks"]["region"]["sources"] == {"import": 22}
    exchanged = [with_regions(row, made["regions"]) for row, made in zip(rows, moved, strict=False)]
    by_hand = score(exchanged[:11], ("region",))
    assert figures(result, "predicted") == figures(by_hand, "region")
    alone = score(rows[:11], ("none", "region"))
    for mask in ("none", "region"):
        assert figures(result, mask) == figures(alone, mask)


def test_without_predicted_masks_the_error_says_how_to_provide_them(
    score: Callable[..., dict[str, Any]], make_rows: Callable[..., Rows]
) -> None:
    rows = make_rows(8, seed=33)
    with pytest.raises(UserError, match=r"no frame of the test split has a predicted mask.* --predicted DATASET"):
        score(rows, ("predicted",))
    others = [with_regions(row, [from_program(region) for region in row["regions"]]) for row in make_rows(8, seed=34)]
    with pytest.raises(UserError, match=r"second: no frame of the test split has a predicted mask"):
        score(rows, ("predicted",), others)


def test_a_predicted_mask_of_another_size_is_an_error_that_names_the_frame(
    score: Callable[..., dict[str, Any]], make_rows: Callable[..., Rows]
) -> None:
    rows = make_rows(8, seed=35)
    second = [with_regions(row, [from_program(rows[n - 1]["regions"][0])]) for n, row in enumerate(rows)]
    with pytest.raises(UserError, match=rf"frame {rows[0]['frame_id']}: the mask is \d+x\d+ px but its image is"):
        score(rows, ("predicted",), second)


def test_a_dataset_without_sources_is_refused(
    make_rows: Callable[..., Rows],
    write_dataset: Callable[..., Path],
    describe_again: Callable[..., None],
    tmp_path: Path,
) -> None:
    folder = write_dataset(tmp_path / "dataset", {"test": make_rows(8, seed=36)}, shards=1)
    file = next((folder / "data").glob("*.parquet"))
    table = pq.read_table(file)
    rows = table.to_pylist()
    for row in rows:
        for region in row["regions"]:
            del region["source"]
    without = table.drop_columns(["regions"]).append_column("regions", [[row["regions"] for row in rows]])
    metadata = table.schema.metadata[b"huggingface"].replace(b', "source": {"dtype": "string", "_type": "Value"}', b"")
    pq.write_table(without.replace_schema_metadata({b"huggingface": metadata}), file)
    describe_again(folder)
    frames = open_split(read_description(str(folder)), "test")
    with pytest.raises(UserError, match="do not say where their masks come from; run sono-curate build again"):
        PredictedMasks.find(frames, None, PadToSquare(size=64))
