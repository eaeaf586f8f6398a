"""The metadata CSV: how rows match files, and how unusable rows and files are reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from sono.curation.ingest.metadata import read_metadata
from sono.manifests import vocabulary
from sono.manifests.errors import UserError

VOCABULARY = vocabulary.load()


def write(folder: Path, text: str) -> Path:
    path = folder / "metadata.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_found_by_path_or_by_unique_bare_name(tmp_path: Path) -> None:
    csv = write(tmp_path, "file,patient_id,plane,pixel_mm\na/b.png,P1,TT,0.1\nc,P2,,\n")
    metadata = read_metadata(csv, VOCABULARY)
    found = metadata.find("a/b.dcm", bare_name_is_unique=True)
    assert found is not None
    assert (found.patient_id, found.plane, found.pixel_mm) == ("P1", "transthalamic", 0.1)
    assert metadata.find("x/c.png", bare_name_is_unique=True) is not None
    assert metadata.find("x/c.png", bare_name_is_unique=False) is None
    assert metadata.find("b.png", bare_name_is_unique=True) is None


def test_a_byte_order_mark_and_spaces_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "metadata.csv"
    path.write_bytes("\ufefffile,patient_id\n scan.png , P1 \n".encode())
    found = read_metadata(path, VOCABULARY).find("scan.png", bare_name_is_unique=True)
    assert found is not None
    assert found.patient_id == "P1"


def test_rows_that_cannot_be_used_are_named_by_line_and_never_quoted(tmp_path: Path) -> None:
    csv = write(
        tmp_path,
        "file,patient_id,plane,center,pixel_mm\n"
        "a,P1,transthalmic,,\nb,,,,\nc,CANARY,,bad/center,\nd,P1,,,minus\ne,P1,CANARY plane,,\n",
    )
    metadata = read_metadata(csv, VOCABULARY)
    problems = [metadata.rows[name].problem for name in "abcde"]
    assert problems == ["unknown_plane", "patient_unknown", "bad_metadata", "bad_metadata", "unknown_plane"]
    assert metadata.warnings[0] == "line 2: unknown plane; did you mean 'transthalamic'?"
    assert len(metadata.warnings) == 5
    assert not any("CANARY" in warning for warning in metadata.warnings)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("file,plane\na,TT\n", "'patient_id' is missing"),
        ("patient_id\nP1\n", "'file' is missing"),
        ("file,patient_id,name\na,P1,CANARY\n", "unknown column 'name'"),
        ("file,patient_id\na.png,P1\na.dcm,P2\n", "line 3: a second row names the same file"),
        ("file,patient_id\n,P1\n", "line 2: the file cell is empty"),
        ("file,patient_id\na,P1\nb,P1,CANARY,more\n", "more cells than the header"),
    ],
)
def test_a_csv_that_cannot_be_used_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        read_metadata(write(tmp_path, text), VOCABULARY)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "CANARY" not in str(caught.value)


def test_missing_file_folder_and_other_encodings_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="file not found"):
        read_metadata(tmp_path / "none.csv", VOCABULARY)
    with pytest.raises(UserError, match="folder"):
        read_metadata(tmp_path, VOCABULARY)
    path = tmp_path / "latin.csv"
    path.write_bytes("file,patient_id\nMüller,P1\n".encode("latin-1"))
    with pytest.raises(UserError, match="UTF-8"):
        read_metadata(path, VOCABULARY)
