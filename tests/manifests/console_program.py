"""A small program that ends in every way a program can; test_console.py starts it."""

from __future__ import annotations

import os
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import typer

from sono.manifests import console
from sono.manifests.errors import UserError
from sono.manifests.stages import Progress

CANARY = "DOE^JANE^1987"

app = typer.Typer(add_completion=False)


@app.command()
def work(amount: int = 1) -> None:
    print(f"did {amount}")


@app.command()
def refuse() -> None:
    raise UserError("the file is empty", where="scans.csv", fix="fill it")


@app.command()
def fail() -> None:
    try:
        read_header(b"\xff")
    except UnicodeDecodeError as error:
        raise ValueError(f"{CANARY} has no birthday") from error


@app.command()
def fail_in_worker() -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pool.submit(fail_far_away).result()


@app.command()
def touch(path: Path, number: int = 0) -> None:
    """Fails as the machine does: with an error number if one is given, else by what it finds at ``path``."""
    if number:
        raise OSError(number, CANARY, str(path))
    path.write_text("x" * 100_000)


@app.command()
def make_folder(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)


@app.command()
def touch_far_away(path: Path) -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pool.submit(touch, path).result()


@app.command()
def count(lines: int, wait_s: float = 0) -> None:
    time.sleep(wait_s)
    for number in range(lines):
        print(number)


@app.command()
def as_json() -> None:
    console.print_json({"name": "Fötus", "rows": 3, "where": os})


@app.command()
def wait() -> None:
    print("waiting", flush=True)
    time.sleep(60)


@app.command()
def interrupt_itself() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    print("still here")


@app.command()
def progress(enabled: bool = True) -> None:
    with console.progress_bar(enabled) as show:
        show(Progress("ingest", 4, 1, 1000, 7))
        show(Progress("ingest", 4, 4, 4000, 28))
    print("done")


def read_header(content: bytes) -> str:
    return content.decode("utf-8")


def fail_far_away() -> None:
    raise ValueError(f"{CANARY}\nhas no birthday")


if __name__ == "__main__":
    if sys.argv[1:] == ["canary"]:
        print(CANARY)
    else:
        console.run(app, "tiny")
