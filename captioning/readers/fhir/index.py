"""What references in FHIR records lead to, noted in pseudonyms, so that a bulk export is read file by file.

A store holds short texts under keyed hashes of what a resource may be referred to by: of a patient the pseudonym and
hashes of names, of a study its pseudonyms and its day, of an observation the report or panel that lists it, and where
more than one fetus was examined. Two resources that claim one reference leave a note that neither can be told.
"""

from __future__ import annotations

import datetime
import os
import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

from sono.captioning.facts.statements import FaultError, Reading, identity_statements
from sono.captioning.readers.codes import SECOND_FETUS
from sono.manifests.pseudonyms import Pseudonymizer

from .elements import (
    FINAL,
    REPORTED,
    STUDY_HOLDS,
    Json,
    as_object,
    as_objects,
    as_text,
    effective_date,
    identifier_values,
    is_typed,
    names_of,
    past_date,
)
from .observations import fetus_of, is_obstetric, is_several

KINDS = ("Patient", "ImagingStudy", "DiagnosticReport", "Observation")
"""Types of resources that are noted."""

ANY = ""
"""Stands for every examination, where fetuses are noted."""

_UNCLEAR = ""  # two resources claim one reference
SEVERAL = _UNCLEAR
"""Noted of fetuses where there may be more than one: also where two of them are named."""

_NONE = "-"
_PATIENT, _STUDY, _UP, _FETUS = "P", "S", "U", "F"  # first words of the store's values
_TARGET = re.compile(r"(?:.*/)?([A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class Store(Protocol):
    """Where notes are kept: an ``Index``, or a bundle's own."""

    def put(self, key: str, value: str) -> None: ...

    def get(self, key: str) -> str | None: ...


class Index:
    """What references in a bulk export lead to, in an SQLite file: keyed hashes and pseudonymous days, nothing else.

    One process writes; when it has flushed, any number of processes may read. It travels between processes as its path.
    The file is made by the first ``flush`` that has something to write; without it nothing is found.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: list[tuple[str, str]] = []
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, bool] | None = None  # by which process, for writing

    def __getstate__(self) -> dict[str, Any]:
        self.flush()
        return {"_path": self._path, "_waiting": [], "_connection": None, "_opened": None}

    def __del__(self) -> None:
        self.close()

    def put(self, key: str, value: str) -> None:
        self._waiting.append((key, value))
        if len(self._waiting) >= 20_000:
            self.flush()

    def get(self, key: str) -> str | None:
        self.flush()
        connection = self._open(write=False)
        row = connection.execute("SELECT value FROM known WHERE key = ?", (key,)).fetchone() if connection else None
        return None if row is None else str(row[0])

    def flush(self) -> None:
        if not self._waiting:
            return
        connection = self._open(write=True)
        assert connection is not None
        with connection:
            connection.executemany(
                "INSERT INTO known VALUES (?, ?) ON CONFLICT (key) "
                "DO UPDATE SET value = merged(value, excluded.value) WHERE value <> excluded.value",
                self._waiting,
            )
        self._waiting.clear()

    def close(self) -> None:
        # a connection that came over a fork belongs to the other process
        if self._connection is not None and self._opened is not None and self._opened[0] == os.getpid():
            self._connection.close()
        self._connection = None

    def _open(self, *, write: bool) -> sqlite3.Connection | None:
        if self._connection is not None and self._opened in ((os.getpid(), True), (os.getpid(), write)):
            return self._connection
        self.close()
        if not write and not self._path.exists():
            return None
        options = "mode=rwc" if write else "mode=ro&immutable=1"
        self._connection = sqlite3.connect(f"file:{quote(str(self._path))}?{options}", uri=True)
        self._opened = os.getpid(), write
        if write:
            # It is made anew from the export whenever it is needed, so a crash may damage it.
            self._connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS known (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
            )
            self._connection.create_function("merged", 2, _merged, deterministic=True)
        return self._connection


class Local:
    """What a bundle holds itself, before an index."""

    def __init__(self, index: Store) -> None:
        self._index = index
        self._known: dict[str, str] = {}

    def put(self, key: str, value: str) -> None:
        self._known[key] = _merged(self._known.get(key, value), value)

    def get(self, key: str) -> str | None:
        return self._known[key] if key in self._known else self._index.get(key)


class Study(NamedTuple):
    """What an ImagingStudy says about itself. ``day`` on the calendar of ``calendar``, a key of its own."""

    study_key: str | None
    accession_key: str | None
    day: int | None
    calendar: str


def _merged(old: str, new: str) -> str:
    if old == new:
        return old
    kind, key, *words = old.split() or (_UNCLEAR, _UNCLEAR)
    if kind == _PATIENT and new.split()[:2] == [kind, key]:
        return " ".join((kind, key, *sorted({*words, *new.split()[2:]})))
    return _UNCLEAR


class Notes:
    """Notes resources in a store, under hashes of what they may be referred to by."""

    def __init__(self, reading: Reading, store: Store) -> None:
        self._reading, self._keys, self._store = reading, reading.keys, store

    def note(self, resource: Json, full_url: str = "") -> None:
        kind = as_text(resource.get("resourceType"))
        names = own_references(resource, full_url, self._keys) if kind in KINDS else []
        if kind == "Patient":
            value = _patient_value(resource, self._reading)
            for key in (*names, *_identifier_references(as_objects(resource.get("identifier")), self._keys)):
                self._store.put(key, value)
        elif kind == "ImagingStudy" and as_text(resource.get("status")) in STUDY_HOLDS:
            for key in names:
                self._store.put(key, _study_value(resource, key, self._keys))
        elif kind == "DiagnosticReport" and as_text(resource.get("status")) in REPORTED:
            self._results(resource)
        elif kind == "Observation" and as_text(resource.get("status")) in FINAL:
            self._members(resource, names)
            self._fetuses(resource)

    def _results(self, report: Json) -> None:
        studies = self._studies(report, "imagingStudy")
        date = effective_date(report)
        if studies or is_obstetric(report):
            for key in _references(report.get("result"), "Observation", self._keys):
                if studies:
                    up = f"{_UP} {studies[0]} {_NONE}" if len(studies) == 1 else _UNCLEAR
                else:
                    up = f"{_UP} {_NONE} {self._keys.day(key, date) if date else _NONE}"
                self._store.put(key, up)

    def _members(self, panel: Json, names: Sequence[str]) -> None:
        above = self._studies(panel, "derivedFrom", "partOf") or names[:1]
        for key in _references(panel.get("hasMember"), "Observation", self._keys):
            self._store.put(key, f"{_UP} {above[0]} {_NONE}" if len(above) == 1 else _UNCLEAR)

    def _fetuses(self, observation: Json) -> None:
        for part in (observation, *as_objects(observation.get("component"))):
            name = fetus_of(part)
            if not name and not is_several(part):
                continue
            several = not name or SECOND_FETUS.fullmatch(name)
            note = SEVERAL if several else f"{_FETUS} {self._keys.content(f'fetus {name}')}"
            self._store.put(fetus_key(ANY, None, self._keys), _FETUS)
            for key in self._studies(observation, "derivedFrom", "partOf"):
                self._store.put(fetus_key(key, None, self._keys), note)
            for key in subject_references(observation, self._keys):
                self._store.put(fetus_key(key, effective_date(observation), self._keys), note)

    def _studies(self, resource: Json, *fields: str) -> list[str]:
        """Keys of the studies that it refers to; those that the references themselves identify are noted."""
        found = study_references(resource, fields, self._keys)
        for key, study in found.items():
            if study is not None:
                self._store.put(key, f"{_STUDY} {study.study_key or _NONE} {study.accession_key or _NONE} {_NONE}")
        return list(found)


def patient_of(value: str) -> tuple[str | None, list[str]]:
    """What is noted of a patient: the pseudonym, None where it is not clear, and hashes of names and identifiers."""
    _, key, *words = value.split() or (_UNCLEAR, _NONE)
    return None if key == _NONE else key, words


def study_of(value: str, key: str) -> Study:
    """What is noted under ``key``.

    Raises:
        FaultError: several claim it.
    """
    if not value.startswith(_STUDY):
        raise unclear_study()
    _, study_key, accession_key, day = (None if part == _NONE else part for part in value.split())
    return Study(study_key, accession_key, None if day is None else int(day), key)


def unclear_study() -> FaultError:
    return FaultError("study_unclear", "it may be about more than one imaging study")


def link_of(value: str) -> tuple[str | None, int | None] | None:
    """Of what lists an observation: the key under which it is noted, or else its day. None where it is no such note."""
    if not value.startswith(_UP):
        return None
    _, above, day = value.split()
    return None if above == _NONE else above, None if day == _NONE else int(day)


def _patient_value(patient: Json, reading: Reading) -> str:
    texts = [*names_of(patient), *identifier_values(patient)]
    words = [str(statement.value) for statement in identity_statements(reading.keys, texts, "")]
    return " ".join((_PATIENT, patient_key_of(as_objects(patient.get("identifier")), reading) or _NONE, *sorted(words)))


def patient_key_of(identifiers: Sequence[Json], reading: Reading) -> str | None:
    """By the identifier of the system that the images' PatientID is of, or else typed MR, or else the only one."""
    current = [item for item in identifiers if as_text(item.get("value")) and as_text(item.get("use")) != "old"]
    if reading.patient_system is not None:
        current = [item for item in current if as_text(item.get("system")) == reading.patient_system]
    else:
        current = [item for item in current if is_typed(item, "MR")] or current
    values = {as_text(item.get("value")) for item in current}
    return reading.keys.patient(values.pop()) if len(values) == 1 else None


def _study_value(study: Json, key: str, keys: Pseudonymizer) -> str:
    found = identified_study(as_objects(study.get("identifier")), keys)
    date = past_date(study.get("started"))
    parts = (found and found.study_key, found and found.accession_key, keys.day(key, date) if date else None)
    return " ".join((_STUDY, *(_NONE if part is None else str(part) for part in parts)))


def identified_study(identifiers: Sequence[Json], keys: Pseudonymizer) -> Study | None:
    uids, accessions = set(), set()
    for item in identifiers:
        value = as_text(item.get("value"))
        if as_text(item.get("system")) == "urn:dicom:uid" and (uid := value.removeprefix("urn:oid:")):
            uids.add(uid)
        elif value and is_typed(item, "ACSN"):
            accessions.add(value)
    if len(uids) > 1 or len(accessions) > 1 or not (uids or accessions):
        return None
    return Study(
        keys.study(uids.pop()) if uids else None, keys.accession(accessions.pop()) if accessions else None, None, ""
    )


def own_references(resource: Json, full_url: str, keys: Pseudonymizer) -> list[str]:
    kind = as_text(resource["resourceType"])
    texts = [f"{kind}/{as_text(resource.get('id'))}", full_url]
    found = [_reference({"reference": text}, kind, keys) for text in texts]
    return list(dict.fromkeys(key for key in found if key))


def _references(value: object, kind: str, keys: Pseudonymizer) -> list[str]:
    found = [_reference(item, kind, keys) for item in as_objects(value)]
    return list(dict.fromkeys(key for key in found if key))


def _reference(reference: Json, kind: str, keys: Pseudonymizer) -> str | None:
    """The key of a reference to a resource of ``kind``: Patient/1, https://.../Patient/1, urn:uuid:.... Else None."""
    text = as_text(reference.get("reference"))
    found = _TARGET.fullmatch(text)
    if found and found[1] != kind:
        return None
    identifier = found[2] if found else text.removeprefix("urn:uuid:") if text.startswith("urn:uuid:") else ""
    if not identifier:
        return None
    # RFC 4122 lets a UUID's letters be of either case; other ids are told apart by it
    return keys.content(f"{kind}/{identifier.lower() if _UUID.fullmatch(identifier) else identifier}")


def study_references(resource: Json, fields: Sequence[str], keys: Pseudonymizer) -> dict[str, Study | None]:
    """Keys of the studies that it refers to, with what the references themselves say about them."""
    found: dict[str, Study | None] = {}
    for reference in (item for field in fields for item in as_objects(resource.get(field))):
        if key := _reference(reference, "ImagingStudy", keys):
            found[key] = None
        elif (study := identified_study([as_object(reference.get("identifier"))], keys)) is not None:
            key = keys.content(f"study {study.study_key} {study.accession_key}")
            found[key] = study._replace(calendar=key)
    return found


def subject_references(resource: Json, keys: Pseudonymizer) -> list[str]:
    subject = as_object(resource.get("subject"))
    key = _reference(subject, "Patient", keys)
    return [*([key] if key else []), *_identifier_references([as_object(subject.get("identifier"))], keys)]


def _identifier_references(identifiers: Sequence[Json], keys: Pseudonymizer) -> list[str]:
    pairs = [(as_text(item.get("system")), as_text(item.get("value"))) for item in identifiers]
    return [keys.content(f"identifier {system} {value}") for system, value in pairs if system and value]


def fetus_key(key: str, date: datetime.date | None, keys: Pseudonymizer) -> str:
    """The key under which fetuses are noted, of a study or of a subject and a date."""
    return keys.content(f"fetuses {key} {date}")
