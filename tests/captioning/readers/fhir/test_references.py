"""References and dates in FHIR: each leads to an examination, or is counted as missing; none is ignored.

The images are of a patient with one examination, which whatever says nothing would fall to.
"""

from __future__ import annotations

import pytest

from sono.captioning.readers.codes import AGES
from tests.captioning.readers.fhir.resources import (
    ACSN,
    exam_of,
    exported,
    facts,
    observation,
    patient,
    quantity,
    read,
    reasons,
    report,
    study,
)

UID = {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}


def undated(*references, **changes):
    """An observation that has no date and these references to what it is derived from."""
    made = observation(derivedFrom=list(references), **changes)
    del made["effectiveDateTime"]
    return made


def encounter(start, end, **changes):
    return {
        "resourceType": "Encounter",
        "id": "e1",
        "status": "finished",
        "period": {"start": start, "end": end},
        **changes,
    }


def contained(**changes):
    return {**study(id="st"), **changes}


FOUND = [
    (undated({"reference": "#st"}, contained=[contained()]), []),
    (undated({"reference": "#st"}, contained=[contained(id="#st")]), []),
    (undated({"reference": "urn:oid:1.2.3"}), []),
    (undated({"reference": "ImagingStudy?identifier=urn:dicom:uid|urn:oid:1.2.3"}), []),
    (undated({"reference": "ImagingStudy?identifier=urn%3Adicom%3Auid%7Curn%3Aoid%3A1.2.3"}), []),
    (undated({"reference": "ImagingStudy?identifier=1.2.3"}), []),
    (undated({"reference": "ImagingStudy?_id=s_1"}), [study(id="s_1")]),
    (undated({"reference": "https://pacs.example/dicom-web/studies/1.2.3"}), []),
    (undated({"reference": "ImagingStudy/s_1"}), [study(id="s_1")]),
    (undated({"reference": "ImagingStudy/s~1:a"}), [study(id="s~1:a")]),
    (undated({"reference": "ImagingStudy/" + "s" * 100}), [study(id="s" * 100)]),
    (undated({"identifier": UID}), []),
    (undated({"identifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.3"}}), []),
    (undated({"identifier": {"value": "urn:oid:1.2.3"}}), []),
    (undated(basedOn=[{"identifier": {"type": ACSN, "value": "ACC-77"}}]), []),
    (undated(focus=[{"reference": "ImagingStudy/s1"}]), [study()]),
    (undated(encounter={"reference": "Encounter/e1"}), [encounter("2023-05-06T08:00:00Z", "2023-05-06")]),
    (undated(encounter={"reference": "#e"}, contained=[encounter("2023-05-06", "2023-05-06", id="e")]), []),
    (undated(issued="2023-05-06T10:00:00Z"), []),
    (undated(), [report(imagingStudy=[], issued="2023-05-06T10:00:00Z", result=[{"reference": "Observation/o1"}])]),
    (undated(), [observation("x", id="up", derivedFrom=[], hasMember=[{"reference": "Observation/o1"}])]),
    (undated(), [report(imagingStudy=[], encounter={"reference": "Encounter/e1"},
                        result=[{"reference": "Observation/o1"}]), encounter("2023-05-06", "2023-05-06")]),
]  # fmt: skip


@pytest.mark.parametrize(("made", "others"), FOUND)
def test_a_reference_or_date_leads_to_its_examination(index, made, others):
    for entries in (read(index, patient(), made, *others), exported(index, patient(), made, *others)):
        (entry,) = (entry for entry in entries if facts([entry]))
        assert entry.exam is not None
        full = exam_of()
        keys = (entry.exam.study_key, entry.exam.accession_key, entry.exam.study_day)
        assert set(keys) - {None} <= {full.study_key, full.accession_key, full.study_day}
        assert set(keys) != {None}
        assert not entry.exam.study_unknown


MISSING = [
    (undated({"reference": "#st"}), [], "study_missing"),
    (undated({"reference": "#st"}, contained=[contained(id="other")]), [], "study_missing"),
    (undated({"reference": "#st"}, contained=[contained(identifier=[], started="2023")]), [], "study_missing"),
    (undated({"reference": "urn:uuid:0b8dbf3e-0f0b-4e1b-b2bd-3b6b1a1f6a8e"}), [], "study_missing"),
    (undated({"reference": "urn:x:1"}), [], "study_missing"),
    (undated({"reference": "ImagingStudy?patient=p1"}), [], "study_missing"),
    (undated({"reference": "ImagingStudy?identifier=77"}), [], "study_missing"),
    (undated({"reference": 7}), [], "study_missing"),
    (undated({"reference": "somewhere"}), [], "study_missing"),
    (undated({"display": "the scan of August"}), [], "study_missing"),
    (undated("ImagingStudy/s9"), [], "study_missing"),
    (undated({"identifier": {"value": "77"}}), [], "study_missing"),
    (undated({"reference": "Media/m1"}), [], "study_missing"),
    (undated(basedOn=[{"reference": "ServiceRequest/r1"}]), [], "study_missing"),
    (undated({"reference": "ImagingStudy/s1"}, {"reference": "urn:uuid:1"}), [study()], "study_unclear"),
    (undated(focus=[{"reference": "Device/d1"}]), [], "focus_unknown"),
    (undated(focus=[{"display": "somebody"}]), [], "focus_unknown"),
    (undated(encounter={"reference": "Encounter/e1"}), [], "encounter_unclear"),
    (undated(encounter={"display": "visit"}), [], "encounter_unclear"),
    (undated(encounter={"reference": "Encounter/e1"}), [encounter("2023-05-06", "2023-08-24")], "encounter_unclear"),
    (undated(encounter={"reference": "Encounter/e1"}), [encounter("2023-05", None)], "encounter_unclear"),
    (undated(issued="2023-05"), [], "date_malformed"),
    (undated(), [report(imagingStudy=[{"reference": "ImagingStudy/s9"}], result=[{"reference": "Observation/o1"}])],
     "study_missing"),
    (undated(), [report(imagingStudy=[{"reference": "urn:x"}], result=[{"reference": "Observation/o1"}])],
     "study_missing"),
    (undated(), [report(imagingStudy=[], effectiveDateTime="2023", result=[{"reference": "Observation/o1"}])],
     "study_missing"),
    (undated(), [observation("x", id="up", derivedFrom=[], effectiveDateTime="2023",
                             hasMember=[{"reference": "Observation/o1"}])], "study_missing"),
]  # fmt: skip


@pytest.mark.parametrize(("made", "others", "reason"), MISSING)
def test_what_leads_nowhere_is_counted_and_not_taken_for_nothing(index, made, others, reason):
    for entries in (read(index, patient(), made, *others), exported(index, patient(), made, *others)):
        assert not facts(entries)
        assert reason in reasons(entries)


def test_a_record_that_says_nothing_of_its_examination_may_be_of_the_only_one(index):
    for entries in (read(index, patient(), undated()), exported(index, patient(), undated())):
        (entry,) = entries
        assert entry.exam == exam_of(study_key=None, accession_key=None, study_day=None)


def test_a_contained_patient_is_the_subject(index):
    made = observation(subject={"reference": "#pp"}, contained=[patient(id="pp")])
    for entries in (read(index, made, study(), patient()), exported(index, made, study(), patient())):
        (entry,) = (entry for entry in entries if facts([entry]))
        assert entry.exam == exam_of()


def test_contained_results_are_read_with_their_report(index):
    inside = undated(id="in", subject=None)
    del inside["subject"]
    made = report(contained=[inside], result=[{"reference": "#in"}])
    for entries in (read(index, made, study(), patient()), exported(index, made, study(), patient())):
        (entry,) = (entry for entry in entries if facts([entry]))
        assert entry.exam == exam_of()


def test_two_focuses_are_two_fetuses(index):
    made = [observation(id=f"o{name}", focus=[{"reference": f"Patient/{name}"}]) for name in ("a", "b")]
    for resources, several in ((made, True), (made[:1], False)):
        for entries in (read(index, *resources, study(), patient()),):
            assert ("several_fetuses" in reasons(entries)) == several
            assert bool(facts(entries)) != several


@pytest.mark.parametrize(
    ("code", "value", "days"),
    [
        ("49051-6", {"valueQuantity": quantity(21, "wk")}, 147),
        ("49051-6", {"valueQuantity": {"value": 21}}, 147),
        ("49051-6", {"valueInteger": 21}, 147),
        ("49052-4", {"valueInteger": 150}, 150),
        ("49052-4", {"valueQuantity": quantity(150, "d")}, 150),
        ("57714-8", {"valueString": "21w3d"}, 150),
        ("11886-9", {"valueQuantity": quantity(150, "d")}, 150),
    ],
)
def test_codes_of_gestational_age(index, code, value, days):
    entries = read(index, patient(), study(), observation(code, **value))
    assert facts(entries) == [(AGES[code], days, f"Observation {code}", None)]


def test_completed_weeks_and_the_days_beyond_them_are_one_age(index):
    parts = [
        {"code": {"coding": [{"system": "http://loinc.org", "code": code}]}, "valueQuantity": quantity(value, unit)}
        for code, value, unit in (("49051-6", 21, "wk"), ("49052-4", 3, "d"))
    ]
    made = observation("growth", system="http://example.org", component=parts, valueString="")
    assert facts(read(index, patient(), study(), made)) == [("ga_days", 150, "Observation 49051-6, 49052-4", None)]
