"""The demo, run as a user runs it: every step, its page in a browser, a second run, an interrupted run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from sono.curation.phantom.truth import TRUE_FRAMES, TRUE_TEXTS
from sono.manifests.store import TableStore

from .conftest import environment
from .test_kill import ends

SCORED = ("none", "region", "shuffled", "blank", "leak")
QUICK = ("--runs", "1", "--set", "train.steps=12", "--set", "train.warmup_steps=4", "--set", "log.every=2")
WORDS = ("out", "--exams", "8", *QUICK)
STEPS = (
    "sono-curate phantom",
    "sono-curate init",
    "sono-curate ingest",
    "sono-curate ingest",
    "sono-curate qc",
    "sono-curate masks",
    "sono-curate masks",
    "sono-curate caption",
    "sono-curate audit",
    "sono-curate build",
    "sono-train pretrain",
    "sono-train evaluate",
    "sono-curate publish",
)


@dataclass(frozen=True)
class Demo:
    """A finished demo: the folder it was run in, its output, and its page."""

    folder: Path
    printed: str
    page: Path

    @property
    def out(self) -> Path:
        return self.page.parent


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sono-curate", "demo", *words],
        cwd=folder,
        env=demo_environment(folder),
        capture_output=True,
        text=True,
        timeout=600,
    )


def demo_environment(folder: Path) -> dict[str, str]:
    return environment(HF_HOME=str(folder / "hf"), OMP_NUM_THREADS="1")


@dataclass(frozen=True)
class Interrupted:
    """A demo that was interrupted while it drew its first images."""

    folder: Path
    code: int
    printed: str
    errors: str
    all_ended: bool


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    folder = tmp_path_factory.mktemp("demo")
    process = subprocess.Popen(
        ["sono-curate", "demo", *WORDS],
        cwd=folder,
        env=demo_environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_for_images(folder / "out" / "phantoms" / "dicom", process)
        os.killpg(process.pid, signal.SIGINT)
        printed, errors = process.communicate(timeout=60)
        return Interrupted(folder, process.returncode, printed, errors, ends(process.pid))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def wait_for_images(folder: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not list(folder.rglob("*.dcm")):
        assert process.poll() is None, "it ended before it drew anything"
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def demo(interrupted: Interrupted) -> Demo:
    """The interrupted demo, resumed: every other test looks at what that gave."""
    done = run(interrupted.folder, *WORDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return Demo(interrupted.folder, done.stdout, interrupted.folder / "out" / "index.html")


def announced(printed: str) -> list[tuple[int, int, str]]:
    """(number, total, command) of every announced step."""
    found = re.findall(r"^\[(\d+)/(\d+)\] (.+)$", printed, flags=re.MULTILINE)
    return [(int(number), int(count), command) for number, count, command in found]


def test_every_command_is_announced_before_it_runs(demo: Demo) -> None:
    steps = announced(demo.printed)
    assert [" ".join(command.split()[:2]) for _, _, command in steps] == list(STEPS)
    assert [(number, count) for number, count, _ in steps] == [(n, len(STEPS)) for n in range(1, len(STEPS) + 1)]


def test_the_table_on_the_terminal_lists_all_four_masks_and_the_leak(demo: Demo) -> None:
    table = demo.printed[demo.printed.index("planes told apart on the held-out center") :]
    assert tuple(re.findall(r"^(\w+) +\d+\.\d% +\d+\.\d% - \d+\.\d% +\d+\.\d%$", table, flags=re.MULTILINE)) == SCORED
    assert re.search(r"^region - none, run 0: [+-]\d+\.\d points \(", table, flags=re.MULTILINE)
    assert table.rstrip().endswith(f"Look at {Path('out') / 'index.html'}")


# ------------------------------------------------------------------------------------------------------------ the page


class _Words(HTMLParser):
    """A page's text and attributes, without the images' data."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_data(self, data: str) -> None:
        self.found.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if value and not value.startswith("data:image/")]


@pytest.fixture(scope="module")
def words(demo: Demo) -> str:
    parser = _Words()
    parser.feed(demo.page.read_text(encoding="utf-8"))
    return "\n".join(parser.found)


def test_the_page_has_no_template_syntax_left(demo: Demo, words: str) -> None:
    assert not re.search(r"\{\{|\{%|\}\}|%\}|Undefined", words)
    assert "None" not in words
    assert len(re.findall(r"<img ", demo.page.read_text())) >= 4


def test_the_page_names_no_path_of_the_machine(demo: Demo, words: str) -> None:
    assert not re.search(r"(?:^|[\s\"'=(])(?:/\w|~/|[A-Z]:\\|file:)", words, flags=re.MULTILINE)
    assert str(demo.folder) not in words


def test_the_page_names_no_patient(demo: Demo, words: str) -> None:
    secrets = identities(demo.out / "phantoms")
    assert len(secrets) > 40
    found = {secret for secret in secrets if re.search(rf"(?<!\w){re.escape(secret)}(?!\w)", words, re.IGNORECASE)}
    assert found == set()


def identities(phantoms: Path) -> set[str]:
    """Burned-in texts, each name and number in them, and the headers' identifiers."""
    truth = TableStore(phantoms / "truth")
    texts = [row["text"] for row in truth.read_all(TRUE_TEXTS).to_pylist() if row["identity"]]
    frames = truth.read_all(TRUE_FRAMES).to_pylist()
    files = [part for row in frames for part in Path(row["file"]).parts[1:3]]  # patient and date
    parts = [part for text in [*texts, *files] for part in re.split(r"[ ,_]+", text)]
    numbers = [row[key] for row in frames for key in ("patient_id", "study_uid")]
    # 'Hospital', 'DOB' and 'South' identify nobody.
    common = {"hospital", "south", "clinic", "women's", "dob", "id", "st."}
    return {secret for secret in (*texts, *files, *parts, *numbers) if len(secret) > 2 and secret.lower() not in common}


def test_a_browser_shows_the_entire_page_without_any_request(demo: Demo, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(demo.page.as_uri())
    page.wait_for_load_state("networkidle")

    assert complaints == []
    assert [url for url in requests if not url.startswith(("data:image/", demo.page.as_uri()))] == []
    assert page.locator("h1").is_visible()
    for mask in SCORED:
        assert page.locator("tr", has=page.locator(f"td b:text-is('{mask}')")).is_visible()
    widths = page.locator("img").evaluate_all("images => images.map(image => image.naturalWidth)")
    assert len(widths) >= 4
    assert min(widths) > 0
    for width in (1280, 400):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"cut off at {width} px"
    page.close()


# ----------------------------------------------------------------------------------------------------- further runs


def written(out: Path) -> dict[str, int]:
    """When each file of the archive, tables, dataset and checkpoints was written.

    An audit looks at all that the workspace says, and says it again once ``build`` has noted its dataset there.
    """
    files = [path for path in out.rglob("*") if path.suffix in (".dcm", ".parquet", ".pt")]
    return {str(path): path.stat().st_mtime_ns for path in files if "audit" not in path.relative_to(out).parts}


def test_a_second_run_computes_nothing_and_writes_the_same_page(demo: Demo) -> None:
    page, files = demo.page.read_bytes(), written(demo.out)
    again = run(demo.folder, *WORDS)
    assert again.returncode == 0, again.stdout + again.stderr
    assert re.findall(r"(\d+) (?:parts computed|shards written)", again.stdout) == ["0"] * 10
    assert written(demo.out) == files
    assert len(files) > 80
    assert demo.page.read_bytes() == page


def test_a_folder_with_another_demo_is_refused_in_one_line(demo: Demo) -> None:
    page, files = demo.page.read_bytes(), written(demo.out)
    other = run(demo.folder, "out", "--exams", "9", *QUICK)
    assert other.returncode == 1
    assert other.stdout == ""
    (line,) = other.stderr.splitlines()
    assert "out: this folder contains a demo with other settings" in line
    assert (demo.page.read_bytes(), written(demo.out)) == (page, files)


def test_ctrl_c_ends_every_process(interrupted: Interrupted) -> None:
    assert interrupted.code == 130, interrupted.printed + interrupted.errors
    assert interrupted.all_ended, "a process outlived the demo"
    assert [number for number, _, _ in announced(interrupted.printed)] == [1]
    assert "interrupted" in interrupted.errors
    assert "Traceback" not in interrupted.printed + interrupted.errors


def test_the_next_run_resumes(demo: Demo) -> None:
    assert len(announced(demo.printed)) == len(STEPS)
    assert demo.page.exists()
    assert not list(demo.out.rglob(".tmp-*")), "partial files are removed"
