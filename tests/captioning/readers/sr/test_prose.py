"""Texts in structured reports: which are read, and with which names."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from sono.captioning.facts.statements import BY_RULE, Fault, Statement
from tests.captioning.readers.sr.reports import (
    READING,
    facts,
    fetus_summary,
    findings,
    item,
    read,
    reasons,
    section,
    summary,
    text,
)


def test_prose_gets_texts_with_field_and_names():
    given: list[tuple[str, str, Sequence[str]]] = []

    def prose(text: str, field: str, names: Sequence[str]) -> tuple[list[Statement], list[Fault]]:
        given.append((text, field, names))
        return [Statement("hc_mm", 190.0, f"{field} sentence 1", None, BY_RULE)], [Fault("not_read", "not read")]

    entry = read(
        item("PNAME", codes.DCM.PersonObserverName, by="HAS OBS CONTEXT", PersonName="Nyström^Åsa"),
        findings(text(codes.DCM.Finding, "HC 190 mm")),
        summary(fetus_summary(text(codes.DCM.Comment, "Okafor is well"))),
        section(codes.DCM.History, text(codes.DCM.Comment, "an earlier child")),
        text(Code("1", "99LOCAL", "anything"), "something"),
        OperatorsName=["Bello^Ada", "Costa^Rui"],
        reading=dataclasses.replace(READING, prose=prose),
    )
    assert [(text_, field) for text_, field, _ in given] == [
        ("HC 190 mm", "SR 121070/121071"),
        ("Okafor is well", "SR 121111/125008/121106"),
    ]
    assert {"Okafor", "Ngozi", "MRN 0815", "ACC-77", "Nyström", "Åsa", "Bello", "Costa^Rui"} <= set(given[0][2])
    assert [(statement.fact, statement.rank) for statement in entry.statements if statement.fact != "identity"] == [
        ("hc_mm", BY_RULE)
    ] * 2
    assert reasons(entry) == ["not_read"]


def test_texts_are_ignored_without_a_reader_of_prose():
    entry = read(findings(text(codes.DCM.Finding, "HC 190 mm")))
    assert (facts(entry), reasons(entry)) == ({}, [])
