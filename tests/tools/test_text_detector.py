"""Training of the detector: what it is shown, and that the file does what the network does."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

from tools.text_detector import train
from tools.text_detector.__main__ import app
from tools.text_detector.backgrounds import texture
from tools.text_detector.crops import PRESENT, SIDE, draw_crop
from tools.text_detector.fonts import CHINESE, HELD_OUT, TRAINED
from tools.text_detector.lettering import random_text, write_string
from tools.text_detector.marks import draw_measurement
from tools.text_detector.network import CHANNELS, VIEWS, MarkNetwork, TextNetwork, for_grey, without_normalization
from tools.text_detector.onnx_file import onnx_bytes
from tools.text_detector.train import IGNORED, crop_batches, fit, window_batches
from tools.text_detector.windows import draw_windows


@pytest.fixture(scope="module")
def backgrounds() -> list[np.ndarray]:
    return [texture(np.random.default_rng(number), 320) for number in range(3)]


NETWORKS = (TextNetwork, MarkNetwork)


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_file_computes_what_the_network_computes(kind: type[TextNetwork | MarkNetwork]) -> None:
    torch.manual_seed(2)
    network = kind()
    for _ in range(2):  # so that batch normalization has something to fold
        network(torch.rand(2, CHANNELS, 64, 64) * 255)
    image = np.random.default_rng(0).integers(0, 256, (3, CHANNELS, 96, 160), dtype=np.uint8)
    with torch.no_grad():
        expected = torch.sigmoid(network.eval()(torch.from_numpy(image).float())).numpy()
    content = onnx_bytes(without_normalization(network), channels=CHANNELS, stride=4, notes={"seed": "2"})
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"image": image})
    assert found.shape == (3, {TextNetwork: 2, MarkNetwork: 1}[kind], 24, 40)
    assert np.allclose(found, expected, atol=1e-4)
    assert session.get_modelmeta().custom_metadata_map == {"seed": "2"}


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_file_for_grey_frames_computes_the_same_of_their_one_channel(
    kind: type[TextNetwork | MarkNetwork],
) -> None:
    torch.manual_seed(3)
    network = without_normalization(kind())
    image = np.random.default_rng(0).integers(0, 256, (1, VIEWS, 64, 96), dtype=np.uint8)
    with torch.no_grad():
        expected = torch.sigmoid(network(torch.from_numpy(np.concatenate([image, image], axis=1)).float())).numpy()
    content = onnx_bytes(for_grey(network), channels=VIEWS, stride=4, notes={})
    (found,) = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"image": image})
    assert np.allclose(found, expected, atol=1e-4)
    assert float(np.ptp(expected)) > 0.01


@pytest.mark.slow
def test_a_seed_gives_the_same_weights(backgrounds: list[np.ndarray]) -> None:
    def weights(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return fit(TextNetwork(), crop_batches(backgrounds, np.random.default_rng(seed)), 2).state_dict()

    one, same, other = (weights(seed) for seed in (4, 4, 5))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_targets_cover_what_was_drawn(backgrounds: list[np.ndarray]) -> None:
    random = np.random.default_rng(6)
    crops = [draw_crop(backgrounds, random) for _ in range(60)]
    assert {crop.pixels.shape for crop in crops} == {(SIDE, SIDE, 3)}
    texts = [np.any(crop.target[0] == PRESENT) for crop in crops]
    marks = [np.any(crop.target[1] == PRESENT) for crop in crops]
    assert 15 < sum(texts) < 40
    assert 8 < sum(marks) < 35


@pytest.mark.slow
def test_windows_are_of_marks_and_of_what_looks_like_some(backgrounds: list[np.ndarray]) -> None:
    windows = list(draw_windows(backgrounds, crops=20, phantoms=5, seed=3))
    marked = [window for window in windows if np.any(window.target == PRESENT)]
    assert 0.15 < len(marked) / len(windows) < 0.85
    assert {window.pixels.shape for window in windows} == {(72, 72, 3)}
    images, target, weight = next(window_batches(windows, np.random.default_rng(1)))
    assert images.shape == (64, CHANNELS, 64, 64)
    assert target.shape == weight.shape == (64, 1, 16, 16)
    assert torch.all(target[:, :, :4] == IGNORED)
    assert sum(bool(torch.any(each == PRESENT)) for each in target) == 32


@pytest.mark.parametrize("kind", ["text", "marks"])
def test_what_is_missing_is_said_before_anything_is_drawn(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "phantom_sectors", None)  # takes most of a minute
    calls = {"folder does not exist": ["new/x.onnx"], "HC18": ["x.onnx", "--hc18", str(tmp_path)]}
    for message, (out, *options) in calls.items():
        result = CliRunner().invoke(app, [kind, str(tmp_path / out), *options])
        assert (result.exit_code, message in result.stderr) == (1, True), result.output
    assert not list(tmp_path.iterdir())


def test_strings_change_the_pixels_of_their_ink_alone_unless_they_have_a_box() -> None:
    random = np.random.default_rng(1)
    written = 0
    for _ in range(30):
        pixels = np.full((120, 400, 3), 60, np.uint8)
        text, font = random_text(random, TRAINED)
        drawn = write_string(pixels, text, font, 14, random)
        if drawn is None:
            continue
        written += 1
        assert np.all(drawn.region[drawn.ink])
        x, y, _, height = drawn.box
        assert np.all(drawn.ink[:, :x] == 0)
        assert np.all(drawn.ink[y + height :] == 0)
        changed = np.any(pixels != 60, axis=2)
        assert np.any(changed[drawn.ink]) or not drawn.visible
    assert written > 20


def test_marks_note_their_ink() -> None:
    random = np.random.default_rng(2)
    for _ in range(20):
        pixels = np.full((160, 160, 3), 40, np.uint8)
        drawn = draw_measurement(pixels, random)
        if drawn is not None:
            grown = cv2.dilate(drawn.region.view(np.uint8), np.ones((3, 3), np.uint8)).astype(np.bool_)
            assert not np.any(np.any(pixels != 40, axis=2) & ~grown)


def test_no_font_is_both_trained_and_held_out() -> None:
    assert not set(HELD_OUT) & {*TRAINED, *CHINESE}
