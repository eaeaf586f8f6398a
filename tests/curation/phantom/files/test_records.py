"""The phantom's records in three forms: valid by their standards, equal in what they say, and the same every time."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pydicom
import pytest
from fhir.resources.R4B.bundle import Bundle
from pydicom.dataset import Dataset
from pydicom.sr._concepts_dict import concepts

from sono.captioning.facts.statements import Reading
from sono.captioning.readers import mapping
from sono.captioning.readers.files import find_records
from sono.captioning.readers.stage import read_statements
from sono.curation.phantom.anatomy import FINDINGS
from sono.curation.phantom.files import csv_table, fhir, sr
from sono.curation.phantom.hospitals import Center
from sono.curation.phantom.records import ExamRecord, Patient, View
from sono.manifests import vocabulary as vocabularies
from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.schemas import BIOMETRY, EXCLUSIONS, STATEMENTS
from sono.manifests.stages import in_process
from sono.manifests.store import TableStore

VOCABULARY = vocabularies.load()
PLANES = tuple(View(plane.id, plane.structures) for plane in VOCABULARY.planes.values())

FULL = ExamRecord(
    center=Center("north clinic", "St. Änne", "GE Healthcare", "Voluson E10", "EC200"),
    patient=Patient("MRN 0815", "Ünlü-Schmidt", "Ana María", date(1990, 2, 3)),
    study_uid="2.25.329800735698586629295641978511506172918",
    accession_number="ACC-77",
    started=datetime(2023, 5, 6, 7, 8, 9),
    referring_physician=("Łęcka", "Olga"),
    sonographer=("Nyström", "Åsa"),
    lmp=date(2022, 12, 1),
    edd=date(2023, 9, 9),
    ga_days=150,
    ga_days_by_lmp=156,
    biometry_mm={
        "bpd_mm": 51.3,
        "hc_mm": 190.2,
        "ac_mm": 170.0,
        "fl_mm": 36.1,
        "crl_mm": 60.4,
        "nt_mm": 1.6,
        "tcd_mm": 23.5,
        "hl_mm": 34.2,
    },
    views=PLANES,
    findings=tuple(FINDINGS),
)
SPARSE: dict[str, dict[str, Any]] = {
    "no LMP": {"lmp": None, "ga_days_by_lmp": None},
    "no EDD": {"edd": None},
    "no age": {"ga_days": None, "ga_days_by_lmp": None},
    "no dates and no age": {"lmp": None, "edd": None, "ga_days": None, "ga_days_by_lmp": None},
    "no biometry": {"biometry_mm": {}},
    "early biometry": {"biometry_mm": {"crl_mm": 55.0, "nt_mm": 1.2}},
    "no views": {"views": ()},
    "a view without structures": {"views": (View("femur", ()),)},
    "no findings": {"findings": ()},
}
NOTHING = dataclasses.replace(
    FULL, lmp=None, edd=None, ga_days=None, ga_days_by_lmp=None, biometry_mm={}, views=(), findings=()
)
RECORDS = {"full": FULL, "nothing": NOTHING} | {
    name: dataclasses.replace(FULL, **change) for name, change in SPARSE.items()
}


@pytest.fixture(params=RECORDS, ids=lambda name: name.replace(" ", "-"))
def record(request) -> ExamRecord:
    return RECORDS[request.param]


# -------------------------------------------------------------------------------------------------------------- CSV


def test_columns_have_the_names_that_captioning_expects():
    assert set(csv_table.COLUMNS) <= set(mapping.COLUMNS)


def test_a_csv_file_holds_many_examinations_and_always_a_header(tmp_path):
    path = tmp_path / "records.csv"
    other = dataclasses.replace(FULL, study_uid="2.25.2", views=())
    csv_table.write(path, [*csv_table.rows(FULL), *csv_table.rows(other)])
    assert len(path.read_text(encoding="utf-8").splitlines()) == 1 + 1 + len(PLANES) + 1
    csv_table.write(path, [])
    assert path.read_text(encoding="utf-8") == ",".join(csv_table.COLUMNS) + "\n"


def test_weeks_are_written_as_hospitals_write_them():
    assert csv_table.rows(FULL)[0]["ga_weeks_by_lmp"] == "22+2"


# ------------------------------------------------------------------------------------------------------------- FHIR


@pytest.fixture
def resources(record) -> list[dict[str, Any]]:
    return _resources(record)


def _resources(record: ExamRecord) -> list[dict[str, Any]]:
    return [entry["resource"] for entry in fhir.bundle(record, VOCABULARY)["entry"]]


def _only(resources: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = (resource for resource in resources if resource["resourceType"] == kind)
    return found


def _references(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        yield from ([content["reference"]] if "reference" in content else [])
        content = list(content.values())
    if isinstance(content, list):
        for item in content:
            yield from _references(item)


def test_the_bundle_is_valid(record):
    Bundle.model_validate_json(json.dumps(fhir.bundle(record, VOCABULARY)))


def test_no_list_or_object_is_empty(record):
    def check(content: Any) -> None:
        assert content not in ([], {}, "", None)
        for item in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
            check(item)

    check(fhir.bundle(record, VOCABULARY))


def test_every_reference_resolves_inside_the_bundle(record):
    bundle = fhir.bundle(record, VOCABULARY)
    urls = [entry["fullUrl"] for entry in bundle["entry"]]
    ids = [entry["resource"]["id"] for entry in bundle["entry"]]
    assert len(set(urls)) == len(urls)
    assert all(url == f"urn:uuid:{uuid.UUID(resource_id)}" for url, resource_id in zip(urls, ids, strict=True))
    assert set(_references(bundle)) <= set(urls)


def test_patient_and_study_are_identified(resources):
    patient, study = _only(resources, "Patient"), _only(resources, "ImagingStudy")
    assert patient["name"][0] == {"use": "official", "family": "Ünlü-Schmidt", "given": ["Ana María"]}
    assert (patient["gender"], patient["birthDate"]) == ("female", "1990-02-03")
    (medical_record_number,) = patient["identifier"]
    assert medical_record_number["value"] == "MRN 0815"
    assert medical_record_number["system"] == "https://sono.example/fhir/north%20clinic/patient"
    uid, accession = study["identifier"]
    assert uid == {"system": "urn:dicom:uid", "value": f"urn:oid:{FULL.study_uid}"}
    assert (accession["value"], accession["type"]["coding"][0]["code"]) == ("ACC-77", "ACSN")
    assert study["started"] == "2023-05-06T07:08:09+01:00"
    assert study["modality"][0]["code"] == "US"


def test_observations_agree_with_the_record(record, resources):
    observations = [resource for resource in resources if resource["resourceType"] == "Observation"]
    answers: dict[str, Any] = {}
    planes = []
    for observation in observations:
        code = observation["code"]["coding"][0]["code"]
        if code == "111031":
            seen = [part["valueCodeableConcept"]["coding"][0]["code"] for part in observation.get("component", [])]
            planes.append(View(observation["valueCodeableConcept"]["coding"][0]["code"], tuple(seen)))
        elif "valueQuantity" in observation:
            assert code not in answers
            answers[code] = (observation["valueQuantity"]["value"], observation["valueQuantity"]["code"])
        else:
            answers[code] = observation["valueDateTime"]
    expected = {
        "8665-2": record.lmp and record.lmp.isoformat(),
        "11778-8": record.edd and record.edd.isoformat(),
        "18185-9": record.ga_days and (record.ga_days, "d"),
        "11885-1": record.ga_days_by_lmp and (record.ga_days_by_lmp, "d"),
        **{fhir.BIOMETRY_LOINC[name][0]: (value, "mm") for name, value in record.biometry_mm.items()},
    }
    assert answers == {code: value for code, value in expected.items() if value}
    assert tuple(planes) == record.views


def test_every_observation_leads_to_patient_and_study(resources):
    patient, study = (f"urn:uuid:{_only(resources, kind)['id']}" for kind in ("Patient", "ImagingStudy"))
    for observation in (resource for resource in resources if resource["resourceType"] == "Observation"):
        assert observation["subject"]["reference"] == patient
        (origin,) = observation.get("derivedFrom") or observation["partOf"]
        assert origin["reference"] == study


def test_the_report_has_the_study_all_results_and_the_findings(record, resources):
    report = _only(resources, "DiagnosticReport")
    observations = [f"urn:uuid:{item['id']}" for item in resources if item["resourceType"] == "Observation"]
    assert list(_references(report.get("result", []))) == observations
    assert list(_references(report["imagingStudy"])) == [f"urn:uuid:{_only(resources, 'ImagingStudy')['id']}"]
    conclusions = [conclusion["coding"][0] for conclusion in report.get("conclusionCode", [])]
    assert [f"SCT:{coding['code']}" for coding in conclusions] == list(record.findings)
    assert {coding["system"] for coding in conclusions} <= {"http://snomed.info/sct"}


def test_a_patient_is_the_same_in_two_examinations_and_differs_between_hospitals():
    second = dataclasses.replace(FULL, study_uid="2.25.2")
    elsewhere = dataclasses.replace(FULL, center=dataclasses.replace(FULL.center, center="south"))
    ids = [{item["id"] for item in _resources(record)} for record in (FULL, second, elsewhere)]
    patients = [_only(_resources(record), "Patient")["id"] for record in (FULL, second, elsewhere)]
    assert patients[0] == patients[1] != patients[2]
    assert len(ids[0] & ids[1]) == 4  # hospital, two physicians, patient


# ---------------------------------------------------------------------------------------------------------- DICOM SR


def _written(record: ExamRecord, folder) -> Dataset:
    sr.write(folder / "report.dcm", record, VOCABULARY)
    return pydicom.dcmread(folder / "report.dcm")


def _code(item: Dataset, of: str = "ConceptNameCodeSequence") -> tuple[str, str]:
    code = item[of].value[0]
    return code.CodingSchemeDesignator, code.get("CodeValue") or code.LongCodeValue


def _walk(item: Dataset, sections: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Dataset]]:
    """Every content item with the code values of the containers above it."""
    here = (*sections, _code(item)[1]) if item.ValueType == "CONTAINER" else sections
    for child in item.get("ContentSequence", ()):
        yield here, child
        yield from _walk(child, here)


def test_dciodvfy_finds_no_error(tmp_path, record):
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy not found: apt-get install dicom3tools")
    _written(record, tmp_path)
    done = subprocess.run([program, str(tmp_path / "report.dcm")], capture_output=True, text=True, check=False)
    lines = done.stderr.splitlines()
    assert "ComprehensiveSR" in lines  # it recognised what it had to check
    assert not [line for line in lines if line.startswith("Error")]
    # It cannot know our coding schemes; besides them it has nothing to remark.
    assert [line for line in lines if "99SONO" not in line and "Coding Scheme UID" not in line] == ["ComprehensiveSR"]


def test_the_header_agrees_with_the_images(tmp_path):
    report = _written(FULL, tmp_path)
    assert (report.PatientID, report.PatientName, report.PatientBirthDate) == (
        "MRN 0815",
        "Ünlü-Schmidt^Ana María",
        "19900203",
    )
    assert (report.StudyInstanceUID, report.AccessionNumber) == (FULL.study_uid, "ACC-77")
    assert (report.StudyDate, report.StudyTime) == ("20230506", "070809")
    assert report.ReferringPhysicianName == "Łęcka^Olga"
    uids = [report.SOPInstanceUID, report.SeriesInstanceUID, report.StudyInstanceUID]
    assert len(set(uids)) == 3
    assert all(uid.is_valid and uid.startswith("2.25.") for uid in uids)


def test_numbers_and_dates_are_in_the_sections_of_the_template(tmp_path, record):
    biometry = {
        **dict.fromkeys(("11820-8", "11984-2", "11979-2", "11963-6", "11863-8"), ("125000", "125002", "125005")),
        "11966-9": ("125000", "125003", "125005"),
        **dict.fromkeys(("11957-8", "33069-6"), ("125000", "125009", "125005")),
    }
    numbers, dates = {}, {}
    for sections, item in _walk(_written(record, tmp_path)):
        if item.ValueType == "NUM":
            scheme, code = _code(item)
            measured = item.MeasuredValueSequence[0]
            assert scheme == "LN"
            assert sections == biometry.get(code, ("125000", "121111", "125008"))
            numbers[code] = (float(measured.NumericValue), measured.MeasurementUnitsCodeSequence[0].CodeValue)
        if item.ValueType == "DATE":
            assert sections == ("125000", "121111")
            dates[_code(item)[1]] = datetime.strptime(item.Date, "%Y%m%d").date()
    ages = {"18185-9": record.ga_days, "11885-1": record.ga_days_by_lmp}
    assert numbers == {
        **{code: (days, "d") for code, days in ages.items() if days is not None},
        **{fhir.BIOMETRY_LOINC[name][0]: (value, "mm") for name, value in record.biometry_mm.items()},
    }
    assert dates == {code: day for code, day in (("8665-2", record.lmp), ("11778-8", record.edd)) if day}


def test_findings_planes_and_structures_are_carried(tmp_path, record):
    findings, views = [], []
    for _, item in _walk(_written(record, tmp_path)):
        if _code(item) == ("DCM", "121071"):
            findings.append(":".join(_code(item, "ConceptCodeSequence")))
        if _code(item) == ("DCM", "111031"):
            scheme, plane = _code(item, "ConceptCodeSequence")
            seen = [_code(part, "ConceptCodeSequence") for part in item.get("ContentSequence", ())]
            assert (scheme, {scheme for scheme, _ in seen} - {"99SONO_STRUCTURE"}) == ("99SONO", set())
            views.append(View(plane, tuple(structure for _, structure in seen)))
    assert tuple(findings) == record.findings
    assert tuple(views) == record.views


def test_no_section_is_empty_and_codes_fit_their_attributes(tmp_path, record):
    for _, item in _walk(_written(record, tmp_path)):
        assert item.ValueType != "CONTAINER" or len(item.ContentSequence) > 0
        for name in ("ConceptNameCodeSequence", "ConceptCodeSequence"):
            for code in item.get(name, ()):
                assert ("CodeValue" in code) != ("LongCodeValue" in code)
                assert len(code.get("CodeValue", "")) <= 16
                assert len(code.CodingSchemeDesignator) <= 16
                assert len(code.CodeMeaning) <= 64


def test_every_private_coding_scheme_is_identified(tmp_path):
    report = _written(FULL, tmp_path)
    used = {
        _code(item, name)[0]
        for _, item in _walk(report)
        for name in ("ConceptNameCodeSequence", "ConceptCodeSequence")
        if name in item
    }
    declared = {item.CodingSchemeDesignator for item in report.CodingSchemeIdentificationSequence}
    assert {scheme for scheme in used if scheme.startswith("99")} == declared


# --------------------------------------------------------------------------------------------------- the three forms


KEYS = Pseudonymizer(bytes(32))
FORMS = {
    "csv": lambda path, record: csv_table.write(path / "records.csv", csv_table.rows(record)),
    "fhir": lambda path, record: fhir.write(path / "bundle.json", record, VOCABULARY),
    "sr": lambda path, record: sr.write(path / "report.dcm", record, VOCABULARY),
}
Facts = Counter[tuple[str, str | float, str | None]]


def _statements(folder: Path, form: str, record: ExamRecord) -> list[dict[str, Any]]:
    """What captioning reads from the record in that form, one row per fact."""
    FORMS[form](folder / form, record)
    store = TableStore(folder / "workspace")
    report = read_statements(
        find_records([folder / form], KEYS),
        Reading(KEYS, VOCABULARY),
        mapping.ColumnMapping(),
        store,
        config={},
        engine=in_process,
        progress=lambda _: None,
    )
    assert (report.exclusions, store.read_all(EXCLUSIONS).num_rows) == ({}, 0)
    return store.read_all(STATEMENTS).to_pylist()


def _facts_of(record: ExamRecord) -> Facts:
    """Fact, value and plane, as in the record."""
    day = {name: KEYS.day(KEYS.patient("", record.patient.patient_id), found) for name, found in _dates(record).items()}
    facts = [(name, value, None) for name, value in {**day, **record.biometry_mm}.items()]
    facts += [(code, days, None) for code, days in _ages(record).items() if days is not None]
    facts += [("findings", code, None) for code in record.findings]
    facts += [("structures_seen", seen, view.plane) for view in record.views for seen in view.structures_seen]
    return Counter(facts)


def _dates(record: ExamRecord) -> dict[str, date]:
    return {name: found for name, found in (("lmp_day", record.lmp), ("edd_day", record.edd)) if found is not None}


def _ages(record: ExamRecord) -> dict[str, int | None]:
    return {"ga_days": record.ga_days, "ga_days_by_lmp": record.ga_days_by_lmp}


@pytest.mark.parametrize("form", FORMS)
def test_captioning_reads_every_fact_and_nothing_else_from_each_form(tmp_path, form, record):
    rows = [row for row in _statements(tmp_path, form, record) if row["fact"] != "identity"]
    found = Counter(
        (row["fact"], row["code"] if row["number"] is None else row["number"], row["plane"]) for row in rows
    )
    assert found == _facts_of(record)


@pytest.mark.parametrize("form", FORMS)
def test_captioning_reads_patient_study_and_day_from_each_form(tmp_path, form):
    patient = KEYS.patient("", "MRN 0815")
    rows = _statements(tmp_path, form, FULL)
    assert {row["patient_number_key"] for row in rows} == {patient}
    assert {row["study_key"] for row in rows} == {KEYS.study(FULL.study_uid)}
    assert {row["accession_key"] for row in rows} == {KEYS.accession("ACC-77")}
    assert {row["study_day"] for row in rows} == {KEYS.day(patient, FULL.started.date())}


@pytest.mark.parametrize("form", FORMS)
def test_captioning_reads_from_each_form_the_names_captions_must_not_contain(tmp_path, form):
    hashes = {row["code"] for row in _statements(tmp_path, form, FULL) if row["fact"] == "identity"}
    assert {KEYS.word(word) for word in ("ünlü", "schmidt", "ana", "maría")} <= hashes


def test_codes_are_in_the_dicom_dictionaries():
    loinc = {code: meaning for entry in concepts["LN"].values() for code, (meaning, _) in entry.items()}
    assert set(fhir.BIOMETRY_LOINC) == set(BIOMETRY)
    for code, meaning in fhir.BIOMETRY_LOINC.values():
        assert loinc[code] == meaning
    for code in ("8665-2", "11778-8", "18185-9", "11885-1"):
        assert code in loinc
    in_sr = {name: code.value for _, _, measurements in sr.SECTIONS for name, code in measurements}
    assert in_sr == {name: code for name, (code, _) in fhir.BIOMETRY_LOINC.items()}
    snomed_ct = {code: meaning for entry in concepts["SCT"].values() for code, (meaning, _) in entry.items()}
    for finding, meaning in list(FINDINGS.items())[:-1]:
        assert snomed_ct[finding.removeprefix("SCT:")].casefold() == meaning.casefold()


def test_a_finding_without_a_known_meaning_is_refused():
    unknown = dataclasses.replace(FULL, findings=("SCT:1",))
    with pytest.raises(ValueError, match="'SCT:1'"):
        fhir.bundle(unknown, VOCABULARY)
    with pytest.raises(ValueError, match="'SCT:1'"):
        sr.document(unknown, VOCABULARY)


def test_equal_records_give_equal_bytes(tmp_path, record):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        csv_table.write(folder / "records.csv", csv_table.rows(record))
        fhir.write(folder / "bundle.json", record, VOCABULARY)
        sr.write(folder / "report.dcm", record, VOCABULARY)
    names = sorted(path.name for path in first.iterdir())
    assert names == ["bundle.json", "records.csv", "report.dcm"]
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def test_the_forms_do_not_depend_on_the_order_of_biometry(tmp_path):
    turned = dataclasses.replace(FULL, biometry_mm=dict(reversed(FULL.biometry_mm.items())))
    assert json.dumps(fhir.bundle(turned, VOCABULARY)) == json.dumps(fhir.bundle(FULL, VOCABULARY))
    assert sr.document(turned, VOCABULARY) == sr.document(FULL, VOCABULARY)
    assert csv_table.rows(turned) == csv_table.rows(FULL)
