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
    """Maps over a pool of at most ``workers`` spawned processes; none is started if there are no arguments.

    They end when the iteration does, even early or by an exception (then work in flight is lost), and with this
    process, however it ends.
    """

    workers: int

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UserError(f"{self.workers} workers cannot do any work", fix="give --workers 1 or more")

    def __call__(
        self, function: Callable[[Argument], Result], arguments: Sequence[Argument]
    ) -> Iterator[Result | Crashed[Argument]]:
        waiting = deque(arguments)
        while waiting:
            in_flight: dict[Future[Result], Argument] = {}
            with _pool(min(self.workers, len(waiting))) as pool:
                try:
                    while waiting or in_flight:
                        # Submit only a few ahead: a queue of a million parts would be in memory twice.
                        while waiting and len(in_flight) < 2 * self.workers:
                            # It stays in the queue until the pool has taken it: a broken pool takes nothing.
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
                succeeded = future.done() and future.exception() is None
                yield future.result() if succeeded else _alone(function, argument)


def default_workers() -> int:
    """The processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _alone(function: Callable[[Argument], Result], argument: Argument) -> Result | Crashed[Argument]:
    """Try an argument again in a process of its own, to find out whether it was the one that broke the pool."""
    with _pool(1) as pool:
        try:
            return _submit(pool, function, argument).result()
        except BrokenProcessPool:
            return Crashed(argument)


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Workers that end at once if the block is left by an exception: after it, nothing writes to the workspace."""
    # Spawned, not forked: a forked child would inherit locks that Arrow's threads may hold.
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
    """Submitting may start a worker, which inherits the signals blocked here: only the parent handles Ctrl-C."""
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

    if watched.poll():  # the pool was ended while this worker started: do not begin any work
        os._exit(1)
    threading.Thread(target=end_with_parent, args=(parent.sentinel, watched), daemon=True).start()
    # C libraries complain about files on stderr, quoting header values; exceptions reach the parent by themselves.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    _limit_threads()


def _limit_threads() -> None:
    """One thread per process: the pool already has one process per core."""
    import pyarrow as pa

    os.environ["OPENCV_FOR_THREADS_NUM"] = "1"  # read when OpenCV is loaded, which most stages never do
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
