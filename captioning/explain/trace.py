"""Where a caption's words come from: its facts, their fields, what the records say, and its template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sono.captioning.captions.config import load_section, writer_of
from sono.captioning.facts.facts import from_json
from sono.captioning.sentences.packs import packaged
from sono.manifests.errors import UserError
from sono.manifests.query import query
from sono.manifests.schemas import CAPTIONS, FRAMES, STATEMENTS
from sono.manifests.workspace import Workspace

_AGES = (
    *("ga_days", "edd_day", "ga_days_by_edd", "lmp_day", "ga_days_by_lmp", "crl_mm", "ga_days_by_ultrasound"),
    *("hc_mm", "bpd_mm", "ac_mm", "fl_mm"),
)
_SAID_BY: Mapping[str, Sequence[str]] = {
    "ga_days": _AGES,
    "trimester": _AGES,
    "structures": ("structures_seen",),
}
"""Statements that bear on a fact, where they are not of the same name."""


@dataclass(frozen=True)
class Said:
    """One statement of the records.

    Attributes:
        value: None where it is a date, which is not stored.
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
            TracedFact(name, fact["value"], fact["source"], _about(name, fact["source"], statements))
            for name, fact in from_json(row["facts"]).items()
        ],
    )


_CAPTION = "SELECT * FROM read_parquet($paths) WHERE caption_id = $key"


def _template_text(workspace: Workspace, sha256: str, templates: str | None) -> str | None:
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


def _statements(workspace: Workspace, frame_id: str) -> list[Said]:
    """What the records say about the examination and the plane of a frame, and about the pregnancy's days elsewhere."""
    store = workspace.store
    paths = {table.name: [str(path) for path in store.paths(table)] for table in (FRAMES, STATEMENTS)}
    if not paths["statements"]:
        return []
    frame = query(_FRAME, {"frames": paths["frames"], "frame_id": frame_id}).to_pylist()
    if not frame:
        return []
    subject = {name: frame[0][name] for name in ("patient_key", "study_key", "plane")}
    unnamed = workspace.keys.only_study(subject["patient_key"])
    return [
        Said(
            row["place"],
            row["field"],
            row["fact"],
            None if row["fact"].endswith("_day") else row["number"] or row["code"],
            row["elsewhere"],
        )
        for row in query(_SAID, {**paths, **subject, "unnamed": unnamed}).to_pylist()
    ]


_FRAME = "SELECT patient_key, study_key, plane FROM read_parquet($frames) WHERE frame_id = $frame_id"

# Which statements are about the study is decided as in ``settle``.
_SAID = """
WITH study AS (SELECT accession_key, study_day FROM read_parquet($frames) WHERE study_key = $study_key
), theirs AS (SELECT study_key, accession_key, study_day FROM read_parquet($frames) WHERE patient_key = $patient_key
), accessions AS (SELECT accession_key FROM read_parquet($frames) WHERE accession_key IS NOT NULL
), counted AS (
    SELECT count(DISTINCT study_key) AS n, count(study_day) AS dated, count(accession_key) AS numbered FROM theirs
), found AS (
    SELECT s.*, coalesce(CASE
        WHEN s.study_key IS NOT NULL THEN s.study_key = $study_key
        WHEN s.accession_key IN (SELECT accession_key FROM study WHERE accession_key IS NOT NULL) THEN true
        WHEN s.accession_key IN (FROM accessions) THEN false
        WHEN s.patient_key <> $patient_key THEN false
        WHEN s.study_day IN (SELECT study_day FROM study WHERE study_day IS NOT NULL) THEN true
        WHEN s.study_day IN (SELECT study_day FROM theirs WHERE study_day IS NOT NULL) THEN false
        WHEN s.accession_key IS NULL AND s.study_day IS NULL AND $study_key = $unnamed THEN true
        ELSE c.n = 1 AND (s.study_day IS NULL OR c.dated = 0) AND (s.accession_key IS NULL OR c.numbered = 0)
        END, false) AS here
    FROM read_parquet($statements) s, counted c
    WHERE s.fact <> 'identity'
        AND (s.patient_key = $patient_key OR s.study_key = $study_key OR s.accession_key IS NOT NULL)
)
SELECT place, field, fact, number, code, NOT here AS elsewhere FROM found
WHERE (here AND (plane IS NULL OR plane = $plane OR fact NOT IN ('structures_seen', 'laterality')))
    OR (patient_key = $patient_key AND fact IN ('edd_day', 'lmp_day', 'crl_mm'))
ORDER BY place, fact, field, code
"""


def _about(name: str, source: str, statements: Sequence[Said]) -> list[Said]:
    """The statements that bear on a fact; those of the patient's other examinations only where it comes from there."""
    facts = _SAID_BY.get(name, (name,))
    mine = [said for said in statements if said.fact in facts and (not said.elsewhere or "examination" in source)]
    return sorted(mine, key=lambda said: facts.index(said.fact))
