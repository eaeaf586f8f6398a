"""Gestational age of an examination, from everything its record says about it.

Sources are ranked and nothing is averaged. If they contradict each other there is no age, because a wrong one is worse
than none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sono.captioning.facts.quantities import GA_DAYS

from .formulas import (
    HADLOCK_PARAMETERS,
    acog_700_threshold_days,
    hadlock_1984_weeks,
    hadlock_1984_weeks_unlimited,
    robinson_fleming_1975_days,
)

PREGNANCY_DAYS = 280
"""From the last menstrual period to the due date (ACOG Committee Opinion 700)."""

IMPLAUSIBLE_DAYS = 35
"""An ultrasound age further than this from the chosen one contradicts it. The figure is ours: growth disorders rarely
reach five weeks; mixed-up patients and typing errors do."""


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
        ga_days: the valid age as the record gives it; in completed days, like the next three.
        ga_days_by_edd: as the record states it.
        ga_days_by_lmp: as the record states it.
        ga_days_by_ultrasound: as the scanner computed it from several measurements.
        study_day: of the examination; the three days are on one calendar.
        edd_day: the estimated date of delivery.
        lmp_day: the first day of the last menstrual period.
        biometry: mm, by names of ``schemas.BIOMETRY``; BPD, HC, AC and FL are used for dating.
        early_crl: crown-rump lengths of the same pregnancy, this examination's own among them.
        fields: the field of the record that each fact comes from.
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
        ga_days: completed days; None if and only if ``conflict`` is not None.
        source: ``explicit``, ``edd``, ``lmp``, ``crl`` or ``biometry``: the one used, or the first one in conflict.
        formula: the formula's name, or None.
        conflict: which sources contradict each other, in fixed words without values.
        field: the record's fields it comes from, with the formula: ``column hc_mm via hadlock_1984_hc``.
        redated: ultrasound replaced the last menstrual period, as ACOG Committee Opinion 700 recommends.
    """

    ga_days: int | None
    source: str
    formula: str | None
    conflict: str | None
    field: str
    redated: bool


def date_examination(evidence: Evidence) -> Dating | None:
    """The first available of: explicit age, due date, last menstrual period, earliest CRL, scanner's age, Hadlock 1984.

    A due date or last menstrual period given as a date outranks an age that the record states for it. Ages outside
    ``GA_DAYS`` count as absent.

    - An explicit age, due date or last menstrual period that differs from the first of them by more than the ACOG
      threshold is a conflict, unless only the last menstrual period differs and a CRL confirms the first: then the
      pregnancy was redated.
    - If only the last menstrual period and ultrasound give an age, and differ by more than the ACOG threshold,
      ultrasound replaces it.
    - Any ultrasound age further than ``IMPLAUSIBLE_DAYS`` from the chosen age is a conflict. So is biometry that far
      from a last menstrual period that has no other support, and so are measurements that far from each other if the
      age would be computed from them.

    Returns:
        None if nothing gives an age.
    """
    stated = [age for age in _stated_ages(evidence) if _is_possible(age)]
    stated_days = stated[0].ga_days if stated else None
    ultrasound = [age for age in _ultrasound_ages(evidence, stated_days) if _is_possible(age)]
    if not (stated or ultrasound):
        return None
    chosen, redated = (stated or ultrasound)[0], False
    threshold_days = acog_700_threshold_days(chosen.ga_days)
    contrary = [age for age in stated[1:] if abs(age.ga_days - chosen.ga_days) > threshold_days]
    if contrary:
        only_lmp_differs = chosen.source != "lmp" and all(age.source == "lmp" for age in contrary)
        if not (only_lmp_differs and _is_confirmed(chosen, ultrasound)):
            return _conflict(chosen, contrary[0])
        redated = True
    elif chosen.source == "lmp" and ultrasound and not _agree(chosen, ultrasound[0]):
        far = abs(ultrasound[0].ga_days - chosen.ga_days) > IMPLAUSIBLE_DAYS
        if ultrasound[0].source == "biometry" and (far or ultrasound[0].is_doubtful):
            return _conflict(chosen, ultrasound[0])  # more likely a typing error than a redated pregnancy
        chosen, redated = ultrasound[0], True
    for age in ultrasound:
        if abs(age.ga_days - chosen.ga_days) > IMPLAUSIBLE_DAYS:
            return _conflict(chosen, age)
    if chosen.is_doubtful:
        return _conflict(chosen, chosen)
    return Dating(chosen.ga_days, chosen.source, chosen.formula, None, chosen.field, redated)


@dataclass(frozen=True)
class _Age:
    """An age at the examination, as one source gives it.

    Attributes:
        days_before: how long before the examination the ultrasound was.
        is_doubtful: it comes from measurements whose own ages are further than ``IMPLAUSIBLE_DAYS`` apart.
    """

    ga_days: int
    source: str
    field: str
    formula: str | None = None
    days_before: int = 0
    is_doubtful: bool = False


def _stated_ages(evidence: Evidence) -> Iterator[_Age]:
    """Ages not computed from measurements, the highest-ranking first."""
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


def _ultrasound_ages(evidence: Evidence, stated_days: int | None) -> Iterator[_Age]:
    """From CRLs, the earliest first; then the scanner's age, then Hadlock's.

    A CRL from more than ``stated_days`` ago, before the pregnancy began, is of another pregnancy. Of two CRLs on one
    day the longer counts, as NICE NG137 dates twins.
    """
    formula = "robinson_fleming_1975"
    for crl in sorted(evidence.early_crl, key=lambda crl: (-crl.days_before, -crl.crl_mm)):
        days = robinson_fleming_1975_days(crl.crl_mm)
        if days is not None and (stated_days is None or stated_days >= crl.days_before):
            where = f"{crl.field} via {formula}"
            yield _Age(round(days) + crl.days_before, "crl", where, formula, crl.days_before)
    if evidence.ga_days_by_ultrasound is not None:
        yield _Age(evidence.ga_days_by_ultrasound, "biometry", _field(evidence, "ga_days_by_ultrasound"))
    weeks = hadlock_1984_weeks(evidence.biometry)
    if weeks is not None:
        names = [name for name in HADLOCK_PARAMETERS if f"{name}_mm" in evidence.biometry]
        formula = f"hadlock_1984_{'_'.join(names)}"
        where = ", ".join(_field(evidence, f"{name}_mm") for name in names)
        apart = [
            age
            for name in names
            if (age := hadlock_1984_weeks_unlimited({f"{name}_mm": evidence.biometry[f"{name}_mm"]}))
        ]
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
    """Whether they differ by no more than the threshold for the day of the ultrasound."""
    threshold_days = acog_700_threshold_days(age.ga_days - ultrasound.days_before)
    return abs(age.ga_days - ultrasound.ga_days) <= threshold_days


def _conflict(first: _Age, second: _Age) -> Dating:
    same = first.source == second.source
    text = f"two ages by {first.source} disagree" if same else f"{first.source} and {second.source} disagree"
    return Dating(None, first.source, first.formula, text, first.field, redated=False)
