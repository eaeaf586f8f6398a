"""The audit of one part of the archive: its files against their rows of ``frames``, and against the workspace."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sono.curation.images.pixels import ExcludedError, Pixels
from sono.manifests.pseudonyms import Pseudonymizer, without_extension
from sono.manifests.schemas import FRAMES, QC, TableSpec
from sono.manifests.stages import StageOutput
from sono.manifests.store import TableStore, damage_named
from sono.manifests.vocabulary import Vocabulary, vocabulary_sha256
from sono.manifests.withdrawn import PATIENT_COLUMNS, Withdrawn

from .checks.pixel_checks import check_pixels, check_shown_clean, check_text
from .checks.readable_text import Identity, identity_of, reader_versions
from .checks.row_checks import check_row
from .checks.textless import is_known, load_textless, textless_key
from .findings import FINDINGS, Findings
from .sources.header_values import NO_IMAGE, HeaderValues
from .sources.source_file import AuditedFile, SourceFacts, read_source
from .words.hunt import Hunter, load_hunter

_BATCH_ROWS = 8
_UNUSED = {"grey_histogram"}
Row = Mapping[str, Any]


@dataclass(frozen=True)
class AuditStage:
    """From files to what was found about them. Input columns: ``parts.INPUT``."""

    store: TableStore
    keys: Pseudonymizer = field(repr=False)
    vocabulary: Vocabulary
    plane_fields: tuple[str, ...]
    words: Path  # what ``WorkspaceWords.save`` wrote
    allowed: frozenset[str] = field(repr=False)
    textless: Path  # what ``textless.save_textless`` wrote
    withdrawn: Withdrawn = field(repr=False)
    centers: tuple[str, ...]  # whose files the archive may hold

    name = "audit"
    version = 5

    @property
    def output(self) -> TableSpec:
        return FINDINGS

    def config(self) -> Mapping[str, object]:
        return {
            "plane_fields": self.plane_fields,
            "scope": self.keys.patient_scope,
            "vocabulary": vocabulary_sha256(self.vocabulary),
            "readers": reader_versions(),
            "withdrawn": self.keys.content(json.dumps(self.withdrawn.as_json(), sort_keys=True)),
            "centers": self.keys.content(json.dumps(self.centers)),
        }

    def __call__(self, part: pa.Table) -> StageOutput:
        findings = Findings()
        hunter = load_hunter(self.words, self.allowed)
        values: dict[bytes, HeaderValues] = {}
        waiting: dict[str, list[Row]] = {}
        for file in part.to_pylist():
            waiting.setdefault(file["source_key"], []).append(file)
        for name in sorted({name for files in waiting.values() for file in files for name in file["frames_parts"]}):
            verdicts = self._verdicts(name)
            for source_key, rows in groupby(self._rows(name), key=lambda row: row["source_key"]):
                if source_key in waiting:
                    read = [(file, read_source(file, self.plane_fields)) for file in waiting[source_key]]
                    values.update((file["path"], source.values) for file, source in read)
                    self._audit_frames(*_with_frames(read), rows, verdicts, findings)
        for files in waiting.values():
            for file in files:
                if file["path"] in values:
                    _hunt_file(file, values[file["path"]], hunter, findings)
                else:
                    source = read_source(file, self.plane_fields)
                    _hunt_file(file, source.values, hunter, findings)
                    self._count_without_frames(file, source, findings)
        return StageOutput(findings.table(), [])

    def _count_without_frames(self, file: Row, source: AuditedFile, findings: Findings) -> None:
        """A file without frames has nothing that could be retained."""
        if source.values.unread == NO_IMAGE:
            findings.empty("tag_retained", NO_IMAGE, "archive")
        elif file["left_out"] or file["frames_left_out"]:
            findings.empty("tag_retained", "the_file_was_left_out", "archive")
        elif self._has_withdrawn(source.facts):
            findings.empty("tag_retained", "the_patient_has_withdrawn", "archive")
        else:
            findings.failed("tag_retained", "the_file_is_not_in_the_workspace", "archive")

    def _has_withdrawn(self, facts: SourceFacts | None) -> bool:
        """Whether a file may be of a patient who took back consent: which center's it is, not every file says."""
        if facts is None or not facts.patient_id:
            return False
        of = (self.keys.patient_keys(facts.patient_id, issuer=facts.issuer or "", center=c) for c in self.centers)
        return any(self.withdrawn.names(dict(zip(PATIENT_COLUMNS, keys, strict=True))) for keys in of)

    def _rows(self, name: str) -> Iterator[dict[str, Any]]:
        """The rows of a part of ``frames``, a few at a time."""
        path = self.store.path(FRAMES, name)
        with damage_named(path), pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            columns = [column for column in file.schema_arrow.names if column not in _UNUSED]
            for batch in file.iter_batches(_BATCH_ROWS, columns=columns):
                yield from batch.to_pylist()

    def _verdicts(self, name: str) -> Mapping[str, str]:
        """Of quality control, by frame; of a part that it has not seen none."""
        if not self.store.path(QC, name).exists():
            return {}
        rows = self.store.read(QC, name, ["frame_id", "verdict"]).to_pylist()
        return {row["frame_id"]: row["verdict"] for row in rows}

    def _audit_frames(
        self,
        file: Row,
        source: AuditedFile,
        rows: Iterator[dict[str, Any]],
        verdicts: Mapping[str, str],
        findings: Findings,
    ) -> None:
        """The frames of one source, in the order of their indices."""
        frames = enumerate(source.frames())
        digest = self.keys.file(source.content)
        plain = _plain_digests(source)
        said = identity_of(_with_path_and_metadata(file, source.values), self.allowed)
        seen: set[int] = set()
        index, pixels = -1, None
        for row in rows:
            with findings.about(row["frame_id"]):
                if source.facts is None:
                    findings.failed("pixels_retained", "the_source_cannot_be_read")
                    continue
                findings.judge("pixels_retained", "the_source_has_changed", row["source_digest"] == digest)
                stored = {value for value in row.values() if isinstance(value, str)}
                findings.judge("uid_changed", "a_plain_digest_of_the_source", plain.isdisjoint(stored))
                check_row(row, source.facts, self.keys, self.vocabulary, findings)
                if self.withdrawn.names(row):
                    findings.failed("text_removed", "a_patient_who_has_withdrawn")
                seen.add(row["frame_index"])
                while index < row["frame_index"] and (following := next(frames, None)) is not None:
                    index, pixels = following
                if index != row["frame_index"] or pixels is None or isinstance(pixels, ExcludedError):
                    findings.failed("pixels_retained", "no_such_frame_in_the_source")
                    continue
                self._check_image(row, pixels, said, verdicts.get(row["frame_id"]), findings)
        if source.facts is not None and not file["left_out"]:
            lost = set(range(source.facts.frame_count)) - seen - set(file["frames_left_out"])
            if lost:
                findings.failed("tag_retained", "frames_neither_stored_nor_left_out", checks=len(lost))

    def _check_image(self, row: Row, source: Pixels, said: Identity, verdict: str | None, findings: Findings) -> None:
        """The image of a row; one in which an earlier audit found nothing to read is not read again."""
        check_shown_clean(row, verdict, findings)
        stored = check_pixels(row, source, self.keys, findings)
        if stored is None:
            return
        key = textless_key(row, self.keys)
        if is_known(key, load_textless(self.textless)):
            findings.passed("pixels_hidden")
        elif not check_text(row, stored, said, verdict, findings):
            return
        findings.textless(key)


def _with_frames(read: list[tuple[Row, AuditedFile]]) -> tuple[Row, AuditedFile]:
    """The file that has the frames: a text beside an image may have the same path but for the extension."""
    return next((found for found in read if found[1].facts is not None), read[0])


def _plain_digests(source: AuditedFile) -> set[str]:
    """Digests of a file, and of its identifiers, that can be made without the key: who knows those finds its frames."""
    facts = source.facts
    said = (facts.patient_id, facts.study_id, facts.series_id, facts.accession) if facts else ()
    contents = [source.content, *(text.strip().encode() for text in said if text)]
    made = {
        hashlib.new(name, content, usedforsecurity=False).hexdigest()
        for name in ("md5", "sha1", "sha256")
        for content in contents
    }
    return made | {digest[:32] for digest in made}


def hunt(values: HeaderValues, hunter: Hunter, findings: Findings) -> None:
    """Look for everything that a file says in everything that the workspace says."""
    for name, text in values.texts:
        found = hunter.find(text)
        if found.empty:
            findings.empty("text_removed", found.empty, "archive")
        else:
            _count("text_removed", name, found.places, findings)
    for uid in values.uids:
        _count("uid_changed", "a_uid_of_the_source", hunter.find_uid(uid), findings)
    for date in values.dates:
        _count("date_shifted", "a_date_of_the_source", hunter.find_date(date), findings)


def _hunt_file(file: Row, values: HeaderValues, hunter: Hunter, findings: Findings) -> None:
    said = _with_path_and_metadata(file, values)
    if not values.texts:
        findings.empty("text_removed", values.unread or "the_file_has_no_text", "archive")
    if not values.uids:
        findings.empty("uid_changed", values.unread or "the_file_has_no_uid", "archive")
    if not said.dates:
        findings.empty("date_shifted", values.unread or "the_file_has_no_date", "archive")
    hunt(said, hunter, findings)


def _with_path_and_metadata(file: Row, values: HeaderValues) -> HeaderValues:
    """What a file says, and what its path and its row of the metadata say about it."""
    path = without_extension(os.fsdecode(file["relative"]))
    named = [("path", " ".join(path.split("/"))), *values.texts]
    named += [(f"metadata_{column}", file[column]) for column in ("patient_id", "issuer", "study_id") if file[column]]
    dates = values.dates | ({file["date"]} if file["date"] else set())
    return HeaderValues(named, values.uids, dates)


def _count(action: str, reason: str, places: frozenset[str], findings: Findings) -> None:
    for place in places:
        findings.failed(action, reason, place)
    if not places:
        findings.passed(action, "archive")
