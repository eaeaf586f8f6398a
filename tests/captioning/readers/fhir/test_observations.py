"""Values in FHIR observations: taken as they are, or a fault."""

from __future__ import annotations

import pytest

from tests.captioning.readers.fhir.resources import (
    SNOMED,
    about,
    coded,
    component,
    exam_of,
    facts,
    observation,
    quantity,
    reasons,
    report,
    view,
)


@pytest.mark.parametrize(
    ("code", "value", "expected"),
    [
        ("11984-2", {"valueQuantity": quantity(19.02, "cm")}, ("hc_mm", 190.2)),
        ("11984-2", {"valueQuantity": {"value": 190, "unit": "mm"}}, ("hc_mm", 190)),
        ("11957-8", {"valueQuantity": quantity(60.4, "mm")}, ("crl_mm", 60.4)),
        ("33069-6", {"valueQuantity": quantity(1.6, "mm")}, ("nt_mm", 1.6)),
        ("11863-8", {"valueQuantity": quantity(23.5, "mm")}, ("tcd_mm", 23.5)),
        ("11966-9", {"valueQuantity": quantity(34.2, "mm")}, ("hl_mm", 34.2)),
        ("11963-6", {"valueQuantity": quantity(36.1, "mm")}, ("fl_mm", 36.1)),
        ("18185-9", {"valueQuantity": quantity(150, "d")}, ("ga_days", 150)),
        ("18185-9", {"valueString": "21w3d"}, ("ga_days", 150)),
        ("18185-9", {"valueString": "21+3"}, ("ga_days", 150)),
        ("11887-7", {"valueQuantity": quantity(150, "d")}, ("ga_days_by_edd", 150)),
        ("11885-1", {"valueQuantity": quantity(150, "d")}, ("ga_days_by_lmp", 150)),
        ("11884-4", {"valueQuantity": quantity(150, "d")}, ("ga_days_by_ultrasound", 150)),
        ("11888-5", {"valueQuantity": quantity(150, "d")}, ("ga_days_by_ultrasound", 150)),
        ("11955-2", {"valueDateTime": "2023-05-06"}, ("lmp_day", exam_of().study_day)),
        ("8665-2", {"valueDateTime": "2023-05-05T10:00:00Z"}, ("lmp_day", (exam_of().study_day or 0) - 1)),
    ],
)
def test_a_value_becomes_the_fact_of_its_code(index, code, value, expected):
    assert facts(about(index, observation(code, **value))) == [(*expected, f"Observation {code}", None)]


@pytest.mark.parametrize(
    ("code", "value", "reason"),
    [
        ("11984-2", {"valueQuantity": quantity(190, "mm", comparator="<")}, "comparator"),
        ("11984-2", {"valueQuantity": quantity(190, "[in_i]")}, "unit_unknown"),
        ("11984-2", {"valueQuantity": quantity(190, "mm", system="http://b.example")}, "unit_unknown"),
        ("11984-2", {"valueQuantity": quantity(190, "mm", unit="cm")}, "unit_unknown"),
        ("11984-2", {"valueQuantity": {"value": 190, "unit": "MM"}}, "unit_unknown"),
        ("11984-2", {"valueQuantity": {"value": 190}}, "unit_unknown"),
        ("11984-2", {"valueQuantity": quantity(1902, "mm")}, "number_impossible"),
        ("11984-2", {"valueQuantity": quantity(float("nan"), "mm")}, "number_impossible"),
        ("11984-2", {"valueQuantity": quantity(10**400, "mm")}, "value_malformed"),
        ("11984-2", {"valueQuantity": quantity("190", "mm")}, "value_malformed"),
        ("11984-2", {"valueQuantity": quantity(True, "mm")}, "value_malformed"),
        ("11984-2", {"valueString": "190 mm"}, "value_malformed"),
        ("11984-2", {"valueQuantity": quantity(190, "mm"), "valueString": "190"}, "value_malformed"),
        ("11984-2", {"valueQuantity": quantity(190, "mm"), "dataAbsentReason": {"text": "error"}}, "value_malformed"),
        ("18185-9", {"valueInteger": 150}, "value_malformed"),
        ("18185-9", {"valueQuantity": quantity(150, "wk")}, "gestational_age_impossible"),
        ("18185-9", {"valueQuantity": quantity(150, "d"), "effectiveDateTime": "2023-05-01"}, "another_day"),
        ("8665-2", {"valueDateTime": "2023-05-07"}, "date_impossible"),
        ("8665-2", {"valueDateTime": "2022-05-07"}, "date_impossible"),
        ("11778-8", {"valueDateTime": "2024-05-07"}, "date_impossible"),
        ("11778-8", {"valueDateTime": "2023-03-07"}, "date_impossible"),
        ("8665-2", {"valueDateTime": "2022-12"}, "date_malformed"),
        ("8665-2", {"valueDateTime": "2022-12-32"}, "date_malformed"),
        ("8665-2", {"valueDateTime": "2022-12-01 or so"}, "date_malformed"),
        ("11877-8", {"valueCodeableConcept": {"text": "breech"}}, "presentation_unknown"),
    ],
)
def test_a_doubtful_value_is_a_fault(index, code, value, reason):
    entries = about(index, observation(code, **value))
    assert (facts(entries), reasons(entries)) == ([], [reason])


@pytest.mark.parametrize("status", ["preliminary", "registered", "entered-in-error", "cancelled", "unknown", None, []])
def test_records_that_are_not_final_are_not_taken(index, status):
    for resource in (observation(status=status), report(status=status, result=[]), view(status=status)):
        entries = about(index, resource)
        assert (facts(entries), reasons(entries)) == ([], ["not_final"])


@pytest.mark.parametrize("status", ["final", "amended", "corrected"])
def test_amended_and_corrected_observations_are_taken(index, status):
    assert facts(about(index, observation(status=status)))


def test_modified_records_are_not_taken(index):
    modifier = [{"url": "http://a.example/not", "valueBoolean": True}]
    part = component("11820-8", valueQuantity=quantity(51, "mm")) | {"modifierExtension": modifier}
    for resource in (
        observation(modifierExtension=modifier),
        report(modifierExtension=modifier, conclusionCode=[coded(SNOMED, "17190001")]),
        observation("growth", system="http://example.org", component=[part]),
    ):
        entries = about(index, resource)
        assert (facts(entries), reasons(entries)) == ([], ["modifier_unknown"])


def test_without_a_value_there_is_neither_fact_nor_fault(index):
    absent = observation(valueQuantity=None)
    del absent["valueQuantity"]
    (entry,) = about(index, absent)
    assert (facts([entry]), reasons([entry])) == ([], [])


def test_weeks_and_days_in_separate_components_are_not_taken(index):
    parts = [
        component("18185-9", valueQuantity=quantity(21, "wk")),
        component("18185-9", valueQuantity=quantity(3, "d")),
    ]
    entries = about(index, observation("growth", system="http://example.org", component=parts, valueString=""))
    assert facts(entries) == []
    assert reasons(entries) == ["gestational_age_impossible"]


def test_the_age_in_a_measurement_is_not_the_examinations(index):
    """As in a Biometry Group of DICOM's TID 5008: it is the age by that measurement alone."""
    part = component("18185-9", valueQuantity=quantity(150, "d"))
    length = component("11820-8", valueQuantity=quantity(51, "mm"))
    entries = about(index, observation("11984-2", component=[part, length]))
    assert {(fact, value) for fact, value, *_ in facts(entries)} == {("hc_mm", 190.2), ("bpd_mm", 51)}
    assert facts(about(index, observation("growth", system="http://example.org", component=[part])))


def test_several_values_of_one_fact_are_not_taken(index):
    parts = [component("11820-8", valueQuantity=quantity(value, "mm")) for value in (51, 54)]
    entries = about(index, observation("growth", system="http://example.org", component=parts))
    assert (facts(entries), reasons(entries)) == ([], ["several_values"])


def test_observations_of_no_use_give_no_entry(index):
    assert not about(index, observation("8867-4", valueQuantity=quantity(80, "/min")))
    assert not about(index, observation("11984-2", system="http://example.org/local"))
    assert not about(index, {"resourceType": "Encounter", "id": "e1"})
