"""Units and limits of the numbers and dates that records give. Units are UCUM codes (https://ucum.org)."""

from __future__ import annotations

import math
from collections.abc import Mapping

from .statements import FaultError

GA_DAYS = (4 * 7, 45 * 7)
"""The gestational ages, in days, that a record may give."""

LIMITS_MM: Mapping[str, tuple[float, float]] = {
    "bpd_mm": (5, 130),
    "hc_mm": (20, 450),
    "ac_mm": (15, 500),
    "fl_mm": (2, 100),
    "crl_mm": (1, 200),
    "nt_mm": (0.1, 30),
    "tcd_mm": (3, 80),
    "hl_mm": (2, 100),
}
"""Well beyond anything measured between the first scan and term: outside is a typing error or another unit."""

_LMP_DAYS_BEFORE = (0, 45 * 7)  # how long before an examination the last menstrual period began
_EDD_DAYS_BEFORE = (-42 * 7, 5 * 7)  # a due date is ahead, or has passed by little

_MM = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
_DAYS = {"d": 1.0, "wk": 7.0}


def millimetres(fact: str, value: float, unit: str) -> float:
    """A length in mm, rounded to a micrometre, because a conversion adds digits that nobody measured.

    Raises:
        FaultError: the unit is not a length in UCUM that is used here, or the value is impossible for ``fact``.
    """
    if unit not in _MM:
        raise FaultError("unit_unknown", f"the unit of {fact.removesuffix('_mm')} is none of {', '.join(_MM)}")
    length = round(value * _MM[unit], 3)
    low, high = LIMITS_MM[fact]
    if not (math.isfinite(length) and low <= length <= high):
        raise FaultError("number_impossible", f"its {fact.removesuffix('_mm')} is impossible")
    return length


def gestational_age_days(value: float, unit: str) -> int:
    """An age in completed days.

    Raises:
        FaultError: the unit is neither days (``d``) nor weeks (``wk``), or the age lies outside ``GA_DAYS``.
    """
    if unit not in _DAYS:
        raise FaultError("unit_unknown", f"the unit of a gestational age is none of {', '.join(_DAYS)}")
    days = value * _DAYS[unit]
    if not (math.isfinite(days) and GA_DAYS[0] <= days <= GA_DAYS[1]):
        raise FaultError("gestational_age_impossible", "its gestational age lies outside 4 to 45 weeks")
    # 20.14 weeks are 141 days, written with two digits
    return round(days) if unit == "wk" else math.floor(days)


def check_pregnancy_day(fact: str, day: int, study_day: int | None) -> None:
    """Check a date of the pregnancy against the examination's; both are days on the patient's calendar.

    Args:
        fact: ``lmp_day`` or ``edd_day``.
        study_day: None where it is not known; then nothing is checked.

    Raises:
        FaultError: no pregnancy has such a date.
    """
    low, high = _LMP_DAYS_BEFORE if fact == "lmp_day" else _EDD_DAYS_BEFORE
    if study_day is not None and not low <= study_day - day <= high:
        raise FaultError("date_impossible", f"its {fact.removesuffix('_day')} does not fit the examination's date")


def check_age_day(observed_day: int | None, study_day: int | None) -> None:
    """Check that a gestational age is of the examination's day; one day is allowed for clocks in other time zones.

    Raises:
        FaultError: it is of another day.
    """
    if observed_day is not None and study_day is not None and abs(observed_day - study_day) > 1:
        raise FaultError("another_day", "its gestational age is of another day than the examination")
