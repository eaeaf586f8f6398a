"""The loopback Hub as a fixture, and clients of this process turned towards it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from .faults import Fault
    from .server import HubServer


class Hub:
    """A running Hub. ``token`` may write to the namespace ``user``, ``reader`` may only read it, ``stranger`` neither.

    Attributes:
        state: what it knows.
        waits: seconds that huggingface_hub in this process would have waited before it tried again, and did not.
    """

    user, token, reader, stranger = "hospital", "hf_owner", "hf_reader", "hf_stranger"

    def __init__(self, state: HubServer) -> None:
        self.state = state
        self.waits: list[float] = []

    @property
    def address(self) -> str:
        return self.state.address

    @property
    def api(self) -> HfApi:
        from huggingface_hub import HfApi

        return HfApi(endpoint=self.address, token=self.token)

    @property
    def environment(self) -> Mapping[str, str]:
        """For programs that a test starts. Xet is off: this Hub does not speak it."""
        return {
            "HF_ENDPOINT": self.address,
            "HF_TOKEN": self.token,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
        }

    def fail(self, *faults: Fault) -> None:
        self.state.faults.extend(faults)

    def files(self, repo: str, revision: str = "main", kind: str = "dataset") -> dict[str, str]:
        """SHA-256 (or the Git blob's id) by path."""
        repository = self.state.repository(kind, repo)
        found = repository.files(repository.commit_of(revision))
        return {path: file.sha256 or file.oid for path, file in found.items() if path != ".gitattributes"}


@contextlib.contextmanager
def running_hub(root: Path) -> Iterator[Hub]:
    """A Hub that keeps its repositories below ``root``, on a port of its own, until the block ends."""
    import uvicorn

    from .server import HubServer, User

    # asyncio sends answers at once only over sockets that say they are TCP's.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    state = HubServer(root, f"http://127.0.0.1:{port}", f"http://localhost:{port}")
    state.users |= {
        Hub.token: User(Hub.user),
        Hub.reader: User(Hub.user, "read"),
        Hub.stranger: User("stranger"),
    }
    server = uvicorn.Server(uvicorn.Config(state, log_level="critical", lifespan="off", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield Hub(state)
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()


@pytest.fixture(scope="session")
def hub_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """The Hub of this process's tests; use ``hub``."""
    with running_hub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture
def hub(hub_process: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """An empty Hub that huggingface_hub and datasets in this process, and programs that a test starts, talk to."""
    import datasets.config
    import huggingface_hub.constants as constants
    from huggingface_hub import HfFileSystem
    from huggingface_hub.utils import _http

    hub_process.state.clear()
    HfFileSystem.clear_instance_cache()
    address = hub_process.address
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    )
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", address)
    monkeypatch.setattr(
        datasets.config, "HUB_DATASETS_URL", f"{address}/datasets/{{repo_id}}/resolve/{{revision}}/{{path}}"
    )
    hub_process.waits.clear()
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=hub_process.waits.append, time=time.time))
    for name, value in {**hub_process.environment, "HF_HOME": str(tmp_path / "hf")}.items():
        monkeypatch.setenv(name, value)
    return hub_process
