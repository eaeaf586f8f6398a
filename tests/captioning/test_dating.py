"""Gestational age from records."""

from __future__ import annotations

import pytest

from sono.captioning.dating import date_examination, hadlock_1984_hc


@pytest.mark.parametrize(
    ("hc_cm", "weeks"),
    [(15.1, 18.1469), (22.4, 24.4278), (30.1, 33.3953)],
)
def test_hadlock_gives_the_weeks_that_a_manufacturer_prints(hc_cm, weeks):
    """Hologic SuperSonic MACH, Obstetrical References, "GA by HC - Hadlock1984", within its range of weeks."""
    assert hadlock_1984_hc(10 * hc_cm) == pytest.approx(weeks, abs=0.0006)


@pytest.mark.parametrize(("weeks", "hc_cm"), [(16, 12.4), (20, 17.7), (24, 22.4), (28, 26.6), (32, 30.1), (36, 32.8)])
def test_hadlock_stays_within_its_spread_of_the_growth_table(weeks, hc_cm):
    """Hadlock's 1984 table of head circumference by age is the inverse regression: close, and never equal.

    2 SD of the age grow from about 1.2 weeks before 20 weeks to about 3 weeks near term.
    """
    found = hadlock_1984_hc(10 * hc_cm)
    assert found is not None
    assert abs(found - weeks) < (1.2 if weeks <= 20 else 1.5 if weeks <= 26 else 2.1)


def test_outside_its_range_the_formula_says_nothing():
    assert hadlock_1984_hc(68) is None  # 12.7 weeks
    assert hadlock_1984_hc(360) is None  # 42.4 weeks
    assert hadlock_1984_hc(89.6) is not None  # 14.01 weeks
    assert hadlock_1984_hc(357) is not None  # 41.9 weeks


def test_the_records_own_days_come_first_then_its_weeks_then_the_head():
    dated = date_examination(ga_days=150, ga_weeks_in_days=151, hc_mm=175)
    assert dated is not None
    assert (dated.ga_days, dated.source, dated.formula, dated.field) == (150, "record", None, "records.ga_days")
    dated = date_examination(ga_days=None, ga_weeks_in_days=151, hc_mm=175)
    assert dated is not None
    assert (dated.ga_days, dated.field) == (151, "records.ga_weeks")
    dated = date_examination(ga_days=None, ga_weeks_in_days=None, hc_mm=175)
    assert dated is not None
    assert (dated.ga_days, dated.source, dated.formula) == (140, "biometry", "hadlock_1984_hc")
    assert date_examination(ga_days=None, ga_weeks_in_days=None, hc_mm=None) is None


@pytest.mark.parametrize(("days", "conflict"), [(126, False), (125, True), (154, False), (155, True)])
def test_more_than_two_weeks_apart_is_a_conflict(days, conflict):
    dated = date_examination(ga_days=days, ga_weeks_in_days=None, hc_mm=175)  # 140 days by the head
    assert dated is not None
    assert (dated.ga_days, dated.conflict) == (days, conflict)


def test_days_and_weeks_of_one_record_may_conflict_too():
    dated = date_examination(ga_days=150, ga_weeks_in_days=170, hc_mm=None)
    assert dated is not None
    assert dated.conflict
