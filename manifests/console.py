"""What both command-line programs share: exit codes, the log of internal errors, and progress bars."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from .errors import UserError
from .faults import expected_fault

if TYPE_CHECKING:
    from types import FrameType

    import typer
    from rich.text import Text

    from .stages import Progress

EXIT_USER_ERROR, EXIT_INTERNAL_ERROR, EXIT_INTERRUPTED = 1, 3, 130


class Interrupted(BaseException):
    """Ctrl-C."""


def application(program: str, purpose: str) -> typer.Typer:
    """A program with what both have in common: ``--version``, shell completion, and help if called without arguments.

    Args:
        program: the command's name.
        purpose: one sentence, shown by ``--help``.
    """
    import typer

    # Typer's own page for exceptions would print local variables, which may hold a header's values.
    app = typer.Typer(name=program, help=purpose, no_args_is_help=True, pretty_exceptions_enable=False)

    def show_version(asked: bool) -> None:
        if asked:
            from importlib.metadata import version

            print(f"{program} {version('sono-curate')}")
            raise typer.Exit

    option = typer.Option(False, "--version", callback=show_version, is_eager=True, help="Print the version and exit.")

    @app.callback()
    def head(version: bool = option) -> None:  # not Annotated: Typer evaluates that outside this function
        del version  # its callback has done all there is to do

    head.__doc__ = purpose
    return app


def run(app: typer.Typer, program: str) -> NoReturn:
    """Run a Typer application as a program.

    Exits with 0 when done, 1 when the user's input or the machine is at fault (one line), 2 for wrong usage, 3 for an
    internal error (its traceback in a log file), 130 when interrupted. A program that was started with SIGINT ignored,
    as a script's background jobs are, keeps ignoring it.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        # Typer turns KeyboardInterrupt into exit code 1; an exception of our own passes through it.
        signal.signal(signal.SIGINT, _interrupt)
    try:
        _refuse_empty(sys.argv[1:])
        _call(app, program)
    except Interrupted:
        print(f"{program}: interrupted; run the same command again to resume where it stopped", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except UserError as error:
        print(f"{program}: {error}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except BrokenPipeError:  # the reader of our output has closed, as `| head` does
        _discard_stdout()
        sys.exit(0)
    except Exception as error:  # noqa: BLE001 - the outermost handler
        _close_stdout()
        fault = expected_fault(error, sys.argv[1:])
        if fault is not None:
            print(f"{program}: {fault}", file=sys.stderr)
            sys.exit(EXIT_USER_ERROR)
        log = _write_log(program, error)
        report = f"please report it with {log}" if log else "its log could not be written"
        print(f"{program}: internal error ({type(error).__name__}); {report}", file=sys.stderr)
        sys.exit(EXIT_INTERNAL_ERROR)
    sys.exit(0)


def _refuse_empty(words: Sequence[str]) -> None:
    """An empty argument is most often a shell's variable that is not set; as a path it would be the current folder."""
    for before, word in zip(("", *words), words, strict=False):
        option, equals, value = word.partition("=")
        if not word.strip() or (option.startswith("--") and equals and not value.strip()):
            name = option if word.strip() else before
            what = f"the value of {name}" if name.startswith("-") else f"argument {words.index(word) + 1}"
            raise UserError(f"{what} is empty", fix="give a value, or leave it out")


def _close_stdout() -> None:
    """Write what was printed; on a full disk, the interpreter would fail at it again when it exits."""
    try:
        sys.stdout.flush()
    except OSError:
        _discard_stdout()


def _discard_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _call(app: typer.Typer, program: str) -> None:
    """Turn Typer's exit code 1 for a broken pipe back into the exception."""
    try:
        app(prog_name=program)
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):
            raise end.__context__ from None
        sys.stdout.flush()  # when the interpreter exits it is too late to handle a broken pipe
        raise


def print_json(result: Mapping[str, object]) -> None:
    print(json.dumps(result, indent=2, default=str))


def print_text(text: Text) -> None:
    """Styled text: in colour on a terminal, plain in a file or a pipe."""
    from rich.console import Console

    Console(highlight=False, soft_wrap=True).print(text)


@contextlib.contextmanager
def progress_bar(enabled: bool = True) -> Iterator[Callable[[Progress], None]]:
    """A bar on stderr for ``run_stage``: parts, rows, exclusions, rate and remaining time."""
    if not enabled:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar

    columns = [
        TextColumn("{task.description:<8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("parts  {task.fields[rows]:,} rows, {task.fields[excluded]:,} excluded"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    with Bar(*columns, console=Console(stderr=True)) as bar:
        tasks: dict[str, TaskID] = {}

        def show(progress: Progress) -> None:
            if progress.stage not in tasks:
                tasks[progress.stage] = bar.add_task(progress.stage, total=None, rows=0, excluded=0)
            bar.update(
                tasks[progress.stage],
                total=progress.parts_total,
                completed=progress.parts_done,
                rows=progress.rows,
                excluded=progress.exclusions,
            )

        yield show


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise Interrupted


def _write_log(program: str, error: BaseException) -> Path | None:
    """Write the stack without messages: a library's message may quote a header's value. None if that fails."""
    lines = [f"{program} {datetime.now(UTC).isoformat(timespec='seconds')}"]
    chain: BaseException | None = error
    while chain is not None:
        lines.append(f"{type(chain).__module__}.{type(chain).__qualname__}")
        lines += [
            f"  {frame.filename}:{frame.lineno} {frame.name}: {frame.line}"
            for frame in traceback.extract_tb(chain.__traceback__)
        ]
        if type(chain).__name__ == "_RemoteTraceback":  # a worker's stack arrives as text only
            lines += [f"  {':'.join(place)}" for place in re.findall(r'^ +File "(.+)", line (\d+)', str(chain), re.M)]
        chain = chain.__cause__ or chain.__context__
    try:
        descriptor, path = tempfile.mkstemp(prefix=f"{program}-", suffix=".log")  # mode 0600
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write("\n".join(lines) + "\n")
    except OSError:
        return None
    return Path(path)
