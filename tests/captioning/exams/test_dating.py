"""Gestational age from records: the formulas, which source counts, and what contradicts what."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

import pytest

from sono.captioning.exams.dating import (
    Dating,
    EarlyCrl,
    Evidence,
    date_examination,
)
from sono.captioning.exams.formulas import (
    acog_700_threshold_days,
    hadlock_1984_hc,
    hadlock_1984_weeks,
    robinson_fleming_1975_days,
)

WEEKS_20 = {"bpd_mm": 46.3, "hc_mm": 176.8, "ac_mm": 149.1, "fl_mm": 32.7}
"""Hadlock's means at 20 weeks; all four give 139 days."""

PARAMETERS = ("bpd_mm", "hc_mm", "ac_mm", "fl_mm")
COMBINATIONS = [names for count in (1, 2, 3, 4) for names in combinations(PARAMETERS, count)]


def dated(**evidence: Any) -> Dating:
    found = date_examination(Evidence(**evidence))
    assert found is not None
    return found


def crl(days_before: int, crl_mm: float) -> EarlyCrl:
    return EarlyCrl(days_before, crl_mm, "column crl_mm")


def crl_of(days: int) -> float:
    """A length that Robinson and Fleming date to ``days``."""
    return float(((days - 23.73) / 8.052) ** 2 / 1.037)


def hadlock_means(weeks: float) -> dict[str, float]:
    """Mean measurements in mm by age, Hadlock 1984's inverse regressions, as public code quotes them."""
    return {
        "bpd_mm": 10 * (-3.08 + 0.41 * weeks - 0.000061 * weeks**3),
        "hc_mm": 10 * (-11.48 + 1.56 * weeks - 0.0002548 * weeks**3),
        "ac_mm": 10 * (-13.3 + 1.61 * weeks - 0.00998 * weeks**2),
        "fl_mm": 10 * (-3.91 + 0.427 * weeks - 0.0034 * weeks**2),
    }


# The formulas


@pytest.mark.parametrize(("crl_mm", "days"), [(45.0, 11 * 7 + 2), (84.0, 14 * 7 + 1)])
def test_crl_gives_the_ages_that_the_nhs_screening_programme_prints(crl_mm, days):
    """FASP ultrasound handbook: 11+2 to 14+1 weeks of gestation, which corresponds to a CRL of 45.0 mm to 84.0 mm.

    Without the factor 1.037 they would be 11+1 and 14+0.
    """
    found = robinson_fleming_1975_days(crl_mm)
    assert found is not None
    assert round(found) == days


def test_crl_dates_from_10_to_84_mm_and_grows():
    assert robinson_fleming_1975_days(9.9) is None
    assert robinson_fleming_1975_days(84.1) is None
    assert robinson_fleming_1975_days(float("nan")) is None
    ages = [robinson_fleming_1975_days(length / 2) for length in range(20, 169)]
    assert all(later > earlier for earlier, later in pairwise(ages))
    assert (round(ages[0]), round(ages[-1])) == (50, 99)


@pytest.mark.parametrize(("hc_cm", "weeks"), [(15.1, 18.1469), (22.4, 24.4278), (30.1, 33.3953)])
def test_hadlock_hc_gives_the_weeks_that_a_manufacturer_prints(hc_cm, weeks):
    """Hologic SuperSonic MACH, Obstetrical References, "GA by HC - Hadlock1984", within its range of weeks."""
    assert hadlock_1984_hc(10 * hc_cm) == pytest.approx(weeks, abs=0.0006)
    assert hadlock_1984_weeks({"hc_mm": 10 * hc_cm, "tcd_mm": 20}) == hadlock_1984_hc(10 * hc_cm)


@pytest.mark.parametrize(("weeks", "ac_cm"), [(15, 8.6), (20, 15.0), (25, 20.8), (30, 26.1), (35, 30.9), (40, 35.3)])
def test_hadlock_ac_stays_near_the_printed_table_of_ac_by_age(weeks, ac_cm):
    """Hadlock 1984, table III, as public code transcribes it: the inverse regression, so close and never equal."""
    assert hadlock_1984_weeks({"ac_mm": 10 * ac_cm}) == pytest.approx(weeks, abs=0.4 if weeks <= 35 else 0.8)
    assert hadlock_means(weeks)["ac_mm"] == pytest.approx(10 * ac_cm, abs=2.1)


@pytest.mark.parametrize("names", COMBINATIONS, ids="+".join)
def test_every_hadlock_regression_finds_the_age_of_the_mean_fetus(names):
    """A regression of age on size falls short at the end of its range, where large fetuses are few."""
    for weeks in range(15, 41):
        fetus = hadlock_means(weeks)
        found = hadlock_1984_weeks({name: fetus[name] for name in names})
        near = 1.5 if names == ("hc_mm",) else 0.6 if weeks <= 36 else 1.85
        assert found == pytest.approx(weeks, abs=near), weeks


@pytest.mark.parametrize("weeks", [15, 20, 25, 30, 35])
def test_all_hadlock_combinations_agree_on_one_fetus(weeks):
    fetus = hadlock_means(weeks)
    found = [hadlock_1984_weeks({name: fetus[name] for name in names}) for names in COMBINATIONS if len(names) > 1]
    assert len(found) == 11
    assert max(found) - min(found) < 1


@pytest.mark.parametrize(
    ("names", "weeks"),
    [
        # by hand from the coefficients, at BPD 5, HC 20, AC 16, FL 3 cm: every term has a weight of its own
        (("bpd_mm",), 9.54 + 7.41 + 4.19),
        (("hc_mm",), 8.96 + 10.8 + 2.4),
        (("ac_mm",), 8.14 + 12.048 + 0.9216),
        (("fl_mm",), 10.35 + 7.38 + 1.53),
        (("bpd_mm", "hc_mm"), 10.32 + 3.6 + 6.6 + 0.96),
        (("bpd_mm", "ac_mm"), 9.57 + 8.384 + 3.05),
        (("bpd_mm", "fl_mm"), 10.5 + 2.955 + 2.85 + 3.65),
        (("hc_mm", "ac_mm"), 10.31 + 4.8 + 6.16),
        (("hc_mm", "fl_mm"), 11.19 + 4.2 + 5.26),
        (("ac_mm", "fl_mm"), 10.47 + 7.072 + 2.826 - 0.3267),
        (("bpd_mm", "hc_mm", "ac_mm"), 10.58 + 2 + 5.816 + 2.2912),
        (("bpd_mm", "hc_mm", "fl_mm"), 11.38 + 4.2 + 4.9),
        (("bpd_mm", "ac_mm", "fl_mm"), 10.61 + 2.625 + 4.752 + 2.13),
        (("hc_mm", "ac_mm", "fl_mm"), 10.33 + 1.86 + 7.22 + 1.4304),
        (("bpd_mm", "hc_mm", "ac_mm", "fl_mm"), 10.85 + 3.6 + 3.35 + 2.688),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) else None,
)
def test_every_hadlock_regression_has_its_own_coefficients(names, weeks):
    fetus = {"bpd_mm": 50.0, "hc_mm": 200.0, "ac_mm": 160.0, "fl_mm": 30.0}
    assert hadlock_1984_weeks({name: fetus[name] for name in names}) == pytest.approx(weeks, abs=1e-9)


@pytest.mark.parametrize("names", COMBINATIONS, ids="+".join)
def test_a_larger_fetus_is_never_younger(names):
    fetuses = [hadlock_means(weeks / 4) for weeks in range(4 * 15, 4 * 40)]
    ages = [hadlock_1984_weeks({name: fetus[name] for name in names}) for fetus in fetuses]
    known = [age for age in ages if age is not None]
    assert len(known) > 90
    assert all(later > earlier for earlier, later in pairwise(known))
    fetus = hadlock_means(25)
    for name in names:
        larger = fetus | {name: fetus[name] + 2}
        assert hadlock_1984_weeks({n: larger[n] for n in names}) > hadlock_1984_weeks({n: fetus[n] for n in names})


def test_outside_14_to_42_weeks_hadlock_says_nothing():
    assert hadlock_1984_hc(68) is None  # 12.7 weeks
    assert hadlock_1984_hc(89) is None  # 13.98 weeks
    assert hadlock_1984_hc(89.6) is not None  # 14.01 weeks
    assert hadlock_1984_hc(357) is not None  # 41.9 weeks
    assert hadlock_1984_hc(360) is None  # 42.4 weeks
    assert hadlock_1984_hc(float("nan")) is None


def test_humerus_and_cerebellum_do_not_date():
    assert hadlock_1984_weeks({"hl_mm": 31, "tcd_mm": 20, "nt_mm": 2, "crl_mm": 60}) is None
    assert date_examination(Evidence(biometry={"hl_mm": 31, "tcd_mm": 20, "nt_mm": 2})) is None


@pytest.mark.parametrize(
    ("weeks", "day", "threshold_days"),
    [
        (4, 0, 5),
        (8, 6, 5),
        (9, 0, 7),
        (13, 6, 7),
        (14, 0, 7),
        (15, 6, 7),
        (16, 0, 10),
        (21, 6, 10),
        (22, 0, 14),
        (27, 6, 14),
        (28, 0, 21),
        (42, 0, 21),
    ],
)
def test_the_threshold_grows_with_age_as_acog_700_says(weeks, day, threshold_days):
    assert acog_700_threshold_days(7 * weeks + day) == threshold_days


# Which source counts


def test_the_sources_count_in_their_order():
    # small differences, so that each step shows in the days
    evidence: dict[str, Any] = {
        "ga_days": 140,
        "study_day": 1000,
        "edd_day": 1000 + 280 - 141,
        "ga_days_by_edd": 142,
        "lmp_day": 1000 - 143,
        "ga_days_by_lmp": 144,
        "early_crl": [crl(60, crl_of(145 - 60))],
        "ga_days_by_ultrasound": 146,
        "biometry": WEEKS_20,
    }
    steps = [
        ("ga_days", 140, "explicit", None),
        ("edd_day", 141, "edd", None),
        ("ga_days_by_edd", 142, "edd", None),
        ("lmp_day", 143, "lmp", None),
        ("ga_days_by_lmp", 144, "lmp", None),
        ("early_crl", 145, "crl", "robinson_fleming_1975"),
        ("ga_days_by_ultrasound", 146, "biometry", None),
        ("biometry", 139, "biometry", "hadlock_1984_bpd_hc_ac_fl"),
    ]
    for fact, days, source, formula in steps:
        found = dated(**evidence)
        assert (found.ga_days, found.source, found.formula) == (days, source, formula)
        assert found.conflict is None
        assert not found.redated
        del evidence[fact]
    assert date_examination(Evidence(**evidence)) is None


def test_dates_without_the_day_of_the_examination_give_nothing():
    assert date_examination(Evidence(edd_day=1140, lmp_day=860)) is None


@pytest.mark.parametrize(("days", "counts"), [(27, False), (28, True), (315, True), (316, False)])
def test_an_age_outside_4_to_45_weeks_counts_as_absent(days, counts):
    absent_then_lmp = dated(ga_days=days, study_day=1000, lmp_day=1000 - 140, ga_days_by_edd=None)
    assert (absent_then_lmp.conflict is not None) == counts
    assert (date_examination(Evidence(study_day=1000, lmp_day=1000 - days)) is not None) == counts
    assert (date_examination(Evidence(study_day=1000, edd_day=1280 - days)) is not None) == counts
    assert (date_examination(Evidence(ga_days_by_ultrasound=days)) is not None) == counts


def test_a_crl_so_long_ago_that_it_cannot_be_this_pregnancy_counts_as_absent():
    assert date_examination(Evidence(early_crl=[crl(240, crl_of(80))])) is None
    assert dated(early_crl=[crl(235, crl_of(80))]).ga_days == 315


def test_the_earliest_crl_within_its_range_counts():
    found = dated(early_crl=[crl(0, crl_of(90)), crl(35, 9.0), crl(20, crl_of(73)), crl(5, crl_of(87))])
    assert (found.ga_days, found.source) == (93, "crl")


def test_of_two_crls_of_one_day_the_longer_counts():
    for twins in ([crl(0, crl_of(80)), crl(0, crl_of(83))], [crl(0, crl_of(83)), crl(0, crl_of(80))]):
        assert dated(early_crl=twins).ga_days == 83


@pytest.mark.parametrize("names", COMBINATIONS, ids="+".join)
def test_hadlock_uses_all_that_is_given_and_names_it(names):
    biometry = {name: WEEKS_20[name] for name in names}
    fields = {name: f"column {name}" for name in names}
    found = dated(biometry=biometry | {"hl_mm": 31.0}, fields=fields)
    formula = "hadlock_1984_" + "_".join(name.removesuffix("_mm") for name in names)
    assert found.formula == formula
    assert found.field == ", ".join(f"column {name}" for name in names) + f" via {formula}"
    weeks = hadlock_1984_weeks(biometry)
    assert weeks is not None
    assert found.ga_days == round(7 * weeks)


def test_the_field_says_where_the_age_stands():
    fields = {"ga_days": "column ga", "edd_day": "column edd", "lmp_day": "column lmp", "ga_days_by_ultrasound": "us"}
    assert dated(ga_days=140, fields=fields).field == "column ga"
    assert dated(study_day=0, edd_day=140, fields=fields).field == "column edd"
    assert dated(study_day=0, lmp_day=-140, fields=fields).field == "column lmp"
    assert dated(ga_days_by_ultrasound=140, fields=fields).field == "us"
    assert dated(early_crl=[crl(3, 60)], fields=fields).field == "column crl_mm via robinson_fleming_1975"
    assert dated(ga_days=140).field == "ga_days"


# What contradicts what


@pytest.mark.parametrize("ga_days", [62, 63, 111, 112, 153, 154, 195, 196, 280])
@pytest.mark.parametrize("sign", [-1, 1])
def test_beyond_the_threshold_at_its_age_another_date_contradicts_the_first(ga_days, sign):
    near = ga_days + sign * acog_700_threshold_days(ga_days)
    far = near + sign
    for kind in ("edd", "lmp"):
        kept = dated(ga_days=ga_days, **{f"ga_days_by_{kind}": near})
        assert (kept.ga_days, kept.conflict) == (ga_days, None)
        found = dated(ga_days=ga_days, **{f"ga_days_by_{kind}": far}, fields={"ga_days": "column ga"})
        assert found == Dating(None, "explicit", None, f"explicit and {kind} disagree", "column ga", redated=False)
    assert dated(ga_days_by_edd=ga_days, ga_days_by_lmp=near).ga_days == ga_days
    assert dated(ga_days_by_edd=ga_days, ga_days_by_lmp=far).conflict == "edd and lmp disagree"


def test_a_date_and_a_stated_age_of_one_kind_are_both_compared():
    found = dated(study_day=0, edd_day=140, ga_days_by_edd=151)
    assert (found.ga_days, found.source, found.conflict) == (None, "edd", "two ages by edd disagree")
    found = dated(study_day=0, lmp_day=-140, ga_days_by_lmp=151)
    assert (found.ga_days, found.source, found.conflict) == (None, "lmp", "two ages by lmp disagree")
    confirmed = dated(study_day=0, lmp_day=-140, ga_days_by_lmp=151, early_crl=[crl(56, crl_of(84))])
    assert confirmed.conflict == "two ages by lmp disagree"
    assert dated(ga_days=140, study_day=0, edd_day=140, ga_days_by_edd=151).conflict == "explicit and edd disagree"
    assert dated(ga_days=140, study_day=0, lmp_day=-140, ga_days_by_lmp=151).conflict == "explicit and lmp disagree"
    assert dated(study_day=0, edd_day=140, ga_days_by_edd=150).ga_days == 140


@pytest.mark.parametrize("first", [{"ga_days": 140}, {"study_day": 0, "edd_day": 140}])
def test_where_only_the_last_period_differs_a_crl_that_confirms_the_first_says_redated(first):
    at_84_days = [crl(56, crl_of(84))]
    found = dated(**first, ga_days_by_lmp=160, early_crl=at_84_days)
    assert (found.ga_days, found.conflict, found.redated) == (140, None, True)
    assert found.source in ("explicit", "edd")
    assert not dated(**first, ga_days_by_lmp=150, early_crl=at_84_days).redated
    # neither the scanner's age nor biometry is early enough to confirm
    assert dated(**first, ga_days_by_lmp=160, ga_days_by_ultrasound=140).conflict is not None
    assert dated(**first, ga_days_by_lmp=160, biometry=WEEKS_20).conflict is not None


@pytest.mark.parametrize(("at_crl", "redated"), [(84 - 8, False), (84 - 7, True), (84 + 7, True), (84 + 8, False)])
def test_a_crl_confirms_within_the_threshold_of_its_own_day(at_crl, redated):
    found = dated(ga_days=140, ga_days_by_lmp=160, early_crl=[crl(56, crl_of(at_crl))])
    assert (found.ga_days == 140) == redated == found.redated
    assert (found.conflict is None) == redated


def test_a_due_date_that_differs_is_no_redating():
    confirmed = [crl(56, crl_of(84))]
    found = dated(ga_days=140, ga_days_by_edd=160, ga_days_by_lmp=160, early_crl=confirmed)
    assert found.conflict == "explicit and edd disagree"
    assert not found.redated


@pytest.mark.parametrize("lmp", [62, 63, 80])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_crl_beyond_the_threshold_replaces_the_last_period(lmp, sign):
    near = lmp + sign * acog_700_threshold_days(lmp)
    found = dated(ga_days_by_lmp=lmp, early_crl=[crl(0, crl_of(near))])
    assert (found.ga_days, found.source, found.redated) == (lmp, "lmp", False)
    found = dated(ga_days_by_lmp=lmp, early_crl=[crl(0, crl_of(near + sign))])
    assert (found.ga_days, found.source, found.redated) == (near + sign, "crl", True)
    assert (found.formula, found.field) == ("robinson_fleming_1975", "column crl_mm via robinson_fleming_1975")


def test_the_threshold_is_that_of_the_day_of_the_crl():
    """8 days are too many at 80 days of the last period, and would not be at 200."""
    found = dated(ga_days_by_lmp=200, early_crl=[crl(120, crl_of(88))])
    assert (found.ga_days, found.source, found.redated) == (208, "crl", True)
    assert dated(ga_days_by_lmp=200, early_crl=[crl(120, crl_of(87))]).ga_days == 200


@pytest.mark.parametrize("lmp", [111, 112, 153, 154, 195, 196])
@pytest.mark.parametrize("sign", [-1, 1])
def test_without_a_crl_the_scanners_age_replaces_the_last_period(lmp, sign):
    near = lmp + sign * acog_700_threshold_days(lmp)
    found = dated(ga_days_by_lmp=lmp, ga_days_by_ultrasound=near)
    assert (found.ga_days, found.source, found.redated) == (lmp, "lmp", False)
    found = dated(ga_days_by_lmp=lmp, ga_days_by_ultrasound=near + sign)
    assert (found.ga_days, found.source, found.redated) == (near + sign, "biometry", True)


def test_without_the_scanners_age_hadlock_replaces_the_last_period():
    found = dated(ga_days_by_lmp=139 + 10, biometry=WEEKS_20)
    assert (found.ga_days, found.source, found.redated) == (149, "lmp", False)
    found = dated(ga_days_by_lmp=139 + 11, biometry=WEEKS_20)
    assert (found.ga_days, found.source, found.formula) == (139, "biometry", "hadlock_1984_bpd_hc_ac_fl")
    assert found.redated
    found = dated(ga_days_by_lmp=139 + 11, biometry=WEEKS_20, ga_days_by_ultrasound=145)
    assert (found.ga_days, found.source, found.redated) == (150, "lmp", False)


def test_a_crl_that_agrees_keeps_the_last_period_whatever_later_biometry_says():
    found = dated(ga_days_by_lmp=139 + 20, early_crl=[crl(79, crl_of(80))], biometry=WEEKS_20)
    assert (found.ga_days, found.source, found.redated) == (159, "lmp", False)


@pytest.mark.parametrize("first", ["ga_days", "ga_days_by_edd"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_more_than_35_days_from_ultrasound_is_a_conflict(first, sign):
    source = "explicit" if first == "ga_days" else "edd"
    for ultrasound in ({"ga_days_by_ultrasound": 139}, {"biometry": WEEKS_20}):
        assert dated(**{first: 139 + sign * 35}, **ultrasound).ga_days == 139 + sign * 35
        found = dated(**{first: 139 + sign * 36}, **ultrasound)
        assert (found.ga_days, found.source) == (None, source)
        assert found.conflict == f"{source} and biometry disagree"
    assert dated(**{first: 130}, early_crl=[crl(45, crl_of(50))]).ga_days == 130
    assert dated(**{first: 130}, early_crl=[crl(44, crl_of(50))]).conflict == f"{source} and crl disagree"


def test_a_second_ultrasound_age_may_contradict_what_the_first_one_does_not():
    found = dated(ga_days=175, ga_days_by_ultrasound=175, biometry=WEEKS_20)
    assert found.conflict == "explicit and biometry disagree"
    assert dated(ga_days_by_lmp=175, early_crl=[crl(91, crl_of(84))], biometry=WEEKS_20).conflict == (
        "lmp and biometry disagree"
    )


def test_ultrasound_alone_contradicts_itself_beyond_35_days():
    """The earlier CRL is of a pregnancy that ended, or the measurements are another patient's."""
    found = dated(early_crl=[crl(112, crl_of(84))], biometry=WEEKS_20)
    assert (found.ga_days, found.source, found.conflict) == (None, "crl", "crl and biometry disagree")
    assert found.field == "column crl_mm via robinson_fleming_1975"
    found = dated(early_crl=[crl(40, crl_of(80)), crl(0, crl_of(80))])
    assert (found.ga_days, found.conflict) == (None, "two ages by crl disagree")
    found = dated(ga_days_by_ultrasound=175, biometry=WEEKS_20)
    assert (found.ga_days, found.conflict) == (None, "two ages by biometry disagree")
    assert dated(ga_days_by_lmp=200, early_crl=[crl(112, crl_of(84))], biometry=WEEKS_20).conflict is not None


@pytest.mark.parametrize(
    "changes",
    [{"fl_mm": 60.0}, {"fl_mm": 3.27}, {"bpd_mm": 90.0}, {"hc_mm": 330.0}],  # typing errors, and cm for mm
)
def test_measurements_that_contradict_each_other_give_no_age_between_them(changes):
    assert dated(biometry=WEEKS_20).ga_days == 139
    found = dated(biometry=WEEKS_20 | changes)
    assert (found.ga_days, found.source, found.conflict) == (None, "biometry", "two ages by biometry disagree")
    assert dated(ga_days=139, biometry=WEEKS_20 | changes).ga_days == 139
    # nor do they take the place of a last menstrual period
    redated = dated(ga_days_by_lmp=100, biometry=WEEKS_20 | changes)
    assert (redated.ga_days, redated.conflict) == (None, "lmp and biometry disagree")


def test_a_crl_from_before_the_pregnancy_began_is_of_another_one():
    found = dated(ga_days_by_lmp=84, early_crl=[crl(85, crl_of(80))])
    assert (found.ga_days, found.source, found.redated) == (84, "lmp", False)
    found = dated(ga_days=84, early_crl=[crl(85, crl_of(80)), crl(0, crl_of(84))])
    assert (found.ga_days, found.conflict) == (84, None)


def test_there_is_an_age_exactly_where_there_is_no_conflict():
    ages = (None, 90, 139, 180)
    for explicit in ages:
        for edd in ages:
            for lmp in ages:
                for at_crl in (None, 60, 84):
                    found = date_examination(
                        Evidence(
                            ga_days=explicit,
                            ga_days_by_edd=edd,
                            ga_days_by_lmp=lmp,
                            early_crl=[crl(55, crl_of(at_crl))] if at_crl else [],
                            biometry=WEEKS_20,
                        )
                    )
                    assert found is not None
                    assert (found.ga_days is None) == (found.conflict is not None)
                    assert found.source in ("explicit", "edd", "lmp", "crl", "biometry")
                    assert not (found.conflict and found.redated)
                    assert not any(character.isdigit() for character in found.conflict or "")
