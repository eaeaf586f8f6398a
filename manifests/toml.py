"""TOML that a person wrote, or one line that says what is wrong with it."""

from __future__ import annotations

import tomllib
from typing import Any

from .errors import UserError


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        UserError: it is not valid TOML, nested too deeply, or holds a number too long to be one.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"not valid TOML: {error}", where=where, fix="correct that line") from error
    except RecursionError:
        raise UserError("not valid TOML: nested too deeply", where=where, fix="correct that line") from None
    except ValueError:  # of int, which limits the number of digits
        raise UserError("not valid TOML: a number with too many digits", where=where, fix="correct it") from None
