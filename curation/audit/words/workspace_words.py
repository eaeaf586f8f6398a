"""Everything in a workspace that could be somebody's: the text in its tables and files that no rule explains.

Pseudonyms of the right form, short numbers and the program's own words are explained. In a clean workspace little is
left, so what headers say can be searched for in all of it.
"""

from __future__ import annotations

import contextlib
import html
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from sono.curation.audit.findings import Findings
from sono.manifests.decided_rows import SUBJECTS
from sono.manifests.journal import open_journal
from sono.manifests.journal_file import FILE
from sono.manifests.journal_file import FOLDER as REVIEW
from sono.manifests.projection import APPLIED
from sono.manifests.schemas import TABLES, TableSpec
from sono.manifests.store import TableStore, damage_named, part_name
from sono.manifests.withdrawn import PROOFS

from .allowed_words import normalized, pieces_of, words_of
from .binary_files import strings_of, text_in

FOLDER = "audit"
"""What the audit itself writes into a workspace."""

MOST_PIECES = 100_000
"""More than that is no table of a clean workspace: the audit fails without remembering it all."""

_KEY = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEYS = {"source_digest", "pixel_digest", "duplicate_group", "identity"}  # besides columns that end in _key or _id
_DIGEST = re.compile(r"(?<![0-9a-z])(?:[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64})(?![0-9a-z])")
_ABBREVIATED = re.compile(r"[0-9a-f]{8,31}")  # pages show how a key begins
_EXPLAINED = re.compile(r"(model|manufacturer)-[0-9a-f]{8}|[-+]?\d{1,4}(\.\d+)?(e[-+]?\d+)?%?")
_DATA_URL = re.compile(r"data:[\w/+.-]+;base64,[\w+/=]+")
_WRITTEN = re.compile(
    r'<time class="written">\d{4}-\d\d-\d\d(?: \d\d:\d\d)?</time>'
)  # when a page was made: nobody's date
_WITHDRAWN_AT = re.compile(r'"at": "\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"')  # of a proof: nobody's date either
_OUTLINE = re.compile(r'\sd="[a-zA-Z\d\s.,+-]*"')  # drawn on a page
_TAG_NAME = re.compile(r"</?[a-zA-Z][a-zA-Z\d]*")
_PAGES = "reports"
_SHORT_NUMBER = 4  # digits, as in _EXPLAINED
_BATCH_ROWS = 4096
_NOT_SEARCHED = {"mask", "reviewer"}  # whoever decides says so themselves, and no dataset has it
_CELL_MOST = 64  # characters of a value that is compared as a whole
_CHUNK_BYTES = 1 << 22
_PASSED_OVER = {"secret.key", "key-check", ".lock", "reports/audit.html"}  # the key's, and the audit's own page


@dataclass
class WorkspaceWords:
    """Unexplained pieces of text, normalized, and entire values of text columns, each with the places it is in.

    A place is a table's column, ``file names``, or the name of a report; none of them is a person's.
    """

    pieces: dict[str, set[str]] = field(default_factory=dict)
    cells: dict[str, set[str]] = field(default_factory=dict)
    overfull: set[str] = field(default_factory=set)  # places with more text than is remembered

    def add_text(self, text: str, place: str, allowed: frozenset[str]) -> None:
        for piece in pieces_of(normalized(text)):
            if not _EXPLAINED.fullmatch(piece) and not _all_allowed(piece, allowed):
                self._remember(self.pieces, piece, place)

    def add_cell(self, text: str, place: str, allowed: frozenset[str]) -> None:
        value = normalized(text).strip()
        said = [piece for piece in pieces_of(value) if not piece.isdigit()]
        explained = _KEY.fullmatch(value) or (said and all(_all_allowed(piece, allowed) for piece in said))
        if value and len(value) <= _CELL_MOST and not explained:
            self._remember(self.cells, value, place)

    def merge(self, other: WorkspaceWords) -> None:
        for mine, theirs in ((self.pieces, other.pieces), (self.cells, other.cells)):
            for value, places in theirs.items():
                for place in places:
                    self._remember(mine, value, place)
        self.overfull |= other.overfull

    def abbreviated(self) -> frozenset[str]:
        """Pieces on pages that may be how a key begins: only the tables tell."""
        return frozenset(
            piece for piece, places in self.pieces.items() if _PAGES in places and _ABBREVIATED.fullmatch(piece)
        )

    def explain(self, keys: Iterable[str]) -> None:
        """Forget the pieces on pages that are how a key begins."""
        for piece in keys:
            places = self.pieces.get(piece, set())
            places.discard(_PAGES)
            if not places:
                self.pieces.pop(piece, None)

    def save(self, path: Path) -> None:
        content = [
            {value: sorted(places) for value, places in sorted(known.items())} for known in (self.pieces, self.cells)
        ]
        path.write_text(json.dumps(content), encoding="utf-8", errors="surrogatepass")

    def _remember(self, known: dict[str, set[str]], value: str, place: str) -> None:
        if value in known or len(known) < MOST_PIECES:
            known.setdefault(value, set()).add(place)
        else:
            self.overfull.add(place)


class ScannedPart(NamedTuple):
    """One part of a table: its words, and what is wrong with its keys and required columns.

    Attributes:
        abbreviated: those that ``PartScan.abbreviated`` says of which one of its keys begins so.
    """

    words: WorkspaceWords
    abbreviated: frozenset[str]
    findings: pa.Table


@dataclass(frozen=True)
class PartScan:
    """Reads one part of a table, as ``table_parts`` names it, for the audit; runs in a worker.

    Attributes:
        abbreviated: what may be how a key begins.
    """

    allowed: frozenset[str] = field(repr=False)
    abbreviated: frozenset[str] = field(repr=False)

    def __call__(self, place: tuple[str, str]) -> ScannedPart:
        table, path = TABLES[place[0]], Path(place[1])
        words, findings, begun = WorkspaceWords(), Findings(), set[str]()
        words.add_text(part_name(path), "file names", self.allowed)
        with damage_named(path), pq.ParquetFile(path) as file:
            for text in _metadata(file, table):
                words.add_text(text, f"{table.name} metadata", self.allowed)
            judged = {"image"}.intersection(table.schema.names)  # with its pixels
            columns = [column for column in file.schema_arrow.names if column not in judged]
            for name in (name for name in table.schema.names if name not in file.schema_arrow.names):
                findings.failed("text_not_null", f"{name}_is_missing", table.name, max(file.metadata.num_rows, 1))
            for batch in file.iter_batches(_BATCH_ROWS, columns=columns):
                begun |= self._scan(table, batch, words, findings)
        return ScannedPart(words, frozenset(begun), findings.table())

    def _scan(self, table: TableSpec, batch: pa.RecordBatch, words: WorkspaceWords, findings: Findings) -> set[str]:
        """Add the words of a batch, and what is wrong with it.

        Returns:
            Which of ``abbreviated`` are how one of its keys begins.
        """
        begun: set[str] = set()
        for name in (name for name in batch.schema.names if name not in _NOT_SEARCHED):
            known = name in table.schema.names
            column = name if known else "another_column"  # whose name may be anything
            if not known:
                findings.failed("text_removed", "a_column_that_no_table_has", table.name, batch.num_rows)
            elif batch.column(name).type != table.schema.field(name).type:
                findings.failed("text_removed", "a_column_of_another_type", table.name, batch.num_rows)
            elif not table.schema.field(name).nullable:
                _count_empty(batch.column(name), (table.name, name), findings)
            for values in strings_of(batch.column(name)):
                keys = [
                    value for value in values if _is_key(name) and (_KEY.fullmatch(value) or _SHA256.fullmatch(value))
                ]
                begun |= {value[:size] for size in self._sizes for value in keys} & self.abbreviated
                if keys:
                    findings.passed("uid_changed", table.name, len(keys))
                others = set(values).difference(keys)
                if others and _is_key(name):
                    findings.failed("uid_changed", f"{column}_is_no_pseudonym", table.name, len(others))
                for value in others:
                    words.add_text(value, f"{table.name}.{column}", self.allowed)
                    words.add_cell(value, f"{table.name}.{column}", self.allowed)
        return begun

    @cached_property
    def _sizes(self) -> set[int]:
        return set(map(len, self.abbreviated))


def _metadata(file: pq.ParquetFile, table: TableSpec) -> Iterator[str]:
    """What a part says about itself, and columns that no table has."""
    for key, value in (file.schema_arrow.metadata or {}).items():
        if key != b"ARROW:schema":
            yield f"{key.decode(errors='replace')} {value.decode(errors='replace')}"
    yield from (name for name in file.schema_arrow.names if name not in table.schema.names)


def table_parts(store: TableStore) -> list[tuple[str, str]]:
    """The parts of all tables, and what is kept of them beside the journal of decisions: table and path."""
    beside = [(name, path) for name in SUBJECTS for path in sorted((store.root / REVIEW / name).glob("part-*.parquet"))]
    parts = [(table.name, path) for table in TABLES.values() for path in store.paths(table)]
    return [(name, str(path)) for name, path in [*parts, *beside]]


def scan_files(workspace: Path, allowed: frozenset[str]) -> WorkspaceWords:
    """The words of every file that is not a part of a table, and of all names of files."""
    words = WorkspaceWords()
    parts = {Path(path) for _, path in table_parts(TableStore(workspace))}
    journal = open_journal(workspace)
    if journal is not None:
        with contextlib.closing(journal):
            for text in journal.words():
                words.add_text(text, "journal of decisions", allowed)
    for path in sorted(workspace.rglob("*")):
        relative = path.relative_to(workspace)
        if relative.as_posix() in _PASSED_OVER or _is_of_journal(relative) or relative.parts[0] == FOLDER:
            continue
        for part in relative.parts:
            words.add_text(part.removesuffix(".parquet").removeprefix("part-"), "file names", allowed)
        if path.is_file() and path not in parts:
            for text in _readable(path):
                words.add_text(text, _shown(relative), allowed)
    return words


def _is_of_journal(relative: Path) -> bool:
    """The journal is asked for its words: as bytes, the times of decisions would be somebody's dates."""
    return relative.parts[0] == REVIEW and (relative.name.startswith(FILE) or relative.name == APPLIED)


def _all_allowed(piece: str, allowed: frozenset[str]) -> bool:
    """A few digits among the program's words say nothing; more may be a date."""
    if piece in allowed:
        return True
    words = words_of(_DIGEST.sub("", piece))
    digits = sum(len(word) for word in words if word.isdigit())
    return digits <= _SHORT_NUMBER and all(word in allowed for word in words if not word.isdigit())


def _is_key(column: str) -> bool:
    return column.endswith(("_key", "_id", "_sha256")) or column in _KEYS


def _count_empty(column: pa.Array, place: tuple[str, str], findings: Findings) -> None:
    """A required column: its nulls, and its strings without a character."""
    table, name = place
    empty = column.null_count
    if pa.types.is_string(column.type):
        empty += sum(value == "" for value in column.to_pylist())
    if empty:
        findings.failed("text_not_null", f"{name}_is_empty", table, empty)
    if len(column) > empty:
        findings.passed("text_not_null", table, len(column) - empty)


def _readable(path: Path) -> Iterator[str]:
    """A file's text, in pieces of bounded size; of a page all but its pictures, outlines and names of tags."""
    if path.suffix == ".html":
        text = path.read_text(encoding="utf-8", errors="replace")
        for unseen in (_DATA_URL, _WRITTEN, _OUTLINE, _TAG_NAME):
            text = unseen.sub(" ", text)
        yield html.unescape(text)
        return
    if path.parent.name == PROOFS:
        yield _WITHDRAWN_AT.sub(" ", path.read_text(encoding="utf-8", errors="replace"))
        return
    if (texts := text_in(path)) is not None:
        yield from texts
        return
    rest = ""
    with path.open("rb") as file:
        while content := file.read(_CHUNK_BYTES):
            text = rest + content.decode("utf-8", errors="replace")
            rest = text[-_CELL_MOST:]  # so that no word is cut in two
            yield text


def _shown(relative: Path) -> str:
    """A file's place; only the program's own names are shown."""
    known = {"sono.toml", "format.json", ".dataset", ".gitignore", "language_model.sqlite"}
    if relative.parts[0] == _PAGES and relative.suffix == ".html":
        return _PAGES
    return relative.name if relative.as_posix() in known else "other files"
