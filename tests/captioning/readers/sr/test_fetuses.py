"""Several fetuses in a structured report: nothing is attributed to either."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from sono.captioning.facts.statements import Fault, Statement
from tests.captioning.readers.sr.reports import (
    COUNT,
    DAY,
    FETUS_ID,
    FL,
    GA,
    HC,
    ONE,
    READING,
    SUBJECT_ID,
    biometry,
    code,
    facts,
    fetus,
    fetus_summary,
    finding,
    findings,
    group,
    number,
    read,
    reasons,
    section,
    statements,
    summary,
    text,
)

TWINS: dict[str, Sequence[Dataset]] = {
    "two fetus ids": [biometry(fetus(FETUS_ID, name), group(number(HC, 190))) for name in "AB"],
    "two names of our own": [biometry(fetus(FETUS_ID, name), group(number(HC, 190))) for name in ("left", "right")],
    "two subject ids": [biometry(fetus(SUBJECT_ID, name), group(number(HC, 190))) for name in "AB"],
    "two fetus numbers": [
        biometry(number(codes.DCM.FetusNumber, value, ONE, by="HAS OBS CONTEXT"), number(HC, 190)) for value in (1, 2)
    ],
    "the second alone": [biometry(fetus(FETUS_ID, "Fetus B"), number(HC, 190))],
    "a twin": [biometry(fetus(SUBJECT_ID, "leading Twin"), number(HC, 190))],
    "their number": [summary(number(COUNT, 2, ONE)), biometry(number(HC, 190))],
    "two summaries": [summary(fetus_summary(number(GA, 150, DAY)), fetus_summary(number(GA, 150, DAY)))],
    "the second as subject of the whole": [
        code(codes.DCM.SubjectClass, codes.DCM.Fetus, by="HAS OBS CONTEXT"),
        fetus(SUBJECT_ID, "2"),
        biometry(number(HC, 190)),
    ],
}


@pytest.mark.parametrize("content", TWINS.values(), ids=TWINS)
def test_nothing_is_attributed_where_there_are_several_fetuses(content):
    view = code(codes.DCM.ImageView, Code("femur", "99X", "femur"))
    entry = read(
        *content, findings(finding(Code("30288003", "SCT", "VSD"))), view, text(codes.DCM.Comment, "HC 190 mm")
    )
    assert (facts(entry), reasons(entry)) == ({}, ["several_fetuses"])
    assert statements(entry, "identity")
    assert statements(entry, "several_fetuses")  # so that no other record's facts are taken for this examination


@pytest.mark.parametrize("name", ["Foetus B", "F2", "baby-b", "Fetus #2", "fetus II", "1/2", "A of 2", "fetus: c"])
def test_names_of_a_second_fetus_are_recognised(name):
    assert reasons(read(biometry(fetus(FETUS_ID, name), number(HC, 190)))) == ["several_fetuses"]


@pytest.mark.parametrize("name", ["A", "1", "Fetus A", "F1", "Fetus 1", "singleton", "Baby A", "1/1"])
def test_names_of_an_only_fetus_are_accepted(name):
    assert facts(read(biometry(fetus(FETUS_ID, name), number(HC, 190)))) == {"hc_mm": 190.0}


def test_prose_about_several_fetuses_is_not_read():
    def prose(*_: object) -> tuple[list[Statement], list[Fault]]:
        raise AssertionError

    reading = dataclasses.replace(READING, prose=prose)
    assert reasons(read(text(codes.DCM.Comment, "x"), *TWINS["their number"], reading=reading)) == ["several_fetuses"]


@pytest.mark.parametrize("value", ["0", "1.5"])
def test_an_unclear_number_of_fetuses_leaves_everything_out(value):
    entry = read(summary(number(COUNT, value, ONE)), biometry(number(HC, 190)))
    assert (facts(entry), reasons(entry)) == ({}, [{"0": "fetuses_unclear", "1.5": "several_fetuses"}[value]])
    assert statements(entry, "several_fetuses")


def test_the_subject_of_the_report_is_the_mother():
    entry = read(fetus(SUBJECT_ID, "MRN 0815"), biometry(fetus(SUBJECT_ID, "A"), number(HC, 190)))
    assert (facts(entry), reasons(entry)) == ({"hc_mm": 190.0}, [])


def test_one_named_fetus_is_one_fetus():
    entry = read(
        code(codes.DCM.SubjectClass, codes.DCM.Patient, by="HAS OBS CONTEXT"),
        fetus(SUBJECT_ID, "MRN 0815"),
        summary(number(COUNT, 1, ONE), fetus_summary(fetus(SUBJECT_ID, "A"), number(GA, 150, DAY))),
        biometry(fetus(SUBJECT_ID, "a "), number(codes.DCM.FetusNumber, "1.0", ONE), group(number(HC, 190))),
        section(codes.DCM.FetalLongBones, number(codes.DCM.FetusNumber, "1", ONE), group(number(FL, 36.1))),
    )
    assert (facts(entry), reasons(entry)) == ({"ga_days": 150, "hc_mm": 190.0, "fl_mm": 36.1}, [])
