"""Tables of records: what is taken, what is excluded with which reason, and that no cell's content gets out."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sono.captioning.readers import slices
from sono.captioning.readers.mapping import COLUMNS
from sono.manifests.errors import UserError
from sono.manifests.schemas import STATEMENTS, TABLES

STUDY = "patient_id,study_id"
PATIENT, STUDY_ID = "PAT-1", "1.2.840.1"
WHO = f"{PATIENT},{STUDY_ID}"


@pytest.fixture
def one_frame(clinic):
    clinic.frames("one", clinic.frame("a"))
    return clinic


@pytest.mark.parametrize(
    ("text", "days"),
    [("21", 147), ("21.5", 150), ("21+3", 150), ("21 + 3", 150), ("21w3d", 150), ("21w3", 150), ("21W 3d", 150)],
)
def test_weeks_are_decimal_or_weeks_and_days(one_frame, text, days):
    one_frame.caption(one_frame.csv(f"{STUDY},ga_weeks", f"{WHO},{text}"))
    assert one_frame.said() == [("ga_days", days, None, "column ga_weeks")]
    record = one_frame.records()[0]
    assert (record["ga_days"], record["ga_source"], record["ga_conflict"]) == (days, "explicit", None)
    assert json.loads(record["provenance"])["ga_days"] == "column ga_weeks"


def test_every_fact_has_its_field(one_frame):
    one_frame.caption(
        one_frame.csv(
            f"{STUDY},plane,hc_mm,structures_seen,findings,presentation,laterality",
            f"{WHO},trans-thalamic,175,thalami; CSP;head,HP:0001561; ICD10:Q25.1,vertex,L",
        )
    )
    assert sorted(one_frame.said()) == [
        ("findings", "HP:0001561", None, "column findings"),
        ("findings", "ICD10:Q25.1", None, "column findings"),
        ("hc_mm", 175.0, None, "column hc_mm"),
        ("laterality", "left", "transthalamic", "column laterality"),
        ("presentation", "cephalic", None, "column presentation"),
        ("structures_seen", "cavum_septi_pellucidi", "transthalamic", "column structures_seen"),
        ("structures_seen", "head", "transthalamic", "column structures_seen"),
        ("structures_seen", "thalami", "transthalamic", "column structures_seen"),
    ]
    whole, plane = one_frame.records()
    assert (whole["plane"], plane["plane"]) == (None, "transthalamic")
    assert (whole["hc_mm"], whole["presentation"], whole["ga_source"]) == (175.0, "cephalic", "biometry")
    assert (plane["laterality"], plane["ga_days"]) == ("left", None)


@pytest.mark.parametrize(
    ("header", "row", "reason"),
    [
        ("ga_days", WHO, "row_malformed"),
        ("ga_days", f"{WHO},150,", "row_malformed"),
        ("ga_days", f",{STUDY_ID},150", "patient_missing"),
        ("ga_days", f"{WHO},150.5", "number_impossible"),
        ("ga_days", f"{WHO},soon", "number_impossible"),
        ("ga_days", f"{WHO},-150", "number_impossible"),
        ("ga_days", f"{WHO},nan", "number_impossible"),
        ("ga_weeks", f"{WHO},21+7", "number_impossible"),
        ("ga_weeks", f"{WHO},1e1", "number_impossible"),
        ("ga_days", f"{WHO},27", "gestational_age_impossible"),
        ("ga_days", f"{WHO},316", "gestational_age_impossible"),
        ("ga_weeks", f"{WHO},45+1", "gestational_age_impossible"),
        ("ga_days", f"{WHO},150 mo", "unit_unknown"),
        ("hc_mm", f"{WHO},0", "number_impossible"),
        ("hc_mm", f"{WHO},451", "number_impossible"),
        ("hc_mm", f"{WHO},17.5", "number_impossible"),  # cm in a column of mm
        ("hc_mm", f"{WHO},17.5 in", "unit_unknown"),
        ("nt_mm", f"{WHO},inf", "number_impossible"),
        ("plane", f"{WHO},profil", "plane_unknown"),
        ("structures_seen", f"{WHO},head;gizzard", "structure_unknown"),
        ("findings", f"{WHO},looks like her brother", "finding_malformed"),
        ("findings", f"{WHO},DOE:JANE", "finding_malformed"),
        ("presentation", f"{WHO},upside down", "presentation_unknown"),
        ("laterality", f"{WHO},middle", "laterality_unknown"),
        ("lmp", f"{WHO},31.12.2023", "date_malformed"),
        ("exam_date,lmp", f"{WHO},2024-05-01,2024-05-02", "date_impossible"),
        ("exam_date,edd", f"{WHO},2024-05-01,2029-05-02", "date_impossible"),
        ("exam_date", f"{WHO},2999-01-01", "date_impossible"),
    ],
)
def test_what_cannot_be_taken_is_excluded_with_its_reason(one_frame, header, row, reason):
    report = one_frame.caption(one_frame.csv(f"{STUDY},{header}", row))
    assert report.statements.exclusions == {reason: 1}
    assert one_frame.reasons("statements") == [reason]
    assert one_frame.said() == []


def test_one_impossible_value_does_not_exclude_the_others(one_frame):
    one_frame.caption(one_frame.csv(f"{STUDY},ga_days,hc_mm,fl_mm", f"{WHO},150,9999,33.5"))
    assert one_frame.said() == [("ga_days", 150, None, "column ga_days"), ("fl_mm", 33.5, None, "column fl_mm")]


def test_a_unit_in_the_cell_wins_over_the_columns(one_frame):
    mapping = '[columns]\n"HC" = {holds = "hc_mm", unit = "cm"}'
    one_frame.caption(one_frame.csv(f"{STUDY},HC,fl_mm", f"{WHO},17.5,3.35 cm"), mapping=mapping)
    one_frame.caption(one_frame.csv(f"{STUDY},HC", f"{WHO},175 mm"), mapping=mapping)
    assert one_frame.said() == [("hc_mm", 175.0, None, "column HC")]


def test_a_mapping_names_columns_units_codes_and_date_formats(one_frame):
    mapping = """
        date_format = "%d.%m.%Y"
        [columns]
        "Pat-Nr" = "patient_id"
        "Untersuchung" = "study_id"
        "Datum" = "exam_date"
        "LP" = "lmp"
        "Kopf (cm)" = {holds = "hc_mm", unit = "cm"}
        "Ebene" = {holds = "plane", codes = {"Thalamus-Ebene" = "transthalamic"}}
        "Lage" = {holds = "presentation", codes = {SL = "cephalic", BEL = "breech"}}
        "Bemerkung" = "ignore"
        "Arzt" = "name"
        "Ort" = "name"
    """
    header = "Pat-Nr,Untersuchung,Datum,LP,Kopf (cm),Ebene,Lage,Bemerkung,Arzt,Ort"
    line = f"{WHO},15.05.2024,17.12.2023,17.5,Thalamus-Ebene,BEL,anything,Dr. No,Ort"
    one_frame.caption(one_frame.csv(header, line), mapping=mapping)
    whole, *_ = one_frame.records()
    assert (whole["ga_days"], whole["ga_source"]) == (150, "lmp")
    assert (whole["hc_mm"], whole["presentation"]) == (175.0, "breech")


@pytest.mark.parametrize(
    ("mapping", "error"),
    [
        ('[columns]\nX = "hc_cm"', "column 'X' is mapped to 'hc_cm', which is not a fact; did you mean 'hc_mm'?"),
        ('[columns]\nX = {holds = "hc_mm", unit = "inch"}', "column 'X' has the unknown unit 'inch'; give one of mm"),
        ('[columns]\nX = {holds = "plane", unit = "mm"}', "column 'X' has the unknown unit 'mm'; it takes no unit"),
        (
            '[columns]\n"Ga_dys" = "ga_days"',
            "names the column 'Ga_dys', which the table does not have; did you mean 'ga_days'?",
        ),
        ('[columns]\nga_days = {fact = "x"}', "holds: Field required"),
        ("[column]", "columns: Field required"),
        ("[columns", "not valid TOML"),
        ('[columns]\nhc_mm = "ga_days"', "two columns hold 'ga_days': 'ga_days' and 'hc_mm'; map one of them"),
    ],
)
def test_a_wrong_mapping_is_one_line_of_error(one_frame, mapping, error):
    with pytest.raises(UserError) as caught:
        one_frame.caption(one_frame.csv(f"{STUDY},ga_days,hc_mm", f"{WHO},150,"), mapping=mapping)
    assert error in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert one_frame.written() == {}


def test_the_line_number_counts_lines_of_the_file(one_frame):
    path = one_frame.csv(f"{STUDY},plane,ga_days", "", '"P\nQ",1,,150', "P,1,xyzzy,150")
    one_frame.caption(path)
    (row,) = one_frame.exclusions("statements")
    expected = "it names a plane that neither the vocabulary nor the mapping has"
    assert row["message"] == f"line 5 of records file 1: {expected}"


@pytest.mark.parametrize("slice_bytes", [16, 37, 64, 200, 10_000])
def test_statements_do_not_depend_on_where_a_file_is_cut(one_frame, monkeypatch, slice_bytes):
    monkeypatch.setattr("sono.captioning.readers.slices._SLICE_BYTES", slice_bytes)
    lines = [f'"P{n}{chr(10)}, ""x""",{n},"tha{"" if n % 2 else "lami;head"}",{140 + n}' for n in range(20)]
    report = one_frame.caption(one_frame.csv(f"{STUDY},structures_seen,ga_days", *lines))
    places = [row["message"].split(":")[0] for row in one_frame.exclusions("statements")]
    assert sorted(places) == sorted(f"line {2 + 2 * n} of records file 1" for n in range(1, 20, 2))
    assert sorted(value for fact, value, _, _ in one_frame.said() if fact == "ga_days") == list(range(140, 160))
    assert report.statements.exclusions == {"structure_unknown": 10}


def test_a_byte_order_mark_and_capitals_in_column_names_are_accepted(one_frame):
    one_frame.caption(one_frame.csv("\ufeffPatient_ID, Study_ID ,GA_days", f"{WHO},150"))
    assert one_frame.said() == [("ga_days", 150, None, "column GA_days")]


ROWS = [
    {"patient_id": PATIENT, "study_id": STUDY_ID, "ga_days": 150, "hc_mm": 175.5, "structures_seen": ["head", "CSP"]},
    {"patient_id": PATIENT, "study_id": STUDY_ID, "ga_days": None, "hc_mm": None, "structures_seen": None},
    {"patient_id": None, "study_id": STUDY_ID, "ga_days": 150, "hc_mm": None, "structures_seen": None},
]


@pytest.mark.parametrize("kind", ["jsonl", "ndjson", "parquet"])
def test_json_lines_and_parquet_give_the_statements_of_a_csv(one_frame, kind):
    lines = [",".join(ROWS[0]), f"{WHO},150,175.5,head;CSP", f"{WHO},,,", f",{STUDY_ID},150,,"]
    one_frame.caption(one_frame.csv(*lines))
    expected = sorted(one_frame.said())
    path = one_frame.folder / f"other.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        path.write_text("\n".join(json.dumps({k: v for k, v in row.items() if v is not None}) for row in ROWS))
    report = one_frame.caption(path)
    assert sorted(one_frame.said()) == expected
    assert report.statements.exclusions == {"patient_missing": 1}


def test_a_line_that_is_not_an_object_is_excluded(one_frame):
    path = one_frame.folder / "records.jsonl"
    good = json.dumps(ROWS[0])
    broken = ["[1]", '{"patient_id": "x"', good.replace("150", "true"), "", '{"patient_id": {}}']
    path.write_text("\n".join([good, *broken]))
    report = one_frame.caption(path)
    assert report.statements.exclusions == {"row_malformed": 4}


def test_an_unknown_key_in_a_late_line_is_excluded(one_frame, monkeypatch):
    monkeypatch.setattr("sono.captioning.readers.rows._HEADER_LINES", 1)
    path = one_frame.folder / "records.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n" + json.dumps({**ROWS[0], "Zaphodine": "Canary"}) + "\n")
    assert one_frame.caption(path).statements.exclusions == {"row_malformed": 1}


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "the file is empty; its first line must name the columns"),
        (b"patient_id,ga_days\nP\xe9,150\n", "neither UTF-8 nor UTF-16 text; save it as CSV with UTF-8 encoding"),
        (b"study_id,ga_days\n1,150\n", "no column gives the patient_id; name it in the first line, or map"),
        (b"patient_id,ga_day\nP,150\n", "unknown column 'ga_day'; did you mean 'ga_days'?"),
        (b"patient_id,ga_days,ga_days\nP,150,150\n", "two columns hold 'ga_days': 'ga_days' and 'ga_days'; map"),
        (b"Frieda;150\nP;150\n", "no column gives the patient_id; name it in the first line, or map"),
        (b'patient_id,ga_days\n"P,150\n', "not valid CSV near line 2: unexpected end of data; correct that line"),
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


def test_missing_empty_and_unknown_records(one_frame):
    with pytest.raises(UserError, match=r"no\.csv: file not found; check the path"):
        one_frame.caption(one_frame.folder / "no.csv")
    with pytest.raises(UserError, match="the folder contains no files"):
        one_frame.caption(one_frame.folder)
    other = one_frame.folder / "letter.docx"
    other.write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match="not CSV, JSON lines, Parquet, FHIR JSON or DICOM SR"):
        one_frame.caption(other)
    report = one_frame.caption(one_frame.folder)  # within a folder it is counted, not fatal
    assert report.statements.exclusions == {"not_a_record": 1}


@pytest.mark.parametrize("column", COLUMNS)
def test_a_name_in_any_cell_never_gets_out(one_frame, column):
    """The canary stands in one column at a time, of a row that is otherwise sound, and in a row that is not."""
    canary = "Zaphodine Canary 4711"
    sound = {"patient_id": "P", "study_id": STUDY_ID, "ga_days": "150"}
    lines = [",".join(canary if name == column else row.get(name, "") for name in COLUMNS) for row in (sound, {})]
    one_frame.caption(one_frame.csv(",".join(COLUMNS), *lines))
    _assert_hidden(canary, one_frame)


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("patient_id,exam_date,name,ga_days", ["P,2024-05-15,Zaphodine,150", "P,2024-05-29,Zaphodine,164"]),
        ("patient_id,study_id,name,ga_days", ["P,1,Zaphodine,150", "P,1,Canary,150"]),
        ("patient_id,study_id,accession,name", ["P,1,A1,Zaphodine", "P,1,A2,Canary"]),
    ],
)
def test_every_examination_has_all_names_of_its_rows(one_frame, header, rows):
    one_frame.caption(one_frame.csv(header, *rows))
    keys = one_frame.workspace.keys
    found = {
        (row["study_key"], row["accession_key"], row["study_day"], row["code"]) for row in one_frame.rows(STATEMENTS)
    }
    names = {keys.word("zaphodine"), keys.word("canary")}
    assert len([row for row in found if row[-1] in names]) == 2


@pytest.mark.parametrize(("day", "ages"), [("31.01.2020", []), ("2020-01-31", []), ("", [140])])
def test_a_day_that_is_not_understood_is_not_one_that_was_never_given(clinic, day, ages):
    """The images have no accession numbers, and the patient has one examination with images."""
    clinic.frames("one", clinic.frame("a", date=datetime.date(2024, 5, 2)))
    clinic.caption(
        clinic.csv("patient_id,accession,exam_date,ga_days", f"{PATIENT},ACC77,{day},140", f"{PATIENT},,2024-05-02,")
    )
    assert [record["ga_days"] for record in clinic.records() if record["ga_days"]] == ages


def test_the_error_for_a_missing_header_does_not_quote_the_first_line(one_frame):
    with pytest.raises(UserError) as caught:
        one_frame.caption(one_frame.csv("Zaphodine Canary,4711,150", "P,1,150"))
    assert "anary" not in str(caught.value)
    assert "4711" not in str(caught.value)


def test_the_error_for_broken_csv_does_not_quote_cells(one_frame):
    with pytest.raises(UserError) as caught:
        one_frame.caption(one_frame.csv(f"{STUDY},ga_days", '"Zaphodine" Canary,1,150'))
    assert "anary" not in str(caught.value)
    assert caught.value.__cause__ is None


def _assert_hidden(canary, clinic):
    words = [*canary.split(), canary]
    for table in TABLES.values():
        for row in clinic.rows(table):
            row.pop("image", None)
            text = json.dumps(row, default=str)
            assert not any(word.lower() in text.lower() for word in words if not word.isdigit()), (table.name, row)
            hidden = ("_key", "_id", "_sha256")
            plain = {name: value for name, value in row.items() if not name.endswith(hidden)}
            plain.pop("identity", None)
            if plain.get("fact") != "identity":
                assert "4711" not in json.dumps(plain, default=str), (table.name, plain)


def test_every_column_is_documented():
    page = (Path(__file__).parents[3] / "docs" / "record_formats.md").read_text(encoding="utf-8")
    assert [column for column in COLUMNS if f"`{column}`" not in page] == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("delimiter", [";", "\t"], ids=["semicolon", "tab"])
@pytest.mark.parametrize("name", ["records.csv", "records.tsv"])
def test_delimiters_and_encodings_of_spreadsheets_are_read(one_frame, encoding, delimiter, name):
    mapping = 'decimal = ","\n[columns]\npatient_id = "patient_id"\nUmfang = "hc_mm"\n'
    rows = [["patient_id", "study_id", "Umfang", "name"], [PATIENT, STUDY_ID, "175,5", "Müller"]]
    path = one_frame.folder / name
    path.write_bytes("\r\n".join(delimiter.join(row) for row in rows).encode(encoding))
    one_frame.caption(path, mapping=mapping)
    assert one_frame.said() == [("hc_mm", 175.5, None, "column Umfang")]


@pytest.mark.parametrize("cell", ["175.5", "1.75,5", "175,5,5"])
def test_a_decimal_point_is_no_number_where_the_mapping_says_comma(one_frame, cell):
    mapping = 'decimal = ","\n[columns]\npatient_id = "patient_id"\n'
    path = one_frame.folder / "records.csv"
    path.write_text(f"patient_id;study_id;hc_mm\n{PATIENT};{STUDY_ID};{cell}\n")
    one_frame.caption(path, mapping=mapping)
    assert one_frame.said() == []
    assert one_frame.reasons("statements") == ["number_impossible"]


def test_an_open_quote_costs_time_in_proportion_to_what_is_read(one_frame, monkeypatch):
    """Every byte is looked at once: twice the lines after the quote take twice the look-ups, not four times."""
    monkeypatch.setattr("sono.captioning.readers.slices._SLICE_BYTES", 1000)
    monkeypatch.setattr("sono.captioning.readers.slices._LINE_BYTES_MOST", 100_000)
    seen: list[int] = []
    real = slices._record_end
    monkeypatch.setattr(slices, "_record_end", lambda block, inside: seen.append(len(block)) or real(block, inside))
    path = one_frame.folder / "records.csv"
    path.write_text('patient_id,ga_days\n"P,150\n' + "P,150\n" * 1_000_000)
    with pytest.raises(UserError, match="a record is longer than"):
        one_frame.caption(path)
    assert sum(seen) < 3 * 100_000
