"""Ultrasound is where the truth says, and nowhere else."""

from __future__ import annotations

import math
from collections import Counter

import cv2
import numpy as np

from tests.curation.phantom.archive import CENTERS, Phantom, lossless, texts_of
from tests.curation.phantom.screens import as_rgb, empty_screen, furniture, polar, sector_mask


def test_nothing_but_the_screen_is_outside_the_sectors(phantom_archive: Phantom) -> None:
    rows = lossless(phantom_archive)
    assert {row["center"] for row in rows} == set(CENTERS)
    assert {sector["kind"] for row in rows for sector in row["sectors"]} == {"convex", "phased", "linear"}
    for row in rows:
        pixels = phantom_archive.pixels(row)
        outside = ~sector_mask(row, slack=0.01) & ~furniture(phantom_archive, row)
        assert np.count_nonzero(outside) > 0.2 * outside.size
        assert np.array_equal(pixels[outside], empty_screen(row, pixels)[outside]), row["file"]


def test_speckle_fills_the_sector_up_to_its_edges(phantom_archive: Phantom) -> None:
    """Measured on pixels alone: the first and last echo and the outermost beams are where the truth says."""
    looked_at = Counter[str]()
    for row in lossless(phantom_archive):
        if row["fault"] == "black_frame" or row["mode"] == "dual":
            continue
        sector = row["sectors"][0]
        pixels = as_rgb(phantom_archive.pixels(row)).max(axis=2)
        lit = (pixels > 20) & sector_mask(row, slack=2) & ~furniture(phantom_archive, row)
        y, x = np.nonzero(lit)
        if sector["kind"] == "linear":
            left, top, width, _ = sector["box"]
            assert x.min() - left <= 1, row["file"]
            assert left + width - 1 - x.max() <= 1, row["file"]
            assert y.min() - top <= 1, row["file"]
        else:
            radius, angle = polar(sector, x + 0.5, y + 0.5)
            assert abs(radius.min() - sector["radii"][0]) < 1.5, row["file"]
            assert abs(radius.max() - sector["radii"][1]) < 4, row["file"]
            assert np.allclose([angle.min(), angle.max()], sector["angles"], atol=0.6), row["file"]
        inside = pixels[sector_mask(row)]
        assert inside.std() > 15, row["file"]
        assert len(np.unique(inside)) > 100, row["file"]
        looked_at[sector["kind"]] += 1
    assert min(looked_at[kind] for kind in ("convex", "phased", "linear")) >= 1


def test_the_mask_of_a_sector_can_be_computed_from_its_row(phantom_archive: Phantom) -> None:
    wanted = {"convex", "phased", "linear"}
    rows = {
        (row["sectors"][0]["kind"], row["center"], row["mode"]): row for row in phantom_archive.frames if row["sectors"]
    }
    assert {kind for kind, _, _ in rows} == wanted
    for row in rows.values():
        shown = np.zeros((row["height"], row["width"]), np.bool_)
        drawn = phantom_archive.drawn(row["file"])
        for sector in drawn.sectors:
            x, y, width, height = sector.box
            shown[y : y + height, x : x + width] |= sector.inside()
            tight = cv2.boundingRect(sector.inside().astype(np.uint8))
            assert np.abs(np.subtract(tight, (0, 0, width, height))).max() <= 2
            assert math.isclose(sector.mm_per_px, row["pixel_mm"], abs_tol=1e-6), "one scale on a screen"
        assert np.count_nonzero(shown ^ sector_mask(row)) <= 4, (row["file"], row["sectors"])


def test_rulers_mark_centimetres_down_to_the_last_echo(phantom_archive: Phantom) -> None:
    for row in (row for row in phantom_archive.frames if row["mode"] not in ("dual", "volume")):
        sector = row["sectors"][0]
        radii = sector["radii"] or [0, sector["box"][3]]
        start = sector["box"][1] if sector["kind"] == "linear" else sector["apex"][1] + radii[0]
        rulers = [text for text in texts_of(phantom_archive, row["file"]) if text["kind"] == "ruler"]
        if row["mode"] == "spectral":  # whose trace has a ruler of its own
            rulers = [text for text in rulers if text["box"][1] < sector["box"][1] + sector["box"][3]]
        numbers = {int(text["text"]): text["box"] for text in rulers}
        assert sorted(numbers) == list(range(5, round((radii[1] - radii[0]) * row["pixel_mm"]) // 10 + 1, 5))
        for centimetre, (_, y, _, height) in numbers.items():
            assert abs(y + height / 2 - (start + 10 * centimetre / row["pixel_mm"])) < 4
