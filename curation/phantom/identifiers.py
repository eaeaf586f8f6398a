"""Identifiers in the phantom's files: DICOM UIDs, and the coding scheme of its planes."""

from __future__ import annotations

import hashlib

UID_ROOT = "2.25."
"""UIDs below it are made from 128-bit numbers and need no registration (PS3.5 B.2)."""

# Made once by uuid4 and never changed: they tell which program wrote a file, and which coding scheme it uses.
IMPLEMENTATION_UID = f"{UID_ROOT}146104882515318468389765795697042759702"
IMPLEMENTATION_NAME = "SONO_PHANTOM"
PLANE_SCHEME = "99SONO"
"""Coding scheme of the vocabulary's planes; designators of private schemes begin with 99 (PS3.3 8.2)."""
PLANE_SCHEME_UID = f"{UID_ROOT}203798574856900851658091293857369833531"
PLANE_SCHEME_NAME = "Planes of sono-curate's vocabulary"


def seeded_uid(seed: int, *parts: object) -> str:
    """The same UID for the same seed and parts, which say what it identifies."""
    return hashed_uid("/".join(map(str, ("sono-phantom", seed, *parts))))


def hashed_uid(text: str) -> str:
    """A UID made of the first 128 bits of a text's hash."""
    return f"{UID_ROOT}{int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], 'big')}"
