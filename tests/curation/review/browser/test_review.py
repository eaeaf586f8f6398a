"""A person reviews masks in a browser; what the page calls saved is in the journal."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sono.curation.masks.run import import_masks
from sono.manifests import masks
from sono.manifests.schemas import REGIONS
from sono.manifests.stages import in_process
from sono.manifests.workspace import Workspace
from tests.curation.review.serving import Server, add_masks, decide_until_reordered

from .conftest import TIMEOUT_MS, Reviewing

Serve = Callable[..., Server]
Review = Callable[..., Reviewing]

pytestmark = pytest.mark.slow


def mask_of(row: Any) -> masks.Mask:
    return masks.decode(row["mask"])


def test_accept_reject_draw_undo_and_redo(predicted: Workspace, serve: Serve, review: Review) -> None:
    at = review(serve(predicted), predicted)
    at.ready()
    first = at.question()
    at.press("Enter")
    at.until(lambda: at.question() != first)
    at.press("x", "3")  # not visible
    at.press("Enter")
    accepted, rejected, third = at.saved(3)
    assert (accepted.action, rejected.action, third.action) == ("accept", "reject", "accept")
    assert rejected.tool["reasons"] == ["not_visible"]
    assert accepted.after is not None
    assert accepted.before is not None
    assert accepted.after["mask"] == accepted.before["mask"]

    at.ready()
    at.press("b")
    at.drag((0.4, 0.5), (0.6, 0.5))
    at.press("Enter")
    edited = at.saved(4)[-1]
    assert (edited.action, edited.tool["used"]) == ("edit", ["brush"])
    assert edited.after is not None
    assert edited.before is not None
    before, after = mask_of(edited.before), mask_of(edited.after)
    assert (after & ~before).sum() > 100  # what the brush added
    assert not (before & ~after).any()  # and nothing else

    for expected in ("undo", "undo", "redo", "redo"):
        events = at.journal.count()
        at.press("Control+z" if expected == "undo" else "Control+Shift+Z")
        at.until(lambda so_far=events: at.journal.count() > so_far)
        assert at.saved(events + 1)[-1].action == expected
        at.ready()
    assert at.journal.latest([edited.subject_id])[edited.subject_id].after == edited.after


def test_a_box_is_answered_and_its_mask_accepted(predicted: Workspace, serve: Serve, review: Review) -> None:
    at = review(serve(predicted, "--backend", "grabcut"), predicted)
    at.ready()
    at.press("r")
    answers: list[Any] = []  # the first of them while the box is still being drawn
    at.page.on("response", lambda answer: answers.append(answer) if answer.url.endswith("/proposals") else None)
    at.drag((0.3, 0.3), (0.6, 0.7))
    at.page.wait_for_selector("#candidates")
    at.press("Enter")
    (edited,) = at.saved(1)
    assert edited.tool["used"] == ["box"]
    assert edited.after is not None
    proposed = [mask_of(each) for answer in answers for each in answer.json()["candidates"]]
    assert proposed
    assert any(np.array_equal(mask_of(edited.after), each) for each in proposed)


def test_a_reload_loses_nothing(predicted: Workspace, serve: Serve, review: Review) -> None:
    at = review(serve(predicted), predicted)
    at.ready()
    at.press("Enter")
    at.saved(1)
    at.page.reload()
    at.ready()
    assert "1 decided" in at.page.inner_text("#progress-text")
    at.press("Control+z")  # the decision of the visit before
    at.until(lambda: "0 decided" in at.page.inner_text("#progress-text"))
    assert [event.action for event in at.journal.events()] == ["accept", "undo"]


def test_two_browsers_at_once(predicted: Workspace, serve: Serve, review: Review) -> None:
    server = serve(predicted)
    one, other = review(server, predicted), review(server, predicted)
    one.ready()
    other.ready()
    assert one.question() == other.question()
    one.press("Enter")
    one.saved(1)
    other.press("x")
    other.page.wait_for_selector("#conflicts:not([hidden])", timeout=TIMEOUT_MS)
    assert "anna accepted" in other.page.inner_text("#conflicts")
    assert [event.action for event in one.journal.events()] == ["accept"]
    other.page.get_by_role("button", name="Keep mine").click()
    assert [event.action for event in other.saved(2)] == ["accept", "reject"]


def test_who_keeps_what_they_accepted_keeps_the_mask_that_they_saw(
    predicted: Workspace, serve: Serve, review: Review
) -> None:
    server = serve(predicted)
    one, other = review(server, predicted), review(server, predicted)
    one.ready()
    other.ready()
    other.press("b")
    other.drag((0.4, 0.5), (0.6, 0.5))
    other.press("Enter")
    (edited,) = other.saved(1)
    one.press("Enter")
    one.page.wait_for_selector("#conflicts:not([hidden])", timeout=TIMEOUT_MS)
    one.page.get_by_role("button", name="Keep mine").click()
    kept = one.saved(2)[1]
    assert kept.after is not None
    assert edited.before is not None
    assert (kept.action, kept.after["mask"]) == ("edit", edited.before["mask"])


def test_a_mask_that_was_made_anew_while_it_was_on_the_screen_is_asked_about_again(
    empty: Workspace, drawn: Path, serve: Serve, review: Review
) -> None:
    import_masks(empty, drawn, mask_format="png", predicted=True, engine=in_process)
    at = review(serve(empty), empty)
    at.ready()
    first = at.question()
    for path in drawn.rglob("*.png"):
        cv2.imwrite(str(path), np.roll(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), 20, axis=0))
    import_masks(empty, drawn, mask_format="png", predicted=True, engine=in_process)
    anew = {row["region_id"]: row["mask"] for row in empty.store.read_all(REGIONS).to_pylist()}
    at.press("Enter")
    at.page.wait_for_selector("#save[data-state=failed]", timeout=TIMEOUT_MS)
    assert at.journal.count() == 0
    at.page.get_by_role("button", name=re.compile("not saved")).click()
    at.page.get_by_role("button", name="Show it").click()
    at.until(lambda: at.question() == first)
    at.press("a")  # Enter is for the button
    (accepted,) = at.saved(1)
    assert accepted.after is not None
    assert (accepted.action, accepted.after["mask"]) == ("accept", anew[accepted.subject_id])


def test_a_server_that_is_killed_meanwhile(predicted: Workspace, serve: Serve, review: Review) -> None:
    """What is decided while there is no server stays on the page, and is saved once there is one again."""
    server = serve(predicted)
    at = review(server, predicted)
    at.ready()
    at.press("Enter")
    at.saved(1)
    server.process.kill()
    server.process.wait()
    at.press("Enter")
    at.page.wait_for_selector("#save:not([data-state=saved])", timeout=TIMEOUT_MS)
    at.page.wait_for_timeout(1000)
    assert at.page.get_attribute("#save", "data-state") not in ("saved", "ready")
    again = serve(predicted)
    assert again.address.partition("/?")[0] == server.address.partition("/?")[0]
    assert len(list(at.journal.events())) == 1
    at.page.wait_for_selector("#signed-out:not([hidden])", timeout=TIMEOUT_MS)  # it has another token
    assert "Nothing on this page is lost" in at.page.inner_text("#signed-out")
    second = at.page.context.new_page()
    second.goto(again.address)
    at.try_again()
    assert [event.action for event in at.saved(2)] == ["accept", "accept"]


def test_what_one_reviewer_has_not_saved_is_never_stored_as_anothers(
    predicted: Workspace, serve: Serve, review: Review
) -> None:
    def restarted(server: Server, reviewer: str) -> Server:
        server.process.kill()
        server.process.wait()
        return serve(predicted, "--reviewer", reviewer)

    def sign_in(server: Server) -> None:
        tab = at.page.context.new_page()
        tab.goto(server.address)
        tab.close()

    server = serve(predicted)
    at = review(server, predicted)
    at.ready()
    at.press("Enter")
    at.saved(1)
    server = restarted(server, "bob")
    first = at.question()
    at.press("Enter")
    at.page.wait_for_selector("#signed-out:not([hidden])", timeout=TIMEOUT_MS)
    at.page.route("**/api/decisions", lambda route: route.fulfill(status=401, json={}))  # it tries again by itself
    sign_in(server)
    at.page.get_by_role("button", name="Try again", exact=True).first.click()
    at.until(lambda: "this page is anna's" in at.page.inner_text("#messages"))
    at.page.unroute("**/api/decisions")
    at.until(lambda: "signed in as bob" in at.page.inner_text("#save"))
    at.press("Control+z")
    at.until(lambda: "This is anna's" in at.page.inner_text("#messages"))
    at.page.get_by_role("button", name=re.compile("not saved")).click()
    at.page.get_by_role("button", name="Discard").click()
    at.until(lambda: at.page.get_attribute("#save", "data-state") == "saved")
    at.press("Shift+N")
    at.until(lambda: at.question() == first)
    at.press("Enter")
    at.until(lambda: "signed in as bob" in at.page.inner_text("#save"))
    at.page.reload()
    at.ready()
    assert at.question() == first
    assert "signed in as bob" in at.page.inner_text("#save")
    with at.page.expect_response(lambda answer: answer.url.endswith("/decisions") and answer.ok) as stored:
        at.press("n", "Enter")
    stored.value.finished()
    assert at.journal.count() == 2
    sign_in(restarted(server, "anna"))
    at.page.get_by_role("button", name=re.compile("not saved")).click()
    at.page.get_by_role("button", name="Try again", exact=True).last.click()
    assert [event.reviewer for event in at.saved(3)] == ["anna", "bob", "anna"]


def test_a_proxy_that_asks_to_sign_in_again(predicted: Workspace, serve: Serve, review: Review) -> None:
    at = review(serve(predicted), predicted)
    at.ready()
    at.page.route("**/api/decisions", lambda route: route.fulfill(content_type="text/html", body="<p>Who are you?"))
    at.press("Enter")
    at.page.wait_for_selector("#signed-out:not([hidden])", timeout=TIMEOUT_MS)
    assert at.page.get_attribute("#save", "data-state") == "failed"
    at.page.unroute("**/api/decisions")
    assert [event.action for event in at.saved(1)] == ["accept"]  # it tries again by itself
    at.page.wait_for_selector("#signed-out", state="hidden", timeout=TIMEOUT_MS)


def test_a_frame_that_the_server_cannot_show_is_left_out(predicted: Workspace, serve: Serve, review: Review) -> None:
    server = serve(predicted)
    at = review(server, predicted)
    at.ready()
    client = server.client()
    items = [item["frame_id"] for item in client.get("/api/queue")["items"]]
    at.page.route(f"**/api/frames/{items[2]}", lambda route: route.fulfill(status=500, body="Internal Server Error"))
    at.page.reload(wait_until="networkidle")  # the next frames are there
    at.press("Space", "Space")
    at.page.wait_for_selector(".message.error", timeout=TIMEOUT_MS)
    assert "This frame is left out" in at.page.inner_text("#messages")
    decided = []
    for _ in range(2):  # the second one is still on screen, and the fourth comes after it
        at.press("Enter", "Space")
        decided.append(at.saved(len(decided) + 1)[-1].frame_id)
    assert decided == [items[1], items[3]]


def test_masks_that_came_meanwhile_are_asked_about(predicted: Workspace, serve: Serve, review: Review) -> None:
    """Also in frames that the page has fetched before."""
    server = serve(predicted)
    at = review(server, predicted)
    at.ready()
    assert "1 of 3" in at.page.inner_text("#question-more")
    at.page.wait_for_load_state("networkidle")
    add_masks(predicted)
    decide_until_reordered(server.client())
    at.page.click("#kinds [data-kind=masks]")
    at.until(lambda: at.page.inner_text("#question-more")[:6] in ("1 of 5", "1 of 6"))  # one mask is decided


def test_a_palm_draws_nothing_once_a_pen_was_seen(predicted: Workspace, serve: Serve, review: Review) -> None:
    at = review(serve(predicted), predicted, has_touch=True)
    for number, (pointer, action) in enumerate([("touch", "edit"), ("pen", "edit"), ("touch", "accept")], 1):
        at.ready()
        before = at.question()
        at.press("b")
        at.stroke(pointer, (0.3, 0.3), (0.6, 0.7))
        at.press("Enter")
        assert at.saved(number)[-1].action == action
        at.until(lambda before=before: at.question() != before)


def test_nothing_is_accepted_in_the_middle_of_a_stroke(predicted: Workspace, serve: Serve, review: Review) -> None:
    at = review(serve(predicted), predicted)
    at.ready()
    first = at.question()
    at.press("b")
    for y in (0.3, 0.7):  # the first stroke on the mask, and one that is not
        at.drag((0.2, y), (0.4, y), up=False)
        at.press("Enter")
        at.page.get_by_text("Finish the stroke first.").last.wait_for(timeout=TIMEOUT_MS)
        assert at.question() == first
        at.drag((0.4, y), (0.8, y), down=False)
    assert at.journal.count() == 0
    at.press("Enter")
    (edited,) = at.saved(1)
    assert edited.before is not None
    assert edited.after is not None
    added = mask_of(edited.after) & ~mask_of(edited.before)
    assert added[:80].sum() > 500
    assert added[80:].sum() > 500


def test_everything_can_be_done_with_the_keyboard(predicted: Workspace, serve: Serve, review: Review) -> None:
    at = review(serve(predicted, "--backend", "grabcut"), predicted)
    at.ready()
    at.press("?")
    at.page.wait_for_selector("#help[open]")
    assert "Accept the mask" in at.page.inner_text("#help")
    at.press("Escape")
    at.press("e", *["ArrowRight"] * 3, "Enter", *["ArrowRight"] * 6, "Enter")  # erase along a line
    at.press("v", "Enter")
    erased = at.saved(1)[0]
    assert (erased.action, erased.tool["used"]) == ("edit", ["eraser"])
    at.ready()
    at.press("r", "ArrowLeft", "Enter", *["ArrowRight"] * 10, *["ArrowDown"] * 8)
    with at.page.expect_response(lambda answer: answer.url.endswith("/proposals")):
        at.press("Enter")
    at.page.wait_for_selector("#candidates")
    at.press("v", "Enter")
    assert at.saved(2)[1].tool["used"] == ["box"]
    at.ready()
    at.press("Shift+X", "1")
    assert at.saved(3)[2].after == {"verdict": "reject", "reasons": ["reviewer_wrong_plane"]}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_people_who_cannot_point_or_see_well_can_use_it(
    predicted: Workspace, serve: Serve, review: Review, scheme: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    at = review(serve(predicted, "--backend", "grabcut"), predicted, color_scheme=scheme, bypass_csp=True)
    at.ready()
    narrow = {"width": 390, "height": 844}
    for size, keys in (
        ({"width": 1280, "height": 800}, []),
        ({"width": 1280, "height": 800}, ["?"]),
        (narrow, ["Escape"]),
    ):
        at.page.set_viewport_size(size)
        at.press(*keys)
        at.page.wait_for_timeout(300)
        found = Axe().run(at.page)
        assert found.violations_count == 0, found.generate_report()
        assert at.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
