"""The tests themselves: they pass however they are started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_ctrl_c_tests_pass_where_signals_are_ignored() -> None:
    """As in a script's background job, whose children inherit that."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "ctrl_c_exits"]
    done = subprocess.run(
        ["sh", "-c", "trap '' INT TERM; exec \"$@\"", "sh", *command, "tests/manifests/test_console.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
