"""Phantom frames of every mode, drawn once for all tests of a process."""

from __future__ import annotations

import pytest

from sono.curation.phantom.samples import Sample, draw_samples


@pytest.fixture(scope="session")
def samples() -> list[Sample]:
    """Five frames of each of the six modes, with text and measurements over a fifth of them."""
    return list(draw_samples(30, seed=21))
