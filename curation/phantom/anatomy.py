"""How large a fetus is at a gestational age.

Means of head, abdomen and femur: Papageorghiou AT et al., International standards for fetal growth based on serial
ultrasound measurements: the Fetal Growth Longitudinal Study of the INTERGROWTH-21st Project, Lancet 2014;384:869-79
(14 to 40 weeks). Crown-rump length: Papageorghiou AT et al., Ultrasound Obstet Gynecol 2014;44:641-8 (9 to 14 weeks).
The other lengths are ratios to these: round figures for drawing, not a reference for growth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

RELATIVE_SD = 0.035
"""Spread of a measurement between fetuses of one age, as a share of its mean. Our choice, close to the standards."""

FIRST_TRIMESTER_DAYS = 14 * 7
"""Up to this age biometry is the crown-rump length, and an examination shows the early planes."""

SNOMED_CT_PREFIX = "SCT:"
VENTRICULAR_SEPTAL_DEFECT = f"{SNOMED_CT_PREFIX}30288003"
HYPOPLASTIC_LEFT_HEART = f"{SNOMED_CT_PREFIX}62067003"
SCALP_EDEMA = f"{SNOMED_CT_PREFIX}443168008"
FINDINGS: Mapping[str, str] = {
    VENTRICULAR_SEPTAL_DEFECT: "Ventricular septal defect",
    HYPOPLASTIC_LEFT_HEART: "Hypoplastic left heart syndrome",
    SCALP_EDEMA: "Edema of fetal scalp",
}
"""What a phantom may have, and its images show, as ``SYSTEM:CODE``: from PS3.16 CID 12249, Fetal Summary Findings."""


def finding_meaning(finding: str) -> str:
    """The meaning of a finding's code.

    Raises:
        ValueError: it is not one of ``FINDINGS``.
    """
    if finding not in FINDINGS:
        raise ValueError(f"the finding {finding!r} is not one of {', '.join(FINDINGS)}")
    return FINDINGS[finding]


def head_circumference_mm(weeks: float) -> float:
    """INTERGROWTH-21st, mean, 14 to 40 weeks; below 14 weeks it shrinks with the crown-rump length."""
    if weeks < 14:
        return head_circumference_mm(14.0) * crown_rump_length_mm(weeks) / crown_rump_length_mm(14.0)
    return -28.2849 + 1.69267 * weeks**2 - 0.397485 * weeks**2 * math.log(weeks)


def abdominal_circumference_mm(weeks: float) -> float:
    """INTERGROWTH-21st, mean, 14 to 40 weeks; below 14 weeks as for the head."""
    if weeks < 14:
        return abdominal_circumference_mm(14.0) * crown_rump_length_mm(weeks) / crown_rump_length_mm(14.0)
    return -81.3243 + 11.6772 * weeks - 0.000561865 * weeks**3


def femur_length_mm(weeks: float) -> float:
    """INTERGROWTH-21st, mean, 14 to 40 weeks."""
    return -39.9616 + 4.32298 * weeks - 0.0380156 * weeks**2


def crown_rump_length_mm(weeks: float) -> float:
    """INTERGROWTH-21st, mean, 9+0 to 13+6 weeks; used up to 14+0."""
    days = weeks * 7
    return -50.6562 + 0.815118 * days + 0.00535302 * days**2


@dataclass(frozen=True)
class Fetus:
    """One fetus at one examination: its age and how it differs from the mean of that age.

    Attributes:
        ga_days: gestational age in completed days.
        scale: its size as a share of the mean size at its age.
        missing: structures that cannot be seen, by the vocabulary's ids.
        findings: keys of ``FINDINGS``.
    """

    ga_days: int
    scale: float = 1.0
    missing: frozenset[str] = frozenset()
    findings: frozenset[str] = frozenset()
    variation: Mapping[str, float] = field(default_factory=dict)

    @property
    def weeks(self) -> float:
        return self.ga_days / 7

    @property
    def hc_mm(self) -> float:
        return head_circumference_mm(self.weeks) * self._varied("hc")

    @property
    def bpd_mm(self) -> float:
        """Biparietal diameter of an ellipse with the head circumference and a cephalic index of 0.78."""
        return 0.78 * self.ofd_mm

    @property
    def ofd_mm(self) -> float:
        """Occipitofrontal diameter: the long axis of that ellipse."""
        return self.hc_mm / ellipse_circumference(1.0, 0.78)

    @property
    def ac_mm(self) -> float:
        return abdominal_circumference_mm(self.weeks) * self._varied("ac")

    @property
    def fl_mm(self) -> float:
        return femur_length_mm(max(self.weeks, 12.5)) * self._varied("fl")

    @property
    def hl_mm(self) -> float:
        return 0.94 * self.fl_mm + 1.0

    @property
    def crl_mm(self) -> float:
        return crown_rump_length_mm(self.weeks) * self.scale

    @property
    def nt_mm(self) -> float:
        """Nuchal translucency: about the normal median, and much thicker in a few fetuses."""
        return self.variation.get("nt", 1.0) * (1.1 + 0.012 * (self.crl_mm - 45))

    @property
    def tcd_mm(self) -> float:
        """Transverse cerebellar diameter: about one millimetre per week in mid-trimester, more later."""
        return (self.weeks + 0.035 * max(self.weeks - 20, 0) ** 2) * self.scale

    def biometry_mm(self) -> dict[str, float]:
        """What is measured at this age, by the names in ``schemas.BIOMETRY``, to a tenth of a millimetre."""
        if self.weeks < 14:
            sizes = {"crl_mm": self.crl_mm, "nt_mm": self.nt_mm}
        else:
            sizes = {
                "bpd_mm": self.bpd_mm,
                "hc_mm": self.hc_mm,
                "ac_mm": self.ac_mm,
                "fl_mm": self.fl_mm,
                "tcd_mm": self.tcd_mm,
                "hl_mm": self.hl_mm,
            }
        return {name: round(size, 1) for name, size in sizes.items()}

    def _varied(self, name: str) -> float:
        return self.scale * self.variation.get(name, 1.0)


def ellipse_circumference(long_axis: float, short_axis: float) -> float:
    """Circumference by the diameters. Ramanujan S., Quart J Math 1914;45:350-72, second approximation."""
    a, b = long_axis / 2, short_axis / 2
    h = ((a - b) / (a + b)) ** 2
    return math.pi * (a + b) * (1 + 3 * h / (10 + math.sqrt(4 - 3 * h)))


def draw_fetus(random: np.random.Generator, ga_days: int, missing: frozenset[str], findings: frozenset[str]) -> Fetus:
    """A fetus of that age, with size and proportions drawn from around the mean."""
    scale = float(np.clip(random.normal(1.0, RELATIVE_SD), 0.92, 1.08))
    variation = {name: float(np.clip(random.normal(1.0, 0.012), 0.97, 1.03)) for name in ("hc", "ac", "fl")}
    variation["nt"] = 2.6 if random.random() < 0.05 else float(random.uniform(0.85, 1.25))
    return Fetus(ga_days, scale, missing, findings, variation)
