"""A phantom's clinical records as HL7 FHIR R4 (4.0.1): one Bundle of type ``collection`` per examination.

What is in a bundle, with the page of https://hl7.org/fhir/R4/ that it follows:

- ``Organization``, two ``Practitioner`` (who referred, who scanned), ``Patient``: identifiers have types from HL7 v2
  table 0203 (MR, ACSN), and the hospital's own systems.
- ``ImagingStudy`` (imagingstudy.html): the Study Instance UID as system ``urn:dicom:uid``, value ``urn:oid:...``.
  ``started`` needs a UTC offset, which DICOM's local times do not have: all phantom hospitals are at UTC+01:00.
- ``Observation`` (observation.html) for each date, age and measurement, coded in LOINC with UCUM units. What was
  measured or seen on images is ``derivedFrom`` the study; what was told or computed is ``partOf`` it.
- ``Observation`` for each view. Neither LOINC nor SNOMED CT names the standard planes of fetal ultrasound one by one,
  so the *question* is a standard code, (111031, DCM, "Image View"), and the *answer* a code of a local CodeSystem:
  this project's plane ids. A structure seen is a ``component``, whose code and value are local as well.
- ``DiagnosticReport`` (diagnosticreport.html), LOINC 11525-3 "US for pregnancy", category OUS of HL7 v2 table 0074,
  with the study in ``imagingStudy``, all observations in ``result`` and the findings in ``conclusionCode``.

The subject is always the mother, as in her chart; the fetus has no resource.
LOINC codings carry no ``display``, which would have to be LOINC's own name; ``text`` has DICOM's term for the code.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sono.curation.phantom.anatomy import SNOMED_CT_PREFIX, finding_meaning
from sono.curation.phantom.records import ExamRecord, View
from sono.manifests.schemas import BIOMETRY
from sono.manifests.store import write_atomically
from sono.manifests.vocabulary import Vocabulary

Resource = dict[str, Any]

OWN = "https://sono.example/fhir"  # no one can own a name in .example (RFC 2606)
PLANES = f"{OWN}/CodeSystem/planes"
STRUCTURES = f"{OWN}/CodeSystem/structures"
CONCEPTS = f"{OWN}/CodeSystem/concepts"

DCM = "http://dicom.nema.org/resources/ontology/DCM"
LOINC = "http://loinc.org"
SNOMED_CT = "http://snomed.info/sct"
UCUM = "http://unitsofmeasure.org"
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"

TIME_ZONE = timezone(timedelta(hours=1))

# Codes, each with its display or, in LOINC, with DICOM's term.
_MEDICAL_RECORD_NUMBER, _ACCESSION_ID = "MR", "ACSN"  # HL7 v2 table 0203
_OB_ULTRASOUND = (f"{_TERMINOLOGY}/v2-0074", "OUS", "OB Ultrasound")
_IMAGING = (f"{_TERMINOLOGY}/observation-category", "imaging", "Imaging")
_IMAGE_VIEW = (DCM, "111031", "Image View")
_STRUCTURE_SEEN = (CONCEPTS, "structure-seen", "Structure seen")
_US_FOR_PREGNANCY = ("11525-3", "US for pregnancy")
_LMP = ("8665-2", "LMP")
_EDD = ("11778-8", "EDD")
_GESTATIONAL_AGE = ("18185-9", "Gestational Age")
_GESTATIONAL_AGE_BY_LMP = ("11885-1", "Gestational Age by LMP")
_DAYS, _MILLIMETERS = "d", "mm"  # UCUM

BIOMETRY_LOINC: Mapping[str, tuple[str, str]] = {
    "bpd_mm": ("11820-8", "Biparietal Diameter"),
    "hc_mm": ("11984-2", "Head Circumference"),
    "ac_mm": ("11979-2", "Abdominal Circumference"),
    "fl_mm": ("11963-6", "Femur Length"),
    "crl_mm": ("11957-8", "Crown Rump Length"),
    "nt_mm": ("33069-6", "Nuchal Translucency"),
    "tcd_mm": ("11863-8", "Transverse Cerebellar Diameter"),
    "hl_mm": ("11966-9", "Humerus length"),
}
"""Code and DICOM's term for it: PS3.16 CID 12005, 12006 and 12009."""


def bundle(record: ExamRecord, vocabulary: Vocabulary) -> Resource:
    """The examination as a Bundle, ready for JSON; equal records give equal bundles.

    A patient, a hospital and a person have the same id in every examination, as they have on a hospital's server.

    Raises:
        ValueError: a finding is not one of ``FINDINGS``.
        KeyError: a plane or structure is not in the vocabulary.
    """
    observations = [*_dating(record), *_biometry(record), *(_view(record, view, vocabulary) for view in record.views)]
    resources = [
        _organization(record),
        _practitioner(record, "referring physician", record.referring_physician),
        _practitioner(record, "sonographer", record.sonographer),
        _patient(record),
        _imaging_study(record),
        *observations,
        _report(record, observations),
    ]
    return {
        "resourceType": "Bundle",
        "id": _study_id(record, "Bundle"),
        "type": "collection",
        "entry": [{"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource} for resource in resources],
    }


def write(path: Path, record: ExamRecord, vocabulary: Vocabulary) -> None:
    """Write the bundle as JSON, atomically."""
    text = json.dumps(bundle(record, vocabulary), indent=1, ensure_ascii=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def _organization(record: ExamRecord) -> Resource:
    return {
        "resourceType": "Organization",
        "id": _hospital_id(record, "Organization"),
        "name": record.center.hospital,
    }


def _practitioner(record: ExamRecord, role: str, name: tuple[str, str]) -> Resource:
    family, given = name
    return {
        "resourceType": "Practitioner",
        "id": _practitioner_id(record, role, name),
        "name": [{"family": family, "given": [given]}],
    }


def _patient(record: ExamRecord) -> Resource:
    return {
        "resourceType": "Patient",
        "id": _patient_id(record),
        "identifier": [_identifier(record, _MEDICAL_RECORD_NUMBER, "patient", record.patient.patient_id)],
        "name": [{"use": "official", "family": record.patient.family_name, "given": [record.patient.given_name]}],
        "gender": "female",
        "birthDate": record.patient.birth_date.isoformat(),
        "managingOrganization": _reference(_hospital_id(record, "Organization")),
    }


def _imaging_study(record: ExamRecord) -> Resource:
    return {
        "resourceType": "ImagingStudy",
        "id": _study_id(record, "ImagingStudy"),
        "identifier": [
            {"system": "urn:dicom:uid", "value": f"urn:oid:{record.study_uid}"},
            _identifier(record, _ACCESSION_ID, "accession", record.accession_number),
        ],
        "status": "available",
        "modality": [{"system": DCM, "code": "US", "display": "Ultrasound"}],
        "subject": _reference(_patient_id(record)),
        "started": _started(record),
        "referrer": _reference(_practitioner_id(record, "referring physician", record.referring_physician)),
        "description": "Obstetric ultrasound",
    }


def _dating(record: ExamRecord) -> list[Resource]:
    part_of = {"partOf": [_reference(_study_id(record, "ImagingStudy"))]}
    observations = []
    for code, day in ((_LMP, record.lmp), (_EDD, record.edd)):
        if day is not None:
            observations.append(_observation(record, *code, {**part_of, "valueDateTime": day.isoformat()}))
    for code, age in ((_GESTATIONAL_AGE, record.ga_days), (_GESTATIONAL_AGE_BY_LMP, record.ga_days_by_lmp)):
        if age is not None:
            observations.append(_observation(record, *code, {**part_of, "valueQuantity": _quantity(age, _DAYS)}))
    return observations


def _biometry(record: ExamRecord) -> list[Resource]:
    return [
        _observation(
            record,
            *BIOMETRY_LOINC[name],
            {**_seen_on_images(record), "valueQuantity": _quantity(record.biometry_mm[name], _MILLIMETERS)},
        )
        for name in BIOMETRY
        if name in record.biometry_mm
    ]


def _view(record: ExamRecord, view: View, vocabulary: Vocabulary) -> Resource:
    components = [
        {
            "code": _concept(*_STRUCTURE_SEEN),
            "valueCodeableConcept": _concept(STRUCTURES, structure, vocabulary.structures[structure].name),
        }
        for structure in view.structures_seen
    ]
    return {
        "resourceType": "Observation",
        "id": _study_id(record, f"Observation/view/{view.plane}"),
        **_observed(record, _concept(*_IMAGE_VIEW)),
        **_seen_on_images(record),
        "valueCodeableConcept": _concept(PLANES, view.plane, vocabulary.planes[view.plane].name),
        # FHIR has no empty lists
        **({"component": components} if components else {}),
    }


def _report(record: ExamRecord, observations: list[Resource]) -> Resource:
    results = [_reference(observation["id"]) for observation in observations]
    conclusions = [_conclusion(finding) for finding in record.findings]
    return {
        "resourceType": "DiagnosticReport",
        "id": _study_id(record, "DiagnosticReport"),
        "status": "final",
        "category": [_concept(*_OB_ULTRASOUND)],
        "code": _loinc(*_US_FOR_PREGNANCY),
        "subject": _reference(_patient_id(record)),
        "effectiveDateTime": _started(record),
        "performer": [_reference(_hospital_id(record, "Organization"))],
        **({"result": results} if results else {}),
        "imagingStudy": [_reference(_study_id(record, "ImagingStudy"))],
        **({"conclusionCode": conclusions} if conclusions else {}),
    }


def _observation(record: ExamRecord, code: str, text: str, content: Resource) -> Resource:
    return {
        "resourceType": "Observation",
        "id": _study_id(record, f"Observation/{code}"),
        **_observed(record, _loinc(code, text)),
        **content,
    }


def _observed(record: ExamRecord, code: Resource) -> Resource:
    return {
        "status": "final",
        "code": code,
        "subject": _reference(_patient_id(record)),
        "effectiveDateTime": _started(record),
        "performer": [_reference(_practitioner_id(record, "sonographer", record.sonographer))],
    }


def _seen_on_images(record: ExamRecord) -> Resource:
    return {
        "category": [_concept(*_IMAGING)],
        "derivedFrom": [_reference(_study_id(record, "ImagingStudy"))],
    }


def _conclusion(finding: str) -> Resource:
    return _concept(SNOMED_CT, finding.removeprefix(SNOMED_CT_PREFIX), finding_meaning(finding))


def _concept(system: str, code: str, display: str) -> Resource:
    return {"coding": [{"system": system, "code": code, "display": display}]}


def _loinc(code: str, text: str) -> Resource:
    return {"coding": [{"system": LOINC, "code": code}], "text": text}


def _quantity(value: float, unit: str) -> Resource:
    return {"value": value, "unit": unit, "system": UCUM, "code": unit}


def _identifier(record: ExamRecord, kind: str, of_what: str, value: str) -> Resource:
    return {
        "type": {"coding": [{"system": f"{_TERMINOLOGY}/v2-0203", "code": kind}]},
        "system": f"{OWN}/{quote(record.center.center, safe='')}/{of_what}",
        "value": value,
    }


def _reference(resource_id: str) -> Resource:
    return {"reference": f"urn:uuid:{resource_id}"}


def _started(record: ExamRecord) -> str:
    return record.started.replace(tzinfo=TIME_ZONE).isoformat(timespec="seconds")


def _patient_id(record: ExamRecord) -> str:
    return _hospital_id(record, f"Patient/{record.patient.patient_id}")


def _practitioner_id(record: ExamRecord, role: str, name: tuple[str, str]) -> str:
    return _hospital_id(record, f"Practitioner/{role}/{'^'.join(name)}")


def _hospital_id(record: ExamRecord, path: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{OWN}/{record.center.center}/{path}"))


def _study_id(record: ExamRecord, path: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{OWN}/study/{record.study_uid}/{path}"))
