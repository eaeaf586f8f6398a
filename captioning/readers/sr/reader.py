"""Clinical records as DICOM structured reports: TID 5000 "OB-GYN Ultrasound Procedure Report" (PS3.16) and others.

A report with CompletionFlag PARTIAL is accepted: the flag only says how complete the content is (PS3.3 C.17.2). One
whose PreliminaryFlag is PRELIMINARY is refused. That another report replaces this one cannot be seen here; where the
two differ, they contradict each other as any two records do.
"""

from __future__ import annotations

from sono.captioning.facts.statements import (
    SEVERAL_FETUSES,
    Entry,
    Fault,
    FaultError,
    Reading,
    Statement,
    identity_statements,
    several_fetuses_in,
)

from . import codes
from .content import TOO_DEEP, Document, read
from .findings import coded_statements
from .measurements import numbers_of
from .sections import field_of, is_in_read_sections
from .subjects import FETUSES_UNCLEAR, exam_of, fetus_fault

_PROSE = frozenset({codes.FINDING, codes.IMPRESSION, codes.CONCLUSION, codes.COMMENT, codes.SUMMARY})
_PATIENT_MISSING = Fault("patient_missing", "it names no patient")
_PRELIMINARY = Fault("not_final", "it is marked as preliminary")


def read_document(content: bytes, place: str, reading: Reading) -> Entry:
    """The entry of one file. What is wrong with it becomes faults, never an exception.

    Where there is more than one fetus, nothing but identity is taken.
    """
    try:
        document = read(content)
    except FaultError as error:
        return Entry(place, None, faults=(error.fault,))
    if not document.patient_id:
        return Entry(place, None, faults=(_PATIENT_MISSING,))
    faults: list[Fault] = []
    exam = exam_of(document, reading.keys, faults)
    statements = identity_statements(reading.keys, document.names, "SR header")
    if (refusal := _refusal(document)) is not None:
        faults.append(refusal)
        if refusal.reason in (SEVERAL_FETUSES, FETUSES_UNCLEAR):
            statements.append(several_fetuses_in("SR"))
    else:
        statements += numbers_of(document.items, exam, reading.keys, faults)
        for item in document.items:
            statements += coded_statements(item, reading.vocabulary, faults)
        statements += _prose(document, reading, faults)
    return Entry(place, exam, statements, list(dict.fromkeys(faults)))


def _refusal(document: Document) -> Fault | None:
    """Why nothing but identity may be taken."""
    if document.is_too_deep:
        return TOO_DEEP
    return _PRELIMINARY if document.is_preliminary else fetus_fault(document.items)


def _prose(document: Document, reading: Reading, faults: list[Fault]) -> list[Statement]:
    statements: list[Statement] = []
    if reading.prose is None:
        return statements
    for item in document.items:
        if item.kind == "TEXT" and item.name.key in _PROSE and item.text and is_in_read_sections(item):
            found, unclear = reading.prose(item.text, field_of(item), document.names)
            statements += found
            faults += unclear
    return statements
