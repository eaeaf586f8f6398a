"""What is decided on the page is on disk before it is acknowledged, and in the tables once the server has stopped."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from sono.manifests import masks
from sono.manifests.journal import Journal
from sono.manifests.journal_file import journal_path
from sono.manifests.schemas import FRAMES, QC, REGIONS
from sono.manifests.store import exclusive
from sono.manifests.workspace import Workspace
from tests.curation.review.serving import Client, Server, add_masks, decide_until_reordered, first_frame

Serve = Callable[..., Server]


def rows_of(workspace: Workspace) -> dict[str, dict[str, Any]]:
    return {row["region_id"]: row for row in workspace.store.read_all(REGIONS).to_pylist()}


def disc(frame: dict[str, Any], radius: int) -> masks.Rle:
    y, x = np.mgrid[: frame["height"], : frame["width"]]
    return masks.encode(np.hypot(x - frame["width"] / 2, y - frame["height"] / 2) < radius)


def test_decisions_reach_the_tables(predicted: Workspace, serve: Serve) -> None:
    server = serve(predicted)
    client = server.client()
    frame = first_frame(client)
    accepted, edited, rejected = frame["regions"]
    drawn = disc(frame, 20)
    answers = [
        client.decide(frame, accepted, "accept"),
        client.decide(frame, edited, "edit", mask=drawn, used=["brush"]),
        client.decide(frame, rejected, "reject", reasons=["not_visible"]),
        client.decide(frame, None, "draw", subject="region", structure="falx", mask=drawn, expected=None),
        client.decide(frame, None, "reject", reasons=["wrong_plane"]),
    ]
    assert [status for status, _ in answers] == [200] * 5, answers
    assert [answer["event"]["n"] for _, answer in answers] == [1, 2, 3, 4, 5]
    with_them = Journal(journal_path(predicted.path))
    assert with_them.count() == 5  # while the server is running
    assert server.stop() == 0

    rows = rows_of(predicted)
    assert len(rows) == 19
    statuses = {structure: row["status"] for row in rows.values() for structure in [row["structure"]]
                if row["frame_id"] == frame["frame_id"]}  # fmt: skip
    assert statuses == {
        accepted["structure"]: "accepted",
        edited["structure"]: "edited",
        rejected["structure"]: "rejected",
        "falx": "accepted",
    }
    assert rows[accepted["region_id"]]["mask"] == accepted["mask"]
    assert rows[edited["region_id"]]["mask"] == drawn
    assert rows[edited["region_id"]]["area_px"] == masks.area_px(masks.decode(drawn))
    new = answers[3][1]["region"]["region_id"]
    assert (rows[new]["source"], rows[new]["reviewer"]) == ("manual", "anna")
    assert {row["reviewer"] for row in rows.values() if row["updated_at"]} == {"anna"}
    verdicts = {row["frame_id"]: row for row in predicted.store.read_all(QC).to_pylist()}
    assert verdicts[frame["frame_id"]]["reasons"] == ["reviewer_wrong_plane"]
    assert verdicts[frame["frame_id"]]["verdict"] == "reject"


def test_undo_and_redo_go_back_to_the_start_and_forward_again(predicted: Workspace, serve: Serve) -> None:
    before = rows_of(predicted)
    server = serve(predicted)
    client = server.client()
    frame = first_frame(client)
    for region in frame["regions"]:
        assert client.decide(frame, region, "reject")[0] == 200
    assert [client.step("undo")[0] for _ in range(4)] == [200, 200, 200, 409]
    assert [client.step("redo")[0] for _ in range(4)] == [200, 200, 200, 409]
    assert {region["status"] for region in first_frame_again(client, frame)["regions"]} == {"rejected"}
    for _ in range(3):
        client.step("undo")
    server.stop()
    assert rows_of(predicted) == before
    # And once more after a restart: undo knows what was decided before.
    assert serve(predicted).client().step("redo")[0] == 200


def first_frame_again(client: Client, frame: dict[str, Any]) -> dict[str, Any]:
    again: dict[str, Any] = client.get(f"/api/frames/{frame['frame_id']}")
    return again


def test_decided_masks_leave_the_queue(predicted: Workspace, serve: Serve) -> None:
    client = serve(predicted).client()
    session = client.get("/api/session")
    assert session["reviewer"] == "anna"
    assert session["progress"]["left"] == 18
    frame = first_frame(client)
    for region in frame["regions"]:
        status, answer = client.decide(frame, region, "accept")
        assert status == 200
    assert answer["progress"]["left"] == 15
    assert answer["progress"]["decided_this_session"] == 3
    assert frame["frame_id"] not in [item["frame_id"] for item in client.get("/api/queue?limit=64")["items"]]
    heads = client.get("/api/queue?structure=head&limit=64")
    assert heads["left"] == 5
    assert len(heads["items"]) == 5


def test_the_queue_is_built_again_while_people_review(predicted: Workspace, serve: Serve) -> None:
    client = serve(predicted).client()
    left = client.get("/api/queue?limit=1")["left"]
    region = decide_until_reordered(client)
    after = client.get("/api/queue?limit=64")
    assert region["region_id"] not in [each for item in after["items"] for each in item["regions"]]
    assert after["left"] == left - 1


def test_masks_that_came_meanwhile_are_asked_about_and_shown(predicted: Workspace, serve: Serve) -> None:
    client = serve(predicted).client()
    rows = add_masks(predicted)
    decide_until_reordered(client)
    items = client.get("/api/queue?limit=64")["items"]
    asked = {region_id for item in items for region_id in item["regions"]}
    assert asked >= {row["region_id"] for row in rows}
    for item in items:
        shown = {region["region_id"] for region in client.get(f"/api/frames/{item['frame_id']}")["regions"]}
        assert shown >= set(item["regions"])


def test_a_decision_that_is_sent_twice_is_one(predicted: Workspace, serve: Serve) -> None:
    client = serve(predicted).client()
    frame = first_frame(client)
    sent = client.decision(frame, frame["regions"][0], "accept")
    first, second = (client.ask("POST", "/api/decisions", sent) for _ in range(2))
    assert first[1]["event"] == second[1]["event"]
    assert client.get("/api/session")["progress"]["decided_this_session"] == 1


def test_two_people_on_one_mask(predicted: Workspace, serve: Serve) -> None:
    server = serve(predicted)
    anna, also_anna = server.client(), server.client()
    frame = first_frame(anna)
    region = frame["regions"][0]
    assert anna.decide(frame, region, "accept")[0] == 200
    status, answer = also_anna.decide(frame, region, "reject")
    assert (status, answer["error"]) == (409, "changed_meanwhile")
    assert "anna" in answer["message"]
    assert answer["region"]["status"] == "accepted"
    assert also_anna.decide(frame, region, "reject", expected=answer["event"])[0] == 200


def test_nobody_accepts_a_mask_that_they_have_not_seen(predicted: Workspace, serve: Serve) -> None:
    client = serve(predicted).client()
    frame = first_frame(client)
    region = frame["regions"][0]
    drawn = disc(frame, 30)
    status, edited = client.decide(frame, region, "edit", mask=drawn)
    assert status == 200
    n = edited["event"]["n"]
    assert client.decide(frame, region, "accept")[1]["error"] == "changed_meanwhile"
    assert client.decide(frame, region, "accept", expected=n)[1]["error"] == "other_mask"
    sent = client.decision(frame, region, "accept", expected=n, mask=drawn)
    assert client.ask("POST", "/api/decisions", sent)[0] == 200
    again = client.decide(frame, region, "edit", expected=n + 1, mask=disc(frame, 20))
    assert again[0] == 200
    status, answer = client.ask("POST", "/api/decisions", sent)  # its answer was lost: it is stored all the same
    assert (status, answer["event"]["n"]) == (200, n + 1)


REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"action": "edit", "mask": {"size": [10, 10], "counts": "R3"}}, "bad_mask"),
    ({"action": "edit", "mask": {"size": [160, 240], "counts": "R3"}}, "bad_mask"),
    ({"action": "edit", "mask": masks.encode(np.zeros((160, 240), np.bool_))}, "empty_mask"),
    ({"action": "edit"}, "no_mask"),
    ({"mask": None}, "no_mask"),
    ({"mask": masks.encode(np.ones((160, 240), np.bool_))}, "other_mask"),
    ({"action": "review"}, "no_such_action"),
    ({"structure": "no_such_structure"}, "unknown_structure"),
    ({"reasons": ["Anna Petrov"]}, "unknown_reason"),
    ({"used": ["Anna Petrov"]}, "unknown_tool"),
    ({"region_id": "0" * 32}, "region_gone"),
    ({"frame_version": "another"}, "frame_changed"),
    ({"reading": "second"}, "reading_changed"),
    ({"note": "Anna Petrov"}, "bad_request"),
    ({"event_id": "not an id"}, "bad_request"),
    ({"subject": "frame"}, "no_such_action"),
)


def test_what_makes_no_sense_is_refused(predicted: Workspace, serve: Serve) -> None:
    client = serve(predicted).client()
    frame = first_frame(client)
    for change, error in REFUSED:
        status, answer = client.decide(frame, frame["regions"][0], **{"action": "accept", **change})
        assert (status, answer["error"]) == (422, error), answer
        assert "Petrov" not in answer["message"]
    assert Journal(journal_path(predicted.path)).count() == 0


def test_a_frame_that_has_left_the_workspace(predicted: Workspace, serve: Serve) -> None:
    client = serve(predicted).client()
    frame = first_frame(client)
    for path in predicted.store.paths(FRAMES):
        path.unlink()
    status, answer = client.decide(frame, frame["regions"][0], "accept")
    assert (status, answer["error"]) == (404, "frame_gone")
    assert client.ask("GET", f"/api/frames/{frame['frame_id']}/image")[0] == 404


def test_the_server_can_be_killed_at_any_moment(predicted: Workspace, serve: Serve) -> None:
    acknowledged = 0
    for _ in range(3):
        server = serve(predicted)
        client = server.client()
        frame = first_frame(client)
        for region in frame["regions"]:
            status, answer = client.decide(frame, region, "accept")
            assert status == 200
            acknowledged = answer["event"]["n"]
        server.process.kill()
        server.process.wait()
    journal = Journal(journal_path(predicted.path))
    assert journal.count() == acknowledged == 9
    assert journal.problem() is None
    server = serve(predicted)
    assert sum(row["updated_at"] is not None for row in rows_of(predicted).values()) == 9
    assert server.stop() == 0


def test_a_frame_that_was_decided_before_the_server_was_killed_is_not_asked_about_again(
    predicted: Workspace, serve: Serve
) -> None:
    store = predicted.store
    ((name, info),) = store.parts(QC).items()
    rows = [{**row, "verdict": "review", "reasons": ["blurred"]} for row in store.read(QC, name).to_pylist()]
    store.write(QC, info, QC.from_rows(rows))
    server = serve(predicted)
    client = server.client()
    for expected in (5, 4):
        frame = client.get(f"/api/frames/{client.get('/api/queue?kind=frames')['items'][0]['frame_id']}")
        assert client.decide(frame, None, "accept")[0] == 200
        server.process.kill()
        server.process.wait()
        # The second time, another command is writing.
        with exclusive(predicted.path, "workspace") if expected == 4 else contextlib.nullcontext():
            server = serve(predicted)
            client = server.client()
        frames = client.get("/api/queue?kind=frames&limit=64")
        assert (frames["left"], len(frames["items"])) == (expected, expected)
        assert frame["frame_id"] not in [item["frame_id"] for item in frames["items"]]


def test_the_history_of_a_mask_can_be_printed(predicted: Workspace, serve: Serve) -> None:
    server = serve(predicted)
    client = server.client()
    frame = first_frame(client)
    region = frame["regions"][0]
    client.decide(frame, region, "edit", mask=disc(frame, 30), used=["brush", "eraser"])
    client.step("undo")
    command = [sys.executable, "-c", "from sono.curation.cli import main; main()", "review", str(predicted.path)]
    printed = subprocess.run(
        [*command, "--history", region["region_id"]], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert len(printed) == 2
    assert "anna: edit (accepted -> edited) IoU 0." in printed[0]
    assert "with brush, eraser" in printed[0]
    assert "undo of 1 (edited -> accepted)" in printed[1]
    assert client.get(f"/api/history/{region['region_id']}")["events"][0]["status_after"] == "edited"
