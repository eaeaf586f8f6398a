"""Gestational age of an examination, from what its record says."""

from __future__ import annotations

from dataclasses import dataclass

GA_DAYS = (4 * 7, 45 * 7)
"""The gestational ages, in days, that a record may give."""

HADLOCK_WEEKS = (14.0, 42.0)
"""The weeks over which Hadlock et al. fitted their regressions (the abstract: 361 fetuses, 14 to 42 weeks)."""

CONFLICT_DAYS = 14
"""Two datings of one examination further apart than this are flagged."""


@dataclass(frozen=True)
class Dating:
    """The gestational age at an examination, and where it comes from.

    Attributes:
        ga_days: completed days.
        source: ``record`` where the record says so itself, ``biometry`` where it was computed.
        formula: the formula's name, or None.
        conflict: another dating of the same record lies more than ``CONFLICT_DAYS`` away.
        field: the record's field it comes from, with the formula.
    """

    ga_days: int
    source: str
    formula: str | None
    conflict: bool
    field: str


def date_examination(*, ga_days: int | None, ga_weeks_in_days: int | None, hc_mm: float | None) -> Dating | None:
    """The first of: the record's days, the record's weeks, the head circumference. Nothing is averaged.

    Args:
        ga_days: what the record's ``ga_days`` says.
        ga_weeks_in_days: what the record's ``ga_weeks`` says, in days.
        hc_mm: head circumference in mm; it counts only where it falls within ``HADLOCK_WEEKS``.

    Returns:
        None where none of them gives an age.
    """
    weeks = hadlock_1984_hc(hc_mm) if hc_mm is not None else None
    from_hc = None if weeks is None else round(weeks * 7)
    known = [days for days in (ga_days, ga_weeks_in_days, from_hc) if days is not None]
    if not known:
        return None
    conflict = max(abs(days - known[0]) for days in known) > CONFLICT_DAYS
    if ga_days is not None:
        return Dating(ga_days, "record", None, conflict, "records.ga_days")
    if ga_weeks_in_days is not None:
        return Dating(ga_weeks_in_days, "record", None, conflict, "records.ga_weeks")
    return Dating(known[0], "biometry", "hadlock_1984_hc", conflict, "records.hc_mm via hadlock_1984_hc")


def hadlock_1984_hc(hc_mm: float) -> float | None:
    """Gestational age in weeks from the head circumference in mm; None outside ``HADLOCK_WEEKS``.

    Hadlock FP, Deter RL, Harrist RB, Park SK. Estimating fetal age: computer-assisted analysis of multiple fetal
    growth parameters. Radiology 1984;152:497-501: weeks = 8.96 + 0.540 HC + 0.0003 HC^3, HC in cm.

    The publication's own table could not be read. The coefficients were checked against values that a manufacturer
    prints as "GA by HC - Hadlock1984" (Hologic SuperSonic MACH, Obstetrical References, PM.LAB.175-A, 2020), as public
    code quotes them: HC 6.8, 15.1, 22.4, 30.1 and 36.0 cm give 12.7263, 18.1469, 24.4278, 33.3953 and 42.3968 weeks.
    """
    hc_cm = hc_mm / 10
    weeks = 8.96 + 0.540 * hc_cm + 0.0003 * hc_cm**3
    low, high = HADLOCK_WEEKS
    return weeks if low <= weeks <= high else None
