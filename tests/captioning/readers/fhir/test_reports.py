"""Reports in FHIR records: coded findings, and what a report is about."""

from __future__ import annotations

import pytest

from tests.captioning.readers.fhir.resources import (
    LOINC,
    OUS,
    SNOMED,
    UNLINKED,
    about,
    coded,
    facts,
    observation,
    reasons,
    report,
)


def test_an_appended_report_is_taken(index):
    finding = {"conclusionCode": [coded(SNOMED, "17190001")]}
    for status in ("appended", "amended"):
        assert facts(about(index, report(status=status, **finding)))
    assert not facts(about(index, observation(status="appended")))


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
    assert facts(entries) == [("findings", expected, "DiagnosticReport.conclusionCode", None)]


@pytest.mark.parametrize(
    "concept", [{"text": "QUIXWORTH"}, coded(SNOMED, "QUIXWORTH"), coded("http://a.example", "17190001")]
)
def test_a_finding_without_a_known_code_is_a_fault(index, concept):
    entries = about(index, report(conclusionCode=[concept]))
    assert (facts(entries), reasons(entries)) == ([], ["finding_malformed"])


def test_a_report_about_something_else_is_not_attributed_by_its_date(index):
    chest = {"code": coded(LOINC, "36643-5"), "conclusionCode": [coded(SNOMED, "17190001")]}
    assert not about(index, report(imagingStudy=[], **chest))
    entries = about(index, report(imagingStudy=[{"reference": "ImagingStudy/s9"}], **chest))
    assert (facts(entries), reasons(entries)) == ([], ["study_missing"])
    for obstetric in ({"category": [OUS]}, {"code": coded(LOINC, "11525-3")}):
        entries = about(index, report(imagingStudy=[], **{**chest, **obstetric}, effectiveDateTime="2023-05-06"))
        assert entries[0].exam == UNLINKED
        assert facts(entries)
