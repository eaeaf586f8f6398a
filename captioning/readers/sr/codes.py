"""Codes of structured reports (DICOM PS3.16 and SNOMED CT), each with its scheme."""

from __future__ import annotations

from sono.captioning.readers import codes

Code = tuple[str, str]
"""A coding scheme and a code value."""


def _dcm(*values: str) -> frozenset[Code]:
    return frozenset(("DCM", value) for value in values)


def _sct(*values: str) -> frozenset[Code]:
    return frozenset(("SCT", value) for value in values)


# Sections
SUMMARY, ADDENDUM = ("DCM", "121111"), ("DCM", "121078")
PATIENT_CHARACTERISTICS = ("DCM", "121118")
FETUS_SUMMARY, FETUS_CHARACTERISTICS = ("DCM", "125008"), ("DCM", "125015")
FETAL_BIOMETRY, FETAL_LONG_BONES, FETAL_CRANIUM = ("DCM", "125002"), ("DCM", "125003"), ("DCM", "125004")
BIOMETRY_GROUP, MEASUREMENT_GROUP = ("DCM", "125005"), ("DCM", "125007")
EARLY_GESTATION, FETAL_MEASUREMENTS, IMAGING_MEASUREMENTS = ("DCM", "125009"), ("DCM", "125016"), ("DCM", "126010")
FINDINGS, IMPRESSIONS, CONCLUSIONS = ("DCM", "121070"), ("DCM", "121072"), ("DCM", "121076")
HISTORY, PREVIOUS_FINDINGS = ("DCM", "121060"), ("DCM", "121068")

# Items
FINDING, IMPRESSION, CONCLUSION, COMMENT = ("DCM", "121071"), ("DCM", "121073"), ("DCM", "121077"), ("DCM", "121106")
IMAGE_VIEW = ("DCM", codes.IMAGE_VIEW)
LATERALITIES = _sct(codes.LATERALITY) | _dcm(codes.IMAGE_LATERALITY)

# The subject of a report
SUBJECT_CLASS, FETUS = ("DCM", "121024"), ("DCM", "121026")
SUBJECT_IDS = _dcm("121028", "121029", "121030")  # UID, Name, ID
NUMBER_OF_FETUSES = ("LN", codes.NUMBER_OF_FETUSES)
_FETUS_NUMBER = "121037"
FETUS_IDS = _dcm(_FETUS_NUMBER) | {("LN", codes.FETUS_ID)}

# How a value came about
DERIVATION, SELECTION_STATUS = ("DCM", "121401"), ("DCM", "121404")
SELECTED = _dcm("121410", "121411", "121412")  # CID 224: chosen by the user, as the most recent, as the mean
MEAN = ("SCT", "373098007")
MEASURED = _sct("258104002", "258090004", "414135002", "258083009")  # CID 3627: measured, calculated, estimated twice

# What may qualify an item without reversing its meaning
_FINDING_SITE, _MEASUREMENT_METHOD = "363698007", "370129005"
_LANGUAGE, _COUNTRY_OF_LANGUAGE = "121049", "121046"
MODIFIERS = LATERALITIES | _sct(_FINDING_SITE, _MEASUREMENT_METHOD) | _dcm(_LANGUAGE, _COUNTRY_OF_LANGUAGE)
