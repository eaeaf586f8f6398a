"""Only the page itself, opened by somebody who knows the token, gets anything from the server."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from sono.curation.review.server.access import BehindProxy, checked_reviewer
from sono.manifests.errors import UserError
from sono.manifests.workspace import Workspace
from tests.curation.review.serving import Client, Server

Serve = Callable[..., Server]

SECRET = "5e" * 16


def test_nobody_gets_in_without_the_token(predicted: Workspace, serve: Serve) -> None:
    server = serve(predicted)
    stranger = Client(server.address)
    for path in ("/", "/api/session", "/static/main.js", "/?token=wrong", "/api/session?token=wrong"):
        assert stranger.ask("GET", path)[0] == 401, path
    token = server.address.partition("token=")[2]
    assert stranger.ask("GET", f"/api/session?token={token}")[0] == 401  # only the page itself takes it
    assert stranger.ask("GET", f"/?token={token}")[0] == 200
    assert stranger.ask("GET", "/api/session")[0] == 200


def test_other_pages_in_the_same_browser_get_nothing(predicted: Workspace, serve: Serve) -> None:
    client = serve(predicted).client()
    headers: tuple[tuple[dict[str, str], int], ...] = (
        ({"Host": "evil.example"}, 421),
        ({"Host": "localhost:1"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"X-Sono-Review": "0"}, 403),
        ({"Content-Length": str(2**30)}, 413),
    )
    for changed, status in headers:
        assert client.ask("POST", "/api/undo", {"event_id": "0" * 32}, changed)[0] == status, changed


def test_nothing_is_done_in_the_name_of_somebody_else(predicted: Workspace, serve: Serve) -> None:
    """A page that was left open, and whose browser somebody else has signed in with since, sends what it still has."""
    client = serve(predicted).client()
    frame = client.get(f"/api/frames/{client.get('/api/queue')['items'][0]['frame_id']}")
    decision = client.decision(frame, frame["regions"][0], "accept")
    step = {"event_id": "0" * 32}
    for path, body in (("decisions", decision), ("undo", step), ("redo", step)):
        status, answer = client.ask("POST", f"/api/{path}", {**body, "reviewer": "bob"})
        assert (status, answer["error"]) == (422, "other_reviewer")
        assert "bob's, but you are signed in as anna" in answer["message"]
        assert client.ask("POST", f"/api/{path}", {**body, "reviewer": "anna"})[0] == 200
        step = {"event_id": uuid.uuid4().hex}


def test_every_answer_has_strict_headers(predicted: Workspace, serve: Serve) -> None:
    import urllib.request

    client = serve(predicted).client()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(client.cookies))
    for path in ("/", "/api/session", "/static/style.css"):
        with opener.open(client.origin + path) as answer:
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
            assert "unsafe" not in answer.headers["Content-Security-Policy"]
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "Server" not in answer.headers
    cookie = next(iter(client.cookies))
    assert cookie.has_nonstandard_attr("HttpOnly")
    assert cookie.get_nonstandard_attr("SameSite") == "Strict"


def test_files_outside_the_page_are_not_served(predicted: Workspace, serve: Serve) -> None:
    client = serve(predicted).client()
    for path in ("/static/../server/app.py", "/static/%2e%2e/server/app.py", "/secret.key", "/static/__init__.py"):
        assert client.ask("GET", path)[0] == 404, path


def test_a_second_server_is_told_where_the_first_one_is(predicted: Workspace, serve: Serve) -> None:
    first = serve(predicted)
    command = [sys.executable, "-c", "from sono.curation.cli import main; main()", "review", str(predicted.path)]
    second = subprocess.run([*command, "--no-open"], capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert f"is being reviewed already at {first.address.partition('/?')[0]}" in second.stderr
    assert "token" not in second.stderr
    assert first.client().get("/api/session")["reviewer"] == "anna"


def test_behind_a_proxy_its_users_decide(predicted: Workspace, serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET + "\n")
    origin = "https://review.hospital.example"
    server = serve(predicted, "--proxy-origin", origin, "--proxy-secret", str(tmp_path / "secret"))
    port = _port_of(predicted)
    client = Client(f"http://127.0.0.1:{port}")
    own = {"Host": "review.hospital.example", "X-Sono-Proxy-Secret": SECRET, "X-Remote-User": "dr.weiss"}
    assert server.address == origin
    assert client.ask("GET", "/api/session", headers=own)[1]["reviewer"] == "dr.weiss"
    for name, value, status in (
        ("X-Sono-Proxy-Secret", "another", 403),
        ("X-Remote-User", "", 401),
        ("X-Remote-User", "<script>", 401),
        ("Host", f"127.0.0.1:{port}", 421),
    ):
        assert client.ask("GET", "/api/session", headers={**own, name: value})[0] == status, (name, value)


def _port_of(workspace: Workspace) -> int:
    import json

    address: str = json.loads((workspace.path / "review" / "server.json").read_text())["address"]
    return int(address.rpartition(":")[2])


def test_settings_of_a_proxy_are_checked() -> None:
    for origin, secret in (("review.hospital.example", SECRET), ("https://a.example/path", SECRET), ("https://a", "x")):
        with pytest.raises(UserError):
            BehindProxy(origin, "X-Remote-User", secret)
    with pytest.raises(UserError):
        checked_reviewer("a\nb")
