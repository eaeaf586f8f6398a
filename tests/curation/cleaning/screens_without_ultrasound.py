"""Screens that show no sector, drawn for the tests of mode and sector."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from sono.curation.images.pixels import Pixels


def screens_without_ultrasound() -> Mapping[str, Pixels]:
    """By what they are: [480, 640] or [480, 640, 3]."""
    random = np.random.default_rng(7)
    noise = random.normal(0, 1, (480, 640, 3)).astype(np.float32)
    photograph = cv2.GaussianBlur(noise, (0, 0), 25)
    photograph = 128 + 110 * photograph / np.abs(photograph).max() + 4 * noise
    report = np.full((480, 640), 255, np.uint8)
    settings = np.zeros((480, 640), np.uint8)
    for line in range(14):
        cv2.putText(report, "Biometry of the second trimester", (30, 40 + 30 * line), 0, 0.7, 20, 1, cv2.LINE_AA)
        cv2.putText(settings, f"MI {line / 10:.1f}  TIS 0.2", (500, 40 + 30 * line), 0, 0.4, 220, 1, cv2.LINE_AA)
    thumbnails = random.integers(5, 255, (480, 640)).astype(np.uint8)
    thumbnails[::16], thumbnails[1::16], thumbnails[:, ::16], thumbnails[:, 1::16] = 0, 0, 0, 0
    speckle = np.clip(40 * random.exponential(1.0, (480, 640)), 0, 255).astype(np.uint8)
    return {
        "black": np.zeros((480, 640), np.uint8),
        "white": np.full((480, 640), 255, np.uint8),
        "a photograph": np.clip(photograph, 0, 255).astype(np.uint8),
        "a report page": report,
        "settings alone": settings,
        "sector everywhere": cv2.GaussianBlur(speckle, (0, 0), 1.2),
        "a sheet of thumbnails": thumbnails,
        "one pixel": np.full((1, 1), 90, np.uint8),
        "one row": np.full((1, 300), 90, np.uint8),
        "a stamp": random.integers(0, 255, (9, 13, 3)).astype(np.uint8),
    }
