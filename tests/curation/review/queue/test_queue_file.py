"""The queue file: pages in order, filters, cursors, and what happens when it is replaced or broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sono.curation.review.queue.queue_file import QUEUE, Queue, write_queue
from sono.manifests.errors import UserError

COUNT = 9000  # more than two batches


def rows(count: int = COUNT) -> list[dict[str, Any]]:
    """Frame 0 to COUNT - 1 in order, with 0 to 2 masks each; ids that are in no order."""
    found = []
    for number in range(count):
        structures = ["head", "thalami"][: number % 3]
        found.append(
            {
                "frame_id": f"{number * 7919 % count:05d}",
                "frame_part": f"part-{number % 7}.parquet",
                "regions": [f"{structure} {number}" for structure in structures],
                "region_parts": ["part-grabcut.parquet"] * len(structures),
                "structures": structures,
                "p_bad": [1 - number / count] * len(structures),
                "frame_p_bad": 1 - number / count if structures else None,
                "plane": [None, "crl", "nt"][number % 3] if number else None,
                "center": "A",
                "verdict": "review" if number % 10 == 0 else "accept",
            }
        )
    by_id = sorted(range(count), key=lambda row: str(found[row]["frame_id"]))
    return [{**row, "by_frame_id": by_id[number]} for number, row in enumerate(found)]


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> Queue:
    path = tmp_path_factory.mktemp("queue") / "queue.arrow"
    write_queue(path, pa.Table.from_pylist(rows(), schema=QUEUE), {"reviewed": 12})
    return Queue.open(path)


def walk(queue: Queue, limit: int, **how: Any) -> list[str]:
    found, cursor = [], None
    while True:
        page = queue.next(cursor, limit, **how)
        assert len(page.frames) <= limit
        found += [frame.frame_id for frame in page.frames]
        cursor = page.cursor
        if cursor is None:
            return found


def test_pages_give_every_frame_with_masks_once_in_order(queue: Queue) -> None:
    expected = [row["frame_id"] for row in rows() if row["regions"]]
    assert walk(queue, 100) == walk(queue, 1000) == expected
    assert len(queue) == COUNT
    assert queue.facts == {"reviewed": 12}


def test_a_frame_has_its_masks_and_all_that_is_needed_to_read_it(queue: Queue) -> None:
    (frame,) = queue.next(None, 2).frames[1:]
    assert (frame.frame_id, frame.part) == (rows()[2]["frame_id"], "part-2.parquet")
    assert [(region.region_id, region.part, region.structure) for region in frame.regions] == [
        ("head 2", "part-grabcut.parquet", "head"),
        ("thalami 2", "part-grabcut.parquet", "thalami"),
    ]
    assert frame.p_bad == pytest.approx(1 - 2 / COUNT)
    assert (frame.plane, frame.center, frame.verdict) == ("nt", "A", "accept")


def test_filters_leave_frames_and_masks_out(queue: Queue) -> None:
    assert walk(queue, 500, plane="crl") == [row["frame_id"] for row in rows() if row["plane"] == "crl"]
    of_thalami = [row["frame_id"] for row in rows() if "thalami" in row["structures"]]
    assert walk(queue, 500, structure="thalami") == of_thalami
    (frame,) = queue.next(None, 1, structure="thalami").frames
    assert [region.structure for region in frame.regions] == ["thalami"]
    assert walk(queue, 5, structure="unheard_of") == walk(queue, 5, plane="unheard_of") == []


def test_what_is_decided_is_passed_over(queue: Queue) -> None:
    page = queue.next(None, 3, is_open=lambda region_id: region_id not in {"head 1", "head 2", "head 4"})
    assert [[region.region_id for region in frame.regions] for frame in page.frames] == [
        ["thalami 2"],
        ["head 5", "thalami 5"],
        ["head 7"],
    ]
    assert queue.next(None, 3, is_open=lambda _: False).frames == ()


def test_frames_to_be_judged_are_a_queue_of_their_own(queue: Queue) -> None:
    expected = [row["frame_id"] for row in rows() if row["verdict"] == "review"]
    assert walk(queue, 50, kind="frames") == expected
    without_first = walk(queue, 50, kind="frames", is_open=lambda frame_id: frame_id != expected[0])
    assert without_first == expected[1:]


def test_counts_are_of_masks_or_of_frames(queue: Queue) -> None:
    assert queue.count() == sum(len(row["regions"]) for row in rows())
    assert queue.count(structure="head") == sum("head" in row["structures"] for row in rows())
    assert queue.count(structure="head", is_open=lambda region_id: region_id == "head 4") == 1
    assert queue.count(kind="frames") == COUNT // 10


def test_any_frame_is_found_by_its_id(queue: Queue) -> None:
    for row in rows()[::97]:
        found = queue.find(row["frame_id"])
        assert found is not None
        assert [region.region_id for region in found.regions] == row["regions"]
    assert queue.find("") is queue.find("no such frame") is queue.find("zzz") is None


def test_a_replaced_file_starts_at_the_front_and_the_open_one_stays_readable(tmp_path: Path) -> None:
    path = tmp_path / "queue.arrow"
    write_queue(path, pa.Table.from_pylist(rows(60), schema=QUEUE), {})
    old = Queue.open(path)
    cursor = old.next(None, 3).cursor
    write_queue(path, pa.Table.from_pylist(rows(30), schema=QUEUE), {})
    new = Queue.open(path)
    assert new.next(cursor, 3).frames == new.next(None, 3).frames
    assert len(walk(old, 7)) == 40
    assert old.next(cursor, 1).frames != old.next(None, 1).frames


@pytest.mark.parametrize("cursor", ["", "3", "x:", "x:-1", "x:1.5", "x:\u00b2", "x:1:2"])
def test_what_is_no_cursor_is_refused(queue: Queue, cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        queue.next(cursor, 3)


def test_an_empty_queue_has_no_pages(tmp_path: Path) -> None:
    path = tmp_path / "queue.arrow"
    write_queue(path, QUEUE.empty_table(), {})
    queue = Queue.open(path)
    assert (len(queue), queue.count(), queue.next(None, 5).frames, queue.find("x")) == (0, 0, (), None)


@pytest.mark.parametrize("content", [b"", b"ARROW1\0\0", b"\x00" * 4096])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "queue.arrow"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"queue\.arrow: not a queue of this version"):
        Queue.open(path)
    path.unlink()
    with pytest.raises(UserError, match="there is no queue yet"):
        Queue.open(path)
