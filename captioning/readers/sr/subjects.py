"""The subject of a structured report: the examination, and whether there is only one fetus."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence

from sono.captioning.facts.statements import Exam, Fault
from sono.captioning.readers.codes import SECOND_FETUS
from sono.manifests.pseudonyms import Pseudonymizer

from . import codes
from .content import Document, Item

_SEVERAL_FETUSES = Fault("several_fetuses", "more than one fetus was examined, and images do not say which they show")
FETUSES_UNCLEAR = "fetuses_unclear"
_FETUSES_UNCLEAR = Fault(FETUSES_UNCLEAR, "how many fetuses were examined is not clear")


def exam_of(document: Document, keys: Pseudonymizer, faults: list[Fault]) -> Exam:
    """The examination, in pseudonyms.

    Args:
        faults: gets what is wrong with its date, which is left out then.
    """
    patient = keys.patient_keys(document.patient_id, issuer=document.issuer)
    study_key = keys.study(document.study_uid) if document.study_uid else None
    accession_key = keys.accession(document.accession) if document.accession else None
    day = None
    if document.has_date and document.date is None:
        faults.append(Fault("date_malformed", "its date is none"))
    elif document.date is not None:
        if document.date > datetime.date.today() + datetime.timedelta(days=1):  # clocks in other time zones
            faults.append(Fault("date_impossible", "its date lies in the future"))
        else:
            day = keys.day(patient.number, document.date)
    # a date that is not understood is not one that was never given: no other rule may take its place
    unknown = document.has_date and day is None and study_key is None
    return Exam(patient, study_key, accession_key, day, unknown)


def fetus_fault(items: Sequence[Item]) -> Fault | None:
    """Why nothing may be attributed: there are several fetuses, or may be (TID 1008; PS3.17 I.3)."""
    names: dict[codes.Code, set[str]] = {}
    for item in items:
        if item.kind == "NUM" and item.name.key == codes.NUMBER_OF_FETUSES and (item.text or item.is_qualified):
            count = item.number or 0
            if count != 1:
                return _SEVERAL_FETUSES if count > 1 else _FETUSES_UNCLEAR
        elif item.text and _names_fetus(item):
            names.setdefault(item.name.key, set()).add(re.sub(r"\.0*$", "", item.text).casefold())
    summaries = sum(item.kind == "CONTAINER" and item.name.key == codes.FETUS_SUMMARY for item in items)
    several = any(len(texts) > 1 or any(SECOND_FETUS.fullmatch(text) for text in texts) for texts in names.values())
    return _SEVERAL_FETUSES if several or (summaries > 1 and not names) else None


def _names_fetus(item: Item) -> bool:
    if item.name.key in codes.FETUS_IDS:
        return True
    if item.name.key not in codes.SUBJECT_IDS or item.parent is None:
        return False
    # what the report as a whole is about is the mother, unless it says otherwise (TID 1006)
    subject_class = item.parent.child(codes.SUBJECT_CLASS)
    return subject_class.key == codes.FETUS or (not subject_class.value and item.parent.parent is not None)
