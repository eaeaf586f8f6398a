"""The kind of a file is told by its content, not by its name."""

from __future__ import annotations

import pytest

from sono.curation.images.signatures import image_kind


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n", "png"),
        (b"\xff\xd8\xff\xe0", "jpeg"),
        (b"II*\0", "tiff"),
        (b"MM\0*", "tiff"),
        (b"BM", "bmp"),
        (bytes(128) + b"DICM", "dicom"),
        (b"II*\0" + bytes(124) + b"DICM", "dicom"),  # a TIFF header in the preamble is allowed (PS3.10 7.1)
        (b"patient_id,ga_days", None),
        (b"", None),
    ],
)
def test_files_are_known_by_their_first_bytes(content: bytes, kind: str | None) -> None:
    assert image_kind(content) == kind
