"""What cleaning cannot do without, and cannot install itself: programs and language files that read text."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from sono.manifests.errors import UserError

LANGUAGE = "eng"
LANGUAGE_FOLDERS = (
    "/usr/share/tesseract-ocr/5/tessdata",
    "/usr/share/tesseract-ocr/4.00/tessdata",
    "/usr/share/tessdata",
    "/usr/share/tesseract/tessdata",
    "/usr/local/share/tessdata",
    "/opt/homebrew/share/tessdata",
)
"""Where Debian, Fedora, Arch, Homebrew and others keep language files, after ``TESSDATA_PREFIX``."""


def require_readers() -> None:
    """Make sure that the detector and both readers are here, without loading them, which takes a second.

    Raises:
        UserError: one of them, or a language file, is missing; the text says how to get it.
    """
    for package in ("onnxruntime", "rapidocr", "tesserocr"):
        if importlib.util.find_spec(package) is None:
            raise missing(package)
    language_folder()


def language_folder() -> Path:
    """The first folder that has the language file; ``TESSDATA_PREFIX`` names it, or the folder that it is in."""
    prefix = os.environ.get("TESSDATA_PREFIX")
    named = [Path(prefix), Path(prefix) / "tessdata"] if prefix else []
    for folder in (*named, *map(Path, LANGUAGE_FOLDERS)):
        if (folder / f"{LANGUAGE}.traineddata").is_file():
            return folder
    raise UserError(
        f"Tesseract's language file {LANGUAGE}.traineddata was not found: burned-in text cannot be shown to be gone",
        fix="run: apt-get install tesseract-ocr-eng (or set TESSDATA_PREFIX to the folder that has it)",
    )


def missing(package: str) -> UserError:
    return UserError(
        f"{package} is not installed: burned-in text cannot be shown to be gone", fix=f"run: pip install {package}"
    )
