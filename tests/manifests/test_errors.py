from __future__ import annotations

import pytest

from sono.manifests.errors import UserError, first_line


@pytest.mark.parametrize(
    ("quoted", "expected"),
    [
        ("\x1b[1mdo those steps\x1b[0m", "do those steps"),  # as torch writes it
        ("\x1b[38;5;196mred\x1b[m", "red"),
        ("\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b(Btext\x1bc", "text"),
        ("one\n\ttwo\r\nthree\u2028four", "one two three four"),
        ("bell\x07, null\x00 and\x9b31m", "bell , null and 31m"),
        ("Frühgeburt, 胎儿  two spaces", "Frühgeburt, 胎儿  two spaces"),
    ],
)
def test_an_error_is_one_line_without_escape_codes_whoever_is_quoted(quoted: str, expected: str) -> None:
    error = UserError(quoted, where=quoted, fix=quoted)
    assert str(error) == f"{expected}: {expected}; {expected}"
    assert (error.what, error.where, error.fix) == (expected, expected, expected)
    assert first_line(ValueError(quoted)).isprintable()


def test_the_first_lines_of_a_librarys_message_are_quoted() -> None:
    assert first_line(ValueError("\n one\n\x1b[1m\x1b[0m\n two\nthree")) == "one two"
    assert first_line(ValueError("")) == "ValueError"
    assert len(first_line(ValueError("x" * 1000))) == 300
