"""A fingerprint of tables changes with what is in them, and with nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sono.manifests.errors import UserError
from sono.manifests.fingerprints import tables_fingerprint
from sono.manifests.schemas import QC
from sono.manifests.store import PartInfo, TableStore


def write(store: TableStore, part: str, *frame_ids: str) -> None:
    rows: list[dict[str, object]] = [
        {"frame_id": frame_id, "verdict": "accept", "reasons": [], "config_sha256": "c"} for frame_id in frame_ids
    ]
    store.write(QC, PartInfo(part, "qc", "f", "s", len(rows)), QC.from_rows(rows))


def test_it_changes_with_every_part(tmp_path: Path) -> None:
    store = TableStore(tmp_path / "a")
    seen = [tables_fingerprint(store, [QC])]
    for part, frame_ids in (("a", ["1"]), ("b", ["2"]), ("b", ["3"]), ("b", ["2"])):
        write(store, part, *frame_ids)
        seen.append(tables_fingerprint(store, [QC]))
    assert len(set(seen)) == 4
    assert seen[2] == seen[4]
    store.remove(QC, "b", "qc")
    assert tables_fingerprint(store, [QC]) == seen[1]


def test_it_changes_when_two_rows_swap_their_values(tmp_path: Path) -> None:
    """Neither the size of a column nor its smallest and greatest value tells."""
    store, seen = TableStore(tmp_path), []
    for verdicts in (("accept", "reject", "review"), ("reject", "accept", "review")):
        rows: list[dict[str, object]] = [
            {"frame_id": str(number), "verdict": verdict, "reasons": [], "config_sha256": "c"}
            for number, verdict in enumerate(verdicts)
        ]
        store.write(QC, PartInfo("a", "qc", "f", "s", len(rows)), QC.from_rows(rows))
        seen.append(tables_fingerprint(store, [QC]))
    assert seen[0] != seen[1]


def test_a_copy_has_the_same(tmp_path: Path) -> None:
    store = TableStore(tmp_path / "a")
    write(store, "a", "1")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert tables_fingerprint(TableStore(tmp_path / "b"), [QC]) == tables_fingerprint(store, [QC])


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    store = TableStore(tmp_path)
    write(store, "a", "1")
    store.path(QC, "a").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"part-a\.parquet"):
        tables_fingerprint(store, [QC])
