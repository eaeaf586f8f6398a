"""A run that finds everything up to date starts no process and loads no library that it does not need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sono.manifests.workspace import Workspace

from .conftest import SonoCurate

# Given to ``python -c``: runs the program and prints the libraries that it loaded and whether it had child processes.
TRACED = """
import atexit, json, multiprocessing.process, sys
started = []
start = multiprocessing.process.BaseProcess.start
multiprocessing.process.BaseProcess.start = lambda self: (started.append(1), start(self))
loaded = lambda: sorted({name.partition(".")[0] for name in sys.modules} & set(HEAVY))
atexit.register(lambda: print("\\n" + json.dumps([loaded(), len(started)])))
sys.argv = ["sono-curate", *WORDS]
from sono.curation.cli import main
main()
"""
HEAVY = ["cv2", "datasets", "duckdb", "pandas", "pydicom", "torch"]


def loaded_and_started(*words: object) -> tuple[set[str], int]:
    script = TRACED.replace("HEAVY", repr(HEAVY)).replace("WORDS", repr([str(word) for word in words]))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    loaded, started = json.loads(done.stdout.splitlines()[-1])
    return set(loaded), started


@pytest.fixture
def up_to_date(workspace: Workspace, archive: Path, sono_curate: SonoCurate) -> tuple[Path, list[object]]:
    """The workspace after ``ingest`` and ``qc``, and the words that ingest it again."""
    words: list[object] = ["ingest", workspace.path, archive, "--patient-regex", r"^(P\d)/"]
    sono_curate(*words)
    sono_curate("qc", workspace.path)
    return workspace.path, words


@pytest.mark.slow
def test_an_up_to_date_run_starts_no_process_and_loads_no_library_for_pixels(
    up_to_date: tuple[Path, list[object]],
) -> None:
    path, ingest = up_to_date
    assert loaded_and_started(*ingest) == (set(), 0)
    assert loaded_and_started("qc", path) == ({"duckdb"}, 0)
    assert loaded_and_started("status", path) == ({"duckdb"}, 0)


@pytest.mark.slow
def test_what_is_new_is_read_by_other_processes(up_to_date: tuple[Path, list[object]], archive: Path) -> None:
    """So the test above looks at what it says."""
    path, ingest = up_to_date
    (archive / "P1" / "scan0.png").rename(archive / "P1" / "scan9.png")
    assert loaded_and_started(*ingest)[1] > 0
    assert loaded_and_started("qc", path)[1] > 0
