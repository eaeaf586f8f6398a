"""A workspace whose frames show bright discs on speckle, with their masks, and a segmenter fitted to them once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sono.curation.ingest.run import ingest
from sono.curation.masks.fit.settings import Architecture, FitSettings
from sono.curation.masks.run import import_masks
from sono.curation.qc.run import qc
from sono.manifests.key_check import record_key
from sono.manifests.stages import in_process
from sono.manifests.workspace import Workspace, create, open_workspace

Image = npt.NDArray[np.uint8]
MadeOnce = Callable[[str, Callable[[Path], object]], Path]

PATIENTS, SCANS = 6, 3
SIZE = (140, 160)
TINY = FitSettings(Architecture(size_px=64), epochs=14, batch=4, learning_rate=3e-3)


def disc(seed: int) -> Image:
    """The mask of the disc of one frame, 0 and 255."""
    random = np.random.default_rng([seed, 5])
    mask = np.zeros(SIZE, np.uint8)
    x, y, radius = int(random.integers(45, 115)), int(random.integers(45, 95)), int(random.integers(16, 30))
    cv2.circle(mask, (x, y), radius, 255, -1)
    return mask


def frame(seed: int) -> Image:
    """Speckle, three times as bright within the disc."""
    random = np.random.default_rng(seed)
    return (random.rayleigh(25, SIZE) * (1 + 2 * (disc(seed) > 0))).clip(1, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def discs(made_once: MadeOnce) -> Path:
    """A workspace with the discs as heads; of the first frame of two patients, their lower half is the thalami."""

    def fill(folder: Path) -> None:
        seeds = {f"P{patient}/s{scan}": 10 * patient + scan for patient in range(PATIENTS) for scan in range(SCANS)}
        for name, seed in seeds.items():
            lower = disc(seed)
            lower[: SIZE[0] // 2] = 0
            drawn = {"images": frame(seed), "masks/head": disc(seed)}
            if name in ("P0/s0", "P1/s0", "P2/s0"):
                drawn["masks/thalami"] = lower
            for place, image in drawn.items():
                path = folder / place / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                assert cv2.imwrite(str(path), image)
        workspace = create(folder / "workspace", "Hospital A")
        (workspace.path / "secret.key").write_text("5e" * 32)
        record_key(workspace.path, workspace.keys)
        with workspace.writing():
            ingest(workspace, [folder / "images"], engine=in_process, patient_regex=r"^(P\d)/", cropped=True)
            qc(workspace, engine=in_process)
            import_masks(workspace, folder / "masks", mask_format="png", engine=in_process)

    return made_once("discs", fill)


@pytest.fixture
def with_masks(discs: Path, tmp_path: Path) -> Workspace:
    """A copy of the workspace, to change."""
    shutil.copytree(discs / "workspace", tmp_path / "copy")
    return open_workspace(tmp_path / "copy")


@pytest.fixture(scope="session")
def fitted(discs: Path, made_once: MadeOnce) -> Path:
    """The folder of a segmenter of the heads."""
    import torch

    from sono.curation.masks.fit.run import fit_segmenter

    def fill(folder: Path) -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        fit_segmenter(open_workspace(discs / "workspace"), folder / "out", TINY, structures=["head"])
        torch.set_num_threads(threads)

    return made_once("fitted", fill) / "out"
