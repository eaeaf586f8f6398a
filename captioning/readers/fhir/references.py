"""Keyed hashes of references to FHIR resources, and the pseudonyms of patients and studies by their identifiers."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from sono.captioning.facts.statements import Reading
from sono.manifests.pseudonyms import Pseudonymizer

from .elements import Identifier, Reference

MEDICAL_RECORD, _ACCESSION = "MR", "ACSN"  # types of identifiers, HL7 v2 table 0203
_DICOM_UID = "urn:dicom:uid"


class Study(NamedTuple):
    """What an ImagingStudy says about itself. ``day`` is on the calendar of ``calendar``, a key of its own."""

    study_key: str | None
    accession_key: str | None
    day: int | None
    calendar: str


class ReferenceKeys:
    """Keys of references. Most resources of an examination refer to the same few, so hashes are remembered."""

    def __init__(self, keys: Pseudonymizer) -> None:
        self._keys = keys
        self._hashed = lru_cache(maxsize=10_000)(keys.content)

    def targets(self, targets: Iterable[str]) -> list[str]:
        """Of resources, by type and id."""
        return [self._hashed(target) for target in targets]

    def identifiers(self, identifiers: Iterable[Identifier]) -> list[str]:
        """Of identifiers that have a system."""
        pairs = [(item.system, item.value) for item in identifiers]
        return [self._hashed(f"identifier {system} {value}") for system, value in pairs if system and value]

    def subject(self, subject: Reference) -> list[str]:
        """Of a reference to a patient."""
        return [*self.targets([subject.target] if subject.target else []), *self.identifiers([subject.identifier])]

    def studies(self, references: Iterable[Reference]) -> dict[str, Study | None]:
        """Of references to studies, with what the references themselves say about them."""
        found: dict[str, Study | None] = {}
        for reference in references:
            if reference.target:
                found[self._hashed(reference.target)] = None
            elif (study := identified_study([reference.identifier], self._keys)) is not None:
                key = self._hashed(f"study {study.study_key} {study.accession_key}")
                found[key] = study._replace(calendar=key)
        return found

    def fetuses(self, key: str, date: datetime.date | None) -> str:
        """The key under which fetuses are noted: of a study, or of a subject and a date."""
        return self._hashed(f"fetuses {key} {date}")


def patient_key_of(identifiers: Sequence[Identifier], reading: Reading) -> str | None:
    """By the identifier of the system that the images' PatientID is of, or else typed MR, or else the only one."""
    current = [item for item in identifiers if item.value and item.use != "old"]
    if reading.patient_system is not None:
        current = [item for item in current if item.system == reading.patient_system]
    else:
        current = [item for item in current if MEDICAL_RECORD in item.types] or current
    values = {item.value for item in current}
    return reading.keys.patient(values.pop()) if len(values) == 1 else None


def identified_study(identifiers: Iterable[Identifier], keys: Pseudonymizer) -> Study | None:
    """By UID and accession number; None without either, or with several."""
    uids, accessions = set(), set()
    for item in identifiers:
        if item.system == _DICOM_UID and (uid := item.value.removeprefix("urn:oid:")):
            uids.add(uid)
        elif item.value and _ACCESSION in item.types:
            accessions.add(item.value)
    if len(uids) > 1 or len(accessions) > 1 or not (uids or accessions):
        return None
    study_key = keys.study(uids.pop()) if uids else None
    return Study(study_key, keys.accession(accessions.pop()) if accessions else None, None, "")
