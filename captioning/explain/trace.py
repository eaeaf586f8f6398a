"""Where a caption comes from: its facts, their fields, what the records say about them, and its template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sono.captioning.captions.config import load_section, writer_of
from sono.captioning.exams.database import captions_database
from sono.captioning.exams.linkage import SAYS_THE_SAME, link
from sono.captioning.facts.facts import from_json
from sono.captioning.sentences.packs import packaged
from sono.manifests.dataset_keys import known_keys
from sono.manifests.errors import UserError
from sono.manifests.query import query
from sono.manifests.schemas import CAPTIONS, STATEMENTS
from sono.manifests.workspace import Workspace

_AGES = (
    *("ga_days", "edd_day", "ga_days_by_edd", "lmp_day", "ga_days_by_lmp", "crl_mm", "ga_days_by_ultrasound"),
    *("hc_mm", "bpd_mm", "ac_mm", "fl_mm"),
)
_STATED_AS: Mapping[str, Sequence[str]] = {
    "ga_days": _AGES,
    "trimester": _AGES,
    "structures": ("structures_seen",),
}
"""The statements that bear on a fact, if their names differ from its own."""


@dataclass(frozen=True)
class TracedStatement:
    """One statement of the records.

    Attributes:
        value: None for a date, which is not stored.
        elsewhere: it is about another examination of the patient.
    """

    place: str
    field: str
    fact: str
    value: float | str | None
    elsewhere: bool = False


@dataclass(frozen=True)
class TracedFact:
    """A fact of a caption; ``statements`` are what the records say about it."""

    name: str
    value: object
    source: str
    statements: Sequence[TracedStatement]


@dataclass(frozen=True)
class TracedCaption:
    """A caption and everything it was made from; ``template_text`` is None if the template has changed since."""

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
    """The caption and everything it was made from.

    Args:
        templates: the pack it was written with, if that is neither packaged nor the configuration's.

    Raises:
        UserError: no caption has this id, or the pack ``templates`` cannot be used.
    """
    caption = _caption(workspace, caption_id)
    statements = _statements(workspace, caption["frame_id"])
    return TracedCaption(
        caption_id=caption["caption_id"],
        frame_id=caption["frame_id"],
        region_id=caption["region_id"],
        text=caption["text"],
        template=caption["template"],
        template_text=_template_text(workspace, caption["template_sha256"], templates),
        tokens=caption["tokens"],
        dropped=caption["dropped"] or (),
        facts=[
            TracedFact(name, fact["value"], fact["source"], _about(name, fact["source"], statements))
            for name, fact in from_json(caption["facts"]).items()
        ],
    )


def _caption(workspace: Workspace, caption_id: str) -> dict[str, Any]:
    """The caption's row.

    Raises:
        UserError: no caption has this id.
    """
    paths = [str(path) for path in workspace.store.paths(CAPTIONS)]
    rows = query(_CAPTION, {"paths": paths, "key": caption_id}).to_pylist() if paths else []
    if not rows and (key := _workspace_key(workspace, caption_id)):
        rows = query(_CAPTION, {"paths": paths, "key": key}).to_pylist()
    if not rows:
        raise UserError(
            "no caption has this id",
            where=str(workspace.path),
            fix="take it from the column caption_id of a dataset that was built from this workspace",
        )
    row: dict[str, Any] = rows[0]
    return row


def _workspace_key(workspace: Workspace, caption_id: str) -> str | None:
    """The workspace's key of a caption whose key in a dataset this is: a dataset's keys can only be derived."""
    datasets = [keys for _, keys in known_keys(workspace)]
    for part in workspace.store.parts(CAPTIONS):  # one at a time: there are millions
        for key in workspace.store.read(CAPTIONS, part, ["caption_id"])["caption_id"].to_pylist():
            if any(keys.derive("caption", key) == caption_id for keys in datasets):
                return str(key)
    return None


_CAPTION = "SELECT * FROM read_parquet($paths) WHERE caption_id = $key"


def _statements(workspace: Workspace, frame_id: str) -> list[TracedStatement]:
    """What the records say about the frame's examination and plane, and about the pregnancy's days elsewhere."""
    store = workspace.store
    if not store.paths(STATEMENTS):
        return []
    with captions_database(store) as database:
        frames = database.execute("SELECT patient_key, study_key, plane FROM frames WHERE frame_id = ?", [frame_id])
        subjects = frames.fetchall()
        if not subjects:
            return []
        link(database, store, workspace.keys)
        subject = dict(zip(("patient", "study", "plane"), subjects[0], strict=True))
        rows = database.sql(_STATEMENTS_ABOUT, params=subject).to_arrow_table().to_pylist()
    return [
        TracedStatement(
            place=row["place"],
            field=row["field"],
            fact=row["fact"],
            value=None if row["fact"].endswith("_day") else row["number"] or row["code"],
            elsewhere=row["elsewhere"],
        )
        for row in rows
    ]


_STATEMENTS_ABOUT = f"""
WITH found AS (
    SELECT s.place, s.field, s.fact, s.number, s.code, s.plane, r.patient_key,
        r.exam_key = $study AND r.reason IS NULL AS here
    FROM statements s JOIN resolved r ON {SAYS_THE_SAME}
    WHERE s.fact <> 'identity' AND (r.patient_key = $patient OR r.exam_key = $study)
)
SELECT place, field, fact, number, code, NOT coalesce(here, false) AS elsewhere FROM found
WHERE (here AND (plane IS NULL OR plane = $plane OR fact NOT IN ('structures_seen', 'laterality')))
    OR (patient_key = $patient AND fact IN ('edd_day', 'lmp_day', 'crl_mm'))
ORDER BY place, fact, field, code
"""


def _template_text(workspace: Workspace, sha256: str, templates: str | None) -> str | None:
    """The template with this digest, from the given pack, the configuration's or a packaged one."""
    section = load_section(workspace)
    for choice in (templates, None, *packaged()):
        try:
            pack = writer_of(workspace, section, choice).pack
        except UserError:
            if choice is not None:
                raise
            continue  # the configuration's pack may be gone, and the caption written with another
        for template in pack.templates:
            if template.sha256 == sha256:
                return template.text
    return None


def _about(name: str, source: str, statements: Sequence[TracedStatement]) -> list[TracedStatement]:
    """The statements that bear on a fact; those about other examinations only if the fact comes from there."""
    facts = _STATED_AS.get(name, (name,))
    found = [
        statement
        for statement in statements
        if statement.fact in facts and (not statement.elsewhere or "examination" in source)
    ]
    return sorted(found, key=lambda statement: facts.index(statement.fact))
