"""Regions of which nothing is left: found without decoding the others, never drawn, and counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sono.manifests import masks
from sono.manifests.schemas import DATASET_REGION
from sono.training import recipes
from sono.training.data.dataset import open_split, read_description
from sono.training.data.joined import JoinedFrames
from sono.training.data.pool import make_pool
from sono.training.data.visible_regions import are_visible, count_regions
from sono.training.model.tokenizer import CaptionTokenizer
from sono.training.model.transforms import PadToSquare

Rows = list[dict[str, Any]]


def region(mask: masks.Mask, **values: Any) -> dict[str, Any]:
    described = {"mask": masks.encode(mask), "bbox": list(masks.bbox(mask)), "area_px": masks.area_px(mask)}
    return (
        {"structure": "falx", "caption": "The segmentation highlights the falx.", "source": "import"}
        | described
        | values
    )


def dot(height: int, width: int, side: int, at: int) -> masks.Mask:
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[at : at + side, at : at + side] = True
    return mask


def test_a_region_is_visible_if_its_letterboxed_mask_is_not_empty() -> None:
    random, transform = np.random.default_rng(0), PadToSquare(size=48)
    drawn = [dot(700, 1024, side, at) for side in (0, 1, 2, 3, 40) for at in (0, 95, 96, 300, 511)]
    drawn += [random.random((900, 1400)) < share for share in (1e-5, 1e-4, 1e-3)]
    drawn += [dot(40, 40, 1, 7), dot(40, 40, 0, 7)]
    lists = pa.array([[region(mask)] for mask in drawn], pa.list_(DATASET_REGION))
    expected = [bool(transform.mask(mask).any()) for mask in drawn]
    assert are_visible(lists, transform).tolist() == expected
    assert len(set(expected)) == 2
    assert are_visible(lists, None).tolist() == [bool(mask.any()) for mask in drawn]


def test_only_regions_that_may_vanish_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    lists = pa.array([[region(dot(700, 1024, 40, 20))], [region(dot(40, 40, 1, 7))]], pa.list_(DATASET_REGION))
    monkeypatch.setattr(masks, "decode", pytest.fail)
    assert are_visible(lists, PadToSquare(size=48)).all()


def test_a_vanished_region_is_not_trained_on_and_counted(
    make_rows: Callable[..., Rows], write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    rows = make_rows(8, seed=71)
    height, width = rows[0]["regions"][0]["mask"]["size"]
    rows[0]["regions"][1] |= region(dot(height, width, 0, 0))
    for each in rows[1]["regions"]:
        each |= region(np.zeros(each["mask"]["size"], dtype=np.bool_))
    frames = open_split(read_description(str(write_dataset(tmp_path / "dataset", {"train": rows}))), "train")
    pool = make_pool(JoinedFrames((frames,)), CaptionTokenizer(77), PadToSquare(size=64))
    assert (len(pool), pool.without_regions(0), pool.regions_vanished) == (8, 1, 3)
    settings, random = recipes.Data(global_fraction=0.0), np.random.default_rng(0)
    assert {pool.pairs.draw(0, settings, random).region for _ in range(30)} == {0}
    assert {pool.pairs.draw(1, settings, random).region for _ in range(30)} == {None}
    visible, vanished = count_regions(frames, PadToSquare(size=64))
    assert (visible.tolist()[:3], vanished.tolist()[:3]) == ([1, 0, 2], [1, 2, 0])
