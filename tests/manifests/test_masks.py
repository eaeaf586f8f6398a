"""Masks survive the run-length encoding bit by bit, and are never made to fit an image they were not drawn on."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from pycocotools import mask as coco

from sono.manifests import masks
from sono.manifests.errors import UserError
from sono.manifests.masks import Mask
from sono.manifests.schemas import RLE


def blank(height: int = 30, width: int = 50) -> Mask:
    return np.zeros((height, width), dtype=np.bool_)


def ring() -> Mask:
    mask = blank()
    mask[5:25, 10:40] = True
    mask[10:20, 20:30] = False
    return mask


def islands() -> Mask:
    mask = blank()
    mask[0:3, 0:4] = mask[27:, 46:] = mask[12:15, 20:21] = True
    return mask


def pixel(row: int, column: int) -> Mask:
    mask = blank()
    mask[row, column] = True
    return mask


SHAPES: dict[str, Mask] = {
    "a ring with its hole": ring(),
    "several parts, corners included": islands(),
    "empty": blank(),
    "full": ~blank(),
    "the first pixel": pixel(0, 0),
    "the last pixel": pixel(29, 49),
    "a pixel inside": pixel(7, 31),
    "one pixel in all": np.ones((1, 1), dtype=np.bool_),
    "one row": np.array([[True, False, True, True]]),
    "one column": np.array([[True], [False], [True]]),
    "a checkerboard": np.indices((17, 23)).sum(axis=0) % 2 == 1,
    "long runs": np.arange(900 * 1100).reshape(900, 1100) > 600_000,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_encoding_and_decoding_is_bit_exact(shape: str) -> None:
    mask = SHAPES[shape]
    rle = masks.encode(mask)
    back = masks.decode(rle, mask.shape)
    assert back.dtype == np.bool_
    np.testing.assert_array_equal(back, mask)
    assert rle["size"] == list(mask.shape)


def test_several_masks_have_the_runs_that_each_has_alone() -> None:
    encoded = [masks.encode(mask) for mask in SHAPES.values()]
    assert masks.runs_of_all([]) == []
    for rle, runs in zip(encoded, masks.runs_of_all(encoded), strict=True):
        np.testing.assert_array_equal(runs, masks.runs_of(rle))
        assert runs.tolist() == runs_by_pycocotools(rle)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(
    "bad",
    [
        masks.Rle(size=[30, 50], counts=masks.encode(blank(30, 49))["counts"]),
        masks.Rle(size=[30, 50], counts=""),
        masks.Rle(size=[30, 50], counts="P"),
        masks.Rle(size=[30, 50], counts=masks.encode(ring())["counts"][:-1] + "\x7f"),
        masks.Rle(size=[-30, -50], counts=masks.encode(ring())["counts"]),
        masks.Rle(size=[2**40, 2**40], counts="0"),
    ],
)
def test_one_mask_that_is_none_among_others_is_refused(bad: masks.Rle, place: int) -> None:
    several = [masks.encode(ring()), masks.encode(islands())]
    several.insert(place, bad)
    with pytest.raises(ValueError, match=r"runs of a mask"):
        masks.runs_of_all(several)


def runs_by_pycocotools(rle: masks.Rle) -> list[int]:
    pixels = coco.decode({"size": rle["size"], "counts": rle["counts"].encode()}).flatten(order="F")
    changes = [0, *(np.flatnonzero(np.diff(pixels)) + 1).tolist(), len(pixels)]
    runs = np.diff(changes).tolist()
    return [0, *runs] if pixels[0] else runs


@pytest.mark.parametrize("seed", range(20))
def test_encoding_and_decoding_random_masks_is_bit_exact(seed: int) -> None:
    random = np.random.default_rng(seed)
    height, width = random.integers(1, 120, 2)
    mask = random.random((height, width)) < random.random()
    np.testing.assert_array_equal(masks.decode(masks.encode(mask)), mask)


@pytest.mark.parametrize(
    "view",
    [
        np.asfortranarray,
        lambda mask: np.flip(mask, axis=0),
        lambda mask: mask[::2, 1::3],
        lambda mask: mask.T,
        lambda mask: np.broadcast_to(mask[:1], mask.shape),
    ],
    ids=["fortran", "flipped", "strided", "transposed", "broadcast"],
)
def test_memory_layout_does_not_matter(view: Callable[[Mask], Mask]) -> None:
    mask = view(np.random.default_rng(3).random((41, 29)) < 0.4)
    rle = masks.encode(mask)
    assert rle == masks.encode(np.ascontiguousarray(mask))
    np.testing.assert_array_equal(masks.decode(rle), mask)


@pytest.mark.parametrize("shape", SHAPES)
def test_pycocotools_reads_and_writes_the_same_encoding(shape: str) -> None:
    mask = SHAPES[shape]
    rle = masks.encode(mask)
    as_coco = {"size": rle["size"], "counts": rle["counts"].encode("ascii")}
    np.testing.assert_array_equal(coco.decode(as_coco).astype(np.bool_), mask)
    assert int(coco.area(as_coco)) == masks.area_px(mask)
    assert [int(side) for side in coco.toBbox(as_coco)] == list(masks.bbox(mask))
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    np.testing.assert_array_equal(masks.decode({"size": theirs["size"], "counts": theirs["counts"].decode()}), mask)


def test_runs_are_column_major() -> None:
    """COCO's uncompressed form of the same mask: 2 off, 1 on (row 2 of column 0), 3 off, 3 on (column 2)."""
    mask = np.array([[False, False, True], [False, False, True], [True, False, True]])
    theirs = coco.frPyObjects({"size": [3, 3], "counts": [2, 1, 3, 3]}, 3, 3)
    assert masks.encode(mask)["counts"] == theirs["counts"].decode("ascii")


def test_an_encoded_mask_is_json_and_fits_the_schema() -> None:
    rle = masks.encode(ring())
    assert json.loads(json.dumps(rle)) == rle
    assert {field.name for field in RLE} == set(rle)


@pytest.mark.parametrize("expected", [(50, 30), (30, 49), (29, 50), (60, 100)])
def test_a_mask_of_the_wrong_size_is_refused_and_both_sizes_are_named(expected: tuple[int, int]) -> None:
    """A transposed mask too: turning it would put it on the wrong side of the image."""
    with pytest.raises(UserError) as caught:
        masks.decode(masks.encode(ring()), expected)
    assert "50x30 px" in str(caught.value)
    assert f"{expected[1]}x{expected[0]} px" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.float32), np.zeros((4, 4, 1), np.bool_), np.zeros(4, np.bool_)],
    ids=["grey levels", "probabilities", "three dimensions", "one dimension"],
)
def test_only_2d_boolean_arrays_are_encoded(array: Mask) -> None:
    with pytest.raises(ValueError, match="a mask is a 2-D boolean array, not "):
        masks.encode(array)


def test_the_box_is_tight_and_the_area_excludes_holes() -> None:
    assert masks.bbox(ring()) == (10, 5, 30, 20)
    assert masks.area_px(ring()) == 20 * 30 - 10 * 10
    assert masks.bbox(islands()) == (0, 0, 50, 30)
    assert masks.bbox(pixel(7, 31)) == (31, 7, 1, 1)
    assert masks.bbox(~blank()) == (0, 0, 50, 30)


def test_an_empty_mask_has_no_area_and_an_empty_box() -> None:
    assert masks.area_px(blank()) == 0
    assert masks.bbox(blank()) == (0, 0, 0, 0)


@pytest.mark.parametrize("counts", ["", "0", "00", "zzzz", "`P`P9", "Vd0", "ù"])
def test_runs_that_do_not_cover_the_image_are_refused(counts: str) -> None:
    """pycocotools fills what is missing with whatever is in memory."""
    with pytest.raises(ValueError, match=r"runs|ascii"):
        masks.decode({"size": [80, 100], "counts": counts})


def test_runs_whose_sum_overflows_are_refused() -> None:
    """64 times 2**58 is 0 in 64 bits: what is left of the sum is the image's size."""
    runs = [2**58] * 64 + [8000]
    numbers = runs[:3] + [run - before for run, before in zip(runs[3:], runs[1:], strict=False)]
    with pytest.raises(ValueError, match="do not cover"):
        masks.decode({"size": [80, 100], "counts": "".join(map(coded, numbers))})


def coded(number: int) -> str:
    """As in COCO's ``rleToString``."""
    text = ""
    while True:
        bits, number = number & 31, number >> 5
        done = number == (-1 if bits & 16 else 0)
        text += chr(48 + (bits if done else bits | 32))
        if done:
            return text
