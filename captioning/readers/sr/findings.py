"""Coded findings and views in a structured report."""

from __future__ import annotations

from collections.abc import Mapping

from sono.captioning.facts.statements import Fault, FaultError, Statement
from sono.captioning.readers.codes import SIDES, STRUCTURE_SEEN, coded_finding
from sono.manifests.vocabulary import Vocabulary, normalise

from . import codes
from .content import Item
from .sections import FINDING_SECTIONS, check_modifiers, field_of, is_counted, is_earlier

_FINDING_SYSTEMS: Mapping[str, str] = {  # coding schemes (PS3.16 8), and what statements.finding calls them
    "SCT": "SCT",
    "LN": "LN",
    "DCM": "DCM",
    "HP": "HP",
    "HPO": "HP",
    "I10": "ICD10",
    "I10C": "ICD10",
    "I11": "ICD11",
}


def coded_statements(item: Item, vocabulary: Vocabulary, faults: list[Fault]) -> list[Statement]:
    """What an item says whose value is a code: a finding, or what a view shows.

    Args:
        faults: gets what could not be taken.
    """
    try:
        if item.kind == "CODE" and item.name.key == codes.IMAGE_VIEW:
            return [] if is_earlier(item) else _view(item, vocabulary, faults)
        if item.kind == "CODE" and item.name.key == codes.FINDING and is_counted(item, FINDING_SECTIONS):
            code = coded_finding(_FINDING_SYSTEMS.get(item.value.scheme, ""), item.value.value)
            return [Statement("findings", code, field_of(item))]
    except FaultError as error:
        faults.append(error.fault)
    return []


def _view(item: Item, vocabulary: Vocabulary, faults: list[Fault]) -> list[Statement]:
    planes = {vocabulary.find_plane(word) for word in _words(item)} - {None}
    plane = planes.pop() if len(planes) == 1 else None
    if plane is None:
        raise FaultError("plane_unknown", "it names a plane that the vocabulary does not have")
    check_modifiers(item)
    structures: dict[str, None] = {}
    sides: set[str | None] = set()
    for child in item.children:
        if child.name.key in codes.LATERALITIES:
            sides.add(SIDES.get(child.value.value) if child.value.scheme == "SCT" else None)
        elif child.kind == "CODE" and child.relationship in ("CONTAINS", "HAS PROPERTIES"):
            try:
                structures[_structure(child, vocabulary)] = None
            except FaultError as error:
                faults.append(error.fault)
    side = next(iter(sides)) if len(sides) == 1 else None
    if sides and side is None:
        faults.append(Fault("laterality_unknown", "it gives no side that is known, or several"))
    return [
        *(Statement("structures_seen", name, field_of(item), plane) for name in structures),
        *([Statement("laterality", side, field_of(item), plane)] if side else []),
    ]


def _structure(item: Item, vocabulary: Vocabulary) -> str:
    """The structure that a property of a view says was seen.

    Raises:
        FaultError: it says something else.
    """
    if normalise(item.name.meaning) not in STRUCTURE_SEEN or item.children:
        raise FaultError("component_unknown", "a property of a view is not called structure seen, or is qualified")
    found = {vocabulary.find_structure(word) for word in _words(item)} - {None}
    name = found.pop() if len(found) == 1 else None
    if name is None:
        raise FaultError("structure_unknown", "it names a structure that the vocabulary does not have")
    return name


def _words(item: Item) -> tuple[str, str]:
    return item.value.value, item.value.meaning
