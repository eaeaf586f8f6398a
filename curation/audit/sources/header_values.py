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
from PIL.PngImagePlugin import PngImageFile
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

_TEXT = {"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
_DATES = {"DA", "DT"}
_STANDARD_UIDS = "1.2.840.10008."
_RUN = re.compile(rb"[\x20-\x7e]{4,}")  # printable characters in an attribute of unknown representation
_WORD = re.compile(r"[^\W\d_]{2,}")
_DAY = re.compile(r"(\d{4})[.:-]?(\d{2})[.:-]?(\d{2})")  # EXIF has colons
_LONGEST = 10_000  # bytes of an attribute of unknown representation: in longer ones, any four letters are somewhere
_EXIF_FOLDERS = (0x8769, 0x8825, 0xA005)  # of the camera, the place and of interoperability

NO_FILE, NO_IMAGE, NO_HEADER = "the_file_cannot_be_read", "the_file_is_no_image", "the_header_cannot_be_read"
"""Why what a file says is not known."""


@dataclass
class HeaderValues:
    """What a source says.

    Attributes:
        texts: pairs of an attribute's keyword and its value.
        unread: why nothing of it is known, one of the reasons above; empty if it was read.
    """

    texts: list[tuple[str, str]] = field(default_factory=list)
    uids: set[str] = field(default_factory=set)
    dates: set[datetime.date] = field(default_factory=set)
    unread: str = ""


def dicom_values(*datasets: Dataset) -> HeaderValues:
    """Of data sets and everything nested in them; of an element that is damaged, what can be read in its bytes."""
    values = HeaderValues()
    for dataset in datasets:
        for keyword, vr, value in _elements(dataset):
            for item in value if isinstance(value, MultiValue | list | tuple) else [value]:
                _add(values, keyword, vr, item)
    return values


def raster_values(content: bytes, pages: int) -> HeaderValues:
    """Of an image's text chunks, comments and EXIF, on all of its pages."""
    values = HeaderValues()
    try:
        with Image.open(io.BytesIO(content)) as image:
            for page in range(pages):
                image.seek(page)
                _add_metadata(values, image)
    except Exception:  # noqa: BLE001 - Pillow raises whatever a damaged file makes it stumble over
        return values if values.texts else HeaderValues(unread=NO_HEADER)
    return values


def _add_metadata(values: HeaderValues, image: Image.Image) -> None:
    exif = image.getexif()
    found = [value for key, value in image.info.items() if key != "exif"]
    found += [value for folder in (exif, *map(exif.get_ifd, _EXIF_FOLDERS)) for value in folder.values()]
    if isinstance(image, PngImageFile):
        found += image.text.values()  # decodes the image: text may follow the pixels
    for value in found:
        if isinstance(value, bytes):
            _add(values, "image metadata", "UN", value)
        elif isinstance(value, str):
            _add(values, "image metadata", "LO", value)
            values.dates.update(dates_in(value))


def _elements(dataset: Dataset) -> Iterator[tuple[str, str, Any]]:
    """Keyword, value representation and value of every element; of a damaged one its bytes."""
    for tag, raw in list(dataset.items()):  # as they were read
        keyword = keyword_for_tag(tag) or "private attribute"
        try:
            element = dataset[tag]
            value = element.value
        except Exception:  # noqa: BLE001 - pydicom raises whatever a damaged element makes it stumble over
            yield keyword, "UN", getattr(raw, "value", None)
            continue
        if element.VR == "SQ":
            for item in value or []:
                yield from _elements(item)
        elif value not in (None, "", b""):
            yield keyword, "UN" if element.VR == "OB" and tag.is_private else element.VR, value


def _add(values: HeaderValues, keyword: str, vr: str, value: object) -> None:
    if vr == "UI":
        if not str(value).startswith(_STANDARD_UIDS) and str(value):
            values.uids.add(str(value))
    elif vr in _DATES:
        values.dates.update(dates_in(str(value)))
    elif vr in _TEXT or (isinstance(value, str) and _WORD.search(value)):  # a word where a number should be
        values.texts.append((keyword, str(value)))
    elif vr == "UN" and isinstance(value, bytes):
        wide = value.replace(b"\0", b"") if b"\0" in value else b""  # UTF-16, as Windows writes it
        runs = [*_RUN.findall(value[:_LONGEST]), *_RUN.findall(wide[:_LONGEST])]
        values.texts += [(keyword, run.decode()) for run in dict.fromkeys(runs)]


def dates_in(text: str) -> Iterable[datetime.date]:
    """The date that a date, or date and time, of DICOM, EXIF or ISO 8601 begins with, if it is one."""
    match = _DAY.match(text.strip())
    if match:
        try:
            yield datetime.date(*map(int, match.groups()))
        except ValueError:
            return
