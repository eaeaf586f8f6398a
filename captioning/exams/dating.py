"""Gestational age of an examination, from everything its record says about it.

Sources count in a fixed order and nothing is averaged. Where they contradict each other there is no age, because a
wrong one is worse than none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sono.captioning.facts.quantities import GA_DAYS

PREGNANCY_DAYS = 280
"""From the last menstrual period to the due date (ACOG Committee Opinion 700)."""

ROBINSON_FLEMING_MM = (10, 84)
"""Crown-rump lengths that date a pregnancy, 7+1 to 14+1 weeks; longer ones bend and are not used any more."""

HADLOCK_WEEKS = (14, 42)
"""The weeks over which Hadlock et al. fitted their regressions (the abstract: 361 fetuses, 14 to 42 weeks)."""

DATING = ("bpd_mm", "hc_mm", "ac_mm", "fl_mm", "crl_mm")
"""The measurements that give an age where they lie within a formula's range: Hadlock's four, and the CRL."""

IMPLAUSIBLE_DAYS = 35
"""An ultrasound age further than this from the chosen one contradicts it. The figure is ours: growth disorders rarely
reach five weeks, a mixed-up patient or a typing error does."""


@dataclass(frozen=True)
class EarlyCrl:
    """A crown-rump length of the same pregnancy, measured ``days_before`` the examination (0: at it)."""

    days_before: int
    crl_mm: float
    field: str


@dataclass(frozen=True)
class Evidence:
    """Everything that one examination's record says about the age; all optional.

    Attributes:
        ga_days: completed days, as are the next three; the age that the record gives as the one that holds.
        ga_days_by_edd: as the record states it.
        ga_days_by_lmp: as the record states it.
        ga_days_by_ultrasound: as the scanner computed it from several measurements.
        study_day: of the examination; the three days stand on one calendar.
        edd_day: the estimated date of delivery.
        lmp_day: the first day of the last menstrual period.
        biometry: mm, by names of ``schemas.BIOMETRY``; of these, BPD, HC, AC and FL date.
        early_crl: crown-rump lengths of the same pregnancy, this examination's own among them.
        fields: where each fact stands in the record.
    """

    ga_days: int | None = None
    ga_days_by_edd: int | None = None
    ga_days_by_lmp: int | None = None
    ga_days_by_ultrasound: int | None = None
    study_day: int | None = None
    edd_day: int | None = None
    lmp_day: int | None = None
    biometry: Mapping[str, float] = field(default_factory=dict)
    early_crl: Sequence[EarlyCrl] = ()
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Dating:
    """The gestational age at an examination, and where it comes from.

    Attributes:
        ga_days: completed days; None exactly where ``conflict`` is not None.
        source: ``explicit``, ``edd``, ``lmp``, ``crl`` or ``biometry``: the one used, or the first one in conflict.
        formula: the formula's name, or None.
        conflict: which sources contradict each other, in fixed words without values.
        field: the record's fields it comes from, with the formula: ``column hc_mm via hadlock_1984_hc``.
        redated: the last menstrual period was set aside for ultrasound, as ACOG Committee Opinion 700 says.
    """

    ga_days: int | None
    source: str
    formula: str | None
    conflict: str | None
    field: str
    redated: bool


def date_examination(evidence: Evidence) -> Dating | None:
    """The first of: explicit age, due date, last menstrual period, earliest CRL, the scanner's age, Hadlock 1984.

    A due date or last menstrual period given as a date comes before an age that the record states for it. Ages outside
    ``GA_DAYS`` count as absent.

    - An explicit age, due date or last menstrual period that differs from the first of them by more than the ACOG
      threshold is a conflict; except where only the last menstrual period differs and a CRL confirms the first: that
      pregnancy was redated.
    - Where nothing but the last menstrual period stands against ultrasound, ultrasound that differs by more than the
      ACOG threshold takes its place.
    - Any ultrasound age further than ``IMPLAUSIBLE_DAYS`` from the chosen age is a conflict; so is biometry that far
      from a last menstrual period that stands alone, and are measurements that far from each other where they would
      date.

    Returns:
        None where nothing gives an age.
    """
    stated = [age for age in _stated_ages(evidence) if _is_possible(age)]
    known_days = stated[0].ga_days if stated else None
    ultrasound = [age for age in _ultrasound_ages(evidence, known_days) if _is_possible(age)]
    if not (stated or ultrasound):
        return None
    chosen, redated = (stated or ultrasound)[0], False
    threshold_days = acog_700_threshold_days(chosen.ga_days)
    contrary = [age for age in stated[1:] if abs(age.ga_days - chosen.ga_days) > threshold_days]
    if contrary:
        only_lmp = chosen.source != "lmp" and all(age.source == "lmp" for age in contrary)
        if not (only_lmp and _is_confirmed(chosen, ultrasound)):
            return _conflict(chosen, contrary[0])
        redated = True
    elif chosen.source == "lmp" and ultrasound and not _agree(chosen, ultrasound[0]):
        far = abs(ultrasound[0].ga_days - chosen.ga_days) > IMPLAUSIBLE_DAYS
        if ultrasound[0].source == "biometry" and (far or ultrasound[0].is_doubtful):
            return _conflict(chosen, ultrasound[0])  # rather a typing error in a measurement than a pregnancy redated
        chosen, redated = ultrasound[0], True
    for age in ultrasound:
        if abs(age.ga_days - chosen.ga_days) > IMPLAUSIBLE_DAYS:
            return _conflict(chosen, age)
    if chosen.is_doubtful:
        return _conflict(chosen, chosen)
    return Dating(chosen.ga_days, chosen.source, chosen.formula, None, chosen.field, redated)


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
    0.5 to 1.4 days less. The factor is said to undo a systematic error of the equipment of 1975. The paper could not be
    read. What was checked: the NHS screening programme gives 11+2 to 14+1 weeks for 45.0 to 84.0 mm, which are the
    rounded ages with the factor; without it they would be 11+1 and 14+0.
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
        biometry: mm; other measurements are not looked at.

    Returns:
        None where none of the four is given, or the age lies outside ``HADLOCK_WEEKS``.
    """
    weeks = _hadlock_weeks(biometry)
    low, high = HADLOCK_WEEKS
    return weeks if weeks is not None and low <= weeks <= high else None


def _hadlock_weeks(biometry: Mapping[str, float]) -> float | None:
    """Outside the weeks as well that the regressions were fitted over."""
    given = {name: biometry[f"{name}_mm"] / 10 for name in _HADLOCK_PARAMETERS if f"{name}_mm" in biometry}
    if not given:
        return None
    constant, terms = _HADLOCK_1984["_".join(given)]
    return constant + sum(
        coefficient * math.prod(given[name] for name in factors.split()) for factors, coefficient in terms.items()
    )


def hadlock_1984_hc(hc_mm: float) -> float | None:
    """``hadlock_1984_weeks`` from the head circumference alone."""
    return hadlock_1984_weeks({"hc_mm": hc_mm})


_HADLOCK_PARAMETERS = ("bpd", "hc", "ac", "fl")

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


@dataclass(frozen=True)
class _Age:
    """An age at the examination, as one source gives it; an ultrasound may have been ``days_before``.

    ``is_doubtful``: it stands between measurements of ages that are further than ``IMPLAUSIBLE_DAYS`` apart.
    """

    ga_days: int
    source: str
    field: str
    formula: str | None = None
    days_before: int = 0
    is_doubtful: bool = False


def _stated_ages(evidence: Evidence) -> Iterator[_Age]:
    """What is not computed from measurements, in the order in which it counts."""
    if evidence.ga_days is not None:
        yield _Age(evidence.ga_days, "explicit", _field(evidence, "ga_days"))
    if evidence.study_day is not None and evidence.edd_day is not None:
        by_edd_days = PREGNANCY_DAYS - (evidence.edd_day - evidence.study_day)
        yield _Age(by_edd_days, "edd", _field(evidence, "edd_day"))
    if evidence.ga_days_by_edd is not None:
        yield _Age(evidence.ga_days_by_edd, "edd", _field(evidence, "ga_days_by_edd"))
    if evidence.study_day is not None and evidence.lmp_day is not None:
        yield _Age(evidence.study_day - evidence.lmp_day, "lmp", _field(evidence, "lmp_day"))
    if evidence.ga_days_by_lmp is not None:
        yield _Age(evidence.ga_days_by_lmp, "lmp", _field(evidence, "ga_days_by_lmp"))


def _ultrasound_ages(evidence: Evidence, known_days: int | None) -> Iterator[_Age]:
    """CRLs, the earliest first, then the scanner's age, then Hadlock's.

    A CRL from before the pregnancy began, which is ``known_days`` old, is of another one. Of two of one day the longer
    counts, as NICE NG137 dates twins.
    """
    formula = "robinson_fleming_1975"
    for crl in sorted(evidence.early_crl, key=lambda crl: (-crl.days_before, -crl.crl_mm)):
        days = robinson_fleming_1975_days(crl.crl_mm)
        if days is not None and (known_days is None or known_days >= crl.days_before):
            where = f"{crl.field} via {formula}"
            yield _Age(round(days) + crl.days_before, "crl", where, formula, crl.days_before)
    if evidence.ga_days_by_ultrasound is not None:
        yield _Age(evidence.ga_days_by_ultrasound, "biometry", _field(evidence, "ga_days_by_ultrasound"))
    weeks = hadlock_1984_weeks(evidence.biometry)
    if weeks is not None:
        names = [name for name in _HADLOCK_PARAMETERS if f"{name}_mm" in evidence.biometry]
        formula = f"hadlock_1984_{'_'.join(names)}"
        where = ", ".join(_field(evidence, f"{name}_mm") for name in names)
        apart = [age for name in names if (age := _hadlock_weeks({f"{name}_mm": evidence.biometry[f"{name}_mm"]}))]
        is_doubtful = 7 * (max(apart) - min(apart)) > IMPLAUSIBLE_DAYS
        yield _Age(round(weeks * 7), "biometry", f"{where} via {formula}", formula, is_doubtful=is_doubtful)


def _field(evidence: Evidence, fact: str) -> str:
    return evidence.fields.get(fact, fact)


def _is_possible(age: _Age) -> bool:
    return GA_DAYS[0] <= age.ga_days <= GA_DAYS[1]


def _is_confirmed(age: _Age, ultrasound: Sequence[_Age]) -> bool:
    earliest_crl = next((found for found in ultrasound if found.source == "crl"), None)
    return earliest_crl is not None and _agree(age, earliest_crl)


def _agree(age: _Age, ultrasound: _Age) -> bool:
    """Within the threshold that held on the day of the ultrasound."""
    threshold_days = acog_700_threshold_days(age.ga_days - ultrasound.days_before)
    return abs(age.ga_days - ultrasound.ga_days) <= threshold_days


def _conflict(first: _Age, second: _Age) -> Dating:
    same = first.source == second.source
    text = f"two ages by {first.source} disagree" if same else f"{first.source} and {second.source} disagree"
    return Dating(None, first.source, first.formula, text, first.field, redated=False)
