"""The page's modules in a real browser, served as files: what needs no server is tested without one."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(str(resources.files("sono.curation.review.page")))
BLANK = b"<!doctype html><title>modules</title><body></body>"


class _Files(http.server.SimpleHTTPRequestHandler):
    """The page's folder as ``/static/``, a blank page that imports from it, and a server that fails as proxies do."""

    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".js": "text/javascript"}  # noqa: RUF012

    def translate_path(self, path: str) -> str:
        return super().translate_path(path.removeprefix("/static"))

    def do_GET(self) -> None:
        if self.path == "/api/session":
            self.send_response(302)
            self.send_header("Location", "/sign-in")
            self.end_headers()
            return
        if self.path not in ("/", "/sign-in"):
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(BLANK)

    def do_POST(self) -> None:
        """An answer that is cut off."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b'{"event":')

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def modules(browser: Any) -> Iterator[Any]:
    """A blank page in Chromium, whose scripts can import ``/static/*.js``."""
    handler = functools.partial(_Files, directory=str(PAGE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        yield page
        page.close()
        server.shutdown()
