from __future__ import annotations

import itertools

import pytest

from sono.training.step.schedule import factor


def test_the_factor_rises_to_one_and_never_climbs_again() -> None:
    """Not after 5,000 steps either, as a cosine of that period would."""
    factors = [factor(step, warmup_steps=800, total_steps=6000) for step in range(20_000)]
    assert all(later > earlier for earlier, later in itertools.pairwise(factors[:800]))
    assert factors[799] == factors[800] == 1.0
    assert all(later <= earlier for earlier, later in itertools.pairwise(factors[800:]))
    assert factors[0] == pytest.approx(1 / 800)
    assert set(factors[6000:]) == {0.0}


def test_the_cosine_is_half_way_down_in_the_middle_and_ends_with_training() -> None:
    assert factor(60, warmup_steps=20, total_steps=100) == pytest.approx(0.5)
    assert 0 < factor(99, warmup_steps=20, total_steps=100) < 0.001
    assert factor(0, warmup_steps=0, total_steps=10) == 1.0


def test_with_its_own_end_the_cosine_climbs_again_as_in_the_released_code() -> None:
    factors = [factor(step, warmup_steps=800, total_steps=20_000, cosine_steps=5000) for step in range(20_000)]
    assert factors[:801] == [factor(step, warmup_steps=800, total_steps=20_000) for step in range(801)]
    assert factors[5000] == pytest.approx(0)
    assert factors[9200] == pytest.approx(1)
    assert factors[13_400] == pytest.approx(0)
    assert factors[3000] == pytest.approx(factors[7000])
