"""How loading processes start."""

from __future__ import annotations

import signal

import cv2


def start_worker(worker: int) -> None:
    """Ignore signals to stop, and use one thread.

    Ctrl-C and a scheduler's SIGTERM reach the entire process group, and a loading process must outlive the last save:
    it ends when its parent says so, or is gone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    cv2.setNumThreads(0)  # its threads do not survive a fork, and there is one process per core anyway
