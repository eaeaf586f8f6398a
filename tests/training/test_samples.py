from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from sono.manifests.errors import UserError
from sono.training import data, recipes
from sono.training.captions import CaptionTokenizer
from sono.training.samples import Batches, Pool, Sample, Samples, batches_from, make_pool, order
from sono.training.transforms import PadToSquare
from sono.training.views import FrameViews, Views

TRANSFORM = PadToSquare(size=32)


@pytest.fixture(scope="module")
def pool(shapes: Path) -> Pool:
    return make_pool(data.open_split(data.describe(str(shapes)), "train"), CaptionTokenizer(77))


def samples(pool: Pool, seed: int = 0, **settings: float) -> Samples:
    return Samples(pool, TRANSFORM, recipes.Data(**settings), seed)  # type: ignore[arg-type]


def test_an_epoch_is_a_permutation_and_a_function_of_seed_and_epoch() -> None:
    orders = {(seed, epoch): order(1000, seed, epoch).tolist() for seed in (0, 1) for epoch in (0, 1)}
    for one in orders.values():
        assert sorted(one) == list(range(1000))
    assert len({tuple(one) for one in orders.values()}) == 4
    assert order(1000, 1, 1).tolist() == orders[1, 1]


def test_no_frame_is_lost_or_repeated_within_an_epoch_though_batches_do_not_divide_it() -> None:
    drawn = [key for batch in Batches(50, 8, seed=3, first=0, last=25) for key in batch]  # 200 samples are 4 epochs
    assert Counter(epoch for epoch, _ in drawn) == dict.fromkeys(range(4), 50)
    assert all(count == 1 for count in Counter(drawn).values())
    orders = {tuple(index for of, index in drawn if of == epoch) for epoch in range(4)}
    assert len(orders) == 4


def test_a_batch_is_a_function_of_its_step() -> None:
    whole = list(Batches(50, 8, seed=3, first=0, last=25))
    assert list(Batches(50, 8, seed=3, first=11, last=25)) == whole[11:]


def test_ranks_share_every_batch_without_overlap() -> None:
    whole = list(Batches(50, 8, seed=3, first=2, last=9))
    shares = [list(Batches(50, 8, seed=3, first=2, last=9, rank=rank, world_size=4)) for rank in range(4)]
    assert [list(itertools.chain(*parts)) for parts in zip(*shares, strict=True)] == whole


def test_a_sample_is_a_function_of_seed_epoch_and_index(pool: Pool) -> None:
    one, again = samples(pool)[2, 17], samples(pool)[2, 17]
    assert isinstance(one, Sample)
    assert isinstance(again, Sample)
    assert (one.caption, one.mask.tobytes()) == (again.caption, again.mask.tobytes())
    drawings = [samples(pool, seed=seed, global_fraction=0.3) for seed in range(4)]
    drawn = {drawing[epoch, 17].caption for drawing in drawings for epoch in range(4)}
    assert len(drawn) == 3  # the whole image and two regions


def test_regions_are_chosen_evenly_and_whole_images_as_often_as_asked(pool: Pool) -> None:
    row = pool.frames.row(5)
    names = {row["caption"]: "global", **{region["caption"]: region["structure"] for region in row["regions"]}}
    drawn = Counter(names[samples(pool, global_fraction=0.2)[epoch, 5].caption] for epoch in range(1500))
    assert drawn["global"] / 1500 == pytest.approx(0.2, abs=0.04)
    for region in row["regions"]:
        assert drawn[region["structure"]] / 1500 == pytest.approx(0.4, abs=0.05)


def test_a_region_s_caption_comes_with_its_own_mask_and_a_whole_image_with_all_one(pool: Pool) -> None:
    row = pool.frames.row(6)
    image = data.decode_image(row)
    expected = {region["caption"]: TRANSFORM.mask(data.decode_mask(row, region, image)) for region in row["regions"]}
    expected[row["caption"]] = TRANSFORM.all_one()
    seen = set()
    for epoch in range(40):
        sample = samples(pool, global_fraction=0.3)[epoch, 6]
        assert np.array_equal(sample.mask, expected[sample.caption])
        assert np.array_equal(sample.image, TRANSFORM.image(image))
        seen.add(sample.caption)
    assert seen == set(expected)


def test_evaluation_sees_a_frame_exactly_as_training_does(pool: Pool) -> None:
    row = pool.frames.row(8)
    image = data.decode_image(row)
    views = FrameViews(pool.frames, np.array([8]), None, ("none", "region"), TRANSFORM)[0]
    assert isinstance(views, Views)
    assert np.array_equal(views.image, TRANSFORM.image(image))
    of_evaluation = {mask.tobytes() for masks in views.masks.values() for mask in masks}
    of_training = {samples(pool, global_fraction=0.3)[epoch, 8].mask.tobytes() for epoch in range(40)}
    assert of_evaluation == of_training


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_hold_every_distinct_caption_once_and_do_not_depend_on_the_workers(pool: Pool, workers: int) -> None:
    recipe = recipes.override(recipes.tiny(), [f"data.workers={workers}", "train.batch_size=16"])
    tokenizer = CaptionTokenizer(77)
    batches = list(batches_from(3, 6, pool, TRANSFORM, tokenizer, recipe))
    assert len(batches) == 3
    drawn = Samples(pool, TRANSFORM, recipe.data, recipe.train.seed)
    for batch, keys in zip(batches, Batches(240, 16, 0, first=3, last=6), strict=True):
        pairs = [drawn[key] for key in keys]
        assert len(torch.unique(batch.tokens, dim=0)) == len(batch.tokens) == len({pair.caption for pair in pairs})
        assert torch.equal(batch.tokens[batch.captions], tokenizer([pair.caption for pair in pairs]))
        assert np.array_equal(batch.images.numpy(), np.stack([pair.image for pair in pairs]))
        assert np.array_equal(batch.masks.numpy(), np.stack([pair.mask for pair in pairs]))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_fault_in_the_data_keeps_its_one_line_on_the_way_from_a_worker(
    workers: int, make_rows, write_dataset, tmp_path: Path
) -> None:
    rows = make_rows(4, seed=9)
    for row in rows:
        row["image"]["bytes"] = row["image"]["bytes"][:100]
    folder = write_dataset(tmp_path / "dataset", {"train": rows})
    faulty = make_pool(data.open_split(data.describe(str(folder)), "train"), CaptionTokenizer(77))
    recipe = recipes.override(recipes.tiny(), [f"data.workers={workers}", "train.batch_size=4"])
    with pytest.raises(UserError) as raised:
        next(batches_from(0, 2, faulty, TRANSFORM, CaptionTokenizer(77), recipe))
    assert "the image cannot be decoded" in str(raised.value)
    assert "\n" not in str(raised.value)
