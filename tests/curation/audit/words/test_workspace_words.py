"""What of a workspace's files and tables remains when everything that rules explain is left out."""

from __future__ import annotations

import contextlib
import datetime
import sqlite3
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sono.curation.audit.words.allowed_words import allowed_words
from sono.curation.audit.words.workspace_words import PartScan, scan_files, table_parts
from sono.curation.review.queue.queue_file import QUEUE, write_queue
from sono.curation.review.server.frame_index import FrameIndex
from sono.manifests.journal import Journal
from sono.manifests.journal_events import NewEvent
from sono.manifests.journal_file import journal_path
from sono.manifests.projection import apply_decisions
from sono.manifests.schemas import QC
from sono.manifests.store import PartInfo, TableStore

ALLOWED = allowed_words([])


def pieces(workspace: Path) -> dict[str, set[str]]:
    return {piece: places for piece, places in scan_files(workspace, ALLOWED).pieces.items() if len(piece) > 1}


def page(workspace: Path, content: str) -> None:
    (workspace / "reports").mkdir(exist_ok=True)
    (workspace / "reports" / "qc.html").write_text(f"<!doctype html><html><body>{content}</body></html>")


@pytest.mark.parametrize(
    "content", ["<p>Yamamoto</p>", '<img alt="Yamamoto">', "<a href='../Yamamoto/1.png'>", "<!-- Yamamoto -->"]
)
def test_a_name_is_found_wherever_it_is_in_a_page(tmp_path: Path, content: str) -> None:
    page(tmp_path, content)
    assert any("yamamoto" in piece for piece in pieces(tmp_path))


def test_tags_pictures_and_outlines_spell_nothing(tmp_path: Path) -> None:
    page(tmp_path, '<svg><path d="M 0,0 L17107919.5 12"/><img src="data:image/png;base64,YamamotoYama=="></svg>')
    assert pieces(tmp_path) == {}


def test_arrays_of_numbers_spell_nothing_but_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "embeddings"
    folder.mkdir(parents=True)
    values = np.frombuffer(b"YAMAMOTO" * 40, np.float16)
    np.savez(folder / f"{'1a' * 20}.npz", size=np.array([3, 4]), features=values)
    assert pieces(tmp_path) == {}
    np.savez(folder / f"{'1a' * 20}.npz", yamamoto=values)
    assert pieces(tmp_path) == {"yamamoto": {"other files"}}
    np.savez(folder / f"{'1a' * 20}.npz", size=np.array(["Yamamoto"]))
    assert pieces(tmp_path)


def test_what_the_review_keeps_beside_the_tables_has_nothing_but_pseudonyms(tmp_path: Path) -> None:
    keys = [f"{number:032x}" for number in range(0x0BAD_CAFE, 0x0BAD_CAFE + 9)]
    queue = [{"frame_id": key, "frame_part": "part-qc.parquet", "regions": [key], "center": "center"} for key in keys]
    folder = tmp_path / "cache" / "review"
    folder.mkdir(parents=True)
    facts = {"regions": 19640123, "auroc_stated": 0.51}
    write_queue(folder / "queue.arrow", pa.Table.from_pylist(queue, schema=QUEUE), facts)
    store = TableStore(tmp_path)
    store.write(QC, PartInfo("qc", "qc", "qc", "qc", 9), pa.concat_tables(map(qc, keys)))
    FrameIndex(store, folder).refresh()  # which stays open: most of it is in its write-ahead log
    assert pieces(tmp_path) == {}
    assert (folder / "frames.sqlite-wal").exists()
    with contextlib.closing(sqlite3.connect(folder / "frames.sqlite")) as database:
        database.execute("INSERT INTO held VALUES ('Yamamoto', 1, 0)")
        database.commit()
    assert pieces(tmp_path) == {"yamamoto": {"other files"}}
    named = [{**queue[0], "center": "Sato"}]
    write_queue(folder / "queue.arrow", pa.Table.from_pylist(named, schema=QUEUE), {"by": ["Tanaka"]})
    assert pieces(tmp_path).keys() == {"yamamoto", "sato", "tanaka"}
    for path in folder.glob("frames.sqlite*"):
        path.write_bytes(b"Suzuki" + bytes(200))
    assert pieces(tmp_path).keys() == {"suzuki", "sato", "tanaka"}


def test_how_a_key_begins_is_explained_and_other_digits_are_not(tmp_path: Path) -> None:
    store, key = TableStore(tmp_path), "8c458106b0d1" + "5" * 20
    store.write(QC, PartInfo("qc", "qc", "qc", "qc", 1), qc(key))
    page(tmp_path, f"<code>{key[:12]}</code> <code>{key[:8]}</code> <code>99458106b0d1</code>")
    words = scan_files(tmp_path, ALLOWED)
    words.explain(PartScan(ALLOWED, words.abbreviated())(("qc", str(store.path(QC, "qc")))).abbreviated)
    assert set(words.pieces) == {"99458106b0d1"}


def test_a_column_that_no_table_has_is_searched_and_not_named(tmp_path: Path) -> None:
    store = TableStore(tmp_path)
    rows = qc("5" * 32).append_column("yamamoto_id", pa.array(["aiko"]))
    store.folder(QC).mkdir()
    pq.write_table(rows, store.path(QC, "qc"))
    scanned = PartScan(ALLOWED, frozenset())(("qc", str(store.path(QC, "qc"))))
    assert scanned.words.pieces == {"yamamoto_id": {"qc metadata"}, "aiko": {"qc.another_column"}}
    said = scanned.findings.to_pylist()
    assert "another_column_is_no_pseudonym" in {row["reason"] for row in said}
    assert not any("yamamoto" in str(row) for row in said)


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("mrn", pa.array([4711008156]), "a_column_that_no_table_has"),
        ("born", pa.array([datetime.date(1990, 1, 2)]), "a_column_that_no_table_has"),
        (
            "names",
            pa.array([[("mother", "Yamamoto")]], pa.map_(pa.string(), pa.string())),
            "a_column_that_no_table_has",
        ),
        ("verdict", pa.array([4711008156]), "a_column_of_another_type"),
    ],
)
def test_a_column_that_cannot_be_searched_fails(tmp_path: Path, name: str, values: pa.Array, reason: str) -> None:
    store = TableStore(tmp_path)
    rows = qc("5" * 32)
    rows = rows.drop_columns(name) if name in rows.schema.names else rows
    store.folder(QC).mkdir()
    pq.write_table(rows.append_column(name, values), store.path(QC, "qc"))
    scanned = PartScan(ALLOWED, frozenset())(("qc", str(store.path(QC, "qc"))))
    said = {(row["action"], row["outcome"], row["reason"]) for row in scanned.findings.to_pylist()}
    assert ("text_removed", "failed", reason) in said


def test_a_table_beside_the_parts_is_searched(tmp_path: Path) -> None:
    store = TableStore(tmp_path)
    store.write(QC, PartInfo("qc", "qc", "qc", "qc", 1), qc("5" * 32))
    assert pieces(tmp_path) == {}
    pq.write_table(pa.table({"name": ["Yamamoto"]}), store.folder(QC) / "backup.parquet", compression="none")
    assert "yamamoto" in " ".join(pieces(tmp_path))


def test_the_journal_of_decisions_says_who_and_when_and_nothing_else(tmp_path: Path) -> None:
    journal, key = Journal(journal_path(tmp_path)), "5" * 32
    after = {"verdict": "reject", "reasons": ["reviewer_wrong_plane"]}
    values = {"reviewer": "Sato", "subject": "frame", "frame_id": key, "region_id": None, "action": "reject"}
    decision = NewEvent(event_id="1" * 32, after=after, tool={"used": ["box"], "seconds": 4.25}, **values)
    journal.append(decision, expected=None)
    assert pieces(tmp_path).keys() <= {"wrong_plane", "reviewer_wrong_plane"}
    store = TableStore(tmp_path)
    store.write(QC, PartInfo("qc", "qc", "qc", "qc", 1), qc(key))
    assert len(table_parts(store)) == 2
    apply_decisions(store)
    assert pieces(tmp_path).keys() <= {"wrong_plane", "reviewer_wrong_plane"}
    tool = {"used": ["Yamamoto's box"]}
    journal.append(NewEvent(event_id="2" * 32, after=after, tool=tool, **values), expected=1)
    assert "yamamoto" in " ".join(pieces(tmp_path))


def qc(frame_id: str) -> pa.Table:
    return QC.from_rows([{"frame_id": frame_id, "verdict": "accept", "reasons": [], "config_sha256": "c" * 64}])
