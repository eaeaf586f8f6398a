"""CHANGELOG.md of a dataset: what each revision has more, less or otherwise than the one before."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow.parquet as pq

from sono.curation.dataset.description.card.content import Content
from sono.curation.dataset.shards.configurations import METADATA
from sono.curation.dataset.store import DatasetStore
from sono.manifests.filenames import MARKER
from sono.manifests.query import connect
from sono.manifests.store import atomic_file, write_atomically

CHANGELOG = "CHANGELOG.md"

_PREVIOUS = ".previous.parquet"
_HEADING = "## Revision "
_MEMORY = "256MB"  # of DuckDB; beyond it frames are on disk
_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class _Difference:
    added: int
    removed: int
    changed: int
    patients_removed: int


def keep_previous(store: DatasetStore) -> None:
    """Remember what a complete dataset holds before it is written anew; a killed run leaves it for the next.

    Of one whose every shard is damaged, nothing is known.
    """
    paths = _paths(store)
    if (store.root / MARKER).exists() and paths:
        with connect(_MEMORY) as database, atomic_file(store.root / _PREVIOUS) as file:
            found = database.sql(_FRAMES, params={"paths": paths})
            assert found is not None, "a statement that gives no rows"
            frames = found.to_arrow_reader(_ROWS_AT_ONCE)
            with pq.ParquetWriter(file, frames.schema) as writer:
                for batch in frames:
                    writer.write_batch(batch)


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
    if not (store.root / _PREVIOUS).exists():
        return total
    found = _difference(store)
    gone = f" {found.patients_removed:,} patients have left." if found.patients_removed else ""
    return (
        f"{total}\n\nSince revision {number - 1}: {found.added:,} frames added, {found.removed:,} removed, and "
        f"{found.changed:,} whose captions, regions or facts have changed.{gone}"
    )


_FRAMES = "SELECT frame_id, patient_key, md5(to_json(m)::VARCHAR) AS digest FROM read_parquet($paths) m"
"""By frame its patient and a digest of everything that the dataset says about it."""

_DIFFERENCE = f"""
WITH now AS ({_FRAMES}), before AS (FROM read_parquet($previous))
SELECT (SELECT count(*) FROM now ANTI JOIN before USING (frame_id)),
       (SELECT count(*) FROM before ANTI JOIN now USING (frame_id)),
       (SELECT count(*) FROM now JOIN before b USING (frame_id)
        WHERE (now.patient_key, now.digest) IS DISTINCT FROM (b.patient_key, b.digest)),
       (SELECT count(DISTINCT patient_key) FROM before ANTI JOIN now USING (patient_key))
"""


def _difference(store: DatasetStore) -> _Difference:
    with connect(_MEMORY) as database:
        values = {"paths": _paths(store), "previous": str(store.root / _PREVIOUS)}
        added, removed, changed, patients = database.execute(_DIFFERENCE, values).fetchall()[0]
    return _Difference(added, removed, changed, patients)


def _paths(store: DatasetStore) -> list[str]:
    return [str(path) for path in store.files(METADATA)]
