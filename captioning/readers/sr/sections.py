"""Which sections of a structured report its items are in, and whether they count there.

The title does not matter, because the codes of fetal measurements say themselves what they are. The section does: a
gestational age in a Biometry Group (TID 5008) is the age by that measurement alone, and a finding under History
is of another day. So items count only in sections that are named here, and not with a modifier that is not known.
"""

from __future__ import annotations

from sono.captioning.facts.statements import FaultError

from . import codes
from .content import Item

# Sections by what may be taken from them. The two of TID 1500 are there for writers that use it.
EXAM_SECTIONS = frozenset(
    {codes.SUMMARY, codes.PATIENT_CHARACTERISTICS, codes.FETUS_SUMMARY, codes.FETUS_CHARACTERISTICS}
)
_MEASUREMENT_SECTIONS = frozenset(
    {
        *(codes.FETAL_BIOMETRY, codes.FETAL_LONG_BONES, codes.FETAL_CRANIUM, codes.BIOMETRY_GROUP),
        *(codes.MEASUREMENT_GROUP, codes.EARLY_GESTATION, codes.FETAL_MEASUREMENTS, codes.IMAGING_MEASUREMENTS),
    }
)
FINDING_SECTIONS = frozenset(  # not the mother's
    {
        *(codes.FINDINGS, codes.IMPRESSIONS, codes.CONCLUSIONS),
        *(codes.SUMMARY, codes.FETUS_SUMMARY, codes.FETUS_CHARACTERISTICS),
    }
)
SECTIONS = EXAM_SECTIONS | _MEASUREMENT_SECTIONS | FINDING_SECTIONS | {codes.ADDENDUM}
_EARLIER_SECTIONS = frozenset({codes.HISTORY, codes.PREVIOUS_FINDINGS})


def is_counted(item: Item, sections: frozenset[codes.Code]) -> bool:
    """Whether all sections around the item are among these.

    Raises:
        FaultError: it is in an unknown section, or is qualified by something unknown.
    """
    if any(above.kind != "CONTAINER" for above in item.sections):
        return False  # what another item was inferred from, or a property of it
    found = {above.name.key for above in item.sections}
    if not found <= SECTIONS:
        raise FaultError("section_unknown", "a measurement, age, date or finding stands in a section that is not read")
    for qualified in (*item.sections, item):
        check_modifiers(qualified)
    return found <= sections


def check_modifiers(item: Item) -> None:
    """Check that nothing but known modifiers qualify an item.

    Raises:
        FaultError: something does.
    """
    allowed = codes.MODIFIERS if item.kind == "CODE" else codes.MODIFIERS | {codes.DERIVATION}
    modifying = ("HAS CONCEPT MOD", "HAS PROPERTIES") if item.name.key == codes.FINDING else ("HAS CONCEPT MOD",)
    for child in item.children:
        if child.relationship in modifying and child.name.key not in allowed:
            raise FaultError("modifier_unknown", "it has a modifier, which may turn its meaning round")


def is_earlier(item: Item) -> bool:
    """Whether the item is of an earlier day."""
    return any(above.name.key in _EARLIER_SECTIONS for above in item.sections)


def is_in_read_sections(item: Item) -> bool:
    """Whether all sections around the item are read."""
    return all(above.kind == "CONTAINER" and above.name.key in SECTIONS for above in item.sections)


def field_of(item: Item) -> str:
    """The path of codes; of sections only those that are known, because any other is the writer's own text."""
    path = [above.name.value for above in item.sections if above.name.key in SECTIONS]
    return "SR " + "/".join((*path, item.name.value))
