"""Rules for report prose: measured on a corpus, and what must never be taken from a text."""

from __future__ import annotations

import pickle
import time
import tomllib
from pathlib import Path

import pytest

from sono.captioning.facts.statements import BY_RULE
from sono.captioning.prose.rules import FINDINGS
from sono.curation.phantom import anatomy
from tests.captioning.prose.endpoints import taken

CORPUS = tomllib.loads(Path(__file__).with_name("reports_corpus.toml").read_text(encoding="utf-8"))

LISTS = {"structures": "structures_seen", "findings": "findings"}


def expected(report):
    facts = {(fact, value) for key, fact in LISTS.items() for value in report.get(key, [])}
    return facts | {(key, value) for key, value in report.items() if key not in (*LISTS, "text", "names", "faults")}


def counts(prose, part):
    """Facts found and right, found and wrong, and missed."""
    right, wrong, missed = 0, [], []
    for report in CORPUS[part]:
        facts, _ = taken(prose, report["text"], report.get("names", []))
        right += len(facts & expected(report))
        wrong += [(report["text"], fact) for fact in facts - expected(report)]
        missed += [(report["text"], fact) for fact in expected(report) - facts]
    return right, wrong, missed


@pytest.mark.parametrize(("part", "recall"), [("tuning", 0.95), ("first", 0.85), ("held_out", 0.79)])
def test_precision_and_recall_on_the_corpus(prose, part, recall):
    right, wrong, missed = counts(prose, part)
    print(f"{part}: {right} found, {len(missed)} missed", *missed, sep="\n")
    assert wrong == []
    assert right / (right + len(missed)) >= recall


def test_recall_over_the_complete_corpus(prose):
    results = [counts(prose, part) for part in CORPUS]
    right, missed = sum(result[0] for result in results), sum(len(result[2]) for result in results)
    assert right / (right + missed) >= 0.85
    assert sum(len(part) for part in CORPUS.values()) >= 150
    assert len(CORPUS["held_out"]) >= 40


@pytest.mark.parametrize("report", CORPUS["tuning"], ids=lambda report: report["text"][:40])
def test_a_text_has_a_fault_exactly_where_the_corpus_says_so(prose, report):
    assert taken(prose, report["text"], report.get("names", []))[1] == report.get("faults", [])


@pytest.mark.parametrize(
    "text",
    [
        *("DCDA twins at 21 weeks.", "Twin pregnancy.", "Number of fetuses: 2.", "Two live fetuses.", "Twin A: head."),
        *("Fetus A: HC 190 mm. Fetus B: HC 188 mm.", "Monochorionic twins, 24+3. Growth by Hadlock."),
    ],
)
def test_a_text_about_twins_says_so_for_all_records_of_the_examination(prose, text):
    assert taken(prose, text) == ({("several_fetuses", "yes")}, ["text_ambiguous"])


@pytest.mark.parametrize(
    "text",
    [
        *("Singleton. Number of fetuses: 1.", "Fetus 1: normal.", "No evidence of twins.", "Family history of twins."),
        *("Twin peak sign absent.", "Previous twin pregnancy in 2015.", "The patient is herself a twin."),
    ],
)
def test_a_text_that_mentions_twins_speaks_for_itself_alone(prose, text):
    assert taken(prose, text) == (set(), ["text_ambiguous"])


def test_statements_say_where_they_come_from_and_by_which_rule(prose):
    statements, _ = prose("GA 21w3d. The thalami were seen.", "column report", [])
    assert {(s.fact, s.field, s.plane, s.rank) for s in statements} == {
        ("ga_days", "column report, text rule gestational_age", None, BY_RULE),
        ("structures_seen", "column report, text rule structures_seen", None, BY_RULE),
    }


def test_a_contradiction_is_a_fault_without_a_value(prose):
    statements, faults = prose("GA 21+3 weeks. Gestational age today 22+0 weeks.", "column report", [])
    assert statements == []
    assert [fault.reason for fault in faults] == ["text_ambiguous"]
    assert not any(digit in faults[0].text for digit in "0123456789")


def test_a_surname_that_is_an_organ_is_not_seen(prose):
    assert taken(prose, "Hart was well, heart seen.", ["Hart"])[0] == set()
    assert taken(prose, "Head seen.")[0] == {("structures_seen", "head")}
    assert taken(prose, "Head seen.", ["HEAD^JOHN"])[0] == set()


def test_falx_is_a_structure_and_nb_is_not_the_nasal_bone(prose):
    assert taken(prose, "The thalami and the falx were seen.")[0] == {
        ("structures_seen", "thalami"),
        ("structures_seen", "falx"),
    }
    assert taken(prose, "NB seen and normal.")[0] == set()


def test_the_codes_are_those_of_the_phantoms_findings():
    assert set(FINDINGS.values()) == set(anatomy.FINDINGS)


def test_a_very_long_text_takes_seconds_at_most(prose):
    text = "Normal heart. No. 20 weeks 3 w 12 mm, the stomach (a) was seen\n" * 1500
    start = time.perf_counter()
    prose(text, "column report", [])
    prose("a" * 100_000 + " 2" * 50_000, "column report", [])
    assert time.perf_counter() - start < 20


def test_a_reader_of_prose_can_be_pickled(prose):
    assert taken(pickle.loads(pickle.dumps(prose)), "GA 21w3d.") == taken(prose, "GA 21w3d.")
