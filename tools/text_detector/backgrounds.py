"""What strings and marks are drawn over: phantoms' ultrasound, real ultrasound without text, and made-up texture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sono.curation.phantom.samples import draw_samples
from sono.manifests.errors import UserError

Pixels = npt.NDArray[np.uint8]
Random = np.random.Generator

HC18 = (
    *("006", "112", "113", "117", "130", "151", "165", "168", "170", "172", "183", "186", "206", "208", "237", "237_2"),
    *("237_3", "263", "271", "271_2", "343", "344", "345", "345_2", "357", "392", "432", "438", "450", "461", "468"),
    *("468_2", "496", "505"),
)
"""Images of HC18 that the detector is trained on; whoever measures it on HC18 leaves out their subjects.

None shows text. Origin: van den Heuvel et al., PLoS ONE 13(8) e0200412 (2018), doi 10.5281/zenodo.1327317, CC BY 4.0.
"""


def phantom_sectors(count: int, seed: int) -> Iterator[Pixels]:
    """Ultrasound of phantoms of all modes, black around; the machine's marks are on it, no text and no measurement."""
    modes = ("b_mode", "color_doppler", "spectral", "dual", "b_mode", "color_doppler", "m_mode", "spectral", "volume")
    for sample in draw_samples(count, seed=seed, modes=modes, identity_share=0.0, measured_share=0.0):
        inside = sample.drawn.sector_mask()
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        if len(rows):
            pixels = cv2.bitwise_and(sample.pixels, sample.pixels, mask=inside.view(np.uint8))
            yield np.asarray(pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], np.uint8)


def hc18_images(folder: Path) -> Iterator[Pixels]:
    """The images of ``HC18`` from the folder that holds ``NNN_HC.png``."""
    for name in HC18:
        subject, _, view = name.partition("_")
        path = folder / f"{subject}_{view}HC.png"
        if not path.exists():
            raise UserError("an image of HC18 that the detector is trained on is missing", where=str(path))
        yield read_grey(path)


def read_grey(path: Path) -> Pixels:
    """An image file, [height, width]."""
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise UserError("the image cannot be read", where=str(path))
    return np.asarray(image, np.uint8)


def textures(count: int, seed: int) -> Iterator[Pixels]:
    random = np.random.default_rng(seed)
    for _ in range(count):
        yield texture(random, 400)


def texture(random: Random, side: int) -> Pixels:
    """Noise of several scales with bright lines, arcs and spots: what no phantom draws, yet is no text."""
    levels = np.zeros((side, side), np.float32)
    for scale in (2, 4, 8, 24, 64):
        small = random.random((side // scale + 2, side // scale + 2), np.float32)
        wide = cv2.resize(small, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)[:side, :side]
        levels += float(random.uniform(0, 1)) * wide
    levels = (levels - levels.min()) / max(float(np.ptp(levels)), 1e-6)
    image = np.clip(255 * levels ** float(random.uniform(0.8, 3.5)), 0, 255).astype(np.uint8)
    for _ in range(int(random.integers(0, 12))):
        color, thickness = int(random.integers(90, 256)), int(random.integers(1, 6))
        center = tuple(int(value) for value in random.integers(0, side, 2))
        axes = tuple(int(value) for value in random.integers(2, side // 2, 2))
        start = float(random.uniform(0, 360))
        cv2.ellipse(
            image, center, axes, float(random.uniform(0, 180)), start, start + float(random.uniform(5, 120)), color,
            thickness, cv2.LINE_AA,
        )  # fmt: skip
    blurred = cv2.GaussianBlur(image, (0, 0), float(random.uniform(0.5, 1.6)))
    if random.random() < 0.4:  # speckle
        blurred = np.clip(blurred * random.rayleigh(0.8, blurred.shape), 0, 255)
        blurred = cv2.GaussianBlur(blurred, (0, 0), float(random.uniform(0.6, 1.5)))
    return np.asarray(blurred, np.uint8)
