"""A DICOM structured report as a tree of typed items. DICOM ends here, and faults of a file are found here."""

from __future__ import annotations

import datetime
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from sono.captioning.facts.statements import Fault, FaultError
from sono.manifests import pydicom_warnings

from .codes import SUBJECT_IDS

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SOP_CLASSES: Mapping[str, str] = {
    "1.2.840.10008.5.1.4.1.1.88.11": "Basic Text SR",
    "1.2.840.10008.5.1.4.1.1.88.22": "Enhanced SR",
    "1.2.840.10008.5.1.4.1.1.88.33": "Comprehensive SR",
    "1.2.840.10008.5.1.4.1.1.88.34": "Comprehensive 3D SR",
    "1.2.840.10008.5.1.4.1.1.88.35": "Extensible SR",
}

_IDENTIFIERS = ("PatientID", "OtherPatientIDs", "AccessionNumber", "StudyID", "AdmissionID", "RequestedProcedureID")
_DEPTH_MOST = 32
_NUMBER = re.compile(r"[+-]?[0-9]{1,9}(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,2})?")
_TEXTS = {"TEXT": "TextValue", "PNAME": "PersonName", "UIDREF": "UID", "DATE": "Date", "DATETIME": "DateTime"}
_DAMAGED = Fault("not_dicom", "it is no DICOM file, or damaged or without content")
_NOT_A_REPORT = Fault("not_a_report", "it is DICOM, but no structured report")
TOO_DEEP = Fault("too_deep", f"its content is nested more than {_DEPTH_MOST} levels deep")


def is_dicom(content_start: bytes) -> bool:
    """Whether a file with this beginning, of 132 bytes or more, has the preamble of PS3.10."""
    return content_start[128:132] == b"DICM"


class CodedEntry(NamedTuple):
    """A coded entry; empty texts where there is none. ``SRT`` becomes ``SCT`` (PS3.16 8.2)."""

    scheme: str = ""
    value: str = ""
    meaning: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.scheme, self.value


@dataclass(frozen=True, repr=False, eq=False)
class Item:
    """A content item (PS3.3 C.17.3).

    Attributes:
        kind: its value type; of a CODE item ``value`` holds the value.
        text: its value as text: number, date, name.
        number: None where the number is missing, malformed or qualified.
        date: None where it is missing or malformed.
        is_qualified: the number is marked as none, or as out of range.
        observed: the day of the observation.
    """

    parent: Item | None
    depth: int
    relationship: str
    kind: str
    name: CodedEntry
    value: CodedEntry
    text: str
    number: float | None
    unit: CodedEntry
    date: datetime.date | None
    is_qualified: bool
    observed: datetime.date | None
    children: list[Item] = field(default_factory=list)

    @cached_property
    def sections(self) -> Sequence[Item]:
        """The items it is nested in, from the top, without the root, whose title does not matter."""
        found: list[Item] = []
        above = self.parent
        while above is not None and above.parent is not None:
            found.append(above)
            above = above.parent
        return found[::-1]

    def child(self, name: tuple[str, str]) -> CodedEntry:
        """The value of the first child of this name."""
        return next((child.value for child in self.children if child.name.key == name), CodedEntry())


@dataclass(frozen=True, repr=False)
class Document:
    """What is used of a file.

    Attributes:
        has_date: it gives a date of the study, or else of the content.
        date: None where that is malformed.
        names: names and identifiers of people, for identity and for prose.
        items: the content tree from the top, every item before its children.
        is_too_deep: ``items`` are incomplete.
    """

    patient_id: str
    study_uid: str
    accession: str
    has_date: bool
    date: datetime.date | None
    is_preliminary: bool
    names: Sequence[str]
    items: Sequence[Item]
    is_too_deep: bool


def read(content: bytes) -> Document:
    """The content of a file.

    Raises:
        FaultError: it is not a structured report, or damaged.
    """
    import pydicom

    with pydicom_warnings.silenced():
        try:
            return _document(pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True))
        except FaultError:
            raise
        except Exception:  # noqa: BLE001 - pydicom raises whatever a damaged file makes it stumble over
            raise FaultError(_DAMAGED.reason, _DAMAGED.text) from None


def _document(dataset: Dataset) -> Document:
    _check_complete(dataset)
    if "SOPClassUID" in dataset and _text(dataset, "SOPClassUID") not in SOP_CLASSES:
        raise FaultError(_NOT_A_REPORT.reason, _NOT_A_REPORT.text)
    if "SOPClassUID" not in dataset or not _sequence(dataset, "ContentSequence"):
        raise FaultError(_DAMAGED.reason, _DAMAGED.text)
    items, is_too_deep = _items(dataset)
    people = [item.text for item in items if item.text and (item.kind == "PNAME" or item.name.key in SUBJECT_IDS)]
    date = _text(dataset, "StudyDate") or _text(dataset, "ContentDate")
    return Document(
        patient_id=_text(dataset, "PatientID"),
        study_uid=_text(dataset, "StudyInstanceUID"),
        accession=_text(dataset, "AccessionNumber"),
        has_date=bool(date),
        date=_date(date),
        is_preliminary=_text(dataset, "PreliminaryFlag") == "PRELIMINARY",
        names=_parts([*_header_names(dataset), *people]),
        items=items,
        is_too_deep=is_too_deep,
    )


def _check_complete(dataset: Dataset) -> None:
    """pydicom silently reads a value that the file's end cuts off: half a list of fetuses would count as all."""
    from pydicom.dataelem import RawDataElement

    for tag in dataset.keys():  # noqa: SIM118 - iterating over the dataset itself converts every element
        element: object = dataset.get_item(tag)
        if isinstance(element, RawDataElement) and element.length not in (len(element.value or b""), 0xFFFFFFFF):
            raise FaultError(_DAMAGED.reason, _DAMAGED.text)


def _items(dataset: Dataset) -> tuple[list[Item], bool]:
    """The content tree from the top, every item before its children; and whether it goes too deep to be read."""
    items: list[Item] = []
    waiting: list[tuple[Dataset, Item | None]] = [(dataset, None)]
    while waiting:
        source, parent = waiting.pop()
        item = _item(source, parent)
        if item.depth > _DEPTH_MOST:
            return items, True
        items.append(item)
        if parent is not None:
            parent.children.append(item)
        waiting += [(child, item) for child in reversed(_sequence(source, "ContentSequence"))]
    return items, False


def _item(source: Dataset, parent: Item | None) -> Item:
    if parent is not None:
        _check_complete(source)
    kind = _text(source, "ValueType")
    text, unit = "", CodedEntry()
    if kind == "NUM":
        measured = _sequence(source, "MeasuredValueSequence")
        for value in measured:
            _check_complete(value)
        text = " ".join(_text(value, "NumericValue") for value in measured)  # more than one make no number
        unit = _code(measured[0], "MeasurementUnitsCodeSequence") if len(measured) == 1 else unit
    elif kind in _TEXTS:
        text = _text(source, _TEXTS[kind])
    is_qualified = bool(_sequence(source, "NumericValueQualifierCodeSequence"))
    return Item(
        parent=parent,
        depth=0 if parent is None else parent.depth + 1,
        relationship=_text(source, "RelationshipType"),
        kind=kind,
        name=_code(source, "ConceptNameCodeSequence"),
        value=_code(source, "ConceptCodeSequence"),
        text=text,
        number=float(text) if kind == "NUM" and not is_qualified and _NUMBER.fullmatch(text) else None,
        unit=unit,
        date=_date(text[:8]) if kind in ("DATE", "DATETIME") else None,
        is_qualified=is_qualified,
        observed=_date(_text(source, "ObservationDateTime")[:8]),
    )


def _code(source: Dataset, keyword: str) -> CodedEntry:
    from pydicom.sr._snomed_dict import mapping

    found = _sequence(source, keyword)
    if len(found) != 1:
        return CodedEntry()
    _check_complete(found[0])
    value = _text(found[0], "CodeValue") or _text(found[0], "LongCodeValue")
    scheme = _text(found[0], "CodingSchemeDesignator")
    if scheme == "SRT" and value in mapping["SRT"]:
        scheme, value = "SCT", mapping["SRT"][value]
    return CodedEntry(scheme, value, _text(found[0], "CodeMeaning"))


def _sequence(source: Dataset, keyword: str) -> Sequence[Dataset]:
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword)
    return (source[tag].value or ()) if tag is not None and tag in source else ()


def _text(source: Dataset, keyword: str) -> str:
    """A single value. ASCII is taken as written: pydicom is slow at it, and raises for a malformed number."""
    from pydicom.datadict import tag_for_keyword
    from pydicom.dataelem import RawDataElement

    tag = tag_for_keyword(keyword)
    if tag is None or tag not in source:
        return ""
    element: object = source.get_item(tag)
    if isinstance(element, RawDataElement):
        raw = element.value or b""
        # ESC changes the character set (ISO 2022), and a backslash parts values
        if raw.isascii() and not set(raw) & set(b"\x1b\\"):
            return raw.decode("ascii").strip(" \0\t\r\n")
    value = source[tag].value
    return "" if value is None else str(value).strip()


def _date(text: str) -> datetime.date | None:
    """``YYYYMMDD`` (PS3.5 6.2)."""
    if not re.fullmatch(r"[0-9]{8}", text):
        return None
    try:
        return datetime.date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return None


def _header_names(dataset: Dataset) -> Iterator[str]:
    """Every person's name (VR PN) and the identifiers, in sequences as well; not those of the content tree."""
    from pydicom.datadict import dictionary_has_tag, dictionary_VR
    from pydicom.multival import MultiValue
    from pydicom.tag import Tag

    identifiers = {Tag(name) for name in _IDENTIFIERS}
    waiting = [(dataset, 0)]
    while waiting:
        source, depth = waiting.pop()
        if depth > _DEPTH_MOST:
            raise FaultError(TOO_DEEP.reason, TOO_DEEP.text)
        if depth:  # the document itself has been checked, before its values were converted
            _check_complete(source)
        for tag in source.keys():  # noqa: SIM118 - iterating over the dataset itself converts every element
            vr = dictionary_VR(tag) if dictionary_has_tag(tag) else ""
            if vr == "SQ" and tag != Tag("ContentSequence"):
                waiting += [(item, depth + 1) for item in source[tag].value or ()]
            elif (vr == "PN" or tag in identifiers) and (value := source[tag].value):
                yield from (str(text) for text in (value if isinstance(value, MultiValue) else [value]))


def _parts(names: Sequence[str]) -> list[str]:
    """Whole, and the components of names: family^given, in up to three scripts (PS3.5 6.2.1)."""
    found: dict[str, None] = {}
    for name in names:
        found.update(dict.fromkeys(part.strip() for part in (name, *re.split(r"[\^=\\]", name))))
    return [part for part in found if part]
