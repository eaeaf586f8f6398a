"""Published formulas for gestational age, and the published limits within which two ages agree."""

from __future__ import annotations

import math
from collections.abc import Mapping

ROBINSON_FLEMING_MM = (10, 84)
"""Crown-rump lengths that date a pregnancy, 7+1 to 14+1 weeks; a longer fetus bends, and other measurements date it."""

HADLOCK_WEEKS = (14, 42)
"""The weeks over which Hadlock et al. fitted their regressions (abstract: 361 fetuses at 14 to 42 weeks)."""

HADLOCK_PARAMETERS = ("bpd", "hc", "ac", "fl")
"""The measurements that date by Hadlock et al.; in ``schemas.BIOMETRY`` with ``_mm``."""


def acog_700_threshold_days(ga_days: int) -> int:
    """The difference in days that must be exceeded to date by ultrasound instead of the last menstrual period.

    American College of Obstetricians and Gynecologists. Committee Opinion 700: Methods for estimating the due date.
    Obstet Gynecol 2017;129:e150-4, the table of redating guidelines.

    Args:
        ga_days: completed days by the last menstrual period at the ultrasound.
    """
    for weeks, threshold_days in ((9, 5), (16, 7), (22, 10), (28, 14)):
        if ga_days < weeks * 7:
            return threshold_days
    return 21


def robinson_fleming_1975_days(crl_mm: float) -> float | None:
    """Gestational age in days from the crown-rump length in mm; None outside ``ROBINSON_FLEMING_MM``.

    Robinson HP, Fleming JEE. A critical evaluation of sonar "crown-rump length" measurements. Br J Obstet Gynaecol
    1975;82:702-10: days = 8.052 sqrt(1.037 CRL) + 23.73.

    Two variants circulate. This is the one with the factor 1.037, which British practice uses (Loughna P et al. Fetal
    size and dating: charts recommended for clinical obstetric practice. Ultrasound 2009;17:161-7); without it ages are
    0.5 to 1.4 days lower. The factor is said to undo a systematic error of the equipment of 1975. The paper could not
    be read. Checked: the NHS screening programme gives 11+2 to 14+1 weeks for 45.0 to 84.0 mm, which are the rounded
    ages with the factor; without it they would be 11+1 and 14+0.
    """
    low, high = ROBINSON_FLEMING_MM
    return 8.052 * math.sqrt(1.037 * crl_mm) + 23.73 if low <= crl_mm <= high else None


def hadlock_1984_weeks(biometry: Mapping[str, float]) -> float | None:
    """Gestational age in weeks by the regression for all of ``bpd_mm``, ``hc_mm``, ``ac_mm``, ``fl_mm`` that are given.

    Hadlock FP, Deter RL, Harrist RB, Park SK. Estimating fetal age: computer-assisted analysis of multiple fetal
    growth parameters. Radiology 1984;152:497-501.

    The publication's table of regressions could not be read. The coefficients of all fifteen are those of three
    independent public implementations. Checked numerically: HC against the ages that a manufacturer prints for this
    regression (Hologic SuperSonic MACH, Obstetrical References, PM.LAB.175-A, 2020); all against the mean measurements
    that the same authors give by age, from which every regression differs by less than 0.6 weeks between 15 and 36
    weeks (HC alone by 1.5), and at 40 weeks falls short by up to 1.8.

    Args:
        biometry: mm; other measurements are ignored.

    Returns:
        None if none of the four is given, or the age lies outside ``HADLOCK_WEEKS``.
    """
    weeks = hadlock_1984_weeks_unlimited(biometry)
    low, high = HADLOCK_WEEKS
    return weeks if weeks is not None and low <= weeks <= high else None


def hadlock_1984_hc(hc_mm: float) -> float | None:
    """``hadlock_1984_weeks`` from the head circumference alone."""
    return hadlock_1984_weeks({"hc_mm": hc_mm})


def hadlock_1984_weeks_unlimited(biometry: Mapping[str, float]) -> float | None:
    """``hadlock_1984_weeks`` without its limits: also beyond the weeks that the regressions were fitted over."""
    given = {name: biometry[f"{name}_mm"] / 10 for name in HADLOCK_PARAMETERS if f"{name}_mm" in biometry}
    if not given:
        return None
    constant, terms = _HADLOCK_1984["_".join(given)]
    return constant + sum(
        coefficient * math.prod(given[name] for name in factors.split()) for factors, coefficient in terms.items()
    )


_HADLOCK_1984: Mapping[str, tuple[float, Mapping[str, float]]] = {
    "bpd": (9.54, {"bpd": 1.482, "bpd bpd": 0.1676}),
    "hc": (8.96, {"hc": 0.540, "hc hc hc": 0.0003}),
    "ac": (8.14, {"ac": 0.753, "ac ac": 0.0036}),
    "fl": (10.35, {"fl": 2.460, "fl fl": 0.170}),
    "bpd_hc": (10.32, {"hc hc": 0.009, "bpd": 1.3200, "hc hc hc": 0.00012}),
    "bpd_ac": (9.57, {"ac": 0.524, "bpd bpd": 0.1220}),
    "bpd_fl": (10.50, {"bpd fl": 0.197, "fl": 0.9500, "bpd": 0.7300}),
    "hc_ac": (10.31, {"hc hc": 0.012, "ac": 0.3850}),
    "hc_fl": (11.19, {"hc fl": 0.070, "hc": 0.2630}),
    "ac_fl": (10.47, {"ac": 0.442, "fl fl": 0.3140, "fl fl fl": -0.0121}),
    "bpd_hc_ac": (10.58, {"hc hc": 0.005, "ac": 0.3635, "bpd ac": 0.02864}),
    "bpd_hc_fl": (11.38, {"hc fl": 0.070, "bpd": 0.9800}),
    "bpd_ac_fl": (10.61, {"bpd fl": 0.175, "ac": 0.2970, "fl": 0.7100}),
    "hc_ac_fl": (10.33, {"hc fl": 0.031, "hc": 0.3610, "ac fl": 0.0298}),
    "bpd_hc_ac_fl": (10.85, {"hc fl": 0.060, "bpd": 0.6700, "ac": 0.1680}),
}
"""Constant in weeks, then a coefficient for each product of measurements in cm."""
