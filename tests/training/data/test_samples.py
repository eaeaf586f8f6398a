from __future__ import annotations

import io
import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sono.manifests import masks
from sono.manifests.errors import UserError
from sono.training import recipes
from sono.training.data.dataset import decode_image, decode_mask, open_split, read_description
from sono.training.data.joined import JoinedFrames
from sono.training.data.mixture import mix
from sono.training.data.pool import Pool, make_pool, with_cache
from sono.training.data.samples import Batches, Sample, Samples, batches_from
from sono.training.data.together import open_together, read_descriptions
from sono.training.features.views import FrameViews, Views
from sono.training.model.tokenizer import CaptionTokenizer
from sono.training.model.transforms import PadToSquare

TRANSFORM = PadToSquare(size=32)


@pytest.fixture(scope="module")
def pool(shapes: Path) -> Pool:
    return make_pool(open_together(read_descriptions([str(shapes)])), CaptionTokenizer(77))


def samples(pool: Pool, *settings: str, seed: int = 0) -> Samples:
    return Samples(pool, TRANSFORM, recipes.override(recipes.tiny(), [f"train.seed={seed}", *settings]))


def text(pool: Pool, sample: Sample | UserError) -> str:
    assert isinstance(sample, Sample)
    return pool.bank.texts[sample.caption]


def test_an_epoch_is_a_permutation_and_a_function_of_seed_and_epoch() -> None:
    mixture = mix([1000])
    orders = {(seed, epoch): mixture.order(seed, epoch)[:, 1].tolist() for seed in (0, 1) for epoch in (0, 1)}
    for one in orders.values():
        assert sorted(one) == list(range(1000))
    assert len({tuple(one) for one in orders.values()}) == 4
    assert mixture.order(1, 1)[:, 1].tolist() == orders[1, 1]


@pytest.mark.parametrize("cache", [False, True])
def test_the_mask_of_a_whole_image_may_leave_its_padding_out(cache: bool, pool: Pool, tmp_path: Path) -> None:
    """Only those of whole images differ, and no draw does."""
    if cache:
        pool = with_cache(pool, TRANSFORM, recipes.Data(cache=str(tmp_path)), lambda _: None)
    square, image = (
        samples(pool, "data.global_fraction=0.5", f"data.whole_mask={kind}") for kind in ("square", "image")
    )
    wholes = 0
    for index in range(30):
        one, other = square[0, index], image[0, index]
        assert isinstance(one, Sample)
        assert isinstance(other, Sample)
        assert (one.caption, one.origin) == (other.caption, other.origin)
        assert np.array_equal(one.image, other.image)
        width, height = decode_image(pool.frames.parts[0].row(int(pool.usable[index]))).size
        expected = TRANSFORM.image_area(width, height) if one.origin.structure == "" else one.mask
        assert np.array_equal(other.mask, expected)
        wholes += one.origin.structure == "" and width != height and not np.array_equal(one.mask, other.mask)
    assert wholes > 5


def test_no_frame_is_lost_or_repeated_if_batches_do_not_divide_an_epoch() -> None:
    drawn = [
        key for batch in Batches(mix([50]), 8, seed=3, first=0, last=25) for key in batch
    ]  # 200 samples are 4 epochs
    assert Counter(epoch for epoch, _ in drawn) == dict.fromkeys(range(4), 50)
    assert all(count == 1 for count in Counter(drawn).values())
    orders = {tuple(index for of, index in drawn if of == epoch) for epoch in range(4)}
    assert len(orders) == 4


def test_a_batch_is_a_function_of_its_step() -> None:
    whole = list(Batches(mix([50]), 8, seed=3, first=0, last=25))
    assert list(Batches(mix([50]), 8, seed=3, first=11, last=25)) == whole[11:]


def test_ranks_share_every_batch_without_overlap() -> None:
    whole = list(Batches(mix([50]), 8, seed=3, first=2, last=9))
    shares = [list(Batches(mix([50]), 8, seed=3, first=2, last=9, rank=rank, world_size=4)) for rank in range(4)]
    assert [list(itertools.chain(*parts)) for parts in zip(*shares, strict=True)] == whole


def test_a_sample_is_a_function_of_seed_epoch_and_index(pool: Pool) -> None:
    one, again = samples(pool)[2, 17], samples(pool)[2, 17]
    assert isinstance(one, Sample)
    assert isinstance(again, Sample)
    assert (one.caption, one.mask.tobytes()) == (again.caption, again.mask.tobytes())
    drawings = [samples(pool, "data.global_fraction=0.3", seed=seed) for seed in range(4)]
    drawn = {text(pool, drawing[epoch, 17]) for drawing in drawings for epoch in range(4)}
    assert len(drawn) == 3  # the whole image and two regions


def test_a_region_caption_has_its_own_mask_and_a_whole_image_a_mask_of_ones(pool: Pool) -> None:
    row = pool.frames.parts[0].row(6)
    image = decode_image(row)
    expected = {region["caption"]: TRANSFORM.mask(decode_mask(row, region, image)) for region in row["regions"]}
    expected[row["caption"]] = TRANSFORM.all_one()
    names = {row["caption"]: "", **{region["caption"]: region["structure"] for region in row["regions"]}}
    seen = set()
    for epoch in range(40):
        sample = samples(pool, "data.global_fraction=0.3")[epoch, 6]
        assert isinstance(sample, Sample)
        caption = text(pool, sample)
        assert np.array_equal(sample.mask, expected[caption])
        assert sample.image.shape == (1, 32, 32)  # grey frames stay grey
        assert np.array_equal(np.broadcast_to(sample.image, (3, 32, 32)), TRANSFORM.image(image))
        assert sample.origin == ("shapes", row["frame_id"], names[caption])
        seen.add(caption)
    assert seen == set(expected)


@pytest.mark.parametrize("frame", [0, 1, 2])  # landscape, portrait, square
def test_evaluation_sees_a_frame_exactly_as_training_does(pool: Pool, frame: int) -> None:
    """Padded in both, no crop in either, and "one everywhere" is the same mask."""
    row = pool.frames.parts[0].row(frame)
    image = decode_image(row)
    views = FrameViews(pool.frames.parts[0], np.array([frame]), ("none", "region"), TRANSFORM)[0]
    assert isinstance(views, Views)
    assert np.array_equal(views.image, TRANSFORM.image(image))
    of_evaluation = {mask.tobytes() for masks in views.masks.values() for mask in masks}
    drawn = [samples(pool, "data.global_fraction=0.3")[epoch, frame] for epoch in range(40)]
    of_training = {sample.mask.tobytes() for sample in drawn if isinstance(sample, Sample)}
    assert of_evaluation == of_training
    whole = [sample.mask for sample in drawn if isinstance(sample, Sample) and not sample.origin.structure]
    assert all((mask == 255).all() for mask in [*whole, *views.masks["none"]])


def test_the_edges_of_a_wide_frame_are_kept_in_training(
    make_rows: Callable[..., Any], write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    row = make_rows(1, seed=4)[0]
    pixels = np.zeros((60, 240), dtype=np.uint8)
    pixels[:, :20] = 200  # a centre crop would not show it
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    at_edge = masks.encode(pixels > 0)
    row["image"]["bytes"] = buffer.getvalue()
    row["regions"] = [{**row["regions"][0], "mask": at_edge}]
    folder = write_dataset(tmp_path / "dataset", {"train": [row]}, shards=1)
    edge = make_pool(open_together(read_descriptions([str(folder)])), CaptionTokenizer(77))
    sample = samples(edge, "data.global_fraction=0")[0, 0]
    assert isinstance(sample, Sample)
    assert sample.image[0, 16, 0] == 200
    assert sample.mask[16, 0] == 255
    assert sample.image[0, 2, 0] == sample.mask[2, 0] == 0  # padding


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_hold_every_distinct_caption_once_and_do_not_depend_on_the_workers(pool: Pool, workers: int) -> None:
    recipe = recipes.override(recipes.tiny(), [f"data.workers={workers}", "train.batch_size=16"])
    tokenizer = CaptionTokenizer(77)
    batches = list(batches_from(3, 6, pool, TRANSFORM, tokenizer, recipe))
    assert len(batches) == 3
    drawn = Samples(pool, TRANSFORM, recipe)
    for batch, keys in zip(batches, Batches(mix([240]), 16, 0, first=3, last=6), strict=True):
        pairs = [pair for key in keys if isinstance(pair := drawn[key], Sample)]
        texts = [pool.bank.texts[pair.caption] for pair in pairs]
        assert len(torch.unique(batch.tokens, dim=0)) == len(batch.tokens) == len(set(texts))
        assert torch.equal(batch.tokens[batch.captions], tokenizer(texts))
        assert batch.caption_ids[batch.captions].tolist() == [pair.caption for pair in pairs]
        assert np.array_equal(batch.images.numpy(), np.stack([pair.image for pair in pairs]))
        assert np.array_equal(batch.masks.numpy(), np.stack([pair.mask for pair in pairs]))
        assert batch.origins == [pair.origin for pair in pairs]


@pytest.mark.parametrize(("world_size", "workers"), [(1, 2), (2, 0), (4, 1)])
@pytest.mark.slow
def test_ranks_workers_and_resumes_together_see_the_single_stream(pool: Pool, world_size: int, workers: int) -> None:
    """240 frames in batches of 32: 15 steps are two epochs; stopped after steps 4 and 9, as a killed job is."""
    settings = ["train.batch_size=32", "augment.speckle=0.1", "augment.mask_edge=0.2", "data.region_sampling=structure"]
    recipe = recipes.override(recipes.tiny(), settings)
    tokenizer = CaptionTokenizer(77)
    single = list(batches_from(0, 15, pool, TRANSFORM, tokenizer, recipe))
    assert Counter(origin.frame_id for batch in single for origin in batch.origins) == dict.fromkeys(
        pool.frames.column("frame_id").to_pylist(), 2
    )
    recipe = recipes.override(recipe, [f"data.workers={workers}"])
    shares = [
        [
            batch
            for first, last in ((0, 4), (4, 9), (9, 15))
            for batch in batches_from(first, last, pool, TRANSFORM, tokenizer, recipe, rank=rank, world_size=world_size)
        ]
        for rank in range(world_size)
    ]
    for whole, *parts in zip(single, *shares, strict=True):
        assert [origin for part in parts for origin in part.origins] == whole.origins
        assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
        assert torch.equal(torch.cat([part.masks for part in parts]), whole.masks)
        ids = [part.caption_ids[part.captions] for part in parts]
        assert torch.equal(torch.cat(ids), whole.caption_ids[whole.captions])


def test_a_batch_has_three_channels_if_any_frame_is_in_colour(
    make_rows: Callable[..., Any], write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    rows = make_rows(4, seed=9)
    pixels = np.zeros((*decode_image(rows[2]).size[::-1], 3), dtype=np.uint8)
    pixels[..., 0] = 90
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    rows[2]["image"]["bytes"] = buffer.getvalue()
    folder = write_dataset(tmp_path / "dataset", {"train": rows})
    mixed = make_pool(open_together(read_descriptions([str(folder)])), CaptionTokenizer(77))
    recipe = recipes.override(recipes.tiny(), ["train.batch_size=4"])
    batch = next(batches_from(0, 1, mixed, TRANSFORM, CaptionTokenizer(77), recipe))
    assert batch.images.shape == (4, 3, 32, 32)
    frames = {row["frame_id"]: TRANSFORM.image(decode_image(row)) for row in rows}
    for origin, image in zip(batch.origins, batch.images, strict=True):
        assert np.array_equal(image.numpy(), frames[origin.frame_id])


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_the_data_keeps_its_text_across_processes(
    workers: int, make_rows, write_dataset, tmp_path: Path
) -> None:
    rows = make_rows(4, seed=9)
    for row in rows:
        row["image"]["bytes"] = row["image"]["bytes"][:100]
    folder = write_dataset(tmp_path / "dataset", {"train": rows})
    faulty = make_pool(open_together(read_descriptions([str(folder)])), CaptionTokenizer(77))
    recipe = recipes.override(recipes.tiny(), [f"data.workers={workers}", "train.batch_size=4"])
    with pytest.raises(UserError) as raised:
        next(batches_from(0, 2, faulty, TRANSFORM, CaptionTokenizer(77), recipe))
    assert "the image cannot be decoded" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_mask_of_another_shape_is_an_error_and_never_rotated(
    workers: int, make_rows: Callable[..., Any], write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    rows = make_rows(1, seed=9)  # 120 x 80 px
    rows[0]["regions"][0]["mask"] = masks.encode(np.ones((120, 80), dtype=np.bool_))
    del rows[0]["regions"][1]
    folder = write_dataset(tmp_path / "dataset", {"train": rows * 2}, shards=1)
    turned = make_pool(open_together(read_descriptions([str(folder)])), CaptionTokenizer(77))
    settings = [f"data.workers={workers}", "train.batch_size=2", "data.global_fraction=0"]
    with pytest.raises(UserError) as raised:
        next(batches_from(0, 1, turned, TRANSFORM, CaptionTokenizer(77), recipes.override(recipes.tiny(), settings)))
    assert f"frame {rows[0]['frame_id']}: the mask is 80x120 px but its image is 120x80 px" in str(raised.value)


def test_a_dataset_without_regions_is_refused_unless_only_whole_images_are_needed(
    make_rows: Callable[..., Any], write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [{**row, "regions": []} for row in make_rows(4, seed=9)]
    folder = write_dataset(tmp_path / "dataset", {"train": rows})
    frames = open_split(read_description(str(folder)), "train")
    with pytest.raises(UserError, match=r"no frame of the train split has a region.*--set data\.global_fraction=1$"):
        make_pool(JoinedFrames((frames,)), CaptionTokenizer(77), global_fraction=0.1)
    whole = make_pool(JoinedFrames((frames,)), CaptionTokenizer(77), global_fraction=1.0)
    assert (len(whole), whole.without_regions(0)) == (4, 4)
    sample = samples(whole, "data.global_fraction=1")[0, 0]
    assert isinstance(sample, Sample)
    assert (sample.mask == 255).all()
