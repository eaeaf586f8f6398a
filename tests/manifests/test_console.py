"""How both programs end: their exit codes, and what they say, seen from the shell."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from sono.manifests.faults import FAULTS, expected_fault

pytestmark = pytest.mark.slow  # each test starts a program, or several
PROGRAM = Path(__file__).with_name("console_program.py")
CANARY = "JANE"


def environment(temporary: Path, **changes: str) -> Mapping[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**kept, "TMPDIR": str(temporary), "COLUMNS": "100", **changes}


def run(temporary: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment(temporary),
    )


def test_success_exits_with_0(tmp_path: Path) -> None:
    done = run(tmp_path, "work", "--amount", "3")
    assert (done.returncode, done.stdout, done.stderr) == (0, "did 3\n", "")


def test_a_user_error_is_one_line_on_stderr_and_exits_with_1(tmp_path: Path) -> None:
    done = run(tmp_path, "refuse")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "tiny: scans.csv: the file is empty; fill it\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["make-folder", ""], "argument 2"),
        (["make-folder", "  "], "argument 2"),
        (["work", "--amount", ""], "the value of --amount"),
        (["work", "--amount="], "the value of --amount"),
        ([""], "argument 1"),
    ],
)
def test_an_empty_argument_is_refused(words: list[str], what: str, tmp_path: Path) -> None:
    """As a shell passes a variable that is not set; as a path it would be the current folder."""
    done = run(tmp_path, *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"tiny: {what} is empty; give a value, or leave it out\n"


def place(name: str, folder: Path) -> Path:
    """A place that cannot be written to, whoever asks; root may write to a folder of mode 0."""
    (folder / "file").touch()
    (folder / "folder").mkdir()
    return {"full": Path("/dev/full"), "folder": folder / "folder", "below a file": folder / "file" / "x"}[name]


@pytest.mark.parametrize("command", ["touch", "touch-far-away"])
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("full", "no space is left; free some, then run the same command again"),
        ("folder", "a folder is where a file should be; move it away"),
        ("below a file", "a file is where a folder should be; move it away"),
    ],
)
def test_a_fault_of_the_machine_is_one_line_and_exits_with_1(
    tmp_path: Path, command: str, name: str, what: str
) -> None:
    (tmp_path / "tmp").mkdir()
    path = place(name, tmp_path)
    done = run(tmp_path / "tmp", command, str(path))
    assert (done.returncode, done.stdout) == (1, "")
    where = "" if name == "full" else f"{path}: "  # the error of a write names no file
    assert done.stderr.startswith(f"tiny: {where}{what}")
    assert len(done.stderr.splitlines()) == 1
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_file_where_a_folder_should_be_made(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    done = run(tmp_path, "make-folder", str(tmp_path / "out"))
    assert (done.returncode, done.stderr) == (
        1,
        f"tiny: {tmp_path / 'out'}: a file is where a folder should be; move it away, or name another place\n",
    )


def test_a_file_that_grows_beyond_the_limit(tmp_path: Path) -> None:
    command = ["sh", "-c", 'ulimit -f 20; exec "$@"', "sh", sys.executable, str(PROGRAM), "touch", str(tmp_path / "x")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("tiny: a file would be larger than allowed here; raise the limit (ulimit -f)")


@pytest.mark.parametrize("number", sorted(FAULTS))
def test_every_expected_fault_is_one_line_that_quotes_no_message(tmp_path: Path, number: int) -> None:
    done = run(tmp_path, "touch", "x", "--number", str(number))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert CANARY not in done.stderr


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EINVAL, errno.EBADF])
def test_other_errors_of_the_system_stay_internal_errors(tmp_path: Path, number: int) -> None:
    assert run(tmp_path, "touch", "x", "--number", str(number)).returncode == 3


@pytest.mark.parametrize(
    ("path", "shown"),
    [("named", "named"), ("named/DOE^JANE/IM1", "named"), ("elsewhere/DOE^JANE", None), ("w/qc/part-a", "w/qc/part-a")],
)
def test_only_paths_that_the_user_named_or_that_a_workspace_has_are_shown(
    tmp_path: Path, path: str, shown: str | None
) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "sono.toml").touch()
    error = OSError(errno.EACCES, "no", str(tmp_path / path))
    fault = expected_fault(error, ["ingest", str(tmp_path / "w"), str(tmp_path / "named"), "--workers", "1"])
    assert fault is not None
    assert fault.where == (None if shown is None else str(tmp_path / shown))


def test_a_full_standard_output_is_one_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, str(PROGRAM), "work"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
            env=environment(tmp_path),
        )
    assert (done.returncode, done.stderr) == (1, "tiny: no space is left; free some, then run the same command again\n")


def test_an_internal_error_whose_log_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LOG, str(PROGRAM), "fail"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment(tmp_path),
    )
    assert (done.returncode, done.stderr) == (3, "tiny: internal error (ValueError); its log could not be written\n")


WITHOUT_LOG = """
import errno, runpy, sys, tempfile
def full(**_):
    raise OSError(errno.ENOSPC, "no")
tempfile.mkstemp = full
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("arguments", [["work", "--amount", "many"], ["work", "--unknown"], ["nothing"], ["count"]])
def test_wrong_usage_exits_with_2_and_shows_the_usage(tmp_path: Path, arguments: list[str]) -> None:
    done = run(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: tiny" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["fail", "fail-in-worker"])
def test_an_internal_error_names_a_log_that_only_its_owner_may_read(tmp_path: Path, command: str) -> None:
    done = run(tmp_path, command)
    assert (done.returncode, done.stdout) == (3, "")
    said = re.fullmatch(r"tiny: internal error \(ValueError\); please report it with (.+)\n", done.stderr)
    assert said
    log = Path(said[1])
    assert log.parent == tmp_path
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


@pytest.mark.parametrize("command", ["fail", "fail-in-worker"])
def test_neither_the_log_nor_the_terminal_repeats_an_exceptions_message(tmp_path: Path, command: str) -> None:
    """A library's message may quote a header: ``DOE^JANE`` stands for a patient here."""
    assert CANARY in run(tmp_path, "canary").stdout
    done = run(tmp_path, command)
    (log,) = tmp_path.iterdir()
    assert CANARY not in done.stdout + done.stderr + log.read_text()


def test_the_log_holds_the_stack_and_what_led_to_it(tmp_path: Path) -> None:
    run(tmp_path, "fail")
    (log,) = tmp_path.iterdir()
    text = log.read_text()
    assert text.startswith("tiny 20")
    assert "builtins.ValueError\n" in text
    assert "builtins.UnicodeDecodeError\n" in text
    assert re.search(rf"{PROGRAM}:\d+ read_header: return content\.decode", text)


def test_the_log_holds_the_stack_of_a_worker(tmp_path: Path) -> None:
    run(tmp_path, "fail-in-worker")
    (log,) = tmp_path.iterdir()
    source = PROGRAM.read_text().splitlines()
    line = 1 + next(number for number, text in enumerate(source) if r"{CANARY}\nhas no" in text)
    assert f"  {PROGRAM}:{line}\n" in log.read_text()


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize(("lines", "wait_s"), [(200_000, 0), (1, 0.5)], ids=["much output", "little output, late"])
def test_a_closed_pipe_is_not_an_error(tmp_path: Path, lines: int, wait_s: float, buffered: bool) -> None:
    """As ``| head -1`` does: the pipe is closed when the program still writes, or before it writes at all."""
    with subprocess.Popen(
        [sys.executable, str(PROGRAM), "count", str(lines), "--wait-s", str(wait_s)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(tmp_path, **({} if buffered else {"PYTHONUNBUFFERED": "1"})),
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        if lines > 1:
            assert program.stdout.readline() == b"0\n"
        program.stdout.close()
        assert program.stderr.read() == b""
        assert program.wait(timeout=30) == 0
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_exits_with_130_and_says_how_to_resume(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, str(PROGRAM), "wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path),
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "waiting\n"
        program.send_signal(signal.SIGINT)
        _, err = program.communicate(timeout=30)
    assert program.returncode == 130
    assert err == "tiny: interrupted; run the same command again to resume where it stopped\n"
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_was_started_with_ctrl_c_ignored_keeps_ignoring_it(tmp_path: Path) -> None:
    """As a background job of a script is: Ctrl-C is meant for what runs in the foreground."""
    assert run(tmp_path, "interrupt-itself").returncode == 130
    command = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", sys.executable, str(PROGRAM), "interrupt-itself"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "still here\n", "")


def test_json_output_can_be_parsed(tmp_path: Path) -> None:
    found = json.loads(run(tmp_path, "as-json").stdout)
    assert (found["name"], found["rows"]) == ("Fötus", 3)


def test_progress_goes_to_stderr_and_can_be_disabled(tmp_path: Path) -> None:
    shown = run(tmp_path, "progress")
    assert shown.stdout == "done\n"
    assert re.search(r"ingest .* 4/4 parts +4,000 rows, 28 excluded", shown.stderr)
    quiet = run(tmp_path, "progress", "--no-enabled")
    assert (quiet.stdout, quiet.stderr) == ("done\n", "")
