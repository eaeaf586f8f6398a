"""What a file says is found wherever formats let it stand, and a file that says nothing is told from one not read."""

from __future__ import annotations

import datetime
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from sono.curation.audit.sources.header_values import (
    NO_FILE,
    NO_HEADER,
    NO_IMAGE,
    HeaderValues,
    dicom_values,
    raster_values,
)
from sono.curation.audit.sources.source_file import read_source
from sono.manifests import pydicom_warnings

PIXELS = Image.fromarray(np.arange(2000, dtype=np.uint8).reshape(40, 50))


def words(values: HeaderValues) -> set[str]:
    return {word for _, text in values.texts for word in text.split()}


def saved(kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    PIXELS.save(file, kind, **options)
    return file.getvalue()


def test_text_behind_the_pixels_of_a_png_is_read() -> None:
    png = saved("PNG")
    end = png.index(b"IEND") - 4
    chunk = b"tEXt" + b"Comment\0Yamamoto"
    framed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    assert "Yamamoto" in words(raster_values(png[:end] + framed + png[end:], 1))


def test_exif_is_read_in_its_folders_in_both_encodings_and_with_its_dates() -> None:
    exif = Image.Exif()
    exif[0x9C9D] = "Jansen".encode("utf-16le")
    exif.get_ifd(0x8769).update({0xA430: "Yamamoto", 0x9003: "2024:05:31 10:00:00", 0x9286: b"ASCII\0\0\0Achterberg"})
    values = raster_values(saved("JPEG", exif=exif), 1)
    assert {"Jansen", "Yamamoto", "Achterberg"} <= words(values)
    assert values.dates == {datetime.date(2024, 5, 31)}


def test_every_page_of_a_tiff_is_read() -> None:
    first, second = (PIXELS.copy() for _ in range(2))
    file = io.BytesIO()
    second.encoderinfo = {"tiffinfo": {270: "Yamamoto"}}
    first.save(file, "TIFF", save_all=True, append_images=[second])
    assert "Yamamoto" in words(raster_values(file.getvalue(), 2))
    assert "Yamamoto" not in words(raster_values(file.getvalue(), 1))


def test_long_texts_are_read_to_their_end_and_damaged_elements_as_they_are() -> None:
    data = pydicom.Dataset()
    data.add_new(0x00204000, "UT", "x " * 20_000 + "Yamamoto")
    for tag, vr, value in ((0x00200013, "IS", b"Achterberg"), (0x00181074, "FD", b"Jansen")):
        data[Tag(tag)] = RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)
    with pydicom_warnings.silenced():
        assert {"Yamamoto", "Achterberg", "Jansen"} <= words(dicom_values(data))


def test_an_element_of_no_known_representation_does_not_end_the_audit() -> None:
    data = pydicom.Dataset()
    data.PatientName = "Achterberg"
    tag = Tag(0x00186011)
    data[tag] = RawDataElement(tag, "ZZ", 8, None, 0, False, True)  # not read yet: its representation says how
    with pydicom_warnings.silenced():
        assert words(dicom_values(data)) == {"Achterberg"}


def test_private_attributes_are_read_whatever_their_representation() -> None:
    data = pydicom.Dataset()
    block = data.private_block(0x0099, "ACME", create=True)
    for element, vr, value in ((1, "LO", "Yamamoto"), (2, "UN", b"Achterberg"), (3, "OB", b"\x01\x02Jansen\0")):
        block.add_new(element, vr, value)
    assert {"Yamamoto", "Achterberg", "Jansen"} <= words(dicom_values(data))


@pytest.mark.parametrize(
    ("content", "unread"),
    [
        (None, NO_FILE),
        (b"Mrs Yamamoto", NO_IMAGE),
        (b"\0" * 128 + b"DICM" + b"\xff" * 9, NO_HEADER),
        (saved("PNG")[:60], NO_HEADER),
        (saved("PNG"), ""),
    ],
    ids=["gone", "text", "dicom", "png", "whole"],
)
def test_a_file_that_was_not_read_says_so(tmp_path: Path, content: bytes | None, unread: str) -> None:
    path = tmp_path / "a"
    if content is not None:
        path.write_bytes(content)
    row = dict.fromkeys(("pixel_mm", "patient_id", "issuer", "study_id", "date", "plane"))
    assert read_source({**row, "path": str(path).encode()}, ()).values.unread == unread
