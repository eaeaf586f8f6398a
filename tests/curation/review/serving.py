"""A real server of a real workspace, and a client that is as strict as a browser."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass, field
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

from sono.manifests.schemas import REGIONS
from sono.manifests.store import PartInfo
from sono.manifests.workspace import Workspace


@dataclass
class Client:
    """Asks a server as the page does."""

    address: str
    cookies: CookieJar = field(default_factory=CookieJar)

    @property
    def origin(self) -> str:
        return self.address.partition("/?")[0]

    def open(self) -> None:
        self.ask("GET", self.address.removeprefix(self.origin))

    def ask(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and answer."""
        own = {"Origin": self.origin, "X-Sono-Review": "1", "Content-Type": "application/json"} if body else {}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.origin + path, data=data, headers={**own, **(headers or {})}, method=method
        )
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))
        try:
            with opener.open(request, timeout=30) as answer:
                status, content = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, content = error.code, error.read()
        try:
            return status, json.loads(content)
        except ValueError:
            return status, content

    def get(self, path: str) -> Any:
        status, answer = self.ask("GET", path)
        assert status == 200, answer
        return answer

    def decision(
        self, frame: dict[str, Any], region: dict[str, Any] | None, action: str, **more: Any
    ) -> dict[str, Any]:
        """A decision on a region of a frame, or on the frame, as the page would send it."""
        subject = region or frame["qc"]
        return {
            "event_id": uuid.uuid4().hex,
            "subject": "region" if region else "frame",
            "frame_id": frame["frame_id"],
            "frame_version": frame["version"],
            "region_id": region["region_id"] if region else None,
            "structure": region["structure"] if region else None,
            "action": action,
            "mask": region["mask"] if region and action == "accept" else None,
            "reasons": [],
            "expected": subject["event"],
            "reading": region["reading"] if region else "first",
            "used": [],
            "seconds": 1.5,
            **more,
        }

    def decide(self, frame: dict[str, Any], region: dict[str, Any] | None, action: str, **more: Any) -> Any:
        return self.ask("POST", "/api/decisions", self.decision(frame, region, action, **more))

    def step(self, which: str) -> tuple[int, Any]:
        return self.ask("POST", f"/api/{which}", {"event_id": uuid.uuid4().hex})


@dataclass
class Server:
    """A process that serves a workspace."""

    process: subprocess.Popen[str]
    address: str

    def client(self) -> Client:
        client = Client(self.address)
        client.open()
        return client

    def stop(self) -> int:
        """As Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(timeout=30)
        assert self.process.stderr is not None
        complaints = self.process.stderr.read()
        assert complaints == "", complaints
        return code


def start_server(workspace: Path, *options: str) -> Server:
    command = [sys.executable, "-c", "from sono.curation.cli import main; main()", "review", str(workspace)]
    process = subprocess.Popen(
        [*command, "--json", "--no-open", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "USER": "anna"},
    )
    assert process.stdout is not None
    line = ""
    for each in process.stdout:
        line += each
        if each.startswith("}"):
            break
    if not line:
        assert process.stderr is not None
        raise AssertionError(process.stderr.read())
    return Server(process, json.loads(line)["address"])


def first_frame(client: Client) -> dict[str, Any]:
    """The frame that the queue begins with."""
    frame: dict[str, Any] = client.get(f"/api/frames/{client.get('/api/queue')['items'][0]['frame_id']}")
    return frame


def decide_until_reordered(client: Client) -> dict[str, Any]:
    """Decide on one mask so often that the queue is built again, and wait for it; the mask in the end."""
    before = build_of(client)
    frame = first_frame(client)
    region: dict[str, Any] = frame["regions"][0]
    for number in range(51):
        status, answer = client.decide(frame, region, "reject" if number % 2 else "accept", expected=region["event"])
        assert status == 200, answer
        region = answer["region"]
    deadline = time.monotonic() + 30
    while build_of(client) == before:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return region


def build_of(client: Client) -> str:
    return str(client.get("/api/queue?limit=1")["cursor"].partition(":")[0])


def add_masks(workspace: Workspace) -> list[dict[str, Any]]:
    """A proposal more for each mask, in a part of their own."""
    before = workspace.store.read_all(REGIONS).to_pylist()
    rows = [{**row, "region_id": row["region_id"][::-1], "structure": "falx"} for row in before]
    info = PartInfo("new", "masks-import", "0", "new", len(rows))
    workspace.store.write(REGIONS, info, REGIONS.from_rows(rows))
    return rows
