"""The local engine: every argument gets its result, whatever happens to the process that works on it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sono.curation.engines.local import LocalEngine, default_workers
from sono.manifests.errors import UserError

pytestmark = pytest.mark.slow  # each test starts a program, or several

PROGRAM = Path(__file__).with_name("engine_runs.py")
PROMPTLY_S = 10  # far below the 60 s that a call of ``until_ended`` takes, far above what a busy machine adds


def run(name: str, folder: Path) -> Any:
    command = [sys.executable, str(PROGRAM), name, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


@contextlib.contextmanager
def until_ended(folder: Path, *, start_delay_s: float = 0) -> Iterator[subprocess.Popen[str]]:
    """The program, in a process group of its own, working for much longer than the test.

    Args:
        start_delay_s: how much longer its workers take to start.
    """
    command = [sys.executable, str(PROGRAM), "until_ended", str(folder)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "START_DELAY_S": str(start_delay_s)},
    ) as program:
        try:
            yield program
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)


def workers_of(folder: Path) -> list[int]:
    """The process ids of both workers, once both are at work."""
    wait_until(lambda: len(list(folder.glob("*.pid"))) == 2)
    return [int(path.read_text()) for path in folder.glob("*.pid")]


def wait_until(condition: Callable[[], bool], seconds: float = PROMPTLY_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def runs(pid: int) -> bool:
    """False for a dead process that nobody has collected yet, too."""
    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(shown.strip()) and not shown.strip().startswith("Z")


def squares(numbers: range) -> list[int]:
    return [number * number for number in numbers]


def test_every_argument_has_its_result(tmp_path: Path) -> None:
    assert sorted(run("all", tmp_path)) == squares(range(50))


def test_no_arguments_have_no_results(tmp_path: Path) -> None:
    assert run("none", tmp_path) == []


def test_there_may_be_more_workers_than_arguments(tmp_path: Path) -> None:
    assert run("more_workers_than_work", tmp_path) == [25]


def test_the_work_is_shared_by_separate_processes(tmp_path: Path) -> None:
    found = run("pids", tmp_path)
    assert sorted(result for result, _ in found) == squares(range(12))
    assert len({pid for _, pid in found}) == 2


def test_an_exception_ends_the_run_and_reaches_the_caller_unchanged(tmp_path: Path) -> None:
    assert run("error", tmp_path) == "UserError: the list: seven cannot be squared; leave it out"


@pytest.mark.slow
def test_an_argument_that_kills_its_worker_does_not_affect_other_results(tmp_path: Path) -> None:
    found = run("one_aborts", tmp_path)
    assert found.count({"crashed": 7}) == 1
    assert sorted(result for result in found if isinstance(result, int)) == [
        square for square in squares(range(20)) if square != 49
    ]


@pytest.mark.slow
def test_several_arguments_may_kill_their_workers(tmp_path: Path) -> None:
    found = run("several_abort", tmp_path)
    assert sorted(result["crashed"] for result in found if isinstance(result, dict)) == [-4, -3, -2, -1]
    assert sorted(result for result in found if isinstance(result, int)) == squares(range(1, 7))


def test_a_pool_that_breaks_while_the_caller_is_busy_loses_no_argument(tmp_path: Path) -> None:
    """It is found broken only when the next argument is given to it."""
    found = run("aborts_while_the_caller_is_busy", tmp_path)
    assert [result for result in found if isinstance(result, dict)] == [{"crashed": -1}]
    assert sorted(result for result in found if isinstance(result, int)) == squares(range(1, 5))


@pytest.mark.slow
def test_work_killed_from_outside_is_tried_again(tmp_path: Path) -> None:
    assert sorted(run("aborts_once", tmp_path)) == squares(range(8))
    assert (tmp_path / "tried-3").exists()


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A stage that dies on rows 0 and 4 of part 1 and excludes row 3 of each of three parts; run twice."""
    found: dict[str, Any] = run("stage", tmp_path_factory.mktemp("fragile"))
    return found


@pytest.mark.slow
def test_only_the_rows_that_kill_their_worker_are_excluded(fragile: dict[str, Any]) -> None:
    crashed = [["crashed", "1", 0], ["crashed", "1", 4]]
    assert sorted(fragile["excluded"]) == [*crashed, *(["third", str(part), 3] for part in range(3))]
    assert fragile["messages"] == ["a library crashed while working on it"] * 2
    assert fragile["frames"] == fragile["frames_without_crashes"]
    assert len(fragile["frames"]) == 3 * 5 - 5


def test_rows_that_kill_their_worker_are_counted(fragile: dict[str, Any]) -> None:
    assert fragile["report"]["exclusions"] == {"crashed": 2, "third": 3}
    assert fragile["report"]["rows"] == len(fragile["frames"])
    assert fragile["progress"] == [0, 1, 2, 3]


def test_a_part_that_killed_its_worker_is_up_to_date_afterwards(fragile: dict[str, Any]) -> None:
    assert (fragile["report"]["computed"], fragile["report"]["up_to_date"]) == (3, 0)
    assert (fragile["again"]["computed"], fragile["again"]["up_to_date"]) == (0, 3)
    assert fragile["again"]["exclusions"] == {"crashed": 2, "third": 3}


@pytest.mark.slow
def test_the_pool_writes_the_same_bytes_as_one_process(tmp_path: Path) -> None:
    assert run("same_tables", tmp_path) is True


def test_what_workers_write_on_stderr_is_not_shown(tmp_path: Path) -> None:
    """``run`` sees that stderr is empty: C libraries quote headers there."""
    assert sorted(run("stderr", tmp_path)) == [1, 2]


def test_no_worker_is_left_when_the_caller_stops_early(tmp_path: Path) -> None:
    assert run("stopped_early", tmp_path) == 0


def test_the_workers_end_when_the_program_is_killed(tmp_path: Path) -> None:
    with until_ended(tmp_path) as program:
        workers = workers_of(tmp_path)
        assert all(runs(pid) for pid in workers)
        program.kill()
        wait_until(lambda: not any(runs(pid) for pid in workers))


@pytest.mark.parametrize("to_all", [True, False], ids=["as a terminal does", "only to the program"])
def test_ctrl_c_ends_the_program_and_its_workers_promptly(tmp_path: Path, to_all: bool) -> None:
    with until_ended(tmp_path) as program:
        workers = workers_of(tmp_path)
        if to_all:
            os.killpg(program.pid, signal.SIGINT)
        else:
            program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=PROMPTLY_S)
        assert (program.returncode, out, err) == (130, "", "")
        assert not any(runs(pid) for pid in workers)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc to see a worker before it is at work")
def test_ctrl_c_while_workers_start_is_quiet(tmp_path: Path) -> None:
    with until_ended(tmp_path, start_delay_s=1) as program:
        children = Path(f"/proc/{program.pid}/task/{program.pid}/children")
        wait_until(lambda: len(children.read_text().split()) == 3)  # both workers, and Python's resource tracker
        time.sleep(0.1)  # less than the delay, so that no worker is at work yet
        os.killpg(program.pid, signal.SIGINT)
        out, err = program.communicate(timeout=PROMPTLY_S)
        assert (program.returncode, out, err) == (130, "", "")
        assert list(tmp_path.glob("*.pid")) == []


def test_an_engine_without_workers_is_refused() -> None:
    with pytest.raises(UserError, match="0 workers cannot do any work; give --workers 1 or more"):
        LocalEngine(0)


def test_the_default_is_one_worker_per_available_processor() -> None:
    assert 1 <= default_workers() <= (os.cpu_count() or 1)
