"""Fixtures that several folders of tests share."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sono.curation.engines.local import default_workers
from sono.manifests import pseudonyms
from sono.manifests.key_check import record_key
from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.workspace import Workspace, create
from tests.hub.fixtures import hub, hub_process  # noqa: F401 - fixtures

ROOT = Path(__file__).resolve().parents[1]
SLOW_FOLDERS = {"end_to_end", "examples"}
SLOW_FIXTURES = {
    "phantom_archive", "other_archive", "curated", "cleaned_archive",  # draw and ingest an archive
    "clinic", "curation",  # run whole stages on a workspace
    "learned", "finished",  # train
    "sam_files",  # exports a model
    "fragile",  # kills a worker per row
    "wheel", "sdist", "wheel_from_sdist", "installed",
}  # fmt: skip


# Tests run in a process per core: threads of one would only wait for those of another. Set before numpy and torch are
# imported, and for the programs that the tests start.
for _variable in ("OMP_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
    os.environ.setdefault(_variable, "1")


def pytest_xdist_auto_num_workers() -> int:
    """With ``-n auto``, a process for every processor that the tests may use."""
    return default_workers()


@pytest.hookimpl(tryfirst=True)  # before `-m "not slow"` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that use a slow fixture are slow, as are those of programs from end to end.

    Files with slow tests come first: pytest-xdist hands out files in this order, and no process idles at the end.
    """
    for item in items:
        if SLOW_FIXTURES.intersection(getattr(item, "fixturenames", ())) or item.path.parent.name in SLOW_FOLDERS:
            item.add_marker("slow")
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_configure() -> None:
    """Programs that the tests start can be interrupted, even if the tests themselves were told to ignore signals.

    A script's background jobs ignore SIGINT, and programs inherit that; a handler is not inherited. So this process
    still ignores the signal, and its children do not.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})


@pytest.fixture(scope="session", autouse=True)
def _no_caches_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Training keeps its frames below XDG_CACHE_HOME; what tests train on is nobody's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_power_failure() -> Iterator[None]:
    """Waiting for the disk protects from a power failure, which no test can see; programs that tests start do wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _same_keys_in_every_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A key decides where parts are cut and who is in which split: one that is drawn anew fails a test once in a while.

    Workspaces that the tests make get the key that follows from where they are; those of programs that tests start have
    one of chance.
    """
    base = tmp_path_factory.getbasetemp().resolve()
    made: Counter[str] = Counter()

    def create_key(path: Path) -> Pseudonymizer:
        place = os.path.relpath(path.resolve(), base).removeprefix("../")  # as of ``made_once``, in every process
        made[place] += 1
        with pytest.MonkeyPatch.context() as patch:
            key = hashlib.sha256(f"{place}/{made[place]}".encode()).digest()
            patch.setattr("secrets.token_bytes", lambda count: key[:count])
            return draw_key(path)

    draw_key = pseudonyms.create_key
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pseudonyms, "create_key", create_key)
        yield


@pytest.fixture(scope="session")
def made_once(
    tmp_path_factory: pytest.TempPathFactory, worker_id: str
) -> Callable[[str, Callable[[Path], object]], Path]:
    """Fills a folder once for all of pytest-xdist's processes: whoever asks first makes it, the others wait for it.

    Such a folder is only read; a test that changes it works on a copy.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base if worker_id == "master" else base.parent) / "made_once"
    shared.mkdir(exist_ok=True)

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder, done = shared / name, shared / f"{name}.done"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real ultrasound, which the project does not ship."""
    folder = Path(os.environ.get("SONO_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("real ultrasound is not here: set SONO_SHARED_DATA to the folder that holds hc18/ and us_dicom/")
    return folder


@pytest.fixture(scope="session")
def hc18(shared_data: Path) -> Path:
    return shared_data / "hc18"


@pytest.fixture(scope="session")
def us_dicom(shared_data: Path) -> Path:
    return shared_data / "us_dicom"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """With a key that is the same in every run: the key decides where parts are cut and who is in which split."""
    workspace = create(tmp_path / "workspace", "Hospital A")
    (workspace.path / "secret.key").write_text("5e" * 32)
    record_key(workspace.path, workspace.keys)
    return workspace


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, driven by playwright."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium not found: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield browser
        browser.close()
