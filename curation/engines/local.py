"""The ``local`` engine: a pool of processes on this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection
from typing import TypeVar

from sono.manifests.errors import UserError
from sono.manifests.stages import Crashed

Argument = TypeVar("Argument")
Result = TypeVar("Result")


@dataclass(frozen=True)
class LocalEngine:
    """Maps over a pool of ``workers`` spawned processes.

    They are gone when the iteration ends, also when it ends early or by an exception (then what is in flight is lost),
    and they end with this process, however it ends.
    """

    workers: int

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UserError(f"{self.workers} workers can do no work", fix="give --workers 1 or more")

    def __call__(
        self, function: Callable[[Argument], Result], arguments: Sequence[Argument]
    ) -> Iterator[Result | Crashed[Argument]]:
        waiting = deque(arguments)
        while waiting:
            in_flight: dict[Future[Result], Argument] = {}
            with _pool(min(self.workers, len(waiting))) as pool:
                try:
                    while waiting or in_flight:
                        # Few are submitted ahead: a queue of a million parts would live in memory twice.
                        while waiting and len(in_flight) < 2 * self.workers:
                            # It stays in the queue until the pool has taken it: a broken one takes nothing.
                            in_flight[_submit(pool, function, waiting[0])] = waiting[0]
                            waiting.popleft()
                        done, _ = wait(in_flight, return_when=FIRST_COMPLETED)
                        for future in done:
                            result = future.result()
                            del in_flight[future]
                            yield result
                except BrokenProcessPool:
                    pass
            for future, argument in in_flight.items():
                unharmed = future.done() and future.exception() is None
                yield future.result() if unharmed else _alone(function, argument)


def default_workers() -> int:
    """The processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _alone(function: Callable[[Argument], Result], argument: Argument) -> Result | Crashed[Argument]:
    with _pool(1) as pool:
        try:
            return _submit(pool, function, argument).result()
        except BrokenProcessPool:
            return Crashed(argument)


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Workers that end at once when the block is left by an exception: behind it nothing writes to the workspace."""
    # Spawned, not forked: a forked child inherits locks that Arrow's threads may hold.
    context = multiprocessing.get_context("spawn")
    watched, lifeline = context.Pipe(duplex=False)
    with (
        watched,
        lifeline,
        ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(watched,)) as pool,
    ):
        try:
            yield pool
        except BaseException:
            lifeline.close()
            raise


def _submit(pool: ProcessPoolExecutor, function: Callable[[Argument], Result], argument: Argument) -> Future[Result]:
    """Submitting may start a worker, which inherits what is blocked here: Ctrl-C is the parent's alone to handle."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(function, argument)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(watched: connection.Connection) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent(*ends: int | connection.Connection) -> None:
        connection.wait(ends)
        os._exit(1)

    threading.Thread(target=end_with_parent, args=(parent.sentinel, watched), daemon=True).start()
    # C libraries say on stderr what they think of a file, header values included; exceptions travel by themselves.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    _limit_threads()


def _limit_threads() -> None:
    """One thread a process: the pool already has one process a core."""
    import cv2
    import pyarrow as pa

    cv2.setNumThreads(1)
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
