"""Keyed pseudonyms: HMAC-SHA256 under the workspace's key, truncated to 128 bits, hex.

The same identifier gives the same pseudonym under the same key, and cannot be recovered without the key: identifiers
are short and guessable, so a plain hash would not do.
"""

from __future__ import annotations

import datetime
import hmac
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from .errors import UserError

_KEY_BYTES = 32
_CALENDAR_DAYS = 36_525  # a century: a day on a patient's calendar says nothing about the date
_FIRST_DAY = datetime.date(1900, 1, 1).toordinal()


CENTER, GLOBAL = "center", "global"
"""Scopes of patients' numbers: one number is one patient in a center (or of an issuer), or everywhere."""


class PatientKeys(NamedTuple):
    """The pseudonyms of a patient, from the strictest to the widest.

    Attributes:
        patient: by the issuer of the number, else by the center, else by the number alone.
        center: by the center where it is known, else by the number alone.
        number: by the number alone; the patient's calendar belongs to it.
    """

    patient: str
    center: str
    number: str


@dataclass(frozen=True)
class Pseudonymizer:
    """Turns identifiers into pseudonyms. No representation of the object shows the key.

    ``patient_scope``: ``CENTER`` or ``GLOBAL``.
    """

    key: bytes = field(repr=False)
    patient_scope: str = field(default=CENTER, repr=False)

    def patient(self, namespace: str, patient_id: str) -> str:
        """Of a patient's number; two namespaces' numbers are two patients. The empty one stands for any."""
        return self._digest("patient", f"{namespace}\0{_required(patient_id)}" if namespace else patient_id.strip())

    def patient_keys(self, patient_id: str, *, issuer: str = "", center: str = "") -> PatientKeys:
        """Of a patient whose number's issuer and center are known, or are not (empty)."""
        number = self.patient("", patient_id)
        if self.patient_scope == GLOBAL:
            return PatientKeys(number, number, number)
        by_center = self.patient(f"center {_folded(center)}", patient_id) if center.strip() else number
        issuer = _folded(issuer).removeprefix("urn:oid:")
        return PatientKeys(self.patient(f"issuer {issuer}", patient_id) if issuer else by_center, by_center, number)

    def study(self, study_id: str) -> str:
        return self._digest("study", study_id.strip())

    def only_study(self, patient_key: str) -> str:
        """The study of a patient without named studies: it holds all of the patient's frames and records."""
        return self._digest("study of patient", patient_key)

    def patient_of_study(self, study_key: str) -> str:
        """Stands for the patient of a study whose files name none."""
        return self._digest("patient of study", study_key)

    def accession(self, accession_number: str) -> str:
        return self._digest("accession", accession_number.strip())

    def day(self, calendar: str, date: datetime.date) -> int:
        """A date as a day on a calendar of its own, which is shifted by a secret number of days.

        Intervals between the days of one calendar are kept; without the key nothing else can be read from them.

        Args:
            calendar: a patient's is ``PatientKeys.number``, which every record of the patient knows.
        """
        moved = int.from_bytes(bytes.fromhex(self._digest("calendar", calendar))) % _CALENDAR_DAYS
        return date.toordinal() - _FIRST_DAY + moved

    def word(self, text: str) -> str:
        """Of one word of a name or identifier: captions are searched for these words, which they must not contain."""
        return self._digest("word", text.strip().casefold())

    def series(self, series_id: str) -> str:
        return self._digest("series", series_id.strip())

    def source(self, relative_path: str) -> str:
        """Of a file's path relative to the ingested folder, without the last extension."""
        return self._digest("source", without_extension(relative_path))

    def name(self, relative_path: str) -> str:
        """Of a file's bare name, without folders and the last extension."""
        return self._digest("name", PurePosixPath(without_extension(relative_path)).name)

    def frame(self, source_key: str, frame_index: int) -> str:
        return self._digest("frame", f"{source_key}/{frame_index}")

    def region(self, frame_id: str, structure: str, source: str) -> str:
        return self._digest("region", f"{frame_id}/{structure}/{source}")

    def folder(self, path: str) -> str:
        """Of an ingested folder: distinguishes two archives without storing their names."""
        return self._digest("folder", path)

    def check(self) -> str:
        """Tells this key from others without revealing it."""
        return self._digest("check", "workspace key")

    def content(self, text: str) -> str:
        """Of text that decides a part's content; keyed, so that a fingerprint reveals nothing."""
        return self._digest("content", text)

    def file(self, content: bytes) -> str:
        """Of a file's bytes: a plain hash would let anybody who has the file find the frames that come from it."""
        return self._bytes_digest("file", content)

    def pixels(self, shape: tuple[int, ...], values: bytes | memoryview) -> str:
        """Of an image: equal for equal images, however they were compressed."""
        return self._bytes_digest(f"pixels {shape}", values)

    def _bytes_digest(self, kind: str, content: bytes | memoryview) -> str:
        digest = hmac.new(self.key, f"{kind}\0".encode(), "sha256")
        digest.update(content)
        return digest.digest()[:16].hex()

    def _digest(self, kind: str, value: str) -> str:
        if not value:
            raise ValueError(f"an empty {kind} identifier has no pseudonym")
        return hmac.digest(self.key, _encoded(f"{kind}\0{value}"), "sha256")[:16].hex()


def _encoded(text: str) -> bytes:
    """UTF-8. File names that are not UTF-8 get their own bytes back; other lone surrogates, as JSON may hold, pass."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _required(patient_id: str) -> str:
    if not patient_id.strip():
        raise ValueError("an empty patient identifier has no pseudonym")
    return patient_id.strip()


def _folded(namespace: str) -> str:
    """In one spelling: two modalities of a hospital may write its name differently."""
    return " ".join(namespace.split()).casefold()


def without_extension(relative_path: str) -> str:
    """The path in POSIX form without its last extension: ``a/b.c.dcm`` gives ``a/b.c``.

    An extension has a letter: DICOM files are often named by their UID alone, whose last number tells them apart.
    """
    path = PurePosixPath(relative_path.replace(os.sep, "/"))
    if not path.name:
        return ""
    stem, _, extension = path.name.rpartition(".")
    has_extension = stem.strip(".") and any(character.isalpha() for character in extension)
    return (path.with_name(stem) if has_extension else path).as_posix()


def create_key(path: Path) -> Pseudonymizer:
    """Create the key file, readable by its owner only.

    Raises:
        UserError: a key exists; overwriting it would separate every frame from its patient.
    """
    key = secrets.token_bytes(_KEY_BYTES)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UserError("a key already exists", where=str(path), fix="keep it: every pseudonym depends on it") from None
    with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123 - a descriptor, not a path
        file.write(key.hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
    return Pseudonymizer(key)


def load_key(path: Path, patient_scope: str = CENTER) -> Pseudonymizer:
    """Read the key file.

    Raises:
        UserError: it is missing, readable by others, or not a key.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise UserError(
            "the workspace's key is missing",
            where=str(path),
            fix="restore it from your backup; a new key would give every patient a new pseudonym",
        ) from None
    except UnicodeDecodeError:
        text = ""
    if mode & 0o077:
        raise UserError(
            f"other users can read the key (mode {mode:04o})", where=str(path), fix=f"run: chmod 600 {path}"
        )
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise UserError("not a workspace key", where=str(path), fix="restore it from your backup")
    return Pseudonymizer(key, patient_scope)
