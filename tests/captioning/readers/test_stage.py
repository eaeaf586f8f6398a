"""From files to statements: what makes them stale, and how much of a file is held at once."""

from __future__ import annotations

import decimal
import json
import socket
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sono.manifests.errors import UserError
from sono.manifests.schemas import STATEMENTS
from tests.captioning.readers.fhir.resources import identifiers_of, observation, patient, report, study

PATIENT, STUDY_ID = "PAT-1", "1.2.840.1"


@pytest.fixture
def one_frame(clinic):
    clinic.frames("one", clinic.frame("a"))
    return clinic


# -------------------------------------------------------------------------------------------------- what makes it stale


def test_a_changed_header_makes_the_complete_file_stale(one_frame, monkeypatch):
    monkeypatch.setattr("sono.captioning.readers.slices._SLICE_BYTES", 40)
    lines = [f"{PATIENT},{number},55.5,60.5" for number in range(8)]
    one_frame.caption(one_frame.csv("patient_id,study_id,bpd_mm,crl_mm", *lines))
    one_frame.caption(one_frame.csv("patient_id,study_id,crl_mm,bpd_mm", *lines))
    assert {(fact, value) for fact, value, _, _ in one_frame.said()} == {("crl_mm", 55.5), ("bpd_mm", 60.5)}


def test_a_bundle_is_stale_when_the_export_that_it_refers_to_changes(one_frame):
    keys = one_frame.workspace.keys
    export, bundle = one_frame.folder / "patients.ndjson", one_frame.folder / "observation.json"
    bundle.write_text(json.dumps(observation()))
    for medical_record in ("MRN-1", "MRN-22"):
        export.write_text(json.dumps(patient(identifier=identifiers_of((medical_record, True)))))
        one_frame.caption(one_frame.folder)
        found = {row["patient_number_key"] for row in one_frame.rows(STATEMENTS)}
        assert found == {keys.patient("", medical_record)}
    assert one_frame.caption(one_frame.folder).statements.computed == 0
    export.unlink()
    one_frame.caption(one_frame.folder)
    assert one_frame.rows(STATEMENTS) == []
    assert one_frame.reasons("statements") == ["patient_missing"]


def test_an_endpoint_that_is_away_is_no_fault_of_a_bundle(one_frame):
    with socket.socket() as taken:  # nobody listens
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        model = f'[caption.language_model]\nbase_url = "{url}"\nmodel = "m"\nmax_retries = 0\n'
        one_frame.configure(f'[workspace]\ncenter = "Hospital A"\n[caption]\ntext = "model"\n{model}')
        made = report(conclusion="The head circumference is 190 mm.", effectiveDateTime="2024-05-02")
        entries = [{"resource": resource} for resource in (patient(), study(), made)]
        bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
        (one_frame.folder / "bundle.json").write_text(json.dumps(bundle))
        with pytest.raises(UserError, match=url):
            one_frame.caption(one_frame.folder)
    assert one_frame.reasons("statements") == []


def test_unchanged_records_of_every_kind_are_up_to_date(one_frame):
    one_frame.csv("patient_id,study_id,ga_days", f"{PATIENT},{STUDY_ID},150")
    rows = [{"patient_id": PATIENT, "study_id": STUDY_ID, "ga_days": 150}]
    (one_frame.folder / "a.jsonl").write_text(json.dumps(rows[0]))
    pq.write_table(pa.Table.from_pylist(rows), one_frame.folder / "a.parquet")
    export = [patient(), study(), observation()]
    (one_frame.folder / "a.ndjson").write_text("\n".join(json.dumps(resource) for resource in export))
    (one_frame.folder / "a.json").write_text(json.dumps(observation(id="o2")))
    first, second = one_frame.caption(one_frame.folder), one_frame.caption(one_frame.folder)
    assert first.statements.computed == second.statements.up_to_date > 4
    assert second.statements.computed == 0


# ------------------------------------------------------------------------------------------------------- JSON lines


def test_a_column_that_first_appears_in_a_late_line_is_read(one_frame, monkeypatch):
    monkeypatch.setattr("sono.captioning.readers.rows._HEADER_LINES", 1)
    path = one_frame.folder / "records.jsonl"
    rows = [{"patient_id": PATIENT, "GA_days": 150}, {"patient_id": PATIENT, "hc_mm": 175.5}]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    assert one_frame.caption(path).statements.exclusions == {}
    assert {fact for fact, *_ in one_frame.said()} == {"ga_days", "hc_mm"}


def test_an_ignored_column_of_json_lines_stays_ignored(one_frame):
    path = one_frame.folder / "records.jsonl"
    path.write_text(json.dumps({"patient_id": PATIENT, "hc_mm": 175.5, "fl_mm": 33}))
    one_frame.caption(path, mapping='[columns]\nhc_mm = "ignore"')
    assert [fact for fact, *_ in one_frame.said()] == ["fl_mm"]


@pytest.mark.parametrize("second", ["patient_id", "Patient_ID"])
def test_a_line_with_a_repeated_name_is_excluded(one_frame, monkeypatch, second):
    monkeypatch.setattr("sono.captioning.readers.rows._HEADER_LINES", 1)
    path = one_frame.folder / "records.jsonl"
    good = json.dumps({"patient_id": PATIENT, "ga_days": 150})
    path.write_text(good + "\n" + good.replace("{", f'{{"{second}": "PAT-2", '))
    assert one_frame.caption(path).statements.exclusions == {"row_malformed": 1}


# ---------------------------------------------------------------------------------------------------------- Parquet


def test_mapped_column_names_of_parquet_ignore_case(one_frame):
    path = one_frame.folder / "records.parquet"
    pq.write_table(pa.Table.from_pylist([{"PAT_NR": PATIENT, "GA_days": 150}]), path)
    report = one_frame.caption(path, mapping='[columns]\n"Pat_Nr" = "patient_id"')
    assert report.statements.exclusions == {}
    assert one_frame.said() == [("ga_days", 150, None, "column GA_days")]


def test_decimals_are_numbers_and_nan_is_missing(one_frame):
    table = pa.table(
        {
            "patient_id": [PATIENT, PATIENT],
            "study_id": pa.array([STUDY_ID, None]),
            "hc_mm": pa.array([decimal.Decimal("175.50"), None], pa.decimal128(9, 2)),
            "fl_mm": pa.array([float("nan"), 33.5], pa.float64()),
            "nt_mm": pa.array([1.7000000000000002, None], pa.float64()),
            "bpd_mm": pa.array([51.3, None], pa.float32()),
        }
    )
    path = one_frame.folder / "records.parquet"
    pq.write_table(table, path)
    assert one_frame.caption(path).statements.exclusions == {}
    assert [(fact, value) for fact, value, _, _ in one_frame.said()] == [
        ("hc_mm", 175.5),
        ("nt_mm", 1.7),
        ("bpd_mm", 51.3),
        ("fl_mm", 33.5),
    ]


# ------------------------------------------------------------------------------------------------------- huge lines


@pytest.mark.parametrize("name", ["records.csv", "records.jsonl", "records.ndjson"])
def test_an_endless_line_is_never_held_in_memory(one_frame, monkeypatch, name):
    monkeypatch.setattr("sono.captioning.readers.slices._SLICE_BYTES", 1000)
    monkeypatch.setattr("sono.captioning.readers.slices._LINE_BYTES_MOST", 10_000)
    path = one_frame.folder / name
    path.write_bytes(b'{"resourceType": "' * name.endswith("ndjson") or b'{"patient_id": "')
    with path.open("ab") as file:
        file.write(b"x" * 20_000_000)
    tracemalloc.start()
    with pytest.raises(UserError, match="a record is longer than"):
        one_frame.caption(path)
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held < 10_000_000
