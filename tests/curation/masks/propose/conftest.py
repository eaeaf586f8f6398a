"""A workspace of frames with a dark head each, some of whose masks are accepted."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sono.curation.cleaning.sectors.geometry import iou
from sono.curation.ingest.run import ingest
from sono.curation.masks.backends.registry import BackendChoice
from sono.curation.masks.propose.run import ProposeReport, propose_masks
from sono.curation.masks.run import import_masks
from sono.curation.qc.run import qc
from sono.manifests import masks
from sono.manifests.schemas import REGIONS
from sono.manifests.stages import in_process
from sono.manifests.workspace import Workspace, create, open_workspace

SIZE = (180, 240)
GRABCUT = BackendChoice("grabcut")
Frame = npt.NDArray[np.uint8]


def head_at(x: int, y: int) -> npt.NDArray[np.bool_]:
    canvas = np.zeros(SIZE, np.uint8)
    cv2.ellipse(canvas, (x, y), (62, 44), 10, 0, 360, 1, -1)
    return canvas > 0


def draw(seed: int, mask: npt.NDArray[np.bool_]) -> Frame:
    random = np.random.default_rng(seed)
    return np.asarray(random.rayleigh(np.where(mask, 24, 100)).clip(0, 255), np.uint8)


@dataclass(frozen=True)
class Heads:
    """Patients P1 to P4 with two stills each, and P7 with a cine of five frames; all of plane transthalamic."""

    workspace: Workspace
    truth: dict[str, npt.NDArray[np.bool_]]  # by name; frames of the cine are P7/cine_f0 ...

    def propose(self, backend: BackendChoice = GRABCUT, **options: Any) -> ProposeReport:
        return propose_masks(self.workspace, backend, engine=options.pop("engine", in_process), **options)

    def accept(self, names: Iterable[str], folder: Path, structure: str = "head") -> None:
        for name in names:
            path = folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), self.truth[name].astype(np.uint8) * 255)
        import_masks(self.workspace, folder, structure=structure, mask_format="png", engine=in_process)

    def regions(self, **wanted: object) -> list[dict[str, Any]]:
        """The rows with these values."""
        rows = self.workspace.store.read_all(REGIONS).to_pylist()
        return [row for row in rows if all(row[name] == value for name, value in wanted.items())]

    def frame_id(self, name: str) -> str:
        keys = self.workspace.keys
        base, _, index = name.partition("_f")
        return keys.frame(keys.source(f"{base}.x"), int(index or 0))

    def iou(self, row: dict[str, Any]) -> float:
        """Of a region with the truth."""
        truth = next(mask for name, mask in self.truth.items() if self.frame_id(name) == row["frame_id"])
        return iou(masks.decode(row["mask"]), truth)


def plan_heads() -> dict[str, npt.NDArray[np.bool_]]:
    """The true masks, by name."""
    random = np.random.default_rng(5)
    stills = [f"P{patient}/scan{scan}" for patient in range(1, 5) for scan in range(2)]
    truth = {name: head_at(*(int(value) for value in random.integers((112, 82), (128, 98)))) for name in stills}
    return truth | {f"P7/cine_f{index}": head_at(80 + 4 * index, 80 + 2 * index) for index in range(5)}


def write_archive(folder: Path) -> dict[str, npt.NDArray[np.bool_]]:
    truth = plan_heads()
    drawn = {name: draw(number, mask) for number, (name, mask) in enumerate(truth.items())}
    for name, pixels in drawn.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        assert "cine" in name or cv2.imwrite(str(folder / f"{name}.png"), pixels)
    cine = [pixels for name, pixels in drawn.items() if "cine" in name]
    assert cv2.imwritemulti(str(folder / "P7" / "cine.tiff"), cine)
    return truth


def describe(folder: Path, names: Sequence[str], plane: Callable[[str], str]) -> Path:
    lines = [f"{name},{name.partition('/')[0]},{plane(name)}" for name in names]
    (folder / "files.csv").write_text("file,patient_id,plane\n" + "\n".join(lines) + "\n")
    return folder / "files.csv"


@pytest.fixture(scope="session")
def judged_heads(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A folder with the workspace after ``ingest`` and ``qc``."""

    def fill(folder: Path) -> None:
        workspace = create(folder / "workspace", "Hospital A")
        truth = write_archive(folder / "heads")
        names = [*(name for name in truth if "scan" in name), "P7/cine"]
        metadata = describe(folder, names, lambda _: "transthalamic")
        ingest(workspace, [folder / "heads"], engine=in_process, metadata=metadata, cropped=True)
        qc(workspace, engine=in_process)

    return made_once("judged_heads", fill)


@pytest.fixture
def heads(judged_heads: Path, tmp_path: Path) -> Heads:
    shutil.copytree(judged_heads / "workspace", tmp_path / "workspace")
    return Heads(open_workspace(tmp_path / "workspace"), plan_heads())
