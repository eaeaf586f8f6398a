"""Stops a run that would remove most of a folder's frames.

Then ``--metadata`` or ``--patient-regex`` was forgotten, or the folder is not what it was. What is up to date is not
looked at.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from sono.manifests import pydicom_warnings
from sono.manifests.errors import UserError
from sono.manifests.query import query
from sono.manifests.schemas import FRAMES
from sono.manifests.stages import fingerprint
from sono.manifests.store import TableStore

from .config import IngestSection
from .parts import FolderPlan

_HEADERS_MOST = 100  # a sample is enough to tell whether headers name the patients

GONE, NO_PATIENT, NOT_IN_METADATA = "gone", "patient_unknown", "not_in_metadata"


@dataclass(frozen=True)
class Losses:
    """Frames of a folder, of which a run would remove some; ``reasons`` counts those."""

    frames: int
    reasons: Mapping[str, int]

    @property
    def lost(self) -> int:
        return sum(self.reasons.values())


def check_losses(store: TableStore, plan: FolderPlan, folder: Path) -> None:
    """Check that a run keeps at least half of the frames that the workspace has of ``folder``.

    Raises:
        UserError: it does not; the text has the counts.
    """
    losses = count_losses(store, plan)
    if 2 * losses.lost <= losses.frames:
        return
    reasons = "; ".join(_TEXTS.get(reason, f"{{:,}} {reason}").format(rows) for reason, rows in losses.reasons.items())
    raise UserError(
        f"{losses.lost:,} of {losses.frames:,} frames of this folder would be removed: {reasons}",
        where=str(folder),
        fix="name the metadata or the expression again, check the folder, or remove them with --force",
    )


_TEXTS = {
    GONE: "the files of {:,} are not there",
    NO_PATIENT: "nothing names the patient of {:,} (are --metadata or --patient-regex missing?)",
    NOT_IN_METADATA: "the metadata has no row for {:,}",
}


def count_losses(store: TableStore, plan: FolderPlan) -> Losses:
    """What a run of ``plan`` would remove, as far as can be told without decoding pixels."""
    present = {name: info for name, info in store.parts(FRAMES).items() if info.scope == plan.scope}
    wanted = {part.name: fingerprint(plan.stage, part) for part in plan.parts}
    stale = [name for name, info in present.items() if wanted.get(name) != info.fingerprint]
    frames = sum(info.rows for info in present.values())
    if 2 * sum(present[name].rows for name in stale) <= frames:
        return Losses(frames, {})  # even if all of them were lost, most frames stay
    rows = query(
        "SELECT source_key, count(*) AS frames FROM read_parquet($paths) GROUP BY source_key",
        {"paths": [str(store.path(FRAMES, name)) for name in stale]},
    ).to_pylist()
    known: dict[str, int] = {row["source_key"]: row["frames"] for row in rows}
    todo = (part for part in plan.parts if part.name not in present or part.name in stale)
    files = [row for part in todo for row in part.load().to_pylist() if row["source_key"] in known]
    lost: Counter[str] = Counter()
    for source_key in known.keys() - plan.source_keys:
        lost[GONE] += known[source_key]
    for row in files:
        if row["problem"]:
            lost[row["problem"]] += known[row["source_key"]]
    nameless = [row for row in files if not row["problem"] and row["patient_key"] is None]
    lost[NO_PATIENT] += _without_patient(nameless, known, plan.stage.section)
    return Losses(frames, {reason: rows for reason, rows in lost.items() if rows})


def _without_patient(files: Sequence[Mapping[str, object]], known: Mapping[str, int], section: IngestSection) -> int:
    """How many frames are of files whose headers name no patient; from a sample, if there are many files."""
    sample = files[:: max(1, len(files) // _HEADERS_MOST)]
    without = sum(
        known[str(row["source_key"])]
        for row in sample
        if not _names_patient(Path(os.fsdecode(cast(bytes, row["path"]))), section)
    )
    seen = sum(known[str(row["source_key"])] for row in sample)
    total = sum(known[str(row["source_key"])] for row in files)
    return round(total * without / seen) if seen else 0


def _names_patient(path: Path, section: IngestSection) -> bool:
    import pydicom

    tags: Iterable[str] = ["PatientID", *(["StudyInstanceUID"] if section.missing_patient == "study" else [])]
    with pydicom_warnings.silenced():
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(tags), force=True)
            return any(str(header.get(tag) or "").strip() for tag in tags)
        except Exception:  # noqa: BLE001 - pydicom raises whatever a damaged element makes it stumble over
            return False
