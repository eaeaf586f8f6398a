"""A short cine of drawn tissue that moves, with the true masks of every frame, as a TIFF with several pages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

SIZE = (160, 200)
AXES = {"head": (44, 32), "cavum_septi_pellucidi": (12, 9)}
"""Half axes of the two ellipses that are drawn, one in the other."""


@dataclass(frozen=True)
class DrawnCine:
    images: list[Image]
    masks: dict[str, list[Mask]]

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwritemulti(str(path), self.images)

    def save_mask(self, folder: Path, stem: str, structure: str, frame: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        mask = self.masks[structure][frame].astype(np.uint8) * 255
        assert cv2.imwrite(str(folder / f"{stem}_f{frame}.png"), mask)


def draw_cine(frames: int, *, seed: int = 1, cut: int | None = None, speed: float = 1.5) -> DrawnCine:
    """Ellipses on uneven tissue that go ``speed`` px to the right in every frame; after ``cut``, other tissue."""
    tissue = {False: _tissue(seed), True: _tissue(seed + 1)}
    noise = np.random.default_rng(seed + 2)
    images: list[Image] = []
    masks: dict[str, list[Mask]] = {structure: [] for structure in AXES}
    for frame in range(frames):
        beyond = cut is not None and frame >= cut
        across = 60 + speed * frame
        canvas = cv2.warpAffine(tissue[beyond], np.array([[1, 0, speed * frame], [0, 1, 0]], np.float32), SIZE[::-1],
                                borderMode=cv2.BORDER_WRAP)  # fmt: skip
        for structure, axes in AXES.items():
            mask = np.zeros(SIZE, np.uint8)
            center = (round(16 * across), 16 * 80)
            cv2.ellipse(mask, center, (16 * axes[0], 16 * axes[1]), 15, 0, 360, 1, -1, cv2.LINE_8, 4)
            masks[structure].append(mask > 0)
            if not beyond:
                canvas = np.where(mask > 0, canvas * 0.5 + (20 if structure == "head" else 0), canvas)
        speckle = noise.rayleigh(0.8, SIZE)
        images.append(np.clip(canvas * (0.7 + 0.3 * speckle), 1, 255).astype(np.uint8))
    return DrawnCine(images, masks)


def _tissue(seed: int) -> npt.NDArray[np.float32]:
    coarse = np.random.default_rng(seed).uniform(60, 200, (SIZE[0] // 10, SIZE[1] // 10)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC), np.float32)
