"""A small archive of real files that the tests draw themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

Image = npt.NDArray[np.uint8]


@pytest.fixture
def draw() -> Callable[..., Image]:
    """Speckle in a sector on black, another one for each seed; never a duplicate, never empty."""

    def speckle(seed: int, height: int = 200, width: int = 260) -> Image:
        random = np.random.default_rng(seed)
        values = random.rayleigh(60, (height, width)).clip(0, 255)
        y, x = np.mgrid[:height, :width]
        inside = np.hypot(y + 40, x - width / 2) < height + 20
        return np.asarray(values * inside, dtype=np.uint8)

    return speckle


@pytest.fixture
def archive(tmp_path: Path, draw: Callable[..., Image]) -> Path:
    """Twelve images of four patients: P1/scan0.png to P4/scan2.png."""
    for patient in range(1, 5):
        folder = tmp_path / "archive" / f"P{patient}"
        folder.mkdir(parents=True)
        for scan in range(3):
            assert cv2.imwrite(str(folder / f"scan{scan}.png"), draw(10 * patient + scan))
    return tmp_path / "archive"
