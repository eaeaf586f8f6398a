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
        ("file,patient_id,CANARY\na,P1,CANARY\n", "column 3 is unknown; columns: file, patient_id"),
        ("file,patient_id,plnae\na,P1,CANARY\n", "column 3 is unknown; did you mean 'plane'?"),
        ("file,patient_id,plane,plane\na,P1,CANARY,\n", "the column 'plane' is listed twice"),
        ("IM0.png,CANARY,1\nIM1.png,CANARY,2\n", "the first line names none of the columns; columns: file, patient_id"),
        ("CANARY;file\n", "column 1 is unknown"),
        ("file,patient_id\na.png,P1\na.dcm,P2\n", "line 3: a second row for the same file"),
        ("file,patient_id\n,P1\n", "line 2: the file cell is empty"),
        ("file,patient_id\na,P1\nb,P1,CANARY,more\n", "line 3: more cells than the header: 4, not 2"),
        ("file,patient_id,plane\na,P1,\nb,P1,CANARY,\n", "line 3: more cells than the header"),
        ("file,patient_id,plane\na,P1,TT,\nb,P1,TT,\n", "line 2: more cells than the header"),
        ("file,patient_id,plane\na,CANARY\n", "line 2: fewer cells than the header: 2, not 3"),
        ("file;patient_id\na;P1;CANARY\n", "line 2: more cells"),
        ('file,patient_id\n"a\nb",P1\nc,CANARY,\n', "line 4: more cells"),
        ('file,patient_id\na,"CANARY\n' + "b,P1\n" * 50_000, "line 2: not valid CSV: a quote that is not closed"),
        ("file,patient_id\na," + "CANARY" * 50_000, "not valid CSV"),
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
    path.write_bytes("file,patient_id\nMüller,P1\n".encode("utf-16")[:-1])
    with pytest.raises(UserError, match="UTF-16"):
        read_metadata(path, VOCABULARY)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["unix", "windows"])
def test_delimiters_and_encodings_of_spreadsheets_are_read(
    tmp_path: Path, encoding: str, delimiter: str, line_end: str
) -> None:
    spacing = "0.25" if delimiter == "," else "0,25"
    rows = [["file", "patient_id", "pixel_mm"], ['"Müller, H; 1"', "P1", spacing], [], ["b", "P2", "0.5"]]
    path = tmp_path / "metadata.csv"
    path.write_bytes(line_end.join(delimiter.join(row) for row in rows).encode(encoding))
    found = read_metadata(path, VOCABULARY).rows
    assert [(name, row.patient_id, row.pixel_mm) for name, row in found.items()] == [
        ("Müller, H; 1", "P1", 0.25),
        ("b", "P2", 0.5),
    ]


def test_a_decimal_comma_between_commas_needs_quotes_and_is_not_a_number(tmp_path: Path) -> None:
    found = read_metadata(write(tmp_path, 'file,patient_id,pixel_mm\na,P1,"0,25"\n'), VOCABULARY)
    assert found.rows["a"].problem == "bad_metadata"


def test_an_endless_line_is_not_read_into_memory() -> None:
    with pytest.raises(UserError, match="line far too long"):
        read_metadata(Path("/dev/zero"), VOCABULARY)
