"""Values of facts as templates see them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from sono.captioning.facts.facts import Facts
from sono.manifests.schemas import BIOMETRY

from .packs import Pack

Value = int | float | str | tuple[str, ...]
"""Of one name that a template reads: ids, codes and numbers, not yet words."""

Values = tuple[Value | None, ...]
"""Of several names; None where not known."""


def value_reader(name: str, pack: Pack) -> Callable[[Facts], Value | None]:
    """The function that reads the value of ``name``: facts that a sentence would show alike have equal values."""
    if name in ("ga", "article"):
        return _weeks
    if name == "structures":
        return lambda facts: (facts.structures.value or None) if facts.structures else None
    if name == "findings":
        return functools.partial(_named_findings, pack.findings)
    if name in BIOMETRY:
        return lambda facts: facts.measurements[name].value if name in facts.measurements else None

    def read(facts: Facts) -> Value | None:
        fact = getattr(facts, name)
        return None if fact is None else fact.value

    return read


def as_words(name: str, value: Value, pack: Pack) -> int | float | str | list[str]:
    """The value of ``name`` as a template sees it: ids and codes become the pack's words.

    Raises:
        KeyError: the pack has no word for it.
    """
    if name in pack.words:
        return pack.words[name][str(value)]
    if isinstance(value, tuple):
        names = pack.findings if name == "findings" else pack.structures
        return [names[key] for key in value]
    if isinstance(value, str):
        return (pack.planes if name == "plane" else pack.structures)[value]
    return article(int(value)) if name == "article" else value


def article(weeks: int) -> str:
    """The article before a number of weeks read aloud: an 8-week, an 11-week, an 18-week scan."""
    return "An" if weeks in (8, 11, 18) else "A"


def _weeks(facts: Facts) -> int | None:
    if facts.ga_days is None:
        return None
    assert isinstance(facts.ga_days.value, int)
    return facts.ga_days.value // 7


def _named_findings(named: Mapping[str, str], facts: Facts) -> tuple[str, ...] | None:
    if facts.findings is None or not isinstance(facts.findings.value, tuple):
        return None
    return tuple(code for code in facts.findings.value if code in named) or None
