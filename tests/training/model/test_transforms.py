from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from sono.training.model.transforms import CropToSquare, PadToSquare

SIZE = 32


def box(height: int, width: int, x: int, y: int, w: int, h: int) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[y : y + h, x : x + w] = True
    return mask


@pytest.mark.parametrize(
    ("height", "width", "inside"),
    [
        (64, 128, (slice(8, 24), slice(0, 32))),  # landscape: padded above and below
        (128, 64, (slice(0, 32), slice(8, 24))),  # portrait: padded left and right
        (128, 128, (slice(0, 32), slice(0, 32))),
    ],
)
def test_image_and_mask_are_aligned_and_padding_is_outside(
    height: int, width: int, inside: tuple[slice, slice]
) -> None:
    transform = PadToSquare(size=SIZE)
    image = transform.image(Image.new("L", (width, height), 200))
    mask = transform.mask(np.ones((height, width), dtype=np.bool_))
    expected = np.zeros((SIZE, SIZE), dtype=np.uint8)
    expected[inside] = 255
    assert image.shape == (3, SIZE, SIZE)
    assert np.array_equal(mask, expected)
    middle = np.zeros((SIZE, SIZE), dtype=bool)
    middle[inside[0].start + 2 : inside[0].stop - 2, inside[1].start + 2 : inside[1].stop - 2] = True
    assert (image[:, middle] == 200).all()
    far = np.ones((SIZE, SIZE), dtype=bool)
    far[max(0, inside[0].start - 2) : inside[0].stop + 2, max(0, inside[1].start - 2) : inside[1].stop + 2] = False
    assert (image[:, far] == 0).all()


def test_a_structure_and_its_mask_cover_the_same_pixels() -> None:
    transform = PadToSquare(size=SIZE)
    mask = box(60, 96, 30, 12, 24, 18)
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    assert np.abs(transform.image(image)[0].astype(int) - transform.mask(mask)).max() < 64  # bicubic against area
    assert np.array_equal(transform.image(image)[0] > 127, transform.mask(mask) > 127)


def test_mask_edges_hold_the_covered_area() -> None:
    mask = PadToSquare(size=4).mask(box(16, 16, 0, 0, 6, 16))  # covers one column of cells and half of the second
    assert mask.tolist() == [[255, 128, 0, 0]] * 4


def test_all_one_includes_the_padding() -> None:
    assert (PadToSquare(size=SIZE).all_one() == 255).all()


def test_normalised_values() -> None:
    transform = PadToSquare(size=2, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))
    image = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    mask = torch.tensor([[[255, 0], [0, 255]]], dtype=torch.uint8)
    x = transform.normalise(image, mask)
    assert x.shape == (1, 4, 2, 2)
    assert x[0, :3, 0, 0].tolist() == [1.0, 3.0, 1.0]
    assert x[0, 3].flatten().tolist() == pytest.approx([0.5 / 0.26, -0.5 / 0.26, -0.5 / 0.26, 0.5 / 0.26])


def test_grey_and_colour_versions_of_an_image_agree() -> None:
    grey = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70), dtype=np.uint8))
    transform = PadToSquare(size=SIZE)
    assert np.array_equal(transform.image(grey), transform.image(grey.convert("RGB")))
    assert np.array_equal(transform.image(grey), transform.image(grey.convert("P")))


def test_a_transform_survives_a_round_trip_through_json() -> None:
    transform = PadToSquare(size=96, mean=(0.1, 0.2, 0.3))
    assert PadToSquare.from_dict(json.loads(json.dumps(transform.to_dict()))) == transform


@pytest.mark.parametrize(("height", "width"), [(64, 129), (129, 64), (97, 97), (65, 66)])
def test_the_crop_is_that_of_the_released_test(height: int, width: int) -> None:
    """Its reader cuts ``side`` rows and columns out, from half of the image less half of the side."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (height, width), dtype=np.uint8)
    side = min(height, width)
    top, left = height // 2 - side // 2, width // 2 - side // 2
    mask = box(height, width, left, top, side // 2, side)
    crop = CropToSquare.like(PadToSquare(size=side, mask_std=0.3))
    assert np.array_equal(crop.image(Image.fromarray(pixels))[0], pixels[top : top + side, left : left + side])
    assert np.array_equal(crop.mask(mask) > 0, mask[top : top + side, left : left + side])
    assert (crop.mask_std, crop.size) == (0.3, side)
    assert crop.geometry() != PadToSquare(size=side).geometry()


def test_the_area_of_a_whole_image_leaves_its_padding_out() -> None:
    transform = PadToSquare(size=SIZE)
    landscape = transform.image_area(128, 64)
    assert (landscape[8:24] == 255).all()
    assert landscape.sum() == 255 * 16 * SIZE
    assert np.array_equal(transform.image_area(50, 50), transform.all_one())
