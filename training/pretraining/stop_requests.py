"""Ctrl-C and a scheduler's SIGTERM as requests to save and then end."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def stop_requests(*, insist: bool) -> Iterator[list[str]]:
    """The names of the signals that asked to stop. A signal that the process ignores asks for nothing.

    With ``insist`` a second signal of the same kind acts as usual and ends the process. Among several ranks it must
    not: scheduler and torchrun may both pass on the same signal, and torchrun kills what takes too long.
    """
    requests: list[str] = []
    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield requests
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}

    def request(number: int, frame: FrameType | None) -> None:
        requests.append(signal.Signals(number).name)
        if insist:
            signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, request)
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
