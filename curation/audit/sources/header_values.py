"""Everything that a file says in words, UIDs and dates: what must be nowhere in the workspace.

No list of attributes decides what identifies: every text counts, also of private and nested ones.
"""

from __future__ import annotations

import datetime
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

_TEXT = {"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
_DATES = {"DA", "DT"}
_STANDARD_UIDS = "1.2.840.10008."
_RUN = re.compile(rb"[\x20-\x7e]{4,}")  # printable characters in an attribute of unknown representation
_DAY = re.compile(r"(\d{4})[.-]?(\d{2})[.-]?(\d{2})")
_LONGEST = 10_000  # characters of one value


@dataclass
class HeaderValues:
    """``texts`` are pairs of an attribute's keyword and its value."""

    texts: list[tuple[str, str]] = field(default_factory=list)
    uids: set[str] = field(default_factory=set)
    dates: set[datetime.date] = field(default_factory=set)


def dicom_values(*datasets: Dataset) -> HeaderValues:
    """Of data sets and everything nested in them; what cannot be read is passed over."""
    values = HeaderValues()
    for dataset in datasets:
        for keyword, vr, value in _elements(dataset):
            for item in value if isinstance(value, MultiValue | list | tuple) else [value]:
                _add(values, keyword, vr, item)
    return values


def raster_values(content: bytes) -> HeaderValues:
    """Of an image's text chunks, comments and EXIF."""
    values = HeaderValues()
    try:
        with Image.open(io.BytesIO(content)) as image:
            found = [*image.info.values(), *image.getexif().values()]
    except Exception:  # noqa: BLE001 - Pillow raises whatever a damaged file makes it stumble over
        return values
    for value in found:
        if isinstance(value, str | bytes):
            _add(values, "image metadata", "UN" if isinstance(value, bytes) else "LO", value)
    return values


def _elements(dataset: Dataset) -> Iterator[tuple[str, str, Any]]:
    """Keyword, value representation and value of every element that can be read."""
    for tag in list(dataset.keys()):
        try:
            element = dataset[tag]
            value = element.value
        except Exception:  # noqa: BLE001 - pydicom raises whatever a damaged element makes it stumble over
            continue
        if element.VR == "SQ":
            for item in value or []:
                yield from _elements(item)
        elif value not in (None, "", b""):
            yield keyword_for_tag(tag) or "private attribute", element.VR, value


def _add(values: HeaderValues, keyword: str, vr: str, value: object) -> None:
    if vr == "UI":
        if not str(value).startswith(_STANDARD_UIDS) and str(value):
            values.uids.add(str(value))
    elif vr in _DATES:
        values.dates.update(dates_in(str(value)))
    elif vr in _TEXT:
        values.texts.append((keyword, str(value)[:_LONGEST]))
    elif vr == "UN" and isinstance(value, bytes):
        values.texts += [(keyword, run.decode()) for run in _RUN.findall(value[:_LONGEST])]


def dates_in(text: str) -> Iterable[datetime.date]:
    """The date that a DICOM date or date and time begins with, if it is one."""
    match = _DAY.match(text.strip())
    if match:
        try:
            yield datetime.date(*map(int, match.groups()))
        except ValueError:
            return
