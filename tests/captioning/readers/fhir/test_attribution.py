"""Whom a FHIR record is about: what may be about somebody else is refused, in a bundle and in an export of any size."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path
from typing import Any

import pytest

from sono.captioning.readers.fhir.index import Index
from sono.captioning.readers.fhir.reader import index_ndjson
from tests.captioning.readers.fhir.resources import (
    ACSN,
    KEYS,
    MR,
    READING,
    SNOMED,
    UNLINKED,
    Json,
    about,
    coded,
    component,
    exam_of,
    exported,
    facts,
    identifiers_of,
    lines,
    observation,
    patient,
    quantity,
    read,
    reasons,
    report,
    study,
)


@pytest.mark.parametrize(
    ("identifiers", "system", "expected"),
    [
        (identifiers_of(("A", False), ("B", True)), None, "B"),
        (identifiers_of(("A", False)), None, "A"),
        (identifiers_of(("A", False), ("B", True)), "http://0.example", "A"),
        (identifiers_of(("A", False), ("B", False)), None, None),
        (identifiers_of(("A", True), ("B", True)), None, None),
        (identifiers_of(("B", True)), "http://9.example", None),
        ([{**identifiers_of(("A", True))[0], "use": "old"}, *identifiers_of(("B", True))], None, "B"),
        ([], None, None),
    ],
)
def test_the_identifier_that_is_the_images_patient_id_names_the_patient(index, identifiers, system, expected):
    reading = dataclasses.replace(READING, patient_system=system)
    for entry in (
        *read(index, patient(identifier=identifiers), observation(), reading=reading),
        *exported(index, patient(identifier=identifiers), observation(), reading=reading),
    ):
        assert (entry.exam and entry.exam.patient.number) == (expected and KEYS.patient("", expected))
        assert reasons([entry]) == ([] if expected else ["patient_unclear"])


@pytest.mark.parametrize(
    "subject",
    [
        {"reference": "Patient/p1"},
        {"reference": "https://a.example/fhir/Patient/p1"},
        {"reference": "Patient/p1/_history/2"},
        {"identifier": {"system": "http://a.example/mrn", "value": "MRN-0815"}},
        {"identifier": {"type": MR, "value": "MRN-0815"}},
        {"type": "Patient", "identifier": {"type": MR, "value": " MRN-0815 "}},
    ],
)
def test_a_patient_may_be_referred_to_in_any_way(index, subject):
    found = [*about(index, observation(subject=subject)), *exported(index, observation(subject=subject), patient())]
    assert [entry.exam and entry.exam.patient.number for entry in found] == [KEYS.patient("", "MRN-0815")] * 2


@pytest.mark.parametrize(
    "subject",
    [
        None,
        {},
        [],
        "Patient/p1",
        {"reference": "Patient/p2"},
        {"reference": "Group/p1"},
        {"reference": "Patient/P1"},
        {"display": "Zelmira Quixworth"},
        {"identifier": {"value": "MRN-0815"}},
        {"identifier": {"system": "http://b.example/mrn", "value": "MRN-0815"}},
    ],
)
def test_an_observation_about_an_unknown_patient_is_not_taken(index, subject):
    for entry in (
        *about(index, observation(subject=subject)),
        *exported(index, observation(subject=subject), patient()),
    ):
        assert (entry.exam, list(entry.statements), reasons([entry])) == (None, [], ["patient_missing"])


def test_two_patients_with_one_id_are_both_refused(index):
    other = patient(identifier=identifiers_of(("someone else", True)))
    entries = [*read(index, patient(), other, observation()), *exported(index, patient(), observation(), other)]
    assert reasons(entries) == ["patient_unclear"] * 2


def test_a_patient_that_a_bundle_holds_comes_before_the_exports(index):
    index_ndjson(lines(patient(identifier=identifiers_of(("someone else", True)))), READING, index)
    inside, outside = read(index, patient(), observation()), read(index, observation())
    assert inside[0].exam is not None
    assert inside[0].exam.patient.number == KEYS.patient("", "MRN-0815")
    assert outside[0].exam is not None
    assert outside[0].exam.patient.number == KEYS.patient("", "someone else")


@pytest.mark.parametrize(
    ("others", "changes", "expected"),
    [
        ([], {}, exam_of()),
        ([], {"derivedFrom": [], "partOf": [{"reference": "ImagingStudy/s1"}]}, exam_of()),
        ([], {"derivedFrom": [{"reference": "http://a.example/ImagingStudy/s1"}]}, exam_of()),
        ([], {"effectiveDateTime": "2023"}, exam_of()),
        ([], {"derivedFrom": [{"identifier": {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}}]},
         exam_of(accession_key=None)),
        ([], {"derivedFrom": [{"identifier": {"type": ACSN, "value": "ACC-77"}}]}, exam_of(study_key=None)),
        ([report(result=[{"reference": "Observation/o1"}])], {"derivedFrom": []}, exam_of()),
        ([observation("x", id="above", hasMember=[{"reference": "Observation/o1"}])], {"derivedFrom": []}, exam_of()),
        ([observation("x", id="above", derivedFrom=[], hasMember=[{"reference": "Observation/o1"}]),
          report(result=[{"reference": "Observation/above"}])], {"derivedFrom": []}, exam_of()),
        ([report(result=[{"reference": "Observation/o1"}], imagingStudy=[], effectiveDateTime="2023-05-06")],
         {"derivedFrom": [], "effectiveDateTime": None}, UNLINKED),
        ([observation("x", id="o1", hasMember=[{"reference": "Observation/o1"}], derivedFrom=[])], {"derivedFrom": []},
         UNLINKED),
        ([], {"derivedFrom": []}, UNLINKED),
        ([], {"derivedFrom": [{"reference": "ImagingStudy/s9"}]}, dataclasses.replace(UNLINKED, study_unknown=True)),
        ([], {"derivedFrom": [{"reference": "Media/s1"}]}, UNLINKED),
        ([], {"derivedFrom": [], "effectiveDateTime": None}, dataclasses.replace(UNLINKED, study_day=None)),
        ([report(result=[{"reference": "Observation/o1"}], imagingStudy=[], effectiveDateTime="2023-05-06")],
         {"derivedFrom": [], "effectiveDateTime": "2023-05"}, UNLINKED),
        ([], {"derivedFrom": [], "effectiveDateTime": None, "effectivePeriod": {"start": "2023-05-06"}}, UNLINKED),
        ([], {"derivedFrom": [], "effectiveDateTime": None, "effectiveInstant": "2023-05-06T01:00:00Z"}, UNLINKED),
    ],
)  # fmt: skip
def test_an_observations_examination_is_found(index, others, changes, expected):
    resources = [*others, observation(**changes), study(), patient()]
    for entries in (read(index, *resources), exported(index, *resources)):
        (entry,) = (entry for entry in entries if facts([entry]))
        assert entry.exam == expected


@pytest.mark.parametrize(
    ("others", "changes"),
    [
        ([], {"derivedFrom": [{"reference": "ImagingStudy/s1"}, {"reference": "ImagingStudy/s2"}]}),
        ([study(id="s1", identifier=[{"system": "urn:dicom:uid", "value": "urn:oid:9"}])], {}),
        ([report(result=[{"reference": "Observation/o1"}]),
          report(id="r2", imagingStudy=[{"reference": "ImagingStudy/s2"}], result=[{"reference": "Observation/o1"}])],
         {"derivedFrom": []}),
    ],
)  # fmt: skip
def test_an_observation_of_one_of_two_studies_is_not_taken(index, others, changes):
    second = study(id="s2", identifier=[{"system": "urn:dicom:uid", "value": "urn:oid:2"}])
    resources = [*others, observation(**changes), study(), second, patient()]
    for entries in (read(index, *resources), exported(index, *resources)):
        assert not facts(entries)
        assert "study_unclear" in reasons(entries)


FUTURE = (datetime.date.today() + datetime.timedelta(days=3)).isoformat()

UNCLEAR_DAYS = [
    ({"effectiveDateTime": "2019"}, "date_malformed"),
    ({"effectiveDateTime": "2019-05"}, "date_malformed"),
    ({"effectiveDateTime": FUTURE}, "date_malformed"),
    ({"effectiveDateTime": None, "effectivePeriod": {"end": "2019-05-06"}}, "date_malformed"),
    ({"effectiveDateTime": None, "imagingStudy": [{"reference": "ImagingStudy/s9"}]}, "study_missing"),
]


@pytest.mark.parametrize(("changes", "reason"), UNCLEAR_DAYS)
def test_a_record_without_a_clear_date_is_not_attributed_to_the_patients_only_examination(index, changes, reason):
    about_study = {"derivedFrom": changes.get("imagingStudy", []), **changes}
    made = report(imagingStudy=[], conclusionCode=[coded(SNOMED, "17190001")]) | changes
    for resource in (observation(**about_study), made):
        for entries in (read(index, resource, study(), patient()), exported(index, resource, study(), patient())):
            assert not facts(entries)
            assert reasons(entries) == [reason]


def test_an_imaging_study_in_the_future_has_no_day(index):
    entries = read(index, patient(), study(started=FUTURE), observation(effectiveDateTime=None))
    assert {entry.exam for entry in entries} == {exam_of(study_day=None)}


@pytest.mark.parametrize("how", [{"valueInteger": 2}, {"valueQuantity": quantity(2, "1")}])
@pytest.mark.parametrize("link", [{}, {"derivedFrom": []}])
def test_nothing_is_attributed_to_twins(index, how, link):
    dated = report(effectiveDateTime="2023-05-06")
    resources = [observation("11878-6", **how, **link), observation(id="o2", **link), dated, study(), patient()]
    for entries in (read(index, *resources), exported(index, *resources)):
        assert not facts(entries)
        assert set(reasons(entries)) == {"several_fetuses"}
        assert all(any(s.fact == "several_fetuses" for s in entry.statements) for entry in entries)
    single = [observation("11878-6", valueInteger=1), observation(id="o2"), study(), patient(id="p1")]
    assert facts(read(Index(Path("none")), *single))


@pytest.mark.parametrize(
    "changes",
    [
        {},  # derived from a study of that day
        {"derivedFrom": [], "encounter": {"reference": "Encounter/e1"}},
        {"derivedFrom": [], "issued": "2023-05-06T10:00:00Z"},
    ],
    ids=["study", "encounter", "issued"],
)
def test_nothing_is_attributed_to_twins_that_were_counted_on_the_same_day(index, changes):
    count = observation("11878-6", valueInteger=2, derivedFrom=[], effectiveDateTime="2023-05-06")
    measured = observation(id="o2", effectiveDateTime=None, **changes)
    met = {"resourceType": "Encounter", "id": "e1", "period": {"start": "2023-05-06", "end": "2023-05-06"}}
    resources = [count, measured, met, study(started="2023-05-06"), patient()]
    for entries in (read(index, *resources), exported(index, *resources)):
        assert not facts(entries)
    assert facts(read(Index(Path("none")), *resources[1:]))


@pytest.mark.parametrize("count", [observation("11878-6", valueInteger=2), observation("11951-1", valueString="B")])
def test_an_observation_that_says_nothing_but_that_there_are_twins_says_it_of_its_examination(index, count):
    for entries in (read(index, count, patient()), exported(index, count, patient())):
        (entry,) = entries
        assert entry.exam == exam_of(study_key=None, accession_key=None, study_unknown=True)
        assert [s.fact for s in entry.statements if s.fact != "identity"] == ["several_fetuses"]


def test_twins_are_counted_also_by_an_observation_that_is_about_something_unclear(index):
    count = observation("11878-6", valueInteger=2, focus=[{"reference": "Device/9"}])
    for entries in (read(index, count, patient()), exported(index, count, patient())):
        assert [s.fact for entry in entries for s in entry.statements if s.fact != "identity"] == ["several_fetuses"]
    single = observation("11878-6", valueInteger=1, focus=[{"reference": "Device/9"}])
    assert "several_fetuses" not in reasons(read(Index(Path("none")), single, patient()))


def test_fetuses_that_other_observations_are_about_are_several(index):
    others = [observation("99999-9", id=f"w{name}", focus=[{"reference": f"Patient/{name}"}]) for name in ("a", "b")]
    measured = observation(id="o2", focus=[{"reference": "Patient/a"}])
    for entries in (read(index, *others, measured, study(), patient()),
                    exported(index, *others, measured, study(), patient())):  # fmt: skip
        assert not facts(entries)
        assert "several_fetuses" in reasons(entries)


def test_an_accession_number_does_not_make_up_for_a_date_that_is_not_understood(index):
    order = {"identifier": {"type": coded("http://terminology.hl7.org/CodeSystem/v2-0203", "ACSN"), "value": "ACC-1"}}
    record = observation(derivedFrom=[], basedOn=[order], effectiveDateTime="2020-01")
    for entries in (read(index, record, patient()), exported(index, record, patient())):
        assert all(entry.exam is None or entry.exam.study_unknown for entry in entries)


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        ({"valueQuantity": quantity(1, "1", comparator=">")}, False),
        ({"valueQuantity": quantity(0, "1")}, False),
        ({"valueString": "2"}, False),
        ({"valueCodeableConcept": coded(SNOMED, "65147003")}, False),  # twin pregnancy
        ({"valueInteger": 1}, True),
        ({"valueString": " 1 "}, True),
        ({"valueInteger": None, "dataAbsentReason": {"text": "unknown"}}, True),
    ],
)
def test_an_unclear_number_of_fetuses_counts_as_several(index, value, taken):
    count = observation("11878-6", **value)
    for name in [name for name in count if count[name] is None]:
        del count[name]
    for entries in (read(index, count, observation(id="o2"), study(), patient()),
                    exported(index, count, observation(id="o2"), study(), patient())):  # fmt: skip
        assert bool(facts(entries)) == taken


def test_an_undated_number_of_fetuses_holds_for_all_examinations_of_the_patient(index):
    count = observation("11878-6", valueInteger=2, derivedFrom=[], effectiveDateTime=None)
    for entries in (read(index, count, observation(id="o2"), study(), patient()),
                    exported(index, count, observation(id="o2"), study(), patient())):  # fmt: skip
        assert not facts(entries)


def of_fetus(name: str, number: int, **changes: Any) -> Json:
    part = component("11951-1", valueString=name)
    return observation(id=f"o{number}", component=[part], **changes)


@pytest.mark.parametrize("link", [{}, {"derivedFrom": []}])
@pytest.mark.parametrize(
    ("names", "taken"),
    [(("A", "B"), 0), (("left", "right"), 0), (("Fetus 2",), 0), (("A", "A"), 2), (("1",), 1), (("2.0",), 0)],
)
def test_fetuses_with_different_names_are_several(index, names, taken, link):
    resources = [of_fetus(name, number, **link) for number, name in enumerate(names)]
    for entries in (read(index, *resources, study(), patient()), exported(index, *resources, study(), patient())):
        assert len(facts(entries)) == taken
        assert set(reasons(entries)) == (set() if taken else {"several_fetuses"})


def test_a_fetus_may_be_named_by_a_separate_observation(index):
    second = observation("11951-1", valueCodeableConcept={"text": "B"})
    for entries in (read(index, second, observation(id="o2"), study(), patient()),
                    exported(index, second, observation(id="o2"), study(), patient())):  # fmt: skip
        assert not facts(entries)


def test_an_examination_without_a_study_still_has_the_names_to_avoid(index):
    by_number = [{"identifier": {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}}]
    for references in ([], by_number):
        (entry,) = about(index, observation(derivedFrom=references))
        assert KEYS.word("Quixworth") in {statement.value for statement in entry.statements}
