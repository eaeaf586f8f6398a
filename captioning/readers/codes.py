"""Codes that several kinds of records share: LOINC, DICOM (DCM) and SNOMED CT."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sono.captioning.facts.statements import FaultError, finding

# ------------------------------------------------------------------------------------------------------------- LOINC

LENGTHS: Mapping[str, str] = {
    "11820-8": "bpd_mm",
    "11984-2": "hc_mm",
    "11979-2": "ac_mm",
    "11963-6": "fl_mm",
    "11957-8": "crl_mm",
    "33069-6": "nt_mm",
    "11863-8": "tcd_mm",
    "11966-9": "hl_mm",
}

# LOINC calls 11884-4 "Gestational age Estimated" and does not say how; DICOM (PS3.16 CID 12012) calls it "Average
# Ultrasound Age", and scanners send it so. The weaker claim is taken: it is not the age that the clinic decided on.
# 11886-9 is by the day of ovulation, which fixes the due date.
AGES: Mapping[str, str] = {
    "18185-9": "ga_days",
    "49051-6": "ga_days",  # in weeks
    "49052-4": "ga_days",  # in days
    "57714-8": "ga_days",  # Obstetric estimation of gestational age
    "11887-7": "ga_days_by_edd",
    "11886-9": "ga_days_by_edd",
    "11885-1": "ga_days_by_lmp",
    "11888-5": "ga_days_by_ultrasound",
    "11884-4": "ga_days_by_ultrasound",
}

WEEKS_CODE, DAYS_CODE = "49051-6", "49052-4"
AGE_UNITS: Mapping[str, str] = {WEEKS_CODE: "wk", DAYS_CODE: "d"}
"""Units that are part of a code, for values that give none."""

# 11779-6 and 11781-2, delivery dates by menstrual period and by ultrasound, are left out: the clinic chose neither,
# and both repeat another fact through rules that round, so that the two would seem to contradict each other.
DATES: Mapping[str, str] = {"8665-2": "lmp_day", "11955-2": "lmp_day", "11778-8": "edd_day"}

PRESENTATION = "11877-8"  # Fetal presentation US; 11876-0 is by palpation
NUMBER_OF_FETUSES = "11878-6"  # Number of fetuses by US
FETUS_ID = "11951-1"

# ---------------------------------------------------------------------------------------------------------- SNOMED CT

PRESENTATIONS: Mapping[str, str] = {  # as in IHE PCC mAPS, value set Fetal Presentation
    "70028003": "cephalic",  # vertex presentation
    "6096002": "breech",
    "73161006": "transverse",
    "63750008": "oblique",
}

LATERALITY = "272741003"
SIDES: Mapping[str, str] = {"7771000": "left", "24028007": "right", "51440002": "bilateral"}

# ---------------------------------------------------------------------------------------------------------------- DCM

IMAGE_VIEW = "111031"
IMAGE_LATERALITY = "111027"

# ------------------------------------------------------------------------------------------------- names and findings

STRUCTURE_SEEN = frozenset({"structure seen", "structures seen"})
"""What a property of a view is called that names a structure, normalised; there is no code for it."""

SECOND_FETUS = re.compile(
    r"(?:f(?:o?etus)?|baby|#|[\s_.:-])*(?:[2-9]|[b-h]|ii|iii|iv|[1-9a-h]\s*(?:/|of)\s*[2-9])|.*(?:twin|triplet).*",
    re.IGNORECASE | re.DOTALL,
)
"""Names of a fetus that say that it is not the only one."""

_HPO_PREFIX = re.compile(r"^HP[:_]")


def coded_finding(system: str, code: str) -> str:
    """A finding, ``SCT:30288003``, of a coded entry.

    Args:
        system: as ``statements.finding`` calls it; empty where the entry's system is not known.

    Raises:
        FaultError: the system is not known, or its codes look different.
    """
    try:
        return finding(f"{system}:{_HPO_PREFIX.sub('', code) if system == 'HP' else code}")
    except FaultError:
        raise FaultError("finding_malformed", "a finding has no code of a system that is known") from None
