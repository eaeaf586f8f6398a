"""Masks lie on what they name, in the archive and in a workspace."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from sono.curation.phantom.drawing.panels import Panel
from sono.manifests import masks
from tests.curation.phantom.archive import Curated, Mask, Phantom, Row, stills
from tests.curation.phantom.screens import as_rgb, correlation, grown, sector_mask

DARK = ("stomach", "bladder", "gallbladder", "orbits", "lateral_ventricles", "cavum_septi_pellucidi")


BONES = ("femur", "humerus", "tibia", "radius")


def test_masks_lie_in_their_sector_and_have_the_listed_size(phantom_archive: Phantom) -> None:
    by_frame = {(row["file"], row["frame_index"]): sector_mask(row, slack=0.01) for row in phantom_archive.frames}
    for row in phantom_archive.regions:
        mask = phantom_archive.masks[row["file"], row["frame_index"], row["structure"]]
        assert not np.any(mask & ~by_frame[row["file"], row["frame_index"]])
        assert (row["area_px"], list(row["bbox"])) == (
            np.count_nonzero(mask),
            list(cv2.boundingRect(mask.astype(np.uint8))),
        )


def test_fluid_is_darker_than_the_ring_around_it(phantom_archive: Phantom) -> None:
    differences: dict[str, float] = {}
    for structure in DARK:
        for row, mask in structure_masks(phantom_archive, structure):
            grey = as_rgb(phantom_archive.pixels(row)).max(axis=2).astype(float)
            inside = ~grown(~mask, 3)
            ring = grown(mask, 8) & ~grown(mask, 3) & sector_mask(row)
            for other, name in (
                (other, name) for (file, _, name), other in phantom_archive.masks.items() if file == row["file"]
            ):
                ring &= (
                    ~other
                    if name in ("choroid_plexus", "frontal_horns", "lateral_ventricles", "umbilical_arteries", "lenses")
                    else True
                )
            if np.count_nonzero(inside) > 60:
                differences[f"{structure} {row['file']}"] = np.median(grey[ring]) - np.median(grey[inside])
    assert {key.split()[0] for key in differences} == set(DARK)
    assert np.mean(np.array(list(differences.values())) > 15) >= 0.9, differences
    assert np.median(list(differences.values())) > 40, differences


def test_bone_is_brighter_than_what_lies_above_it(phantom_archive: Phantom) -> None:
    differences: dict[str, float] = {}
    for structure in BONES:
        for row, mask in structure_masks(phantom_archive, structure):
            grey = as_rgb(phantom_archive.pixels(row)).max(axis=2).astype(float)
            top = mask & ~np.roll(mask, 4, axis=0)
            above = np.roll(mask, -12, axis=0) & ~grown(mask, 5) & sector_mask(row)
            differences[f"{structure} {row['file']}"] = np.median(grey[top]) - np.median(grey[above])
    assert {key.split()[0] for key in differences} == set(BONES)
    assert np.mean(np.array(list(differences.values())) > 30) >= 0.9, differences


def structure_masks(archive: Phantom, structure: str) -> Iterator[tuple[Row, Mask]]:
    """A structure in every b_mode still that shows it, without other structures inside it."""
    within = {"lateral_ventricles": "choroid_plexus", "orbits": "lenses"}
    for row in stills(archive):
        mask = archive.masks.get((row["file"], 0, structure))
        if mask is not None:
            yield row, mask & ~archive.masks.get((row["file"], 0, within.get(structure, "")), np.zeros_like(mask))


def test_masks_of_a_cine_move_with_the_fetus(phantom_archive: Phantom, monkeypatch: pytest.MonkeyPatch) -> None:
    """It moves by less than a pixel per frame; here by enough to be measured."""
    away = 36
    monkeypatch.setattr(Panel, "moved", lambda panel, _: dataclasses.replace(panel.pose, x=panel.pose.x + away))
    cines = {row["file"] for row in phantom_archive.frames if row["frame_index"] and not row["fault"]}
    assert cines
    followed, stayed = [], []
    for file in cines:
        first, then = phantom_archive.drawn(file).frames[:2]
        structure = max(first.masks, key=lambda name: np.count_nonzero(first.masks[name]))
        mask, moved = first.masks[structure], np.roll(then.masks[structure], -away, axis=1)
        assert np.count_nonzero(mask & moved) > 0.9 * np.count_nonzero(mask | moved)
        one, other = (cv2.blur(as_rgb(frame.pixels).max(axis=2).astype(float), (9, 9)) for frame in (first, then))
        there = grown(mask, 15) & sector_mask(phantom_archive.frame(file))
        followed.append(correlation(one[there], np.roll(other, -away, axis=1)[there]))
        stayed.append(correlation(one[there], other[there]))
    assert np.mean(followed) > np.mean(stayed) + 0.1


def test_every_true_mask_survives_ingest_bit_for_bit(phantom_archive: Phantom, curated: Curated) -> None:
    wanted: set[tuple[str, str]] = set()
    for (file, index, structure), mask in phantom_archive.masks.items():
        frame = curated.frames.get((curated.key(file), index))
        if frame is None:
            continue
        x, y, width, height = frame["crop"]
        region = curated.regions[frame["frame_id"], structure]
        assert np.array_equal(masks.decode(region["mask"]), mask[y : y + height, x : x + width])
        wanted.add((frame["frame_id"], structure))
    assert curated.regions.keys() == wanted
    assert len(wanted) > 0.9 * len(phantom_archive.regions)
