"""The mode is the header's where it says one, else what the pixels look like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from sono.curation.cleaning.frame_mode import MODES, frame_mode
from sono.curation.cleaning.sectors.screen import read_screen
from sono.curation.images.dicom.regions import Region
from sono.curation.phantom.samples import Sample, draw_sample
from sono.manifests.vocabulary import load
from tests.curation.cleaning.screens_without_ultrasound import screens_without_ultrasound

TISSUE, TRACE, SPECTRUM, FLOW = (1, 1), (2, 1), (3, 3), (1, 2)


def region(kind: tuple[int, int], box: tuple[int, int, int, int] = (100, 60, 400, 300)) -> Region:
    return Region(kind[0], kind[1], box, None)


def test_six_modes_are_told_from_pixels_alone(samples: Sequence[Sample]) -> None:
    right = [frame_mode(read_screen(sample.pixels)).mode == sample.mode for sample in samples]
    assert np.mean(right) >= 0.93, [sample.mode for sample, one in zip(samples, right, strict=True) if not one]


@pytest.mark.parametrize(
    ("regions", "mode"),
    [
        ([region(TISSUE), region(TRACE)], "m_mode"),
        ([region(TISSUE), region(SPECTRUM)], "spectral"),
        ([region(TISSUE), region(FLOW)], "color_doppler"),
        ([region(TISSUE), region(TISSUE, (500, 60, 400, 300))], "dual"),
    ],
)
def test_the_header_knows_better(samples: Sequence[Sample], regions: list[Region], mode: str) -> None:
    b_mode = next(sample for sample in samples if sample.mode == "b_mode")
    found = frame_mode(read_screen(b_mode.pixels), regions)
    assert (found.mode, found.source, found.disagrees) == (mode, "header", False)


def test_a_rendering_whose_header_says_tissue_is_a_rendering_to_look_at(samples: Sequence[Sample]) -> None:
    findings = [frame_mode(read_screen(one.pixels), [region(TISSUE)]) for one in samples if one.mode == "volume"]
    assert all(found.mode == "volume" and found.disagrees for found in findings if found.source == "pixels")
    assert sum(found.source == "pixels" for found in findings) >= 4


def test_a_header_that_names_tissue_alone_does_not_hide_what_the_pixels_show(samples: Sequence[Sample]) -> None:
    for mode in ("m_mode", "spectral", "dual", "color_doppler"):
        sample = next(sample for sample in samples if sample.mode == mode)
        found = frame_mode(read_screen(sample.pixels), [region(TISSUE)])
        assert (found.mode, found.disagrees) == (mode, True)


def test_what_is_not_understood_has_a_mode_too() -> None:
    for name, pixels in screens_without_ultrasound().items():
        found = frame_mode(read_screen(pixels))
        assert found.mode in MODES, name
    for name in ("black", "white", "a report page", "settings alone"):
        assert frame_mode(read_screen(screens_without_ultrasound()[name])).mode == "unknown", name


def test_a_frame_has_the_mode_of_its_pixels_whatever_was_looked_at_before(samples: Sequence[Sample]) -> None:
    first, last = samples[0], samples[-1]
    alone = frame_mode(read_screen(first.pixels))
    frame_mode(read_screen(last.pixels))
    assert frame_mode(read_screen(first.pixels.copy())) == alone


def test_the_box_of_flow_is_no_baseline() -> None:
    """Fluid parts this sector into three pieces, and the lower side of the box lies between two of them."""
    sample = draw_sample(21, 25, "color_doppler", load(), (0.2, 0.2))
    assert frame_mode(read_screen(sample.pixels)).mode == "color_doppler"


def test_a_line_below_texture_on_a_low_screen_is_no_spectrum() -> None:
    random = np.random.default_rng(4)
    strip = np.zeros((90, 640), np.uint8)
    strip[2:60, 10:300] = random.integers(20, 200, (58, 290))
    strip[75, 320:600] = 200
    assert read_screen(strip).layout.kind == "single"
