"""Checks a template pack before any caption is written with it: a template that can fail fails here."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from sono.captioning.facts.facts import trimester
from sono.captioning.facts.quantities import GA_DAYS, LIMITS_MM
from sono.manifests.errors import UserError
from sono.manifests.schemas import BIOMETRY
from sono.manifests.vocabulary import Plane

from .guard import RefusedError
from .packs import FACT_OF, Pack, Template
from .values import Value, Values
from .writer import Writer

_ALL_SUBSETS_UP_TO = 5


def check_pack(writer: Writer) -> None:
    """Write a sentence with every template about every plane, age and structure.

    Raises:
        UserError: a template does not render, its sentence contains something that is neither its own nor a fact, or
            its shortest sentence is too long; the text names the file, the line if known, and the plane.
    """
    for template in writer.pack.templates:
        for plane in writer.vocabulary.planes.values():
            for values in _cases(template, writer.pack, plane):
                try:
                    writer.render(template, values)
                except RefusedError as refused:
                    line = f"line {refused.line}: " if refused.line else ""
                    raise UserError(
                        f"{line}the sentence about plane {plane.id!r} {refused.text}",
                        where=template.where,
                        fix="correct the template or the names it uses",
                    ) from refused


def _cases(template: Template, pack: Pack, plane: Plane) -> Iterator[Values]:
    """Values that together show everything a template can meet in a plane.

    Each structure of the vocabulary comes alone, because a frame may show any, and the plane's own come together. Facts
    that a template can do without are known or not, in every combination or, if there are many, one by one.
    """
    first, last = GA_DAYS[0] // 7, GA_DAYS[1] // 7
    middle = sum(plane.ga_weeks) // 2
    optional = sorted({FACT_OF[name] for name in template.uses} - template.needs)
    for weeks in range(first, last + 1):
        yield _case(template, pack, plane, weeks, optional, plane.structures)
    for structure in pack.structures:
        yield _case(template, pack, plane, middle, optional, (structure,))
    for unknown in _subsets(optional):
        known = [fact for fact in optional if fact not in unknown]
        yield _case(template, pack, plane, middle, known, plane.structures)
        yield _case(template, pack, plane, middle, known, plane.structures[:1])
    for number in range(max(1, *(len(ids) for ids in (pack.findings, *pack.words.values())))):
        yield _case(template, pack, plane, middle, optional, plane.structures[:1], number)


def _case(
    template: Template,
    pack: Pack,
    plane: Plane,
    weeks: int,
    known: Sequence[str],
    structures: Sequence[str],
    number: int = 0,
) -> Values:
    """The values of ``sorted(template.uses)``; of the optional facts only ``known`` are known."""
    days = weeks * 7 + 3
    codes = {"findings": list(pack.findings), **{kind: list(words) for kind, words in pack.words.items()}}
    values: dict[str, Value | None] = {
        **{"ga": weeks, "article": weeks, "ga_days": days, "plane": plane.id},
        **{"structures": tuple(structures), "structure": structures[0]},
        **{kind: codes[kind][number % len(codes[kind])] for kind in pack.words if codes[kind]},
        "trimester": trimester(days),
        "findings": tuple(codes["findings"][number : number + 1] or codes["findings"][:1]) or None,
        **{name: _length(*LIMITS_MM[name], number) for name in BIOMETRY},
    }
    read = {*template.needs, *known}
    return tuple(values[name] if FACT_OF[name] in read else None for name in sorted(template.uses))


def _length(low: float, high: float, number: int) -> float:
    """A length in mm, with decimals for even numbers and without for odd ones."""
    length = low + (high - low) * (0.3137 + 0.1 * (number % 5))
    return round(length, 3) if number % 2 == 0 else float(round(length))


def _subsets(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    some = range(len(names) + 1) if len(names) <= _ALL_SUBSETS_UP_TO else (0, 1, len(names) - 1, len(names))
    for size in some:
        yield from itertools.combinations(names, size)
