"""Errors whose text is written for the user."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterable
from types import ModuleType

_ESCAPE_CODE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[ -/]*[0-~])")
"""A terminal's escape code (ECMA-48): a control sequence, an operating system command, or a single function."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029][\x00-\x20\x7f-\x9f\u2028\u2029]*")


class UserError(Exception):
    """The user's input is at fault: what was wrong, where, and what to do, in one line.

    Command-line programs print it and exit with 1. The text never holds a patient's data: no header value,
    no record value, no source file's name. Nor does it hold escape codes or line breaks, whoever is quoted: a library,
    a file's content, or a file's name.
    """

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        what, where, fix = plain(what), where and plain(where), fix and plain(fix)
        self.what, self.where, self.fix = what, where, fix
        line = f"{where}: {what}" if where else what
        super().__init__(f"{line}; {fix}" if fix else line)

    def __reduce__(self) -> tuple[object, ...]:  # without it, exceptions with keyword arguments cannot cross processes
        return _rebuild, (type(self), self.what, self.where, self.fix)


def _rebuild(kind: type[UserError], what: str, where: str | None, fix: str | None) -> UserError:
    return kind(what, where=where, fix=fix)


def plain(text: str) -> str:
    """``text`` in one line that no terminal acts on: without escape codes, other control characters as spaces."""
    return _CONTROL.sub(" ", _ESCAPE_CODE.sub("", text)).strip()


def first_line(error: BaseException) -> str:
    """A library's error message, short enough to be quoted in one line."""
    lines = [line for line in map(plain, str(error).splitlines()) if line]
    return " ".join(lines[:2])[:300] if lines else type(error).__name__


def nearest(word: str, names: Iterable[str]) -> str | None:
    """The name that ``word`` is most like, if any is like it at all."""
    found = difflib.get_close_matches(word, list(names), n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(word: str, names: Iterable[str]) -> str | None:
    """The question to ask about a misspelt word, as the ``fix`` of a ``UserError``."""
    name = nearest(word, names)
    return f"did you mean {name!r}?" if name else None


def import_extra(module: str, extra: str) -> ModuleType:
    """Import ``module``, which only the optional dependency group ``extra`` installs.

    Raises:
        UserError: the module is not installed; the text gives the exact command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise
        raise UserError(
            f"this command needs {module.partition('.')[0]}, which is not installed",
            fix=f"run: pip install 'sono-curate[{extra}]'",
        ) from error
