"""Phantom frames of every mode, and with and without something drawn over the ultrasound; drawn once per process."""

from __future__ import annotations

import pytest

from sono.curation.phantom.samples import Sample, draw_samples


@pytest.fixture(scope="session")
def samples() -> list[Sample]:
    """Five frames of each of the six modes, with text and measurements over a fifth of them."""
    return list(draw_samples(30, seed=21))


@pytest.fixture(scope="session")
def clean_samples() -> list[Sample]:
    """Nothing is written or measured over the ultrasound; the machine's own marks are there."""
    modes = ("b_mode", "color_doppler", "dual")
    drawn = draw_samples(9, seed=71, modes=modes, identity_share=0.0, measured_share=0.0)
    return [sample for sample in drawn if not any(line.inside for line in sample.drawn.texts)]  # of a ruler beside it


@pytest.fixture(scope="session")
def written_samples() -> list[Sample]:
    """Identity and measurements over the ultrasound: three scripts, across and upright, grey and coloured."""
    modes = ("b_mode", "color_doppler", "dual")
    return list(draw_samples(12, seed=72, modes=modes, identity_share=1.0, measured_share=1.0))
