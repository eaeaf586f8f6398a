"""A small SAM in every form in which one comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from segment_anything.modeling import Sam

from sono.curation.masks.backends.onnx import OnnxFiles
from tests.curation.masks.small_sam import export_sam, save_checkpoint, small_sam

from .layouts import export_edge, export_efficient, export_inside, export_sam2

MadeOnce = Callable[[str, Callable[[Path], object]], Path]


@dataclass(frozen=True)
class SamFiles:
    """One model; ``single`` is a decoder that answers with one mask."""

    model: Sam
    checkpoint: Path
    encoder: Path
    decoder: Path
    single: Path


@pytest.fixture(scope="session")
def sam_files(made_once: MadeOnce) -> SamFiles:
    def fill(folder: Path) -> None:
        save_checkpoint(small_sam(), folder / "sam.pth")
        export_sam(small_sam(), folder)
        export_sam(small_sam(), folder, single_mask=True)

    folder = made_once("small_sam", fill)
    return SamFiles(
        small_sam(), *(folder / name for name in ("sam.pth", "encoder.onnx", "decoder.onnx", "single.onnx"))
    )


Layouts = dict[str, OnnxFiles]


@pytest.fixture(scope="session")
def layouts(sam_files: SamFiles, made_once: MadeOnce) -> Layouts:
    """The same model in the layouts of other models of the family."""

    def fill(folder: Path) -> None:
        for path in (sam_files.encoder, sam_files.decoder):
            (folder / path.name).write_bytes(path.read_bytes())
        for export in (export_edge, export_inside, export_sam2, export_efficient):
            export(sam_files.model, folder)

    folder = made_once("sam_layouts", fill)
    return {
        "EdgeSAM": OnnxFiles(folder / "encoder.onnx", folder / "edge.onnx"),
        "samexporter": OnnxFiles(folder / "inside.onnx", folder / "decoder.onnx"),
        "SAM 2": OnnxFiles(folder / "sam2-e.onnx", folder / "sam2-d.onnx"),
        "EfficientSAM": OnnxFiles(folder / "efficient-e.onnx", folder / "efficient-d.onnx"),
    }


@pytest.fixture
def frame() -> npt.NDArray[np.uint8]:
    """Speckle, and a dark ellipse in it; not square."""
    random = np.random.default_rng(7)
    y, x = np.mgrid[:150, :220]
    inside = np.hypot((x - 120) / 60, (y - 70) / 40) < 1
    values = random.rayleigh(np.where(inside, 20, 90))
    return np.asarray(values.clip(0, 255), np.uint8)
