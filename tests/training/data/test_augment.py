from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sono.manifests import vocabulary
from sono.training import recipes
from sono.training.data.augment import Augmenter

SIZE = 96
PLANES = ("transthalamic", "four_chamber", "abdominal_circumference", "femur", "of_our_own")
KNOWN = vocabulary.load()


def pair(channels: int = 1) -> tuple[Any, Any]:
    """A bright disc off the middle on a grey band with black padding, and its mask."""
    y, x = np.mgrid[:SIZE, :SIZE]
    disc = (x - 58) ** 2 + (y - 40) ** 2 < 12**2
    image = np.zeros((channels, SIZE, SIZE), dtype=np.uint8)
    image[:, 20:76] = 60
    image[:, disc] = 200
    return image, disc.astype(np.uint8) * 255


def augmented(seed: int = 0, *, whole: bool = False, may_flip: bool = True, channels: int = 1, **settings: Any) -> Any:
    augmenter = Augmenter(recipes.Augment(**settings), PLANES)
    return augmenter(*pair(channels), np.random.default_rng(seed), whole=whole, may_flip=may_flip)


def test_augmentation_is_off_by_default() -> None:
    assert not Augmenter(recipes.tiny().augment, PLANES).enabled
    assert not Augmenter(recipes.vit_l_14_336().augment, PLANES).enabled
    for one, other in zip(augmented(), pair(), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(
    "settings", [{"rotate_deg": 20.0}, {"scale": 0.2}, {"translate": 0.1}, {"flip": True}, {"speckle": 0.2}]
)
def test_a_pair_is_a_function_of_the_random_state(settings: dict[str, Any]) -> None:
    assert all(np.array_equal(*both) for both in zip(augmented(1, **settings), augmented(1, **settings), strict=True))
    assert len({augmented(seed, **settings)[0].tobytes() for seed in range(8)}) > 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("seed", range(6))
def test_image_and_mask_move_together(seed: int, channels: int) -> None:
    image, mask = augmented(seed, channels=channels, rotate_deg=20, scale=0.2, translate=0.1, flip=True)
    assert image.shape == (channels, SIZE, SIZE)
    assert not np.array_equal(mask, pair()[1])
    bright = image > 130
    assert (bright == (mask > 127)).mean() > 0.995


def test_images_are_never_turned_upside_down() -> None:
    """The disc lies in the upper half and stays there."""
    for seed in range(40):
        _, mask = augmented(seed, rotate_deg=45, scale=0.2, translate=0.05, flip=True)
        assert np.nonzero(mask > 127)[0].mean() < SIZE / 2 + 8


def test_a_whole_image_keeps_its_mask_of_all_one() -> None:
    image, mask = pair()[0], np.full((SIZE, SIZE), 255, dtype=np.uint8)
    settings = {"rotate_deg": 30.0, "scale": 0.5, "translate": 0.5, "flip": True, "mask_edge": 0.5, "mask_box": 1.0}
    augmenter = Augmenter(recipes.Augment(**settings), PLANES)  # type: ignore[arg-type]
    for seed in range(10):
        _, changed = augmenter(image, mask, np.random.default_rng(seed), whole=True, may_flip=True)
        assert (changed == 255).all()


def test_a_region_is_not_moved_out_of_the_image() -> None:
    image, mask = pair()
    mask[:] = 0
    mask[40:50, 90:] = 255  # at the right edge
    augmenter = Augmenter(recipes.Augment(translate=0.5, rotate_deg=45), PLANES)
    for seed in range(60):
        _, moved = augmenter(image, mask, np.random.default_rng(seed), whole=False, may_flip=False)
        assert moved.sum() >= mask.sum() / 2


def test_gain_gamma_and_speckle_leave_black_black_and_the_mask_alone() -> None:
    for seed in range(20):
        image, mask = augmented(seed, channels=3, gain_db=6, gamma=0.3, speckle=0.2)
        assert not image[:, :20].any()
        assert not image[:, 76:].any()
        assert np.array_equal(mask, pair()[1])
        assert np.array_equal(image[0], image[2])  # grey stays grey


def test_gain_and_speckle_are_as_strong_as_the_recipe_says() -> None:
    gains = [augmented(seed, gain_db=6)[0][0, 70, 5] - 60.0 for seed in range(200)]
    assert max(map(abs, gains)) <= 26  # 6 of 60 dB are a tenth of 255 levels
    assert max(gains) > 22 > -22 > min(gains)
    band = augmented(3, speckle=0.1)[0][0, 20:76, :40].astype(float)
    assert band.mean() == pytest.approx(60, abs=1.5)
    assert band.std() == pytest.approx(6, abs=1)
    assert np.corrcoef(band[:, 1:].ravel(), band[:, :-1].ravel())[0, 1] > 0.5  # grains, not salt


def test_masks_are_degraded_as_the_recipe_says() -> None:
    clean = pair()[1]
    area = (clean > 127).sum()
    edges = [(augmented(seed, mask_edge=0.25)[1] > 127).sum() for seed in range(80)]
    assert max(edges) <= area * 1.25**2 * 1.1
    assert max(edges) > area * 1.3
    assert area * 0.5 < min(edges) < area * 0.7
    assert (augmented(0, mask_box=1.0)[1] > 0).sum() == 23 * 23  # the disc's bounding box
    assert (augmented(0, mask_drop=1.0)[1] == 255).all()
    drawn = [augmented(seed, mask_drop=0.2, mask_box=0.3)[1] for seed in range(600)]
    assert np.mean([mask.all() for mask in drawn]) == pytest.approx(0.2, abs=0.05)
    assert np.mean([(mask > 0).sum() == 23 * 23 for mask in drawn]) == pytest.approx(0.3, abs=0.06)
    assert np.mean([np.array_equal(mask, clean) for mask in drawn]) == pytest.approx(0.5, abs=0.06)
    for mask in drawn:
        assert mask.any()


def test_a_small_region_never_shrinks_to_nothing() -> None:
    image, mask = pair()
    mask[:] = 0
    mask[40:42, 50:70] = 255
    augmenter = Augmenter(recipes.Augment(mask_edge=0.5), PLANES)
    for seed in range(40):
        changed = augmenter(image, mask, np.random.default_rng(seed), whole=False, may_flip=False)[1]
        assert changed.max() > 127


@pytest.mark.parametrize(
    ("plane", "structure", "caption", "allowed"),
    [
        ("transthalamic", "thalami", "A 20-week fetal ultrasound transthalamic plane.", True),
        ("femur", "", "A femur.", True),
        ("four_chamber", "heart", "A heart.", False),  # the heart points to the left
        ("abdominal_circumference", "", "An abdomen.", False),  # the stomach lies on the left
        ("of_our_own", "", "A plane that the vocabulary does not know.", False),
        (None, "", "A plane that nobody knows.", False),
        ("transthalamic", "left_ventricle", "A plane.", False),
        ("femur", "stomach", "A plane.", False),  # an abdominal structure, in whatever plane
        ("femur", "gizmo", "A plane.", False),
        ("femur", "femur", "The left femur.", False),
        ("femur", "", "Facing RIGHT.", False),
        ("femur", "", "Das linke Femur.", False),
        ("femur", "", "Rechtes Femur.", False),
        ("femur", "", "Fémur gauche.", False),
        ("femur", "", "Fémur derecho.", False),
        ("femur", "", "左股骨", False),
        ("femur", "", "Dextrocardia.", False),
        ("femur", "", "Situs solitus.", False),
        ("femur", "", "A bright cleft.", True),  # a word that only contains "left"
    ],
)
def test_images_are_flipped_only_if_nothing_tells_left_from_right(
    plane: str | None, structure: str, caption: str, allowed: bool
) -> None:
    augmenter = Augmenter(recipes.Augment(flip=True), PLANES)
    assert augmenter.may_flip(None if plane is None else PLANES.index(plane), structure, caption) is allowed


def test_planes_and_structures_of_heart_and_abdomen_are_never_flipped() -> None:
    planes = tuple(KNOWN.planes)
    augmenter = Augmenter(recipes.Augment(flip=True), planes)
    for number, plane in enumerate(KNOWN.planes.values()):
        assert augmenter.may_flip(number, "", "") is (plane.system not in ("heart", "abdomen"))
    for plane in KNOWN.planes.values():
        if plane.system in ("heart", "abdomen"):
            assert not any(augmenter.may_flip(planes.index("femur"), name, "") for name in plane.structures)


@pytest.mark.slow
def test_a_flip_needs_both_the_setting_and_permission() -> None:
    assert all(np.array_equal(augmented(seed, flip=True, may_flip=False)[0], pair()[0]) for seed in range(20))
    turned = [np.array_equal(augmented(seed, flip=True)[0], pair()[0][..., ::-1]) for seed in range(200)]
    assert 0.4 < np.mean(turned) < 0.6
