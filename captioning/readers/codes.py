"""Codes that FHIR resources and structured reports share (LOINC, DCM, SNOMED CT)."""

from __future__ import annotations

import re
from collections.abc import Mapping

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

# LOINC calls 11884-4 "Gestational age Estimated" and says not how; DICOM (PS3.16 CID 12012) calls it "Average
# Ultrasound Age", and scanners send it so. The weaker claim is taken: it is not the age that the clinic settled on.
AGES: Mapping[str, str] = {
    "18185-9": "ga_days",
    "11887-7": "ga_days_by_edd",
    "11885-1": "ga_days_by_lmp",
    "11888-5": "ga_days_by_ultrasound",
    "11884-4": "ga_days_by_ultrasound",
}

# 11779-6 and 11781-2, delivery dates by menstrual period and by ultrasound, are left out: neither is the one settled
# on, and both repeat another fact through rules that round, so that the two would seem to contradict each other.
DATES: Mapping[str, str] = {"8665-2": "lmp_day", "11955-2": "lmp_day", "11778-8": "edd_day"}
PRESENTATION = "11877-8"  # Fetal presentation US; 11876-0 is by palpation

PRESENTATIONS: Mapping[str, str] = {  # SNOMED CT, as in IHE PCC mAPS, value set Fetal Presentation
    "70028003": "cephalic",  # vertex presentation
    "6096002": "breech",
    "73161006": "transverse",
    "63750008": "oblique",
}

FETUSES = "11878-6"  # Number of fetuses by US
FETUS_ID = "11951-1"

SECOND_FETUS = re.compile(
    r"(?:f(?:o?etus)?|baby|#|[\s_.:-])*(?:[2-9]|[b-h]|ii|iii|iv|[1-9a-h]\s*(?:/|of)\s*[2-9])|.*(?:twin|triplet).*",
    re.IGNORECASE | re.DOTALL,
)

IMAGE_VIEW = "111031"  # DCM
SIDES: Mapping[str, str] = {"7771000": "left", "24028007": "right", "51440002": "bilateral"}
