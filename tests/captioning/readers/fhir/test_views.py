"""Views in FHIR records: the plane, structures and side, or a fault."""

from __future__ import annotations

import pytest

from tests.captioning.readers.fhir.resources import SNOMED, about, coded, facts, reasons, view


@pytest.mark.parametrize("side", [{"bodySite": coded(SNOMED, "24028007")}, {"component": [
    {"code": coded(SNOMED, "272741003"), "valueCodeableConcept": coded(SNOMED, "24028007")}]}])  # fmt: skip
def test_a_views_side_holds_for_its_plane(index, side):
    assert facts(about(index, view("femur", (), **side))) == [("laterality", "right", "Observation 111031", "femur")]


def test_a_plane_or_structure_may_be_named_by_code_display_or_text(index):
    for concept in (
        {"text": "Femur"},
        {"coding": [{"code": "T-1", "display": "femur"}]},
        {"coding": [{"code": "femur"}]},
    ):
        entries = about(index, view(structures=("femur",), valueCodeableConcept=concept))
        assert facts(entries) == [("structures_seen", "femur", "Observation 111031", "femur")]


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
def test_a_doubtful_view_is_a_fault(index, resource, reason, taken):
    entries = about(index, resource)
    assert (len(facts(entries)), reasons(entries)) == (taken, [reason])
