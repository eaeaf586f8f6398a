"""Compressed records are read as the files they hold, within bounds; no file ends the run."""

from __future__ import annotations

import datetime
import gzip
import io
import json
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sono.manifests import compressed
from tests.captioning.conftest import PATIENT, STUDY
from tests.captioning.readers.fhir.resources import observation, patient, study

LINE = {"patient_id": PATIENT, "study_id": STUDY, "ga_days": "150"}


@pytest.fixture
def one_frame(clinic):
    clinic.frames("one", clinic.frame("a"))
    return clinic


def parquet(rows):
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


FILES = {
    "r.csv": f"patient_id,study_id,ga_days\n{PATIENT},{STUDY},150\n".encode(),
    "r.jsonl": json.dumps(LINE).encode(),
    "r.parquet": parquet([LINE]),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["gz", "zip"])
def test_a_compressed_table_says_what_it_says_uncompressed(one_frame, name, kind):
    path = one_frame.folder / f"{name}.{kind}"
    if kind == "gz":
        path.write_bytes(gzip.compress(FILES[name]))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"in/{name}", FILES[name])
            archive.writestr("__MACOSX/._r.csv", b"")
    one_frame.caption(path)
    assert [(fact, value) for fact, value, _, _ in one_frame.said()] == [("ga_days", 150)]
    assert one_frame.caption(path).statements.computed == 0


def test_a_compressed_export_resolves_its_references(one_frame):
    for name, resource in (("p", patient()), ("s", study()), ("o", observation("18185-9", valueString="21+3"))):
        (one_frame.folder / f"{name}.ndjson.gz").write_bytes(gzip.compress(json.dumps(resource).encode()))
    one_frame.caption(one_frame.folder)
    assert [(fact, value) for fact, value, _, _ in one_frame.said()] == [("ga_days", 150)]


def zipped(*members, **how):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content, **how)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.zip", zipped(("r.csv", b"0" * 3_000_000)), "archive_too_large"),
        ("a.csv.gz", gzip.compress(b"0" * 3_000_000), "archive_too_large"),
        ("a.zip", zipped(*((f"{number}.csv", b"0" * 400_000) for number in range(4))), "archive_too_large"),
        ("a.zip", zipped(*((f"{number}.csv", b"") for number in range(30))), "archive_too_large"),
        ("a.csv.gz", gzip.compress(FILES["r.csv"])[:-9], "archive_damaged"),
        ("a.csv.gz", gzip.compress(FILES["r.csv"])[:-8] + b"\0" * 8, "archive_damaged"),
        ("a.zip", zipped(("r.csv", FILES["r.csv"]))[:-30], "archive_damaged"),
        ("a.zip", b"PK\x05\x06", "archive_damaged"),
        ("a.zip", zipped(("b.zip", zipped(("r.csv", FILES["r.csv"])))), "not_a_record"),
    ],
    ids=["bomb", "gzip-bomb", "bomb-in-parts", "many-members", "cut", "wrong-sum", "cut-zip", "empty-zip", "nested"],
)
def test_a_bomb_or_a_damaged_archive_is_an_exclusion(one_frame, monkeypatch, name, content, reason):
    monkeypatch.setattr(compressed, "_INFLATED_FREE", 1_000_000)
    monkeypatch.setattr(compressed, "MEMBERS_MOST", 20)
    (one_frame.folder / name).write_bytes(content)
    one_frame.caption(one_frame.folder)
    assert one_frame.reasons("statements") == [reason]


@pytest.mark.parametrize(
    "line",
    [
        '{"patient_id": "\\ud800x", "ga_days": "150"}',
        '{"patient_id": "4711", "name": "\\udfff", "ga_days": "150"}',
        '{"patient_id": "4711", "ga_days": ' + "9" * 4000 + "}",
        '{"patient_id": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"patient_id": "4711", "ga_days": "150"',
    ],
)
def test_a_line_that_nothing_can_hold_is_one_exclusion(one_frame, line):
    good = json.dumps({**LINE, "name": "x"})
    path = one_frame.folder / "r.jsonl"
    path.write_text(f"{good}\n{line}\n")
    one_frame.caption(path)
    assert one_frame.reasons("statements") == ["row_malformed"]
    assert [(fact, value) for fact, value, _, _ in one_frame.said()] == [("ga_days", 150)]


@pytest.mark.parametrize(
    "column",
    [
        pa.Array.from_buffers(
            pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\3\0\0\0\5\0\0\0"), pa.py_buffer(b"150\xff0")]
        ),
        pa.array([0, 2**60], pa.timestamp("ms")),
    ],
)
def test_a_cell_of_parquet_that_python_cannot_hold_costs_its_row(one_frame, column):
    kind = "ga_days" if pa.types.is_string(column.type) else "exam_date"
    table = pa.table({"patient_id": [PATIENT] * 2, "study_id": [STUDY] * 2, kind: column})
    path = one_frame.folder / "r.parquet"
    pq.write_table(table, path)
    one_frame.caption(path)
    assert one_frame.reasons("statements")[0] == "row_malformed"
    assert len(one_frame.reasons("statements")) == 1


def test_rows_of_several_row_groups_are_numbered_through(one_frame, monkeypatch):
    monkeypatch.setattr("sono.captioning.readers.slices._PARQUET_ROWS", 7)
    rows = [{**LINE, "study_id": f"1.{number}", "exam_date": datetime.date(2024, 1, 1)} for number in range(20)]
    pq.write_table(pa.Table.from_pylist(rows), one_frame.folder / "r.parquet", row_group_size=3)
    one_frame.caption(one_frame.folder / "r.parquet")
    from sono.manifests.schemas import STATEMENTS

    places = {row["place"]: row["study_key"] for row in one_frame.rows(STATEMENTS)}
    assert places == {
        f"row {number + 1} of records file 1": one_frame.workspace.keys.study(f"1.{number}") for number in range(20)
    }
