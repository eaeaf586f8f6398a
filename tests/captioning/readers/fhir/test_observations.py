"""Values, views and findings in FHIR records: taken as they are said, or a fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from sono.captioning.readers.fhir.index import Index
from tests.captioning.readers.fhir_resources import (
    LOINC,
    OUS,
    SNOMED,
    UNLINKED,
    about,
    coded,
    component,
    exam_of,
    observation,
    quantity,
    reasons,
    report,
    said,
    view,
)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index(tmp_path / "references")


# --------------------------------------------------------------------------------------------------------- values


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
    assert said(about(index, observation(code, **value))) == [(*expected, f"Observation {code}", None)]


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
def test_a_value_in_doubt_is_a_fault(index, code, value, reason):
    entries = about(index, observation(code, **value))
    assert (said(entries), reasons(entries)) == ([], [reason])


@pytest.mark.parametrize("status", ["preliminary", "registered", "entered-in-error", "cancelled", "unknown", None, []])
def test_what_is_not_final_is_not_taken(index, status):
    for resource in (observation(status=status), report(status=status, result=[]), view(status=status)):
        entries = about(index, resource)
        assert (said(entries), reasons(entries)) == ([], ["not_final"])


@pytest.mark.parametrize("status", ["final", "amended", "corrected"])
def test_what_was_amended_or_corrected_is_taken(index, status):
    assert said(about(index, observation(status=status)))


def test_a_report_that_was_appended_to_is_still_one(index):
    finding = {"conclusionCode": [coded(SNOMED, "17190001")]}
    for status in ("appended", "amended"):
        assert said(about(index, report(status=status, **finding)))
    assert not said(about(index, observation(status="appended")))


def test_what_a_modifier_may_turn_round_is_not_taken(index):
    modifier = [{"url": "http://a.example/not", "valueBoolean": True}]
    part = component("11820-8", valueQuantity=quantity(51, "mm")) | {"modifierExtension": modifier}
    for resource in (
        observation(modifierExtension=modifier),
        report(modifierExtension=modifier, conclusionCode=[coded(SNOMED, "17190001")]),
        observation("growth", system="http://example.org", component=[part]),
    ):
        entries = about(index, resource)
        assert (said(entries), reasons(entries)) == ([], ["modifier_unknown"])


def test_without_a_value_there_is_neither_fact_nor_fault(index):
    absent = observation(valueQuantity=None)
    del absent["valueQuantity"]
    (entry,) = about(index, absent)
    assert (said([entry]), reasons([entry])) == ([], [])


def test_weeks_and_days_apart_are_not_taken_for_whole_weeks(index):
    parts = [
        component("18185-9", valueQuantity=quantity(21, "wk")),
        component("18185-9", valueQuantity=quantity(3, "d")),
    ]
    entries = about(index, observation("growth", system="http://example.org", component=parts, valueString=""))
    assert said(entries) == []
    assert reasons(entries) == ["gestational_age_impossible"]


def test_the_age_in_a_measurement_is_not_the_examinations(index):
    """As in a Biometry Group of DICOM's TID 5008: it is the age by that measurement alone."""
    part = component("18185-9", valueQuantity=quantity(150, "d"))
    length = component("11820-8", valueQuantity=quantity(51, "mm"))
    entries = about(index, observation("11984-2", component=[part, length]))
    assert {(fact, value) for fact, value, *_ in said(entries)} == {("hc_mm", 190.2), ("bpd_mm", 51)}
    assert said(about(index, observation("growth", system="http://example.org", component=[part])))


def test_of_several_values_none_is_chosen(index):
    parts = [component("11820-8", valueQuantity=quantity(value, "mm")) for value in (51, 54)]
    entries = about(index, observation("growth", system="http://example.org", component=parts))
    assert (said(entries), reasons(entries)) == ([], ["several_values"])


def test_observations_that_say_nothing_of_use_leave_no_entry(index):
    assert not about(index, observation("8867-4", valueQuantity=quantity(80, "/min")))
    assert not about(index, observation("11984-2", system="http://example.org/local"))
    assert not about(index, {"resourceType": "Encounter", "id": "e1"})


# --------------------------------------------------------------------------------------------------- views, findings


@pytest.mark.parametrize("side", [{"bodySite": coded(SNOMED, "24028007")}, {"component": [
    {"code": coded(SNOMED, "272741003"), "valueCodeableConcept": coded(SNOMED, "24028007")}]}])  # fmt: skip
def test_a_views_side_holds_for_its_plane(index, side):
    assert said(about(index, view("femur", (), **side))) == [("laterality", "right", "Observation 111031", "femur")]


def test_a_plane_or_structure_may_be_named_by_code_display_or_text(index):
    for concept in (
        {"text": "Femur"},
        {"coding": [{"code": "T-1", "display": "femur"}]},
        {"coding": [{"code": "femur"}]},
    ):
        entries = about(index, view(structures=("femur",), valueCodeableConcept=concept))
        assert said(entries) == [("structures_seen", "femur", "Observation 111031", "femur")]


@pytest.mark.parametrize(
    ("resource", "reason", "taken"),
    [
        (view("nothing known"), "plane_unknown", 0),
        (view(valueCodeableConcept={"coding": [{"code": "femur"}], "text": "humerus"}), "plane_unknown", 0),
        (view(structures=("thalami", "flux capacitor")), "structure_unknown", 1),
        (view(component=[{"code": {"text": "Structure absent"}, "valueCodeableConcept": {"text": "thalami"}}]),
         "component_unknown", 0),
    ],
)  # fmt: skip
def test_a_view_in_doubt_is_a_fault(index, resource, reason, taken):
    entries = about(index, resource)
    assert (len(said(entries)), reasons(entries)) == (taken, [reason])


@pytest.mark.parametrize(
    ("system", "code", "expected"),
    [
        (SNOMED, "17190001", "SCT:17190001"),
        ("http://hl7.org/fhir/sid/icd-10", "Q05.4", "ICD10:Q05.4"),
        ("http://hl7.org/fhir/sid/icd-10-cm", "O35.00X1", "ICD10:O35.00X1"),
        ("http://human-phenotype-ontology.org", "HP:0001561", "HP:0001561"),
        ("http://purl.obolibrary.org/obo/hp.fhir", "HP:0001561", "HP:0001561"),
        (LOINC, "11525-3", "LN:11525-3"),
        ("http://dicom.nema.org/resources/ontology/DCM", "121071", "DCM:121071"),
    ],
)
def test_a_finding_is_a_code_with_its_system(index, system, code, expected):
    entries = about(index, report(conclusionCode=[coded(system, code)]))
    assert said(entries) == [("findings", expected, "DiagnosticReport.conclusionCode", None)]


@pytest.mark.parametrize(
    "concept", [{"text": "QUIXWORTH"}, coded(SNOMED, "QUIXWORTH"), coded("http://a.example", "17190001")]
)
def test_a_finding_without_a_known_code_is_a_fault(index, concept):
    entries = about(index, report(conclusionCode=[concept]))
    assert (said(entries), reasons(entries)) == ([], ["finding_malformed"])


def test_a_report_about_something_else_is_not_attributed_by_its_date(index):
    chest = {"code": coded(LOINC, "36643-5"), "conclusionCode": [coded(SNOMED, "17190001")]}
    assert not about(index, report(imagingStudy=[], **chest))
    entries = about(index, report(imagingStudy=[{"reference": "ImagingStudy/s9"}], **chest))
    assert (said(entries), reasons(entries)) == ([], ["study_missing"])
    for obstetric in ({"category": [OUS]}, {"code": coded(LOINC, "11525-3")}):
        entries = about(index, report(imagingStudy=[], **{**chest, **obstetric}, effectiveDateTime="2023-05-06"))
        assert entries[0].exam == UNLINKED
        assert said(entries)
