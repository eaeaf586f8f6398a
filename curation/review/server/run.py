"""Serves the review page of a workspace until it is stopped: what ``sono-curate review`` runs."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sono.curation.masks.backends.registry import BackendChoice
from sono.curation.review.config import reading_plan
from sono.manifests.console import Interrupted
from sono.manifests.errors import UserError, import_extra
from sono.manifests.journal import Journal
from sono.manifests.journal_file import FOLDER, journal_path
from sono.manifests.schemas import FRAMES
from sono.manifests.store import write_atomically
from sono.manifests.workspace import Workspace

from .access import Access, Alone, BehindProxy, checked_reviewer
from .alone import RUNNING, reviewing_alone
from .decisions import Decisions
from .frame_index import FrameIndex
from .frame_view import FrameReader
from .proposals import Proposals
from .rereading import Rereading
from .sessions import Sessions
from .work import Work

if TYPE_CHECKING:
    import uvicorn

_PORT = "port"
_HOST = "127.0.0.1"
_OPEN_THAT = "open that page, or stop its server with Ctrl-C first"


@dataclass(frozen=True)
class ProxySettings:
    """The hospital's reverse proxy: the origin that browsers see, its header with the user's name, and its secret."""

    origin: str
    user_header: str
    secret: str


def serve_review(
    workspace: Workspace,
    *,
    reviewer: str,
    port: int = 0,
    backend: BackendChoice | None = None,
    proxy: ProxySettings | None = None,
    ready: Callable[[str], object] = lambda _: None,
) -> None:
    """Serve the page on 127.0.0.1 until the process is interrupted; bring the tables up to date before and after.

    Args:
        reviewer: who decides; behind a proxy, its users do.
        port: 0 for that of the last time, or any that is free.
        backend: what answers prompts; None for drawing alone.
        ready: called with the address to open, once it can be opened.

    Raises:
        UserError: the workspace has no frames, it is served already, the port is taken, or the model cannot be loaded.
    """
    import_extra("uvicorn", "review")
    import_extra("starlette", "review")
    checked_reviewer(reviewer)
    if not workspace.store.paths(FRAMES):
        raise UserError(
            "the workspace has no frames yet", where=str(workspace.path), fix="run sono-curate ingest first"
        )
    with reviewing_alone(workspace, _OPEN_THAT), _listening(port or _last_port(workspace)) as listener:
        origin = f"http://{_HOST}:{listener.getsockname()[1]}"
        with contextlib.suppress(UserError):  # where another command is writing, the queue does without
            workspace.apply_decisions()  # which a server that was killed has left
        access: Access = (
            BehindProxy(proxy.origin, proxy.user_header, proxy.secret) if proxy else Alone(reviewer, origin)
        )
        _serve(workspace, access, origin, listener, backend, ready)
    with workspace.writing():
        pass  # which brings the tables up to date with the journal


def _serve(
    workspace: Workspace,
    access: Access,
    origin: str,
    listener: socket.socket,
    backend: BackendChoice | None,
    ready: Callable[[str], object],
) -> None:
    import uvicorn

    from .app import Review, review_app

    journal = Journal(journal_path(workspace.path))
    index = FrameIndex(workspace.store, workspace.path / "cache" / "review")
    reader = FrameReader(workspace.store, index, journal)
    work = Work(workspace, journal, index.refresh)
    proposals = None
    try:
        proposals = Proposals(workspace, backend, reader) if backend else None
        rereading = Rereading(journal, reading_plan(workspace))
        review = Review(
            workspace=workspace,
            vocabulary=workspace.vocabulary,
            journal=journal,
            reader=reader,
            decisions=Decisions(reader, journal, rereading, workspace.keys, workspace.vocabulary),
            work=work,
            proposals=proposals,
            sessions=Sessions(),
            rereading=rereading,
        )
        config = uvicorn.Config(
            review_app(review, access),
            http="h11",
            ws="none",
            lifespan="off",
            log_level="critical",  # its log would name addresses and frames
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=5,
        )
        server = uvicorn.Server(config)
        note = workspace.path / FOLDER / RUNNING
        content = json.dumps({"pid": os.getpid(), "address": origin}).encode()
        write_atomically(note, lambda file: file.write(content))
        port = str(listener.getsockname()[1]).encode()
        write_atomically(workspace.path / FOLDER / _PORT, lambda file: file.write(port))
        try:
            _run(server, listener, lambda: ready(access.address if isinstance(access, Alone) else access.origin))
        finally:
            note.unlink(missing_ok=True)
    finally:
        if proposals is not None:
            proposals.close()
        work.close()


def _run(server: uvicorn.Server, listener: socket.socket, started: Callable[[], object]) -> None:
    """Run the server in a thread of its own until Ctrl-C, which is how it is stopped, or until it fails."""
    # Not Thread.join: interrupted, it takes the thread for ended (https://github.com/python/cpython/issues/90882).
    ended = threading.Event()

    def run() -> None:
        try:
            server.run(sockets=[listener])
        finally:
            ended.set()

    threading.Thread(target=run, name="server").start()
    try:
        while not server.started and not ended.is_set():
            time.sleep(0.005)
        if not ended.is_set():
            started()
        while not ended.wait(1.0):
            pass
    except (KeyboardInterrupt, Interrupted):
        pass
    finally:
        server.should_exit = True
        ended.wait()


def _last_port(workspace: Workspace) -> int:
    """The port of the last time, so that a page that is still open finds its server again; 0 if there is none, or it
    is taken.
    """
    try:
        port = int((workspace.path / FOLDER / _PORT).read_text())
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((_HOST, port))
    except (OSError, ValueError, OverflowError):
        return 0
    return port


@contextlib.contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    # With the protocol named, asyncio sets TCP_NODELAY. Without, an answer's body waits 40 ms for its headers' receipt.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((_HOST, port))
        except OSError as error:
            raise UserError(f"port {port} cannot be used: {error.strerror}", fix="choose another --port") from error
        listener.listen(128)
        yield listener
