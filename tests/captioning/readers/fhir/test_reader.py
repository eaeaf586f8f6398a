"""FHIR records: what they say is taken as it is facts, and nobody can be named."""

from __future__ import annotations

import base64
import dataclasses
import json
import random
import unicodedata
from collections import Counter
from collections.abc import Sequence
from datetime import date
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class

from sono.captioning.facts.statements import BY_RULE, Exam, Fault, Statement
from sono.captioning.readers.fhir.elements import as_displays
from sono.captioning.readers.fhir.index import Index
from sono.captioning.readers.fhir.reader import index_ndjson, read_json, read_ndjson
from sono.curation.phantom.exams import plan_exam
from sono.curation.phantom.files import fhir
from sono.curation.phantom.records import ExamRecord, View
from sono.manifests.errors import UserError
from tests.captioning.readers.fhir.resources import (
    EXAMPLES,
    KEYS,
    READING,
    SNOMED,
    VOCABULARY,
    bundle,
    coded,
    exported,
    facts,
    lines,
    observation,
    patient,
    read,
    reasons,
    report,
    study,
    view,
)

# ----------------------------------------------------------------------------------------------------- whole records


def _records(count: int) -> list[ExamRecord]:
    views = tuple(View(plane.id, plane.structures) for plane in VOCABULARY.planes.values())
    found = []
    for number in range(count):
        record = plan_exam(3, number, VOCABULARY).record
        start = number % len(views)
        found.append(dataclasses.replace(record, views=views[start : start + 4]))
    return found


def _expected(record: ExamRecord) -> Counter[tuple[str, float | str, str | None]]:
    key = KEYS.patient("", record.patient.patient_id)
    days = {"lmp_day": record.lmp and KEYS.day(key, record.lmp), "edd_day": record.edd and KEYS.day(key, record.edd)}
    ages = {"ga_days": record.ga_days, "ga_days_by_lmp": record.ga_days_by_lmp}
    numbers = {**days, **ages, **record.biometry_mm}
    return Counter(
        [
            *((fact, value, None) for fact, value in numbers.items() if value is not None),
            *(("findings", code, None) for code in record.findings),
            *(("structures_seen", name, seen.plane) for seen in record.views for name in seen.structures_seen),
        ]
    )


def test_a_phantoms_bundle_says_exactly_what_its_record_says(index):
    for record in _records(25):
        content = json.dumps(fhir.bundle(record, VOCABULARY)).encode()
        entries = list(read_json(content, "records file 1", READING, index))
        day = KEYS.day(KEYS.patient("", record.patient.patient_id), record.started.date())
        assert {entry.exam.patient.number for entry in entries if entry.exam} == {
            KEYS.patient("", record.patient.patient_id)
        }
        assert {entry.exam.patient.patient for entry in entries if entry.exam}.isdisjoint(
            {KEYS.patient("", record.patient.patient_id)}
        )
        about = {(exam.study_key, exam.accession_key, exam.study_day) for entry in entries if (exam := entry.exam)}
        assert about == {(KEYS.study(record.study_uid), KEYS.accession(record.accession_number), day)}
        assert Counter((fact, value, plane) for fact, value, _, plane in facts(entries)) == _expected(record)
        assert not reasons(entries)
        names = {s.value for entry in entries for s in entry.statements if s.fact == "identity"}
        assert {KEYS.word(record.patient.family_name), KEYS.word(record.patient.given_name)} <= names


def test_a_bulk_export_says_the_same_as_the_bundles_in_any_order_of_files(index, tmp_path):
    bundles = [fhir.bundle(record, VOCABULARY) for record in _records(12)]
    from_bundles: Counter[tuple[Exam | None, Statement]] = Counter()
    files: dict[str, list[bytes]] = {}
    for content in bundles:
        for entry in read_json(json.dumps(content).encode(), "records file 1", READING, index):
            from_bundles.update((entry.exam, statement) for statement in entry.statements)
        for item in content["entry"]:
            files.setdefault(item["resource"]["resourceType"], []).extend(lines(item["resource"]))
    assert len(from_bundles) > 300
    for seed in range(3):
        shuffled = random.Random(seed)
        order = list(files.values())
        shuffled.shuffle(order)
        known = Index(tmp_path / f"references {seed}")
        for file in order:
            shuffled.shuffle(file)
            index_ndjson(file, READING, known)
        entries = [e for file in order for e in read_ndjson(enumerate(file, 1), "records file 1", READING, known)]
        assert Counter((entry.exam, statement) for entry in entries for statement in entry.statements) == from_bundles
        assert not reasons(entries)


def test_fields_and_places_say_where_a_fact_was_found(index):
    entries = read(index, patient(), study(), observation(), report(conclusionCode=[coded(SNOMED, "17190001")]))
    assert [entry.place for entry in entries] == [
        f"{kind} 1 of records file 1" for kind in ("ImagingStudy", "Observation", "DiagnosticReport")
    ]
    assert facts(entries) == [
        ("hc_mm", 190.2, "Observation 11984-2", None),
        ("findings", "SCT:17190001", "DiagnosticReport.conclusionCode", None),
    ]
    second = exported(index, patient(), observation())[0]
    assert second.place == "line 2 of records file 1"


def test_resources_that_are_valid_by_the_specification_are_read(index):
    for example in EXAMPLES:
        get_fhir_model_class(example["resourceType"]).model_validate_json(json.dumps(example))
    key = KEYS.patient("", "MRN-0815")
    entries = read(index, *EXAMPLES)
    assert not reasons(entries)
    assert Counter((fact, value, plane) for fact, value, _, plane in facts(entries)) == Counter(
        [
            ("hc_mm", 190.2, None),
            ("edd_day", KEYS.day(key, date(2023, 9, 9)), None),
            ("ga_days", 141, None),
            ("presentation", "breech", None),
            ("bpd_mm", 51.3, None),
            ("ac_mm", 170, None),
            ("ga_days_by_lmp", 156, None),
            ("lmp_day", KEYS.day(key, date(2022, 12, 1)), None),
            ("structures_seen", "thalami", "transthalamic"),
            ("laterality", "left", "transthalamic"),
            ("findings", "SCT:17190001", None),
        ]
    )


# ------------------------------------------------------------------------------------------------------------ prose


class Listener:
    def __init__(self) -> None:
        self.heard: list[tuple[str, str, set[str]]] = []

    def __call__(self, text: str, field: str, names: Sequence[str]) -> tuple[list[Statement], list[Fault]]:
        self.heard.append((text, field, set(names)))
        return [Statement("presentation", "breech", f"{field} 0:6", None, BY_RULE)], [Fault("unsure", "it is unsure")]


PROSE = [
    report(
        conclusion="Mrs Quixworth: breech",
        presentedForm=[
            {"contentType": "text/plain; charset=utf-8", "data": base64.b64encode("größer".encode()).decode()},
            {"contentType": "application/pdf", "data": "JVBERg=="},
        ],
    ),
    observation("none", id="o2", category=[coded("http://a.example", "imaging")], note=[{"text": "breech"}]),
    observation("none", id="o3", note=[{"text": "a note about the blood pressure"}]),
]


def test_free_text_is_read_only_if_asked_for(index):
    for read_all in (read, exported):
        listener = Listener()
        entries = read_all(index, patient(), study(), *PROSE, reading=dataclasses.replace(READING, prose=listener))
        assert [(text, field) for text, field, _ in listener.heard] == [
            ("Mrs Quixworth: breech", "DiagnosticReport.conclusion"),
            ("größer", "DiagnosticReport.presentedForm"),
            ("breech", "Observation.note"),
        ]
        assert "Quixworth" in listener.heard[0][2]  # a bulk export's names are found again by their hashes
        assert len(facts(entries)) == len(reasons(entries)) == 3
        assert not facts(read_all(index, patient(), study(), *PROSE))


@pytest.mark.parametrize("recorded", ["NFC", "NFD"])
@pytest.mark.parametrize("written", ["NFC", "NFD"])
def test_an_accented_name_is_found_in_text_in_either_unicode_form(index, recorded, written):
    listener = Listener()
    name = [{"family": unicodedata.normalize(recorded, "Núñez")}]
    text = report(conclusion=unicodedata.normalize(written, "Mrs Núñez: breech"))
    exported(index, patient(name=name), study(), text, reading=dataclasses.replace(READING, prose=listener))
    ((heard, _, names),) = listener.heard
    assert "Núñez" in names
    assert "Núñez" in heard


# ------------------------------------------------------------------------------------------------------- bad input


def test_a_line_that_is_not_a_resource_is_a_fault_and_the_others_are_read(index):
    bad = [b"{broken\n", b"[]\n", b"\xff\xfe\n", b"[" * 100_000, b"7\n"]
    found = [*bad, b"\n", b'{"id": "x"}\n', *lines(patient(), observation())]
    index_ndjson(found, READING, index)
    entries = list(read_ndjson(enumerate(found, 1), "records file 3", READING, index))
    assert reasons(entries) == ["not_json"] * 5 + ["not_fhir"]
    assert [entry.place for entry in entries][-2:] == ["line 7 of records file 3", "line 9 of records file 3"]
    assert facts(entries)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b'{"resourceType": 7}'])
def test_a_json_file_that_is_not_fhir_is_a_user_error(index, content):
    with pytest.raises(UserError):
        list(read_json(content, "records file 1", READING, index))


def _mangled(value: Any, dice: random.Random) -> Any:
    if dice.random() < 0.04:
        return dice.choice(
            [None, "", "\ud800", 7, -1.5, True, [], {}, [[]], [None], {"reference": 7}, 10**400, "Patient/"]
        )
    if isinstance(value, dict):
        return {name: _mangled(item, dice) for name, item in value.items()}
    return [_mangled(item, dice) for item in value] if isinstance(value, list) else value


@pytest.mark.slow
def test_mangled_resources_never_raise(index, tmp_path):
    dice = random.Random(1)
    reading = dataclasses.replace(READING, prose=Listener())
    for round_ in range(400):
        mangled = [_mangled(resource, dice) for resource in (*EXAMPLES, *PROSE, observation("11878-6", valueInteger=2))]
        content = [json.dumps(resource).encode() for resource in mangled]
        known = Index(tmp_path / f"{round_ % 5}")
        index_ndjson(content, reading, known)
        list(read_ndjson(enumerate(content), "records file 1", reading, known))
        list(read_json(bundle(*mangled), "records file 1", reading, index))


# --------------------------------------------------------------------------------------------------------- privacy


def _with_canaries(value: Any, canaries: list[str], key: str = "") -> Any:
    """Every text that decides nothing, and every name, identifier and date, is one that must not be seen again."""
    if isinstance(value, dict):
        return {name: _with_canaries(item, canaries, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_canaries(item, canaries, key) for item in value]
    if isinstance(value, str) and key in ("display", "text", "family", "given", "conclusion", "name"):
        canaries.append(f"Canary{len(canaries)}x")
        return canaries[-1]
    return value


def test_no_name_identifier_or_date_leaves_the_reader_or_enters_the_index(tmp_path):
    canaries: list[str] = []
    resources = _with_canaries(
        [
            *(item["resource"] for record in _records(3) for item in fhir.bundle(record, VOCABULARY)["entry"]),
            *EXAMPLES,
            observation("nothing", note=[{"text": "x"}], subject={"reference": "Patient/p1", "display": "x"}),
            observation("18185-9", valueString="Quixworth", status="final"),
            view("Zelmira"),
            observation(subject={"reference": "Patient/Quixworth"}),
            observation(status="Quixworth"),
            {"resourceType": "Quixworth", "id": "Quixworth"},
            {"id": "Quixworth"},
            report(conclusionCode=[coded(SNOMED, "QUIXWORTH"), coded("Quixworth", "Zelmira")]),
        ],
        canaries,
    )
    known = Index(tmp_path / "references")
    reading = dataclasses.replace(READING, prose=None)
    index_ndjson(lines(*resources), reading, known)
    content = lines(*resources)
    entries = [
        *read_ndjson(enumerate(content, 1), "records file 1", reading, known),
        *read_json(bundle(*resources), "records file 1", reading, known),
    ]
    assert len(entries) > 100
    assert len(canaries) > 100
    secret = [*canaries, "Quixworth", "Zelmira", "MRN-0815", "ACC-77", "1.2.3", "2023-05-06", "a.example", "Patient/"]
    for record in _records(3):
        secret += [record.patient.patient_id, record.study_uid, record.accession_number, *record.sonographer]
        secret += [day.isoformat() for day in (record.started.date(), record.lmp, record.edd) if day]
    shown = repr(entries) + repr(known) + repr([fault for entry in entries for fault in entry.faults])
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert len(stored) > 10_000
    for text in secret:
        assert text.casefold() not in shown.casefold()
        assert text.casefold().encode() not in stored.lower()


def test_names_of_organisations_are_not_names_of_people():
    people = [
        {"reference": "Practitioner/7", "display": "Olga Quixworth"},
        {"reference": "https://a.example/fhir/Organization/3", "display": "Fetal Medicine Unit"},
        {"type": "CareTeam", "display": "Heart Team"},
        {"display": "Zelmira Roe"},
    ]
    assert as_displays(people) == ["Olga Quixworth", "Zelmira Roe"]
    assert as_displays([{"actor": person} for person in people]) == ["Olga Quixworth", "Zelmira Roe"]
