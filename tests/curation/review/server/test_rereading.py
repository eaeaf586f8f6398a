"""A second reader does not see what the first one decided; where they differ, a third one does, without names."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from sono.manifests import masks
from sono.manifests.journal import Journal
from sono.manifests.journal_file import journal_path
from sono.manifests.schemas import REGIONS
from sono.manifests.workspace import Workspace
from tests.curation.review.serving import Client, Server

Serve = Callable[..., Server]


def as_reviewer(serve: Serve, workspace: Workspace, name: str) -> tuple[Server, Client]:
    server = serve(workspace, "--reviewer", name)
    return server, server.client()


def frame_with(client: Client, region_id: str, frame_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    frame = client.get(f"/api/frames/{frame_id}")
    return frame, next(region for region in frame["regions"] if region["region_id"] == region_id)


def test_a_second_reading_is_blinded_and_a_disagreement_adjudicated(predicted: Workspace, serve: Serve) -> None:
    settings = predicted.path / "sono.toml"
    settings.write_text(re.sub("# second_share = 0.0.*", "second_share = 1.0", settings.read_text()))
    server, anna = as_reviewer(serve, predicted, "anna")
    frame = anna.get(f"/api/frames/{anna.get('/api/queue')['items'][0]['frame_id']}")
    region = frame["regions"][0]
    y, x = np.mgrid[: frame["height"], : frame["width"]]
    drawn = masks.encode(np.hypot(x - 120, y - 80) < 40)
    assert anna.decide(frame, region, "edit", mask=drawn)[0] == 200
    assert anna.decide(frame, region, "accept", reading="second")[1]["error"] == "reading_changed"  # not by herself
    server.stop()

    server, ben = as_reviewer(serve, predicted, "ben")
    owed = [item for item in ben.get("/api/queue?limit=64")["items"] if item["reading"] == "second"]
    assert owed == [
        {"frame_id": frame["frame_id"], "regions": [region["region_id"]], "reading": "second", "p_bad": None}
    ]
    frame, seen = frame_with(ben, region["region_id"], frame["frame_id"])
    assert (seen["mask"], seen["status"], seen["reviewer"]) == (region["mask"], "proposed", None)
    assert "anna" not in str(frame["regions"])
    assert seen["event"] is None
    assert ben.ask("GET", f"/api/history/{region['region_id']}")[1]["error"] == "blinded"
    status, answer = ben.decide(frame, seen, "reject")
    assert status == 200, answer
    server.stop()
    assert _row(predicted, region["region_id"])["mask"] == drawn  # the second reading decides nothing

    server, cora = as_reviewer(serve, predicted, "cora")
    assert cora.get("/api/session")["progress"]["to_adjudicate"] == 1
    (item,) = cora.get("/api/queue?kind=adjudication")["items"]
    frame, seen = frame_with(cora, item["regions"][0], item["frame_id"])
    readings = {reading["status"]: reading["mask"] for reading in seen["readings"]}
    assert readings == {"accepted": drawn, "rejected": region["mask"]}
    assert "anna" not in str(seen)
    assert "ben" not in str(seen)
    assert cora.decide(frame, seen, "accept", mask=readings["accepted"], used=["reading"])[0] == 200
    assert cora.get("/api/session")["progress"]["to_adjudicate"] == 0
    server.stop()
    row = _row(predicted, region["region_id"])
    assert (row["mask"], row["reviewer"]) == (drawn, "cora")
    journal = Journal(journal_path(predicted.path))
    assert [(event.reviewer, event.reading) for event in journal.events()] == [
        ("anna", "first"), ("ben", "second"), ("cora", "adjudication"),
    ]  # fmt: skip


def walk(client: Client, limit: int = 8) -> list[dict[str, Any]]:
    """All items of the queue, as the page asks for them."""
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        page = client.get(f"/api/queue?limit={limit}{after}")
        found += page["items"]
        if not page["cursor"] or not page["items"]:
            return found
        after = f"&after={page['cursor']}"


def test_every_mask_to_be_read_again_is_handed_out(predicted: Workspace, serve: Serve) -> None:
    settings = predicted.path / "sono.toml"
    settings.write_text(re.sub("# second_share = 0.0.*", "second_share = 1.0", settings.read_text()))
    server, anna = as_reviewer(serve, predicted, "anna")
    read = set()
    for item in anna.get("/api/queue")["items"][:2]:
        frame = anna.get(f"/api/frames/{item['frame_id']}")
        for region in frame["regions"]:
            assert anna.decide(frame, region, "accept")[0] == 200
            read.add(region["region_id"])
    server.stop()

    _, ben = as_reviewer(serve, predicted, "ben")
    for limit in (8, 2):  # and again by who starts over
        items = walk(ben, limit)
        assert [item["reading"] for item in items] == ["first"] * 4 + ["second"] * 6
        assert {region_id for item in items if item["reading"] == "second" for region_id in item["regions"]} == read
    left = {kind: ben.get(f"/api/queue?kind={kind}")["left"] for kind in ("masks", "frames")}
    assert left == {"masks": 18, "frames": 0}


def _row(workspace: Workspace, region_id: str) -> dict[str, Any]:
    return next(row for row in workspace.store.read_all(REGIONS).to_pylist() if row["region_id"] == region_id)
