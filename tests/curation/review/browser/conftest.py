"""The page of a real server in real Chromium."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from sono.manifests.journal import Journal
from sono.manifests.journal_events import Event
from sono.manifests.journal_file import journal_path
from sono.manifests.workspace import Workspace
from tests.curation.review.serving import Server

TIMEOUT_MS = 15_000


@dataclass
class Reviewing:
    """A page with everything that went wrong in it."""

    page: Any
    journal: Journal
    errors: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def ready(self) -> None:
        """Wait until a frame with a question is shown."""
        self.page.wait_for_selector("#question:not([hidden])", timeout=TIMEOUT_MS)

    def saved(self, events: int) -> list[Event]:
        """Wait until the page says that everything is saved; there are so many events then."""
        self.until(lambda: self.journal.count() >= events)
        self.page.wait_for_selector("#save[data-state=saved]", timeout=TIMEOUT_MS)
        found = list(self.journal.events())
        assert len(found) == events
        return found

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that the page is about to show. The page's own rules let no test wait in it."""
        deadline = time.monotonic() + TIMEOUT_MS / 1000
        while not condition():
            assert time.monotonic() < deadline, self.page.inner_text("body")
            self.page.wait_for_timeout(20)

    def try_again(self) -> None:
        """Press the button, unless the page has tried again by itself just before."""
        from playwright.sync_api import TimeoutError as NotThere

        with contextlib.suppress(NotThere):
            self.page.get_by_role("button", name="Try again").first.click(timeout=3000)

    def question(self) -> str:
        text: str = self.page.inner_text("#question-text")
        return text

    def stroke(self, pointer: Literal["pen", "touch"], *points: tuple[float, float]) -> None:
        """Along points given in shares of the stage, with a pen or a finger, as Chromium gets them from the screen."""
        devtools = self.page.context.new_cdp_session(self.page)
        places = [{"x": x, "y": y} for x, y in self._places(points)]
        if pointer == "touch":
            for kind, place in [("touchStart", places[0]), *(("touchMove", place) for place in places[1:])]:
                devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [place]})
            devtools.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        else:
            pen = {"pointerType": "pen", "button": "left", "buttons": 1, "clickCount": 1}
            for kind, place in [("mousePressed", places[0]), *(("mouseMoved", place) for place in places[1:])]:
                devtools.send("Input.dispatchMouseEvent", {"type": kind, **place, **pen})
            devtools.send("Input.dispatchMouseEvent", {"type": "mouseReleased", **places[-1], **pen, "buttons": 0})
        devtools.detach()

    def drag(self, *points: tuple[float, float], down: bool = True, up: bool = True) -> None:
        """Along points given in shares of the stage, with the mouse; its button is down already, or stays so."""
        places = self._places(points)
        self.page.mouse.move(*places[0])
        if down:
            self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*place, steps=4)
        if up:
            self.page.mouse.up()

    def _places(self, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        box = self.page.locator("#stage").bounding_box()
        return [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]


@pytest.fixture
def review(browser: Any) -> Iterator[Callable[..., Reviewing]]:
    """Opens pages of a server; at the end none of them may have had an error or asked anybody else."""
    opened: list[Reviewing] = []

    def open_page(server: Server, workspace: Workspace | Path, **options: Any) -> Reviewing:
        path = workspace.path if isinstance(workspace, Workspace) else workspace
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        page = context.new_page()
        found = Reviewing(page, Journal(journal_path(path)))
        page.on("pageerror", lambda error: found.errors.append(str(error)))
        page.on("request", lambda request: found.requested.append(request.url))
        page.on("console", lambda message: found.errors.append(message.text) if _is_fault(message) else None)
        page.goto(server.address)
        opened.append(found)
        return found

    yield open_page
    for each in opened:
        each.page.context.close()
        assert each.errors == []
        hosts = {url.split("/")[2].partition(":")[0] for url in each.requested if not url.startswith("blob:")}
        assert hosts == {"127.0.0.1"}


def _is_fault(message: Any) -> bool:
    # Chromium reports every answer of 400 and more, and every lost connection, as an error of its own.
    return message.type == "error" and "Failed to load resource" not in message.text
