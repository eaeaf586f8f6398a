"""Content items of a DICOM structured report (PS3.3 C.17.3, C.18)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from .modules import code_item, dicom_date, person_name

# Relationships of an item to the one that it is in (PS3.3 C.17.3.2.4).
CONTAINS = "CONTAINS"
HAS_PROPERTIES = "HAS PROPERTIES"
HAS_CONCEPT_MOD = "HAS CONCEPT MOD"
HAS_OBS_CONTEXT = "HAS OBS CONTEXT"


def section(title: Code, content: Sequence[Dataset], template: str | None = None) -> list[Dataset]:
    """A container, or nothing if it would be empty."""
    return [container(CONTAINS, title, content, template)] if content else []


def container(relationship: str | None, title: Code, content: Sequence[Dataset], template: str | None) -> Dataset:
    item = _item(relationship, "CONTAINER", title)
    item.ContinuityOfContent = "SEPARATE"
    if template:
        used = Dataset()
        used.MappingResource = "DCMR"
        used.TemplateIdentifier = template
        item.ContentTemplateSequence = [used]
    item.ContentSequence = list(content)
    return item


def code_content(relationship: str, name: Code, value: Code) -> Dataset:
    item = _item(relationship, "CODE", name)
    item.ConceptCodeSequence = [_coded(value)]
    return item


def number_content(name: Code, value: float, unit: Code) -> Dataset:
    measured = Dataset()
    measured.NumericValue = str(value)
    measured.MeasurementUnitsCodeSequence = [_coded(unit)]
    item = _item(CONTAINS, "NUM", name)
    item.MeasuredValueSequence = [measured]
    return item


def date_content(name: Code, day: date) -> Dataset:
    item = _item(CONTAINS, "DATE", name)
    item.Date = dicom_date(day)
    return item


def person_content(relationship: str, title: Code, name: tuple[str, str]) -> Dataset:
    item = _item(relationship, "PNAME", title)
    item.PersonName = person_name(name)
    return item


def _item(relationship: str | None, kind: str, name: Code) -> Dataset:
    item = Dataset()
    if relationship:
        item.RelationshipType = relationship
    item.ValueType = kind
    item.ConceptNameCodeSequence = [_coded(name)]
    return item


def _coded(code: Code) -> Dataset:
    return code_item(code.value, code.scheme_designator, code.meaning)
