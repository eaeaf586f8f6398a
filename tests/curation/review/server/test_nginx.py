"""The documented configuration of nginx lets its users review under their own names, and as nobody else."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sono.manifests.journal import Journal
from sono.manifests.journal_file import journal_path
from sono.manifests.workspace import Workspace
from tests.conftest import ROOT
from tests.curation.review.serving import Client, Server

SECRET = "1234567890abcdef" * 2
PASSWORDS = {"dr.weiss": "one", "s.khan": "two"}


@dataclass
class Proxied(Client):
    """A user's browser in front of nginx."""

    user: str = "dr.weiss"

    def ask(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        credentials = base64.b64encode(f"{self.user}:{PASSWORDS.get(self.user, 'wrong')}".encode()).decode()
        own = {"Origin": self.origin, "X-Sono-Review": "1"} if body is not None else {}
        data = None if body is None else json.dumps(body).encode()
        given = {"Authorization": f"Basic {credentials}", **own, **(headers or {})}
        request = urllib.request.Request(self.origin + path, data=data, headers=given, method=method)
        unverified = ssl._create_unverified_context()  # the certificate of this test is nobody's
        try:
            with urllib.request.urlopen(request, timeout=30, context=unverified) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, error.read()


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Callable[[int, int], None]]:
    """Starts Debian's nginx on 127.0.0.1 with the documented configuration, before a server on another port."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if program is None or shutil.which("openssl") is None:
        pytest.skip("nginx not found: apt-get install nginx-light openssl")
    started: list[subprocess.Popen[bytes]] = []

    def start(port: int, server: int) -> None:
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"),
                *("-keyout", str(tmp_path / "review.key"), "-out", str(tmp_path / "review.pem")),
            ],
            check=True,
            capture_output=True,
        )
        (tmp_path / "reviewers").write_text("".join(f"{user}:{{PLAIN}}{word}\n" for user, word in PASSWORDS.items()))
        (tmp_path / "nginx.conf").write_text(_configuration(tmp_path, port, server))
        command = [program, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "error.log")]
        started.append(subprocess.Popen([*command, "-g", "daemon off;"]))
        _wait_for(port)

    yield start
    for process in started:
        process.terminate()
        process.wait(timeout=10)


def _configuration(folder: Path, port: int, server: int) -> str:
    text = (ROOT / "docs" / "review-nginx.conf").read_text()
    for documented, here in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("http://127.0.0.1:8800", f"http://127.0.0.1:{server}"),
        ("/etc/ssl/certs/review.pem", str(folder / "review.pem")),
        ("/etc/ssl/private/review.key", str(folder / "review.key")),
        ("/etc/sono/reviewers", str(folder / "reviewers")),
        ("the content of /etc/sono/secret", SECRET),
    ):
        assert documented in text
        text = re.sub(re.escape(documented), here, text)
    places = "".join(
        f"{name}_temp_path {folder / name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.geteuid() == 0 else ""  # its workers would not be let into the folder
    return f"{user}pid {folder / 'nginx.pid'};\nevents {{}}\nhttp {{\n{places}{text}\n}}\n"


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("nginx did not start")


def test_users_of_the_proxy_review_under_their_names(
    predicted: Workspace, serve: Callable[..., Server], nginx: Callable[[int, int], None], tmp_path: Path
) -> None:
    port = _free_port()
    (tmp_path / "secret").write_text(SECRET)
    origin = f"https://127.0.0.1:{port}"
    serve(predicted, "--proxy-origin", origin, "--proxy-secret", str(tmp_path / "secret"))
    address = json.loads((predicted.path / "review" / "server.json").read_text())["address"]
    nginx(port, int(address.rpartition(":")[2]))

    weiss, khan = Proxied(origin), Proxied(origin, user="s.khan")
    assert Proxied(origin, user="stranger").ask("GET", "/api/session")[0] == 401
    assert weiss.get("/api/session")["reviewer"] == "dr.weiss"
    forged = {"X-Remote-User": "s.khan", "X-Sono-Proxy-Secret": "x"}
    assert weiss.ask("GET", "/api/session", headers=forged)[1]["reviewer"] == "dr.weiss"

    frame = weiss.get(f"/api/frames/{weiss.get('/api/queue')['items'][0]['frame_id']}")
    assert weiss.decide(frame, frame["regions"][0], "accept")[0] == 200
    assert khan.decide(frame, frame["regions"][0], "reject")[0] == 409
    assert khan.decide(frame, frame["regions"][1], "reject")[0] == 200
    evil = {"Origin": "https://evil.example"}
    assert weiss.ask("POST", "/api/undo", {"event_id": "0" * 32}, evil)[0] == 403
    assert [event.reviewer for event in Journal(journal_path(predicted.path)).events()] == ["dr.weiss", "s.khan"]
