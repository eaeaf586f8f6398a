"""Normalised clinical facts: from a records file's entries to the ``records`` table."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.schemas import BIOMETRY, RECORDS, TableSpec
from sono.manifests.stages import Exclusion, Part, StageOutput

from .dating import Dating, date_examination

ROWS_PER_PART = 5_000


@dataclass(frozen=True)
class Fault:
    """Why an entry is not taken. ``text`` continues "line 7 of records file 1: " and holds no cell's content."""

    reason: str
    text: str


@dataclass(frozen=True)
class Entry:
    """What one line of the records says, pseudonymised; ``source_key`` and ``place`` name the line.

    ``biometry`` is in mm, by the names in ``BIOMETRY``. ``plane`` is None where the facts hold for the whole study.
    """

    source_key: str
    place: str
    patient_key: str = ""
    study_key: str = ""
    plane: str | None = None
    ga_days: int | None = None
    ga_weeks_in_days: int | None = None
    biometry: Mapping[str, float] = field(default_factory=dict)
    structures_seen: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    fault: Fault | None = None

    @property
    def dated(self) -> bool:
        return _date(self.ga_days, self.ga_weeks_in_days, self.biometry.get("hc_mm")) is not None

    def facts(self) -> tuple[object, ...]:
        """Everything the line says, for comparing it with another line about the same study and plane."""
        biometry = tuple(sorted(self.biometry.items()))
        ages = (self.ga_days, self.ga_weeks_in_days)
        return (self.patient_key, *ages, biometry, self.structures_seen, self.findings)


def settle(entries: Sequence[Entry]) -> list[Entry]:
    """The entries with the faults that show only when they are compared: conflicts, repetitions, no age anywhere.

    Two lines for one study and plane that say different things are both excluded, since nothing tells which is right;
    so are all lines of a study that two patients claim.
    """
    patients = defaultdict(set)
    rivals = defaultdict(list)
    for entry in entries:
        if entry.fault is None:
            patients[entry.study_key].add(entry.patient_key)
            rivals[entry.study_key, entry.plane].append(entry)
    dated_studies = {
        study
        for (study, plane), lines in rivals.items()
        if plane is None and lines[0].dated and all(line.facts() == lines[0].facts() for line in lines)
    }
    return [
        entry if entry.fault else _compared(entry, rivals[entry.study_key, entry.plane], patients, dated_studies)
        for entry in entries
    ]


def undated(entries: Sequence[Entry]) -> set[tuple[str, str | None]]:
    """Study and plane of the settled entries that were left out for want of a gestational age."""
    return {
        (entry.study_key, entry.plane)
        for entry in entries
        if entry.fault is not None and entry.fault.reason == _NO_AGE.reason
    }


def record_parts(entries: Sequence[Entry], keys: Pseudonymizer) -> list[Part]:
    """Settled entries as parts of ``ROWS_PER_PART`` rows, each named after its content."""
    parts = []
    for start in range(0, len(entries), ROWS_PER_PART):
        rows = [_as_row(entry) for entry in entries[start : start + ROWS_PER_PART]]
        digest = keys.content(json.dumps([_decisive(row) for row in rows], sort_keys=True))
        table = pa.Table.from_pylist(rows, schema=_ENTRIES)
        parts.append(Part(name=digest[:16], digest=digest, load=functools.partial(_given, table)))
    return parts


@dataclass(frozen=True)
class RecordsStage:
    """Dates every entry and writes it as a row of ``records``; entries with a fault become exclusions."""

    name: str = "records"
    version: int = 1

    @property
    def output(self) -> TableSpec:
        return RECORDS

    def config(self) -> Mapping[str, object]:
        return {}

    def __call__(self, part: pa.Table) -> StageOutput:
        rows = part.to_pylist()
        faulty = [row for row in rows if row["reason"] is not None]
        sound = [_record(row) for row in rows if row["reason"] is None]
        exclusions = [Exclusion(row["source_key"], row["reason"], row["message"]) for row in faulty]
        return StageOutput(RECORDS.from_rows(sound), exclusions)


_NO_AGE = Fault("no_gestational_age", "it gives no gestational age, and none can be computed from it")
_REPEATED = Fault("repeated", "it says the same as an earlier line about the same study and plane")
_CONFLICT = Fault("conflict", "another line about the same study and plane says something else")
_TWO_PATIENTS = Fault("two_patients", "another line names another patient for the same study")


def _compared(
    entry: Entry, rivals: Sequence[Entry], patients: Mapping[str, set[str]], dated_studies: set[str]
) -> Entry:
    if len(patients[entry.study_key]) > 1:
        return dataclasses.replace(entry, fault=_TWO_PATIENTS)
    if any(rival.facts() != entry.facts() for rival in rivals):
        return dataclasses.replace(entry, fault=_CONFLICT)
    if rivals[0] is not entry:
        return dataclasses.replace(entry, fault=_REPEATED)
    if entry.dated:
        return entry
    # A line about one plane may leave the age to the line about its whole study.
    return entry if entry.study_key in dated_studies else dataclasses.replace(entry, fault=_NO_AGE)


_ENTRIES = pa.schema(
    [
        pa.field("source_key", pa.string()),
        pa.field("patient_key", pa.string()),
        pa.field("study_key", pa.string()),
        pa.field("plane", pa.string()),
        pa.field("ga_days", pa.int32()),
        pa.field("ga_weeks_in_days", pa.int32()),
        *(pa.field(name, pa.float64()) for name in BIOMETRY),
        pa.field("structures_seen", pa.list_(pa.string())),
        pa.field("findings", pa.list_(pa.string())),
        pa.field("reason", pa.string()),
        pa.field("message", pa.string()),
    ]
)


def _date(ga_days: int | None, ga_weeks_in_days: int | None, hc_mm: float | None) -> Dating | None:
    return date_examination(ga_days=ga_days, ga_weeks_in_days=ga_weeks_in_days, hc_mm=hc_mm)


def _given(table: pa.Table) -> pa.Table:
    return table


def _as_row(entry: Entry) -> dict[str, object]:
    fault = entry.fault
    return {
        "source_key": entry.source_key,
        "patient_key": entry.patient_key,
        "study_key": entry.study_key,
        "plane": entry.plane,
        "ga_days": entry.ga_days,
        "ga_weeks_in_days": entry.ga_weeks_in_days,
        **{name: entry.biometry.get(name) for name in BIOMETRY},
        "structures_seen": list(entry.structures_seen) or None,
        "findings": list(entry.findings) or None,
        "reason": fault.reason if fault else None,
        "message": f"{entry.place}: {fault.text}" if fault else None,
    }


def _decisive(row: Mapping[str, object]) -> dict[str, object]:
    """What of a row shows in the output. A sound row's key does not, and it changes with any edit of its file."""
    return {name: value for name, value in row.items() if row["reason"] is not None or name != "source_key"}


def _record(row: Mapping[str, Any]) -> dict[str, object]:
    """A row of ``records``; without a gestational age where a line about the whole study gives it."""
    dating = _date(row["ga_days"], row["ga_weeks_in_days"], row["hc_mm"])
    copied = {name: row[name] for name in (*BIOMETRY, "findings", "structures_seen")}
    provenance = {name: f"records.{name}" for name, value in copied.items() if value is not None}
    if dating:
        provenance["ga_days"] = dating.field
    return {
        "study_key": row["study_key"],
        "patient_key": row["patient_key"],
        "plane": row["plane"],
        "ga_days": dating.ga_days if dating else None,
        "ga_source": dating.source if dating else None,
        "ga_formula": dating.formula if dating else None,
        "ga_conflict": dating.conflict if dating else None,
        **copied,
        "provenance": json.dumps(provenance, sort_keys=True),
    }
