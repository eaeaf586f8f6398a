"""The committed notebook about phantoms runs, and draws the picture in docs/phantoms.md."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from sono.manifests import vocabulary

from .conftest import environment

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "phantoms.ipynb"
PICTURE = ROOT / "docs" / "figures" / "phantoms.png"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the notebook ran; ``executed.ipynb`` is the notebook with its outputs."""
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute(
        env=environment(OMP_NUM_THREADS="1")
    )
    nbformat.write(notebook, folder / "executed.ipynb")
    return folder


def test_it_is_committed_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in notebook.cells)


def test_the_picture_shows_every_plane(folder: Path) -> None:
    sheet = cv2.imread(str(folder / "phantoms.png"), cv2.IMREAD_GRAYSCALE)
    assert sheet is not None
    height, width = sheet.shape
    tiles = [tile for row in np.array_split(sheet, 6) for tile in np.array_split(row, 4, axis=1)]
    assert (width, len(tiles)) == (1600, len(vocabulary.load().planes))
    assert height > width
    assert all(float(np.mean(tile > 40)) > 0.1 for tile in tiles), "ultrasound in each"


def test_the_documented_picture_is_the_notebooks(folder: Path) -> None:
    """Except for lettering, which other versions of matplotlib draw differently."""
    committed, drawn = (cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in (PICTURE, folder / "phantoms.png"))
    assert committed is not None
    assert drawn is not None
    assert PICTURE.stat().st_size < 1_500_000
    assert committed.shape == drawn.shape
    changed = float(np.mean(cv2.absdiff(committed, drawn) > 32))
    assert changed < 0.01, "phantoms look different now: run the notebook again and copy its phantoms.png"


def test_it_shows_a_frame_its_caption_and_the_four_masks(folder: Path) -> None:
    notebook = nbformat.read(folder / "executed.ipynb", as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output["text"] for output in outputs if output.output_type == "stream")
    shown = [output["data"] for output in outputs if "data" in output]
    assert re.search(r"\d+( |-)week", printed)
    assert sum("image/png" in data for data in shown) == 3
    assert all(any(mask in data["text/plain"] for data in shown) for mask in ("none", "region", "shuffled", "blank"))
