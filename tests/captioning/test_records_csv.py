"""Records files: what is taken, what is excluded with which reason, and that no cell's content gets out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sono.captioning.caption import _MESSAGES
from sono.captioning.records_csv import COLUMNS
from sono.manifests.errors import UserError

STUDY = "patient_id,study_id"


@pytest.fixture
def one_frame(clinic):
    clinic.frames("one", clinic.frame("a"))
    return clinic


@pytest.mark.parametrize(
    ("text", "days"),
    [("21", 147), ("21.5", 150), ("21+3", 150), ("21 + 3", 150), ("21w3d", 150), ("21w3", 150), ("21W 3d", 150)],
)
def test_weeks_are_decimal_or_weeks_and_days(one_frame, text, days):
    one_frame.caption(one_frame.csv(f"{STUDY},ga_weeks", f"P,1,{text}"))
    record = one_frame.records()[0]
    assert record["ga_days"] == days
    assert (record["ga_source"], record["ga_formula"], record["ga_conflict"]) == ("record", None, False)
    assert json.loads(record["provenance"])["ga_days"] == "records.ga_weeks"


def test_every_fact_has_its_field(one_frame):
    one_frame.caption(
        one_frame.csv(
            f"{STUDY},plane,hc_mm,bpd_mm,structures_seen,findings",
            "P,1,trans-thalamic,175,46.5,thalami; CSP;head,HP:0001561; ICD10:Q25.1",
        )
    )
    record = one_frame.records()[0]
    assert record["plane"] == "transthalamic"
    assert record["ga_days"] == round(7 * (8.96 + 0.540 * 17.5 + 0.0003 * 17.5**3))
    assert (record["ga_source"], record["ga_formula"]) == ("biometry", "hadlock_1984_hc")
    assert (record["hc_mm"], record["bpd_mm"], record["fl_mm"]) == (175.0, 46.5, None)
    assert record["structures_seen"] == ["head", "thalami", "cavum_septi_pellucidi"]
    assert record["findings"] == ["HP:0001561", "ICD10:Q25.1"]
    assert json.loads(record["provenance"]) == {
        "ga_days": "records.hc_mm via hadlock_1984_hc",
        "hc_mm": "records.hc_mm",
        "bpd_mm": "records.bpd_mm",
        "structures_seen": "records.structures_seen",
        "findings": "records.findings",
    }
    keys = one_frame.workspace.keys
    assert (record["patient_key"], record["study_key"]) == (keys.patient("P"), keys.study("1"))


def test_an_age_that_the_head_contradicts_is_flagged_and_not_averaged(one_frame):
    report = one_frame.caption(one_frame.csv(f"{STUDY},ga_days,hc_mm", "P,1,170,175", "P,2,150,175"))
    far, near = one_frame.records()
    assert (far["ga_days"], far["ga_conflict"]) == (170, True)
    assert (near["ga_days"], near["ga_conflict"]) == (150, False)
    assert report.counts.records_in_conflict == 1


@pytest.mark.parametrize(
    ("header", "row", "reason"),
    [
        ("ga_days", "P,1", "row_malformed"),
        ("ga_days", "P,1,150,", "row_malformed"),
        ("ga_days", ",1,150", "patient_missing"),
        ("ga_days", "  ,1,150", "patient_missing"),
        ("ga_days", "P,1,150.5", "number_impossible"),
        ("ga_days", "P,1,soon", "number_impossible"),
        ("ga_days", "P,1,-150", "number_impossible"),
        ("ga_days", "P,1,nan", "number_impossible"),
        ("ga_weeks", "P,1,21+7", "number_impossible"),
        ("ga_weeks", "P,1,1e1", "number_impossible"),
        ("ga_days", "P,1,27", "gestational_age_impossible"),
        ("ga_days", "P,1,316", "gestational_age_impossible"),
        ("ga_weeks", "P,1,45+1", "gestational_age_impossible"),
        ("ga_days,hc_mm", "P,1,150,0", "number_impossible"),
        ("ga_days,hc_mm", "P,1,150,451", "number_impossible"),
        ("ga_days,nt_mm", "P,1,150,inf", "number_impossible"),
        ("ga_days,plane", "P,1,150,profil", "plane_unknown"),
        ("ga_days,structures_seen", "P,1,150,head;gizzard", "structure_unknown"),
        ("ga_days,findings", "P,1,150,looks like her brother", "finding_malformed"),
        ("ga_days,findings", "P,1,150,DOE:JANE", "finding_malformed"),
        ("ga_days", "P,1,", "no_gestational_age"),
        ("bpd_mm", "P,1,46", "no_gestational_age"),
        ("hc_mm", "P,1,17.5", "no_gestational_age"),  # cm in a column of mm: outside the formula's range
    ],
)
def test_a_faulty_row_is_excluded_with_its_reason(one_frame, header, row, reason):
    report = one_frame.caption(one_frame.csv(f"{STUDY},{header}", row))
    assert one_frame.reasons("records") == [reason]
    assert report.records.exclusions == {reason: 1}
    assert one_frame.records() == []


@pytest.mark.parametrize(("days", "taken"), [("28", True), ("315", True)])
def test_the_limits_of_gestational_age_are_taken(one_frame, days, taken):
    one_frame.caption(one_frame.csv(f"{STUDY},ga_days", f"P,1,{days}"))
    assert (len(one_frame.records()) == 1) is taken


def test_two_lines_that_disagree_are_both_excluded(one_frame):
    path = one_frame.csv(f"{STUDY},ga_days", "P,1,150", "P,2,150", "P,1,151")
    report = one_frame.caption(path)
    assert report.records.exclusions == {"conflict": 2}
    assert len(one_frame.records()) == 1


@pytest.mark.parametrize(
    ("header", "one", "other"),
    [
        ("hc_mm", "175", "176"),
        ("ga_weeks", "21", "22"),
        ("ga_days,findings", "150,HP:1", "150,HP:2"),
        ("ga_days,structures_seen", "150,head", "150,thalami"),
        ("ga_days,fl_mm", "150,30", "150,"),
    ],
)
def test_lines_disagree_in_any_fact(one_frame, header, one, other):
    report = one_frame.caption(one_frame.csv(f"{STUDY},{header}", f"P,1,{one}", f"P,1,{other}"))
    assert report.records.exclusions == {"conflict": 2}


def test_a_line_that_says_the_same_again_is_excluded_once(one_frame):
    report = one_frame.caption(one_frame.csv(f"{STUDY},ga_days", "P,1,150", "P,1, 150"))
    assert report.records.exclusions == {"repeated": 1}
    assert len(one_frame.records()) == 1


def test_a_study_that_two_patients_claim_is_excluded(one_frame):
    report = one_frame.caption(one_frame.csv(f"{STUDY},plane,ga_days", "P,1,,150", "Q,1,femur,150"))
    assert report.records.exclusions == {"two_patients": 2}


def test_an_age_that_the_study_lines_dispute_dates_no_plane(one_frame):
    report = one_frame.caption(one_frame.csv(f"{STUDY},plane,ga_days", "P,1,,150", "P,1,,151", "P,1,TT,"))
    assert report.records.exclusions == {"conflict": 2, "no_gestational_age": 1}


def test_the_line_number_counts_lines_of_the_file(one_frame):
    path = one_frame.csv(f"{STUDY},plane,ga_days", "", '"P\nQ",1,,150', "P,1,xyzzy,150")
    one_frame.caption(path)
    (row,) = one_frame.exclusions("records")
    assert row["message"] == "line 5 of records file 1: it names a plane that the vocabulary does not have"


def test_an_exclusion_is_keyed_by_content_and_line(one_frame):
    import hashlib

    path = one_frame.csv(f"{STUDY},ga_days", "P,1,")
    one_frame.caption(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (row,) = one_frame.exclusions("records")
    assert row["source_key"] == one_frame.workspace.keys.content(f"records/{digest}/line/2")
    assert row["frame_index"] is None


def test_a_byte_order_mark_and_capital_column_names_are_fine(one_frame):
    path = one_frame.csv("\ufeffPatient_ID, Study_ID ,GA_days", "P,1,150")
    one_frame.caption(path)
    assert len(one_frame.records()) == 1


def test_more_rows_than_a_part_holds(one_frame, monkeypatch):
    monkeypatch.setattr("sono.captioning.records.ROWS_PER_PART", 2)
    rows = [f"P,{number},150" for number in range(5)]
    report = one_frame.caption(one_frame.csv(f"{STUDY},ga_days", *rows))
    assert (report.records.computed, report.records.rows) == (3, 5)
    again = one_frame.caption(one_frame.csv(f"{STUDY},ga_days", *rows[:4], "P,4,151"))
    assert (again.records.computed, again.records.up_to_date, again.records.removed) == (1, 2, 1)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "the file is empty; its first line must name the columns"),
        (b"patient_id,ga_days\nP\xe9,150\n", "not UTF-8 text; save it as CSV with UTF-8 encoding"),
        (
            b"study_id,ga_days\n1,150\n",
            "the first line names no column patient_id; known columns: patient_id, study_id",
        ),
        (b"patient_id,ga_day\nP,150\n", "unknown column 'ga_day'; did you mean 'ga_days'?"),
        (b"patient_id,\nP,150\n", "unknown column ''; did you mean"),
        (b"patient_id,ga_days,ga_days\nP,150,150\n", "the column 'ga_days' stands twice; remove one of them"),
        (b"patient_id;ga_days\nP;150\n", "the cells are separated by semicolons; save it comma-separated"),
        (b'patient_id,ga_days\n"P,150\n', "not valid CSV near line 2: unexpected end of data; mend it"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line_of_error(one_frame, content, error):
    path = one_frame.folder / "records.csv"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        one_frame.caption(path)
    assert str(caught.value).startswith(f"{path}: {error}")
    assert len(str(caught.value).splitlines()) == 1
    assert one_frame.written() == {}


def test_a_missing_file_and_an_empty_folder(one_frame):
    with pytest.raises(UserError, match=r"no\.csv: there is no such file; check the path"):
        one_frame.caption(one_frame.folder / "no.csv")
    with pytest.raises(UserError, match="no CSV file in this folder"):
        one_frame.caption(one_frame.folder)


@pytest.mark.parametrize("column", COLUMNS)
def test_a_name_in_any_cell_never_gets_out(one_frame, column):
    """The canary stands in one column at a time, of a row that is otherwise sound, and in a row that is not."""
    canary = "Zaphodine Canary 4711"
    sound = {"patient_id": "P", "study_id": "1.2.840.1", "ga_days": "150"}
    lines = [",".join(canary if name == column else row.get(name, "") for name in COLUMNS) for row in (sound, {})]
    one_frame.caption(one_frame.csv(",".join(COLUMNS), *lines))
    _assert_hidden(canary, one_frame)


def test_a_file_without_a_header_shows_nothing_of_its_first_patient(one_frame):
    with pytest.raises(UserError) as caught:
        one_frame.caption(one_frame.csv("Zaphodine Canary,4711,150", "P,1,150"))
    assert "anary" not in str(caught.value)
    assert "4711" not in str(caught.value)


def test_broken_csv_shows_nothing_of_its_cells(one_frame):
    with pytest.raises(UserError) as caught:
        one_frame.caption(one_frame.csv(f"{STUDY},ga_days", '"Zaphodine" Canary,1,150'))
    assert "anary" not in str(caught.value)
    assert caught.value.__cause__ is None


def _assert_hidden(canary, clinic):
    from sono.manifests.schemas import TABLES

    words = [*canary.split(), canary]
    for table in TABLES.values():
        for row in clinic.rows(table):
            row.pop("image", None)
            text = json.dumps(row, default=str)
            assert not any(word.lower() in text.lower() for word in words if not word.isdigit()), (table.name, row)
            plain = {name: value for name, value in row.items() if not name.endswith(("_key", "_id", "_sha256"))}
            assert "4711" not in json.dumps(plain, default=str), (table.name, plain)


def test_every_column_is_documented():
    page = (Path(__file__).parents[2] / "docs" / "captions.md").read_text(encoding="utf-8")
    assert all(f"`{column}`" in page for column in COLUMNS)


def test_every_reason_is_documented():
    """Reasons are what people look up: those in the code and those on the page must be the same."""
    root = Path(__file__).parents[2]
    page = (root / "docs" / "captions.md").read_text(encoding="utf-8")
    code = (root / "captioning" / "records_csv.py").read_text() + (root / "captioning" / "records.py").read_text()
    reasons = set(re.findall(r'(?:_RowError|= Fault)\("(\w+)"', code)) | set(_MESSAGES)
    listed = {name for line in page.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line)}
    assert len(reasons) > 10
    assert reasons <= listed
