"""Prints the id of a published dataset's first frame, as ``datasets`` streams it: REPO COMMIT SPLIT CACHE.

A program of its own, because pyarrow's threads read ahead, and cannot be stopped: a process that streams a large file
and does not read it to its end hangs or crashes when it ends (https://github.com/apache/arrow/issues/45214). This one
ends without waiting for them.
"""

from __future__ import annotations

import os
import sys

from sono.manifests.errors import first_line

NO_CONNECTION = 75
"""The exit status if the connection failed: another try may work."""


def main(repo_id: str, commit: str, split: str, cache: str) -> int:
    """Print the frame's id, or what is wrong in one line; returns the exit status."""
    import datasets

    try:
        rows = datasets.load_dataset(repo_id, revision=commit, split=split, streaming=True, cache_dir=cache)
        print(next(iter(rows))["frame_id"], flush=True)
        return 0
    except ConnectionError:
        return NO_CONNECTION
    except (datasets.exceptions.DatasetsError, StopIteration, KeyError, TypeError) as error:
        print(first_line(error), flush=True)
        return 1


if __name__ == "__main__":
    os._exit(main(*sys.argv[1:]))
