"""The readers that prove text to be gone: what they need, and what they read."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from sono.curation.cleaning import required
from sono.curation.cleaning.overlays import text_readers
from sono.curation.cleaning.overlays.inpainting import inpaint
from sono.curation.cleaning.overlays.text_readers import read_again, search
from sono.curation.cleaning.required import require_readers
from sono.manifests.errors import UserError


@pytest.fixture(autouse=True)
def _no_reader_kept() -> Iterator[None]:
    """Each test looks for the readers anew, and leaves none that it replaced."""
    yield
    text_readers._tesseract.cache_clear()


def page_of(text: str, *, upright: bool = False) -> np.ndarray:
    page = np.full((120, 400), 30, np.uint8)
    cv2.putText(page, text, (20, 70), cv2.FONT_HERSHEY_DUPLEX, 0.8, 235, 1, cv2.LINE_AA)
    return np.ascontiguousarray(np.rot90(page)) if upright else page


@pytest.mark.parametrize("upright", [False, True])
def test_tesseract_reads_a_name_in_its_box(upright: bool) -> None:
    box = (35, 10, 60, 380) if upright else (10, 40, 380, 45)
    assert "MEIER" in " ".join(
        reading.text for reading in read_again(page_of("MEIER 19.03.1987", upright=upright), (box,))
    )


def test_tesseract_reads_dark_letters_on_light_ground() -> None:
    assert read_again(255 - page_of("MEIER 19.03.1987"), ((10, 40, 380, 45),))


def test_tesseract_reads_nothing_where_a_name_was_removed() -> None:
    noise = np.random.default_rng(3).normal(0, 25, (120, 400))
    page = np.clip(page_of("MEIER 19.03.1987") + cv2.GaussianBlur(noise, (0, 0), 1.2), 0, 255).astype(np.uint8)
    box = (15, 45, 280, 40)
    removed = np.zeros(page.shape, np.bool_)
    removed[45:85, 15:295] = True
    assert read_again(page, (box,))
    assert read_again(inpaint(page, removed), (box,)) == []


@pytest.mark.slow
def test_rapidocr_finds_a_name_and_its_place() -> None:
    (found,) = search(page_of("MEIER 19031987"))
    x, y, width, height = found.box
    assert "MEIER" in found.text
    assert abs(x - 20) < 10
    assert 45 < y + height / 2 < 75
    assert width > 150


def test_a_missing_language_file_is_one_line_that_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    text_readers._tesseract.cache_clear()
    monkeypatch.delenv("TESSDATA_PREFIX", raising=False)
    monkeypatch.setattr(required, "LANGUAGE_FOLDERS", ())
    with pytest.raises(UserError) as caught:
        require_readers()
    assert "apt-get install tesseract-ocr-eng" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("package", ["tesserocr", "rapidocr"])
def test_a_missing_reader_is_one_line_that_says_how_to_get_it(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text_readers._tesseract.cache_clear()
    text_readers._rapidocr.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"pip install {package}"):
        require_readers()


@pytest.mark.parametrize("inner", ["", "tessdata"])
def test_tessdata_prefix_names_the_folder_or_the_one_that_it_is_in(
    inner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / inner
    folder.mkdir(exist_ok=True)
    shutil.copy(required.language_folder() / "eng.traineddata", folder)
    monkeypatch.setenv("TESSDATA_PREFIX", str(tmp_path))
    assert required.language_folder() == folder
