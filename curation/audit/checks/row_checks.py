"""One row of ``frames``, but for its pixels, held against what its source says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sono.curation.audit.findings import Findings
from sono.curation.audit.sources.source_file import SourceFacts
from sono.curation.ingest.scanners import manufacturer_name, model_name
from sono.manifests.pseudonyms import CENTER, Pseudonymizer
from sono.manifests.vocabulary import Vocabulary


def check_row(
    row: Mapping[str, Any], facts: SourceFacts, keys: Pseudonymizer, vocabulary: Vocabulary, findings: Findings
) -> None:
    """Count what holds of a row, and note which keys stand for the source's patient, study and series."""
    _check_numbers(row, facts, findings)
    _check_present(row, facts, findings)
    _check_names(row, facts, keys, vocabulary, findings)
    _check_date(row, facts, keys, findings)
    _note_keys(row, facts, keys, findings)


def _check_numbers(row: Mapping[str, Any], facts: SourceFacts, findings: Findings) -> None:
    """Sizes, counts, times and spacings."""
    size = (row["source_height"], row["source_width"])
    findings.judge("tag_retained", "another_source_size", size == (facts.rows, facts.columns))
    findings.judge("tag_retained", "another_frame_count", row["frame_count"] == facts.frame_count)
    index = row["frame_index"]
    inside = 0 <= index < facts.frame_count
    findings.judge("tag_retained", "frame_index_outside_the_source", inside)
    time = facts.times_ms[index] if inside else None
    _check_number("frame_time_ms", row["frame_time_ms"], time, findings)
    width, height = facts.pixel_mm or (None, None)
    _check_number("pixel_mm_x", row["pixel_mm_x"], width, findings)
    _check_number("pixel_mm_y", row["pixel_mm_y"], height, findings)


def _check_number(column: str, stored: float | None, said: float | None, findings: Findings) -> None:
    if said is None and stored is None:
        findings.empty("tag_retained", f"the_source_has_no_{column}")
    else:
        equal = said is not None and stored is not None and math.isclose(stored, said, rel_tol=1e-9, abs_tol=1e-12)
        findings.judge("tag_retained", f"another_{column}", equal)


def _check_present(row: Mapping[str, Any], facts: SourceFacts, findings: Findings) -> None:
    """What the source says is not lost: it is there as a key, a name or a day."""
    said = {
        "patient_center_key": facts.patient_id,
        "patient_number_key": facts.patient_id,
        "series_key": facts.series_id,
        "accession_key": facts.accession,
        "study_day": facts.study_date,
        "manufacturer": facts.manufacturer,
        "model": facts.model,
    }
    for column, value in said.items():
        if value is None:
            findings.empty("text_not_null", f"the_source_has_no_{column}")
        else:
            findings.judge("text_not_null", f"{column}_is_empty", row[column] not in (None, ""))


def _check_names(
    row: Mapping[str, Any], facts: SourceFacts, keys: Pseudonymizer, vocabulary: Vocabulary, findings: Findings
) -> None:
    """Scanners by the list, planes by the vocabulary."""
    expected = {
        "manufacturer": manufacturer_name(facts.manufacturer, keys),
        "model": model_name(facts.model, keys),
        "plane": facts.plane or next(filter(None, map(vocabulary.find_plane, facts.plane_texts)), None),
    }
    for column, name in expected.items():
        if name is None and row[column] is None:
            findings.empty("text_retained", f"the_source_has_no_{column}")
        else:
            findings.judge("text_retained", f"another_{column}", row[column] == name)


def _check_date(row: Mapping[str, Any], facts: SourceFacts, keys: Pseudonymizer, findings: Findings) -> None:
    """The day is the one of the patient's own calendar; that a calendar keeps intervals is judged over all its days."""
    if facts.study_date is None:
        if row["study_day"] is None:
            findings.empty("date_shifted", "the_source_has_no_date")
        else:
            findings.failed("date_shifted", "a_day_without_a_date")
        return
    if row["study_day"] is None:
        return  # counted as empty text
    number = keys.patient("", facts.patient_id) if facts.patient_id else row["patient_key"]
    findings.judge("date_shifted", "not_the_patients_calendar", row["study_day"] == keys.day(number, facts.study_date))
    moved = row["study_day"] - facts.study_date.toordinal()
    # Keyed: who knows by how much a calendar is moved can read its dates.
    findings.pair("date_shifted", "study_day", _hashed(keys, "calendar", number), _hashed(keys, "moved", str(moved)))


def _note_keys(row: Mapping[str, Any], facts: SourceFacts, keys: Pseudonymizer, findings: Findings) -> None:
    """Pairs of what the source says and the key that stands for it."""
    patient = _patient(row, facts, keys)
    _pair("patient_id_consistent", "patient_key", patient, row["patient_key"], keys, findings)
    _pair("patient_id_consistent", "patient_number_key", facts.patient_id, row["patient_number_key"], keys, findings)
    study = facts.study_id or (patient and f"only study of {patient}")
    for column, value in (("study_key", study), ("series_key", facts.series_id), ("accession_key", facts.accession)):
        _pair("uid_consistent", column, value, row[column], keys, findings)


def _pair(
    action: str, column: str, said: str | None, stored: str | None, keys: Pseudonymizer, findings: Findings
) -> None:
    """What the source says and the key that stands for it; a key that is missing is counted as empty text."""
    if said is not None:
        if stored:
            findings.pair(action, column, _hashed(keys, column, said), stored)
    elif stored and column not in ("patient_key", "study_key"):  # which every frame has
        findings.failed(action, f"{column}_stands_for_nothing_in_the_source")
    else:
        findings.empty(action, f"the_source_has_nothing_for_{column}")


def _patient(row: Mapping[str, Any], facts: SourceFacts, keys: Pseudonymizer) -> str | None:
    """The patient's number, and where it counts: with its issuer, else in its center, or everywhere."""
    if facts.patient_id is None:
        return None
    if keys.patient_scope != CENTER:
        return facts.patient_id
    issuer = _folded(facts.issuer or "").removeprefix("urn:oid:")
    owner = f"issuer {issuer}" if issuer else f"center {_folded(row['center'] or '')}"
    return f"{owner}\0{facts.patient_id}"


def _folded(name: str) -> str:
    return " ".join(name.split()).casefold()


def _hashed(keys: Pseudonymizer, kind: str, value: str) -> str:
    return keys.content(f"audit {kind}\0{value}")
