"""Duplicates are the listed ones, and no others."""

from __future__ import annotations

import hashlib

import numpy as np

from tests.curation.phantom.archive import Phantom, decoded, stills
from tests.curation.phantom.screens import as_rgb, correlation, sector_mask


def test_exact_duplicates_decode_to_equal_pixels_and_no_other_stills_do(phantom_archive: Phantom) -> None:
    listed = {frozenset((row["file"], row["original"])) for row in phantom_archive.duplicates if row["kind"] == "exact"}
    by_hash: dict[str, set[str]] = {}
    for file in {row["file"] for row in phantom_archive.frames}:
        pixels = np.stack(decoded(phantom_archive.path(file)))
        by_hash.setdefault(hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest(), set()).add(file)
    equal = {frozenset((one, other)) for same in by_hash.values() for one in same for other in same if one != other}
    assert equal == listed
    assert listed


def test_near_duplicates_are_similar_but_not_equal(phantom_archive: Phantom) -> None:
    near = [row for row in phantom_archive.duplicates if row["kind"] == "near"]
    rows = {row["file"]: row for row in phantom_archive.frames}
    assert near
    for pair in near:
        one, other = (
            as_rgb(phantom_archive.pixels(rows[pair[side]])).max(axis=2).astype(float) for side in ("file", "original")
        )
        inside = sector_mask(rows[pair["file"]])
        assert correlation(one, other) >= 0.95
        assert correlation(one[inside], other[inside]) >= 0.95
        assert np.count_nonzero(one[inside] != other[inside]) > 0.1 * np.count_nonzero(inside)
    unlike = stills(phantom_archive)[:2]
    one, other = (as_rgb(phantom_archive.pixels(row)).max(axis=2).astype(float) for row in unlike)
    assert correlation(one, other) < 0.9


def test_duplicates_tell_whether_both_files_are_of_one_patient(phantom_archive: Phantom) -> None:
    patients = {row["file"]: row["patient_id"] for row in phantom_archive.frames}
    for row in phantom_archive.duplicates:
        assert row["same_patient"] == (patients[row["file"]] == patients[row["original"]])
    assert {row["file"] for row in phantom_archive.duplicates if not row["same_patient"]} == set(
        phantom_archive.fault("filed_under_two_patients")
    )
