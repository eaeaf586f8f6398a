"""A workspace that several files of tests use, and masks with holes and specks to fill it with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sono.curation.ingest.run import ingest
from sono.curation.masks.run import import_masks
from sono.manifests.key_check import record_key
from sono.manifests.schemas import CAPTIONS, FRAMES, REGIONS
from sono.manifests.stages import in_process
from sono.manifests.store import PartInfo
from sono.manifests.workspace import Workspace, create

Mask = npt.NDArray[np.bool_]
SIZE = (160, 240)
STRUCTURES = ("head", "thalami", "cavum_septi_pellucidi")


def draw_masks(seed: int, size: tuple[int, int] = SIZE) -> dict[str, Mask]:
    """A mask per structure, side by side, each with holes, specks, and pixels that touch only at a corner."""
    random = np.random.default_rng(seed)
    height, width = size
    band = width // len(STRUCTURES)
    masks: dict[str, Mask] = {}
    for number, structure in enumerate(STRUCTURES):
        canvas = np.zeros((height, band), np.uint8)
        center = (int(random.integers(20, band - 20)), int(random.integers(40, height - 40)))
        cv2.ellipse(canvas, center, (int(random.integers(15, 40)), int(random.integers(20, 60))), 30, 0, 360, 1, -1)
        cv2.circle(canvas, center, 6, 0, -1)
        drawn = (canvas > 0) ^ (random.random(canvas.shape) < 0.004)
        drawn[:2, :2] = [[True, False], [False, True]]
        masks[structure] = np.zeros(size, np.bool_)
        masks[structure][:, number * band : (number + 1) * band] = drawn
    return masks


@pytest.fixture(scope="session")
def _six_frames(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A workspace of six frames, P0/scan0 to P2/scan1, without masks, and the PNG masks of ``draw_masks``."""

    def fill(folder: Path) -> None:
        for seed in range(6):
            image = np.random.default_rng(seed).rayleigh(60, SIZE).clip(0, 255).astype(np.uint8)
            name = f"P{seed // 2}/scan{seed % 2}.png"
            save(folder / "archive" / name, image)
            for structure, mask in draw_masks(seed).items():
                save(folder / "masks" / structure / name, mask.astype(np.uint8) * 255)
        workspace = create(folder / "workspace", "Hospital A")
        (workspace.path / "secret.key").write_text("5e" * 32)
        record_key(workspace.path, workspace.keys)
        ingest(workspace, [folder / "archive"], engine=in_process, patient_regex=r"^(P\d)/", cropped=True)

    return made_once("six_frames", fill)


def save(path: Path, image: npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


@pytest.fixture
def empty(_six_frames: Path, tmp_path: Path) -> Workspace:
    """The six frames without masks."""
    return Workspace(Path(shutil.copytree(_six_frames / "workspace", tmp_path / "empty")))


@pytest.fixture
def drawn(_six_frames: Path, tmp_path: Path) -> Workspace:
    """The six frames with three masks each."""
    workspace = Workspace(Path(shutil.copytree(_six_frames / "workspace", tmp_path / "drawn")))
    report = import_masks(workspace, _six_frames / "masks", mask_format="png", engine=in_process)
    assert (report.rows, report.exclusions) == (18, {})
    return workspace


def add_captions(workspace: Workspace) -> None:
    """A caption for every frame and every region, as ``caption`` writes them."""
    rows: list[dict[str, object]] = []
    facts = {"template": "t", "template_sha256": "0", "facts": "{}"}
    for frame in workspace.store.read_all(FRAMES, ["frame_id"]).to_pylist():
        text = "image of transthalamic plane showing head, thalami"
        rows.append({"caption_id": f"f{len(rows)}", "frame_id": frame["frame_id"], "text": text, **facts})
    for region in workspace.store.read_all(REGIONS, ["region_id", "frame_id", "structure"]).to_pylist():
        text = f"{workspace.vocabulary.structures[region['structure']].name} in a transthalamic plane"
        keys = {"frame_id": region["frame_id"], "region_id": region["region_id"]}
        rows.append({"caption_id": f"r{len(rows)}", "text": text, **keys, **facts})
    info = PartInfo("captions", "caption", "0", "", len(rows))
    workspace.store.write(CAPTIONS, info, CAPTIONS.from_rows(rows))
