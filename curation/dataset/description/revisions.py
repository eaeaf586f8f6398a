"""CHANGELOG.md of a dataset: what each revision has more, less or otherwise than the one before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sono.curation.dataset.description.card.content import Content
from sono.curation.dataset.shards.configurations import METADATA
from sono.curation.dataset.store import DatasetStore
from sono.manifests.filenames import MARKER
from sono.manifests.query import query
from sono.manifests.store import write_atomically

CHANGELOG = "CHANGELOG.md"

_PREVIOUS = ".previous.json"
_HEADING = "## Revision "


@dataclass(frozen=True)
class _Difference:
    added: int
    removed: int
    changed: int
    patients_removed: int


def keep_previous(store: DatasetStore) -> None:
    """Remember what a complete dataset holds before it is written anew; a killed run leaves it for the next."""
    if (store.root / MARKER).exists():
        content = json.dumps(_frames(store)).encode()
        write_atomically(store.root / _PREVIOUS, lambda file: file.write(content))


def write_changelog(store: DatasetStore, content: Content, fingerprint: str) -> None:
    """Add a revision, unless it is the one that is listed last."""
    path = store.root / CHANGELOG
    text = path.read_text(encoding="utf-8") if path.exists() else "# Revisions\n"
    last = text.rpartition(_HEADING)[2]
    if f"({fingerprint[:12]})" not in last:
        number = text.count(_HEADING) + 1
        entry = f"\n{_HEADING}{number} ({fingerprint[:12]})\n\n{_described(store, content, number)}\n"
        write_atomically(path, lambda file: file.write((text + entry).encode()))
    (store.root / _PREVIOUS).unlink(missing_ok=True)


def _described(store: DatasetStore, content: Content, number: int) -> str:
    regions = sum(each.regions for each in content.structures)
    total = f"{content.total.frames:,} frames of {content.total.patients:,} patients, with {regions:,} regions."
    try:
        previous = json.loads((store.root / _PREVIOUS).read_bytes())
    except FileNotFoundError:
        return total
    found = _difference(previous, _frames(store))
    gone = f" {found.patients_removed:,} patients have left." if found.patients_removed else ""
    return (
        f"{total}\n\nSince revision {number - 1}: {found.added:,} frames added, {found.removed:,} removed, and "
        f"{found.changed:,} whose captions, regions or facts have changed.{gone}"
    )


def _difference(before: Mapping[str, list[str]], now: Mapping[str, list[str]]) -> _Difference:
    """Of frames, each with its patient and a digest."""
    patients_before, patients_now = ({patient for patient, _ in frames.values()} for frames in (before, now))
    return _Difference(
        added=len(now.keys() - before.keys()),
        removed=len(before.keys() - now.keys()),
        changed=sum(before[key] != now[key] for key in before.keys() & now.keys()),
        patients_removed=len(patients_before - patients_now),
    )


def _frames(store: DatasetStore) -> dict[str, list[str]]:
    """By frame its patient and a digest of everything that the dataset says about it."""
    rows = query(
        "SELECT frame_id, patient_key, md5(to_json(m)::VARCHAR) AS digest FROM read_parquet($paths) m "
        "ORDER BY frame_id",
        {"paths": [str(path) for path in store.files(METADATA)]},
    )
    return {row["frame_id"]: [row["patient_key"], row["digest"]] for row in rows.to_pylist()}
