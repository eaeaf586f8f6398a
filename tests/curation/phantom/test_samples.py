"""Samples of every mode: their truth holds on their pixels, from scanners that differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from sono.curation.phantom.drawing.screen import IDENTITY, MEASUREMENT_MARKS
from sono.curation.phantom.files.regions import FORMAT_NONE, FORMAT_SPECTRAL, TYPE_COLOR_FLOW
from sono.curation.phantom.samples import MODES, Sample, draw_sample, draw_samples
from sono.curation.phantom.truth import sector_row
from sono.curation.phantom.writer import ultrasound_regions
from tests.curation.phantom.archive import VOCABULARY, Image, Mask
from tests.curation.phantom.screens import as_rgb, sector_mask

pytestmark = pytest.mark.slow  # draws dozens of screens

COUNT, SEED = 30, 11


@pytest.fixture(scope="module")
def clean() -> list[Sample]:
    return list(draw_samples(COUNT, seed=SEED, identity_share=0, measured_share=0))


@pytest.fixture(scope="module")
def written() -> list[Sample]:
    """The same frames, with identity and measurements over the ultrasound."""
    return list(draw_samples(COUNT, seed=SEED, identity_share=1, measured_share=1))


def test_modes_take_turns_and_every_geometry_occurs(clean: Sequence[Sample]) -> None:
    assert Counter(sample.mode for sample in clean) == dict.fromkeys(MODES, COUNT // len(MODES))
    sectors = [sector for sample in clean for sector in sample.drawn.sectors]
    assert {(sector.kind, sector.parallel) for sector in sectors} == {
        ("convex", False), ("phased", False), ("linear", False), ("linear", True),
    }  # fmt: skip
    assert len({round(sector.half_angle, 1) for sector in sectors}) > 8
    assert len({sample.pixels.shape[:2] for sample in clean}) > 3
    assert {sample.pixels.ndim for sample in clean} == {2, 3}


def test_a_sample_is_the_same_alone_and_in_any_order(clean: Sequence[Sample]) -> None:
    for number in (9, 5):
        alone = draw_sample(SEED, number, clean[number].mode, VOCABULARY, (0, 0))
        assert np.array_equal(alone.pixels, clean[number].pixels)
    with pytest.raises(ValueError, match="'doppler'"):
        draw_sample(SEED, 0, "doppler", VOCABULARY, (0, 0))


def test_each_mode_has_its_sectors_and_boxes(clean: Sequence[Sample]) -> None:
    for sample in clean:
        drawn, mode = sample.drawn, sample.mode
        assert len(drawn.sectors) in {"dual": (2,), "volume": (0, 3)}.get(mode, (1,))
        assert (drawn.trace_box is not None) == (mode in ("m_mode", "spectral"))
        assert (drawn.spectrum is not None) == (mode == "spectral")
        assert (drawn.rendering_box is not None) == (mode == "volume")
        assert drawn.flow_box is not None if mode == "color_doppler" else mode == "spectral" or drawn.flow_box is None
        formats = {region.spatial_format for region in ultrasound_regions(drawn)}
        assert (FORMAT_SPECTRAL in formats) == (mode == "spectral")
        assert (FORMAT_NONE in formats) == (mode == "volume")
        flows = {region.data_type for region in ultrasound_regions(drawn)} & {TYPE_COLOR_FLOW}
        assert bool(flows) == (drawn.flow_box is not None)


def test_sectors_can_be_computed_from_their_rows(clean: Sequence[Sample]) -> None:
    cut = 0
    for sample in clean:
        height, width = sample.pixels.shape[:2]
        rows = [sector_row(sector) for sector in sample.drawn.sectors]
        computed = sector_mask({"height": height, "width": width, "sectors": rows})
        assert np.count_nonzero(computed ^ sample.drawn.sector_mask()) <= 4 * max(len(rows), 1)
        cut += any(uncut_height(row) > row["box"][3] + 4 for row in rows)
    assert cut >= 2, "some screens cut their sectors"


def uncut_height(row: dict) -> float:
    if row["kind"] == "linear":
        return 0.0
    return row["radii"][1] - row["radii"][0] * float(np.cos(np.radians(row["angles"][1])))


def test_ultrasound_is_where_the_truth_says_and_nowhere_else(clean: Sequence[Sample]) -> None:
    for sample in clean:
        drawn, grey = sample.drawn, as_rgb(sample.pixels).max(axis=2)
        for sector in drawn.sectors:
            x, y, width, height = sector.box
            inside = sector.inside()
            assert np.mean(grey[y : y + height, x : x + width][inside] > 8) > 0.3
        shown = drawn.sector_mask()
        for box in (drawn.trace_box, drawn.rendering_box):
            if box is not None:
                x, y, width, height = box
                assert np.mean(grey[y : y + height, x : x + width] > 8) > 0.03
                assert np.unique(grey[y : y + height, x : x + width]).size > 60
                assert not shown[y : y + height, x : x + width].any(), "a trace does not overlap its sector"
                shown[y : y + height, x : x + width] = True
        textured = cv2.blur((grey > 40).astype(np.float32), (25, 25)) > 0.8
        for (x, y, width, height), _ in sample.layout.bars:
            textured[y : y + height, x : x + width] = False
        assert not (textured & ~grown(shown, 14)).any()


def grown(mask: Mask, by: int) -> Mask:
    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((2 * by + 1, 2 * by + 1), np.uint8)), np.bool_)


def test_what_is_written_over_the_ultrasound_is_listed_and_nothing_else(
    clean: Sequence[Sample], written: Sequence[Sample]
) -> None:
    for before, after in zip(clean, written, strict=True):
        changed = difference(before, after)
        listed = np.zeros_like(changed)
        added = [*after.drawn.texts[len(before.drawn.texts) :], *after.drawn.marks[len(before.drawn.marks) :]]
        assert added
        for item in added:
            x, y, width, height = item.box
            listed[max(y - 2, 0) : y + height + 2, max(x - 2, 0) : x + width + 2] = True
            assert changed[y : y + height, x : x + width].any(), item
        assert not (changed & ~listed).any(), after.image


def test_boxes_lie_on_the_screen(written: Sequence[Sample]) -> None:
    for sample in written:
        height, width = sample.pixels.shape[:2]
        for item in (*sample.drawn.texts, *sample.drawn.marks):
            x, y, across, down = item.box
            assert min(x, y) >= 0, item
            assert min(across, down) > 0, item
            assert x + across <= width, item
            assert y + down <= height, item


def difference(one: Sample, other: Sample) -> Mask:
    return np.asarray((as_rgb(one.pixels) != as_rgb(other.pixels)).any(axis=2), np.bool_)


def test_texts_over_the_ultrasound_vary_in_script_size_direction_and_colour(written: Sequence[Sample]) -> None:
    inside = [text for sample in written for text in sample.drawn.texts if text.inside]
    identities = [text for text in inside if text.kind in IDENTITY]
    assert {text.kind for text in identities} == set(IDENTITY)
    assert {text.script for text in identities} == {"latin", "cyrillic", "greek"}
    assert {text.script for text in inside if text.kind == "measurement"} == {"latin", "cyrillic", "greek"}
    assert {text.angle for text in identities} == {0, 90, 270}
    thickness = [min(text.box[2:]) for text in identities]
    assert min(thickness) < 11
    assert max(thickness) > 16
    marks = {mark.kind for sample in written for mark in sample.drawn.marks if mark.inside}
    assert set(MEASUREMENT_MARKS) <= marks
    for text in identities:
        assert (text.box[3] > text.box[2]) == (text.angle != 0) or len(text.text) < 4


def test_boxes_of_texts_over_the_ultrasound_are_tight(clean: Sequence[Sample], written: Sequence[Sample]) -> None:
    for before, after in zip(clean, written, strict=True):
        changed = difference(before, after)
        for text in after.drawn.texts[len(before.drawn.texts) :]:
            x, y, width, height = text.box
            window: Image = changed[y : y + height, x : x + width]
            rows, columns = np.flatnonzero(window.any(axis=1)), np.flatnonzero(window.any(axis=0))
            assert max(rows[0], columns[0], height - 1 - rows[-1], width - 1 - columns[-1]) <= 2, text
