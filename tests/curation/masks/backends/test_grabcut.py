"""GrabCut: finds what differs from its surroundings, always the same way, and needs no weights."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from sono.curation.masks.backends.grabcut import GrabCutBackend, contrast
from sono.curation.masks.backends.protocol import Prompts
from sono.curation.masks.backends.registry import BACKENDS, BackendChoice, open_backend
from sono.curation.masks.backends.sam import SamBackend
from sono.curation.masks.backends.scores import box_iou, fit, stability
from sono.manifests.errors import UserError

Frame = npt.NDArray[np.uint8]
BOX = (60, 30, 121, 81)


def inside(frame: Frame) -> npt.NDArray[np.bool_]:
    y, x = np.mgrid[: frame.shape[0], : frame.shape[1]]
    return np.asarray(np.hypot((x - 120) / 60, (y - 70) / 40) < 1)


def dice(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    return float(2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)))


@pytest.mark.parametrize("color", [False, True])
def test_a_dark_structure_is_found_in_its_box(frame: Frame, color: bool) -> None:
    pixels = np.repeat(frame[:, :, None], 3, axis=2) if color else frame
    backend = GrabCutBackend()
    found = backend.propose(backend.embed(pixels), Prompts("head", BOX))[0]
    assert found.mask.shape == frame.shape
    assert dice(found.mask, inside(frame)) > 0.93
    assert found.score == pytest.approx(found.scores["fit"] * found.scores["contrast"])
    assert found.scores["contrast"] > 0.9


def test_a_loose_box_a_mask_and_points_lead_there_too(frame: Frame) -> None:
    backend = GrabCutBackend()
    embedding = backend.embed(frame)
    moved = np.roll(inside(frame), (6, 8), axis=(0, 1))
    for prompts in (
        Prompts("head", (45, 20, 150, 100)),
        Prompts("head", mask=moved),
        Prompts("head", BOX, np.array([[120, 70], [62, 32]], np.float32), np.array([1, 0])),
    ):
        found = backend.propose(embedding, prompts)[0]
        assert dice(found.mask, inside(frame)) > 0.9


def test_the_same_prompts_give_the_same_mask(frame: Frame) -> None:
    backend = GrabCutBackend()
    first, second = (backend.propose(backend.embed(frame), Prompts("head", BOX))[0].mask for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize(
    "prompts",
    [
        Prompts("head"),
        Prompts("head", None, np.array([[120, 70]], np.float32), np.array([1])),
        Prompts("head", (500, 500, 20, 20)),
        Prompts("head", (-90, -90, 50, 50)),
        Prompts("head", (3, 3, 1, 1)),
    ],
)
def test_prompts_without_a_place_in_the_frame_give_nothing(frame: Frame, prompts: Prompts) -> None:
    backend = GrabCutBackend()
    assert list(backend.propose(backend.embed(frame), prompts)) == []


def test_contrast_is_the_area_under_the_roc_curve_along_the_edge() -> None:
    mask = np.zeros((60, 60), bool)
    mask[20:40, 20:40] = True
    bright = np.where(mask, 200, 10).astype(np.uint8)
    assert contrast(bright, mask) == contrast(255 - bright, mask) == 1
    assert contrast(np.full((60, 60), 9, np.uint8), mask) == pytest.approx(0.5)
    assert contrast(np.repeat(bright[..., None], 3, axis=2), np.ones((60, 60), bool)) == 0.5
    noisy = np.random.default_rng(0).integers(0, 100, (60, 60)) + np.where(mask, 50, 0)
    assert contrast(noisy.astype(np.uint8), mask) == pytest.approx(0.875, abs=0.03)  # of uniform levels, half shifted


def test_a_black_frame_gives_nothing_wrong() -> None:
    backend = GrabCutBackend()
    for candidate in backend.propose(backend.embed(np.zeros((150, 220), np.uint8)), Prompts("head", BOX)):
        assert candidate.mask.any()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"points": np.zeros((2, 2)), "labels": np.zeros(3, int)}, "labels of shape"),
        ({"points": np.zeros((1, 2)), "labels": np.array([2])}, "their labels 0 or 1"),
        ({"points": np.full((1, 2), np.nan), "labels": np.array([1])}, "finite"),
        ({"box": (3, 4, 0, 5)}, "without an area"),
        ({"mask": np.zeros((4, 4), np.uint8)}, "2-D boolean"),
    ],
)
def test_prompts_are_checked_where_they_are_made(arguments: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Prompts("head", **arguments)  # type: ignore[arg-type]


def test_scores_mean_what_they_say() -> None:
    assert box_iou((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(1 / 3)
    assert box_iou((0, 0, 4, 4), (9, 9, 4, 4)) == 0
    logits = np.array([[-2, -0.5, 0.5, 2]], np.float32)
    assert stability(logits) == pytest.approx(1 / 3)
    mask = np.zeros((20, 20), bool)
    mask[5:15, 5:15] = True
    assert fit(mask, Prompts("head", (5, 5, 10, 10))) == 1
    points = np.array([[10, 10], [2, 2], [12, 12], [99, 99]], np.float32)
    assert fit(mask, Prompts("head", None, points, np.array([1, 0, 0, 0]))) == pytest.approx(0.75)


def test_a_backend_gets_the_files_that_it_needs_and_no_others() -> None:
    file = Path("model")
    for wrong, text in (
        ({"name": "unet"}, "not one of grabcut, sam, onnx"),
        ({"name": "sam"}, "--backend sam needs --checkpoint"),
        ({"name": "onnx", "checkpoint": file}, "--backend onnx needs --decoder"),
        ({"name": "sam", "checkpoint": file, "decoder": file}, "--backend sam takes no --decoder"),
        ({"name": "grabcut", "checkpoint": file}, "--backend grabcut takes no --checkpoint"),
        ({"name": "grabcut", "preprocessing": "medsam"}, "takes no --preprocessing"),
    ):
        with pytest.raises(UserError, match=text):
            BackendChoice(**wrong)  # type: ignore[arg-type]
    assert open_backend(BackendChoice("grabcut")).name == "grabcut"
    assert set(BACKENDS) >= {"grabcut", "sam", "onnx"}


def test_a_missing_package_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"needs torch, which is not installed; run: pip install 'sono-curate\[sam\]'"):
        SamBackend(Path("sam.pth"))
