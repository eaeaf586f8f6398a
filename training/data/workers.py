"""What loading processes have in common."""

from __future__ import annotations

import signal

import cv2


def start_worker(worker: int) -> None:
    """What a loading process does first.

    Ctrl-C and a scheduler's SIGTERM reach the whole process group, and a loading process must outlive the last save: it
    ends when the parent says so, or is gone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    cv2.setNumThreads(0)  # its threads do not survive a fork, and there is one process for each core as it is
