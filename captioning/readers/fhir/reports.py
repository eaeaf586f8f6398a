"""What FHIR reports say: coded findings, and texts."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from sono.captioning.facts.statements import Fault, FaultError, Statement
from sono.captioning.readers.codes import coded_finding

from .elements import DCM, LOINC, SNOMED, Coding
from .resources import DiagnosticReport

_FINDING_SYSTEMS: Mapping[str, str] = {
    SNOMED: "SCT",
    LOINC: "LN",
    DCM: "DCM",
    "http://human-phenotype-ontology.org": "HP",
    "http://purl.obolibrary.org/obo/hp.fhir": "HP",
    "http://purl.obolibrary.org/obo/hp.owl": "HP",
    "http://hl7.org/fhir/sid/icd-10": "ICD10",
    "http://hl7.org/fhir/sid/icd-10-cm": "ICD10",
}


def findings_of(report: DiagnosticReport, faults: list[Fault]) -> list[Statement]:
    """The codes of its conclusion that are findings of a known system.

    Args:
        faults: gets one for every finding that has no such code.
    """
    codes: list[str] = []
    for codings in report.findings:
        try:
            codes += _finding_codes(codings)
        except FaultError as error:
            faults.append(error.fault)
    return [Statement("findings", code, "DiagnosticReport.conclusionCode") for code in codes]


def texts_of(report: DiagnosticReport, faults: list[Fault]) -> Iterator[tuple[str, str]]:
    """Field and text of its prose; a form that is not plain text is not read.

    Args:
        faults: gets what cannot be decoded.
    """
    yield "DiagnosticReport.conclusion", report.conclusion
    for form in report.plain_forms:
        try:
            yield "DiagnosticReport.presentedForm", base64.b64decode(form, validate=True).decode()
        except (binascii.Error, ValueError):
            faults.append(Fault("text_unreadable", "its text is no UTF-8"))


def _finding_codes(codings: Sequence[Coding]) -> list[str]:
    codes: dict[str, None] = {}
    for system, code in codings:
        with suppress(FaultError):
            codes[coded_finding(_FINDING_SYSTEMS.get(system, ""), code)] = None
    if not codes:
        raise FaultError("finding_malformed", "a finding has no code of a system that is known")
    return list(codes)
