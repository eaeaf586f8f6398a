"""FHIR resources for tests, what they say when they are read in either form, and whom they are about."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

from sono.captioning.facts.statements import Entry, Exam, Reading
from sono.captioning.readers.fhir.index import Index
from sono.captioning.readers.fhir.reader import index_ndjson, read_json, read_ndjson
from sono.manifests import vocabulary as vocabularies
from sono.manifests.pseudonyms import Pseudonymizer

VOCABULARY = vocabularies.load()
KEYS = Pseudonymizer(bytes(range(32)))
READING = Reading(KEYS, VOCABULARY)
LOINC, UCUM, SNOMED = "http://loinc.org", "http://unitsofmeasure.org", "http://snomed.info/sct"
MR = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}]}
ACSN = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]}
OUS = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "OUS"}]}
PANEL = {"coding": [{"system": "http://example.org/panels", "code": "growth"}]}
DAY = date(2023, 5, 6)

Json = dict[str, Any]


def patient(**changes: Any) -> Json:
    identifiers = [{"type": MR, "system": "http://a.example/mrn", "value": "MRN-0815"}]
    names = [{"family": "Quixworth", "given": ["Zelmira"]}]
    return {"resourceType": "Patient", "id": "p1", "identifier": identifiers, "name": names, **changes}


def study(**changes: Any) -> Json:
    identifiers = [
        {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"},
        {"type": ACSN, "system": "http://a.example/acc", "value": "ACC-77"},
    ]
    return {
        "resourceType": "ImagingStudy",
        "id": "s1",
        "status": "available",
        "identifier": identifiers,
        "subject": {"reference": "Patient/p1"},
        "started": "2023-05-06T23:59:00+01:00",
        **changes,
    }


def observation(code: str = "11984-2", *, system: str = LOINC, **changes: Any) -> Json:
    value = {} if any(name.startswith("value") for name in changes) else {"valueQuantity": quantity(190.2, "mm")}
    return {
        "resourceType": "Observation",
        "id": "o1",
        "status": "final",
        "code": {"coding": [{"system": system, "code": code}]},
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": "2023-05-06T10:00:00+01:00",
        "derivedFrom": [{"reference": "ImagingStudy/s1"}],
        **value,
        **changes,
    }


def report(**changes: Any) -> Json:
    return {
        "resourceType": "DiagnosticReport",
        "id": "r1",
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": "11525-3"}]},
        "subject": {"reference": "Patient/p1"},
        "imagingStudy": [{"reference": "ImagingStudy/s1"}],
        **changes,
    }


def view(plane: str = "transthalamic", structures: Sequence[str] = ("thalami",), **changes: Any) -> Json:
    components = [
        {"code": {"text": "Structure seen"}, "valueCodeableConcept": {"text": structure}} for structure in structures
    ]
    value = {"coding": [{"system": "http://a.example/planes", "code": plane}]}
    dcm = "http://dicom.nema.org/resources/ontology/DCM"
    extra = {"component": components} if components else {}
    return observation("111031", system=dcm, **{"valueCodeableConcept": value, **extra, **changes})


def quantity(value: Any, code: str, **changes: Any) -> Json:
    return {"value": value, "unit": code, "system": UCUM, "code": code, **changes}


def component(code: str, **value: Any) -> Json:
    return {"code": {"coding": [{"system": LOINC, "code": code}]}, **value}


def bundle(*resources: Json) -> bytes:
    entries = [{"resource": resource} for resource in resources]
    return json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries}).encode()


def read(index: Index, *resources: Json, reading: Reading = READING) -> list[Entry]:
    return list(read_json(bundle(*resources), "records file 1", reading, index))


def lines(*resources: Json) -> list[bytes]:
    return [json.dumps(resource).encode() + b"\n" for resource in resources]


def exported(index: Index, *resources: Json, reading: Reading = READING) -> list[Entry]:
    index_ndjson(lines(*resources), reading, index)
    return list(read_ndjson(enumerate(lines(*resources), 1), "records file 1", reading, index))


def facts(entries: Iterable[Entry]) -> list[tuple[str, float | str, str, str | None]]:
    """Everything but whose names are to be avoided, and that there are twins."""
    others = ("identity", "several_fetuses")
    return [tuple(s)[:4] for entry in entries for s in entry.statements if s.fact not in others]  # type: ignore[misc]


def reasons(entries: Iterable[Entry]) -> list[str]:
    return [fault.reason for entry in entries for fault in entry.faults]


def about(index: Index, resource: Json, reading: Reading = READING) -> list[Entry]:
    """The entry of one resource beside its patient and study."""
    return [
        entry
        for entry in read(index, patient(), study(), resource, reading=reading)
        if not entry.place.startswith("ImagingStudy")
    ]


def identifiers_of(*values: tuple[str, bool]) -> list[Json]:
    return [
        {"system": f"http://{number}.example", "value": value, **({"type": MR} if typed else {})}
        for number, (value, typed) in enumerate(values)
    ]


def coded(system: str, code: str) -> Json:
    return {"coding": [{"system": system, "code": code}]}


def exam_of(**changes: Any) -> Exam:
    patient_keys = KEYS.patient_keys("MRN-0815", issuer="http://a.example/mrn")
    full = Exam(patient_keys, KEYS.study("1.2.3"), KEYS.accession("ACC-77"), KEYS.day(patient_keys.number, DAY))
    return dataclasses.replace(full, **changes)


PANEL_OBSERVATION = observation(
    code=PANEL["coding"][0]["code"],
    system=PANEL["coding"][0]["system"],
    component=[
        component("11820-8", valueQuantity=quantity(5.13, "cm")),
        component("11979-2", valueQuantity=quantity(170, "mm")),
        component("11885-1", valueString="22w2d"),
        component("8665-2", valueDateTime="2022-12-01"),
        component("8867-4", valueQuantity=quantity(144, "/min")),
    ],
    valueString="growth",
)
EXAMPLES = [
    patient(),
    study(),
    observation(),
    observation("11778-8", valueDateTime="2023-09-09"),
    observation("18185-9", valueQuantity=quantity(20.14, "wk")),
    observation("11877-8", valueCodeableConcept={"coding": [{"system": SNOMED, "code": "6096002"}]}),
    PANEL_OBSERVATION,
    view(bodySite={"coding": [{"system": SNOMED, "code": "7771000"}]}),
    report(conclusionCode=[{"coding": [{"system": SNOMED, "code": "17190001"}]}]),
]

UNLINKED = exam_of(study_key=None, accession_key=None)
