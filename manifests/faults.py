"""Faults of the machine that are nobody's mistake, such as a full disk, each as one line that says what helps."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import UserError

_AGAIN = "then run the same command again"

FAULTS: Mapping[int, tuple[str, str]] = {
    errno.ENOSPC: ("no space is left", f"free some, {_AGAIN}"),
    errno.EDQUOT: ("the quota is used up", f"free some space, {_AGAIN}"),
    errno.EFBIG: ("a file would be larger than allowed here", f"raise the limit (ulimit -f), {_AGAIN}"),
    errno.EROFS: ("the file system is read-only", "name a place that can be written to"),
    errno.EACCES: ("permission denied", "check the permissions"),
    errno.EPERM: ("not permitted", "check the permissions"),
    errno.EISDIR: ("a folder is where a file should be", "move it away, or name another place"),
    errno.ENOTDIR: ("a file is where a folder should be", "move it away, or name another place"),
    errno.EEXIST: ("a file is where a folder should be", "move it away, or name another place"),
    errno.EIO: ("the disk cannot be read or written", f"check it, {_AGAIN}"),
    errno.ESTALE: ("the network file system has lost a file", f"check it, {_AGAIN}"),
    errno.EMFILE: ("too many open files", f"raise the limit (ulimit -n), {_AGAIN}"),
    errno.ENAMETOOLONG: ("a path is too long", "name a shorter one"),
    errno.ELOOP: ("a link leads back to itself", "correct it"),
}
"""What each error number means, and what helps. A file that is not found is not here: where it can be, code says so."""


def expected_fault(error: BaseException, words: Sequence[str]) -> UserError | None:
    """The line for a fault of the machine; None for anything else, which is an internal error.

    Args:
        words: the command line. Of the paths in an error only those are shown that the user has named, or that lie in a
            workspace: others may hold a patient's name.
    """
    if not isinstance(error, OSError) or error.errno is None or error.errno not in FAULTS:
        return None
    what, fix = FAULTS[error.errno]
    return UserError(what, where=_place(error.filename, words), fix=fix)


def _place(filename: object, words: Sequence[str]) -> str | None:
    if not isinstance(filename, str):
        return None
    path = Path(filename).absolute()
    if any((parent / "sono.toml").exists() for parent in path.parents):
        return filename
    named = [word for word in words if word and path.is_relative_to(Path(word).absolute())]
    return max(named, key=len, default=None)
