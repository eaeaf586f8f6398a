"""An archive that has grown, and a run that is ended before it has removed what it replaces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from sono.manifests.schemas import FRAMES, QC, REGIONS
from sono.manifests.stages import in_process
from sono.manifests.store import TableStore


def interrupted(function: Any, arguments: Sequence[Any]) -> Iterator[Any]:
    """An engine that is interrupted once every part is written."""
    yield from in_process(function, arguments)
    raise KeyboardInterrupt


def move_parts(store: TableStore) -> None:
    """Give parts other names, as ``ingest`` and ``qc`` do when files are added to a folder."""
    for table in (FRAMES, QC):
        for name, info in store.parts(table).items():
            store.write(table, replace(info, name=f"another-{name}"), store.read(table, name))
            store.remove(table, name, info.stage)


def double_rows(store: TableStore, stage: str) -> None:
    """Write every region of a stage twice, as earlier versions did after such a run."""
    for name, info in store.parts(REGIONS).items():
        if info.stage == stage:
            rows = 2 * store.read(REGIONS, name).to_pylist()
            earlier = replace(info, fingerprint="of an earlier version", rows=len(rows))
            store.write(REGIONS, earlier, REGIONS.from_rows(rows))
