"""Which frames and regions a segmenter learns from, and how many regions it does not, by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sono.curation.qc.current_tables import refuse_interrupted, refuse_missing, refuse_outdated_verdicts
from sono.manifests.errors import UserError
from sono.manifests.query import query
from sono.manifests.schemas import FRAMES, PREDICTED_SOURCES, QC, REGIONS
from sono.manifests.workspace import Workspace

REASONS: Mapping[str, str] = {
    "not_accepted": "nobody has accepted the mask, or somebody rejected it",
    "unreviewed_prediction": "a program made the mask, and no person has accepted it",
    "frame_missing": "the mask's frame is not in the workspace any more",
    "frame_not_accepted": "quality control does not accept the frame",
    "pixels_changed": "the frame's pixels have changed since the mask was drawn",
    "empty_mask": "the mask is empty",
    "other_reading": "another mask of the structure in this frame is newer, or was edited",
    "other_center": "the frame comes from another center",
    "other_structure": "the structure was not asked for",
    "too_few_patients": "the structure is outlined in one patient only, so it cannot be validated",
}
"""Why a region is not learned from."""


@dataclass(frozen=True)
class Example:
    """A frame that has regions to learn from. Groups join patients who may be one person or share an image.

    Attributes:
        regions: by structure, the id and the part of the region to learn from.
        doubtful: structures with regions that nobody has accepted: whether they are in the frame is not known.
    """

    frame_id: str
    frame_path: str
    plane: str | None
    patient_key: str
    patient_center_key: str | None
    duplicate_group: str | None
    regions: Mapping[str, tuple[str, str]]
    doubtful: frozenset[str]


@dataclass(frozen=True)
class Selection:
    """What there is to learn from, in the order of frame ids, and how many regions are left out, by reason."""

    examples: Sequence[Example]
    left_out: Mapping[str, int]


def select_examples(workspace: Workspace, structures: Collection[str] = (), centers: Collection[str] = ()) -> Selection:
    """The frames that quality control accepts and that have masks which a person drew, edited or accepted.

    A program's mask counts once a person has decided on it: a model must not learn from what a model said. Of several
    masks of one structure in a frame, an edited one counts before others, and a newer decision before an older one.

    Args:
        structures: ids of the structures to learn; all that occur, if empty.
        centers: the centers whose frames to learn from; all, if empty.

    Raises:
        UserError: there are no frames, regions or verdicts, or nothing is left to learn from.
    """
    refuse_missing(workspace, ((FRAMES, "ingest"), (QC, "qc"), (REGIONS, "masks import")))
    refuse_interrupted(workspace, ((FRAMES, "ingest"), (REGIONS, "masks import")))
    refuse_outdated_verdicts(workspace)
    found = query(_REGIONS, _parameters(workspace)).to_pylist()
    reasons = [_reason(row, structures, centers) for row in found]
    left_out = Counter(reason for reason in reasons if reason)
    chosen: dict[str, list[dict[str, Any]]] = {}
    doubtful: dict[str, set[str]] = {}
    for row, reason in zip(found, reasons, strict=True):
        if reason is None:
            chosen.setdefault(row["frame_id"], []).append(row)
        elif reason not in ("other_center", "frame_missing", "frame_not_accepted"):
            doubtful.setdefault(row["frame_id"], set()).add(row["structure"])
    examples = [_example(rows, doubtful.get(frame_id, set())) for frame_id, rows in sorted(chosen.items())]
    if not examples:
        told = ", ".join(f"{reason} {count:,}" for reason, count in sorted(left_out.items()))
        raise UserError(
            f"no region to learn from{f' (left out: {told})' if told else ''}",
            where=str(workspace.path),
            fix="import masks, or accept proposed ones, and run qc",
        )
    return Selection(examples, dict(sorted(left_out.items())))


_REGIONS = """
SELECT r.region_id, r.frame_id, r.structure, r.status, r.source, r.area_px, r.filename AS region_path,
    r.reviewer IS NOT NULL OR r.status = 'edited' OR NOT list_contains($predicted, r.source) AS by_person,
    f.filename AS frame_path, f.plane, f.center, f.patient_key, f.patient_center_key,
    r.pixel_digest = f.pixel_digest AS current, q.verdict, q.duplicate_group,
    row_number() OVER (
        PARTITION BY r.frame_id, r.structure, r.status IN ('accepted', 'edited'), by_person, current, r.area_px > 0
        ORDER BY r.status = 'edited' DESC, r.updated_at DESC NULLS LAST, r.source, r.region_id
    ) AS reading
FROM read_parquet($regions, filename = true) r
LEFT JOIN read_parquet($frames, filename = true) f ON f.frame_id = r.frame_id
LEFT JOIN read_parquet($qc, filename = true) q
    ON q.frame_id = f.frame_id AND parse_filename(q.filename) = parse_filename(f.filename)
ORDER BY r.frame_id, r.structure, reading, r.region_id
"""


def _parameters(workspace: Workspace) -> dict[str, object]:
    tables = {"regions": REGIONS, "frames": FRAMES, "qc": QC}
    paths = {name: [str(path) for path in workspace.store.paths(table)] for name, table in tables.items()}
    return {**paths, "predicted": list(PREDICTED_SOURCES)}


def _reason(row: Mapping[str, Any], structures: Collection[str], centers: Collection[str]) -> str | None:
    """Why a region is not learned from: one of ``REASONS``, or None."""
    checks = {
        "frame_missing": row["frame_path"] is None,
        "other_center": bool(centers) and row["center"] not in centers,
        "frame_not_accepted": row["verdict"] != "accept",
        "other_structure": bool(structures) and row["structure"] not in structures,
        "not_accepted": row["status"] not in ("accepted", "edited"),
        "unreviewed_prediction": not row["by_person"],
        "pixels_changed": not row["current"],
        "empty_mask": row["area_px"] == 0,
        "other_reading": row["reading"] > 1,
    }
    return next((reason for reason, applies in checks.items() if applies), None)


def _example(rows: Sequence[Mapping[str, Any]], doubtful: Collection[str]) -> Example:
    first = rows[0]
    regions = {row["structure"]: (row["region_id"], row["region_path"]) for row in rows}
    return Example(
        frame_id=first["frame_id"],
        frame_path=first["frame_path"],
        plane=first["plane"],
        patient_key=first["patient_key"],
        patient_center_key=first["patient_center_key"],
        duplicate_group=first["duplicate_group"],
        regions=regions,
        doubtful=frozenset(doubtful) - regions.keys(),
    )
