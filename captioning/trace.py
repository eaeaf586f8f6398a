"""Where a caption's words come from: its facts, their fields, what the records say, and its template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sono.manifests.errors import UserError
from sono.manifests.query import query
from sono.manifests.schemas import CAPTIONS, FRAMES, STATEMENTS
from sono.manifests.workspace import Workspace

from .config import load_section, writer_of
from .facts import from_json
from .packs import packaged

_AGES = ("ga_days", "ga_days_by_edd", "ga_days_by_lmp", "ga_days_by_ultrasound", "edd_day", "lmp_day", "crl_mm")
_SAID_BY: Mapping[str, Sequence[str]] = {
    "ga_days": _AGES,
    "trimester": _AGES,
    "structures": ("structures_seen",),
}
"""Statements that bear on a fact, where they are not of the same name."""


@dataclass(frozen=True)
class Said:
    """One statement of the records; ``value`` is None where it is a date, which is not stored."""

    place: str
    field: str
    fact: str
    value: float | str | None


@dataclass(frozen=True)
class TracedFact:
    """A fact of a caption; ``statements`` are what the records say about it."""

    name: str
    value: object
    source: str
    statements: Sequence[Said]


@dataclass(frozen=True)
class TracedCaption:
    """A caption and everything it was made from; ``template_text`` is None where the template has changed since."""

    caption_id: str
    frame_id: str
    region_id: str | None
    text: str
    template: str
    template_text: str | None
    tokens: int | None
    dropped: Sequence[str]
    facts: Sequence[TracedFact]


def trace(workspace: Workspace, caption_id: str, *, templates: str | None = None) -> TracedCaption:
    """The caption and all it was made from.

    Args:
        templates: the pack that it was written with, where that is neither packaged nor the configuration's.

    Raises:
        UserError: no caption has this id.
    """
    paths = [str(path) for path in workspace.store.paths(CAPTIONS)]
    rows = query(_CAPTION, {"paths": paths, "key": caption_id}).to_pylist() if paths else []
    if not rows:
        raise UserError(
            "no caption has this id",
            where=str(workspace.path),
            fix="take it from the column caption_id of the dataset that was built from this workspace",
        )
    row = rows[0]
    statements = _statements(workspace, row["frame_id"])
    return TracedCaption(
        **{name: row[name] for name in ("caption_id", "frame_id", "region_id", "text", "template", "tokens")},
        template_text=_template_text(workspace, row["template_sha256"], templates),
        dropped=row["dropped"] or (),
        facts=[
            TracedFact(name, fact["value"], fact["source"], _about(name, statements))
            for name, fact in from_json(row["facts"]).items()
        ],
    )


_CAPTION = "SELECT * FROM read_parquet($paths) WHERE caption_id = $key"


def _template_text(workspace: Workspace, sha256: str, templates: str | None) -> str | None:
    section = load_section(workspace)
    for pack in (templates, None, *packaged()):
        for template in writer_of(workspace, section, pack).pack.templates:
            if template.sha256 == sha256:
                return template.text
    return None


def _statements(workspace: Workspace, frame_id: str) -> list[Said]:
    """What the records say about the examination and the plane of a frame."""
    store = workspace.store
    paths = {table.name: [str(path) for path in store.paths(table)] for table in (FRAMES, STATEMENTS)}
    if not paths["statements"]:
        return []
    rows = query(
        """
        WITH frame AS (SELECT * FROM read_parquet($frames) WHERE frame_id = $frame_id)
        SELECT s.place, s.field, s.fact, s.number, s.code
        FROM read_parquet($statements) s JOIN frame f
            ON s.study_key = f.study_key
            OR (s.study_key IS NULL AND s.patient_key = f.patient_key AND (
                s.accession_key = f.accession_key OR s.study_day = f.study_day
                OR (s.accession_key IS NULL AND s.study_day IS NULL)))
        WHERE s.fact <> 'identity' AND (s.plane IS NULL OR s.plane = f.plane)
        ORDER BY s.place, s.fact, s.field, s.code
        """,
        {"frames": paths["frames"], "statements": paths["statements"], "frame_id": frame_id},
    )
    return [
        Said(
            row["place"],
            row["field"],
            row["fact"],
            None if row["fact"].endswith("_day") else row["number"] or row["code"],
        )
        for row in rows.to_pylist()
    ]


def _about(name: str, statements: Sequence[Said]) -> list[Said]:
    facts = _SAID_BY.get(name, (name,))
    return [said for said in statements if said.fact in facts]
