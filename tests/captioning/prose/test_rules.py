"""Rules for report prose: measured on a corpus, and what must never be taken from a text."""

from __future__ import annotations

import pickle
import time
import tomllib
from pathlib import Path

import pytest

from sono.captioning.facts.statements import BY_RULE
from sono.captioning.prose.clauses import normalised
from sono.captioning.prose.rules import FINDINGS, RuleBasedProse
from sono.curation.phantom import anatomy
from sono.manifests import vocabulary as vocabularies

CORPUS = tomllib.loads(Path(__file__).with_name("reports_corpus.toml").read_text(encoding="utf-8"))
LISTS = {"structures": "structures_seen", "findings": "findings"}


@pytest.fixture(scope="module")
def prose():
    return RuleBasedProse(vocabularies.load())


def expected(report):
    facts = {(fact, value) for key, fact in LISTS.items() for value in report.get(key, [])}
    return facts | {(key, value) for key, value in report.items() if key not in (*LISTS, "text", "names", "faults")}


def found(prose, text, names=()):
    statements, faults = prose(text, "column report", names)
    return {(statement.fact, statement.value) for statement in statements}, [fault.reason for fault in faults]


def counts(prose, part):
    """Facts found and right, found and wrong, and missed."""
    right, wrong, missed = 0, [], []
    for report in CORPUS[part]:
        facts, _ = found(prose, report["text"], report.get("names", []))
        right += len(facts & expected(report))
        wrong += [(report["text"], fact) for fact in facts - expected(report)]
        missed += [(report["text"], fact) for fact in expected(report) - facts]
    return right, wrong, missed


# On the first run of `held_out`: 49 of 62 facts (0.79), none wrong. On that of `first`: 57 of 76 (0.75), none wrong.
# Precision on texts that nobody wrote for this test is not known.
@pytest.mark.parametrize(("part", "recall"), [("tuning", 0.95), ("first", 0.85), ("held_out", 0.79)])
def test_of_the_corpus_nothing_wrong_is_taken_and_most_is_found(prose, part, recall):
    right, wrong, missed = counts(prose, part)
    print(f"{part}: {right} found, {len(missed)} missed", *missed, sep="\n")
    assert wrong == []
    assert right / (right + len(missed)) >= recall


def test_recall_over_the_whole_corpus(prose):
    results = [counts(prose, part) for part in CORPUS]
    right, missed = sum(result[0] for result in results), sum(len(result[2]) for result in results)
    assert right / (right + missed) >= 0.85
    assert sum(len(part) for part in CORPUS.values()) >= 150
    assert len(CORPUS["held_out"]) >= 40


@pytest.mark.parametrize("report", CORPUS["tuning"], ids=lambda report: report["text"][:40])
def test_a_text_has_a_fault_exactly_where_the_corpus_says_so(prose, report):
    assert found(prose, report["text"], report.get("names", []))[1] == report.get("faults", [])


def test_statements_say_where_they_come_from_and_by_which_rule(prose):
    statements, _ = prose("GA 21w3d. The thalami were seen.", "column report", [])
    assert {(s.fact, s.field, s.plane, s.rank) for s in statements} == {
        ("ga_days", "column report, text rule gestational_age", None, BY_RULE),
        ("structures_seen", "column report, text rule structures_seen", None, BY_RULE),
    }


@pytest.mark.parametrize(
    "text",
    [
        "The heart was normal{}",
        "A VSD is seen{}",
        "Breech{}",
        "GA 21w3d{}",
        "BPD 52.3 mm{}",
    ],
)
@pytest.mark.parametrize(
    "doubt", [" at the last visit.", ", not confirmed.", "?", ", possibly.", " on 12/03/2026.", " in her sister."]
)
def test_what_is_doubted_or_remembered_after_it_was_said_gives_nothing(prose, text, doubt):
    assert found(prose, text.format("."))[0] != set()
    assert found(prose, text.format(doubt))[0] == set()


@pytest.mark.parametrize(
    "doubt", ["No ", "Previous scan: ", "Possible ", "Unable to see ", "To exclude ", "Mother: ", "Outside report: "]
)
@pytest.mark.parametrize(
    "text", ["heart seen.", "VSD seen.", "breech presentation.", "ductal arch, stomach and spine seen."]
)
def test_what_is_doubted_or_remembered_before_it_is_said_gives_nothing(prose, doubt, text):
    assert found(prose, text)[0] != set()
    assert found(prose, doubt + text)[0] == set()


@pytest.mark.parametrize(
    "text",
    [
        "At the outside scan, heart normal.",
        "Is there a VSD seen",
        "VSD identified. On review this is artefact.",
        "VSD present. Disregard above.",
        "Impression: VSD, HLHS, scalp edema not seen",
        "Scan 1: GA 20+1. Cephalic",
        "There is no evidence of a\nnormal heart",
        "HISTORY\n\nHeart seen.\n\nBreech.",
        "GA by LMP 21w3d.",
        "No thalami, stomach, and spine were seen.",
        "US GA: 20w5d",
        "Not visualised:\nKidneys normal",
        "No hydrops, scalp edema seen.",
        "HC 194 mm, corrected to 184 mm",
        "VSD confirmed, wrong",
        "Impression of VSD seen.",
        "Single umbilical artery seen.",
        "The\N{NO-BREAK SPACE}heart wasn’t normal.",
    ],
)
def test_texts_that_look_like_facts_but_are_none(prose, text):
    assert found(prose, text)[0] == set()


def test_what_follows_a_denied_abnormality_may_be_said_anew(prose):
    assert found(prose, "No hydrops, a VSD is seen, breech presentation.")[0] == {
        ("findings", "SCT:30288003"),
        ("presentation", "breech"),
    }
    assert found(prose, "No hydronephrosis, the kidneys are normal.")[0] == {("structures_seen", "kidneys")}


def test_a_contradiction_is_a_fault_without_a_value(prose):
    statements, faults = prose("GA 21+3 weeks. Gestational age today 22+0 weeks.", "column report", [])
    assert statements == []
    assert [fault.reason for fault in faults] == ["text_ambiguous"]
    assert not any(digit in faults[0].text for digit in "0123456789")


def test_a_surname_that_is_an_organ_is_not_seen(prose):
    assert found(prose, "Hart was well, heart seen.", ["Hart"])[0] == set()
    assert found(prose, "Head seen.")[0] == {("structures_seen", "head")}
    assert found(prose, "Head seen.", ["HEAD^JOHN"])[0] == set()


def test_the_falx_may_be_called_so_and_a_nota_bene_is_no_bone(prose):
    assert found(prose, "The thalami and the falx were seen.")[0] == {
        ("structures_seen", "thalami"),
        ("structures_seen", "falx"),
    }
    assert found(prose, "NB seen and normal.")[0] == set()


def test_the_codes_are_those_of_the_phantoms_findings():
    assert set(FINDINGS.values()) == set(anatomy.FINDINGS)


def test_normalising_keeps_places():
    text = "İ\N{NO-BREAK SPACE}Ä – ’x’\t"
    assert len(normalised(text)) == len(text)


def test_a_very_long_text_takes_seconds_at_most(prose):
    text = "Normal heart. No. 20 weeks 3 w 12 mm, the stomach (a) was seen\n" * 1500
    start = time.perf_counter()
    prose(text, "column report", [])
    prose("a" * 100_000 + " 2" * 50_000, "column report", [])
    assert time.perf_counter() - start < 20


def test_it_crosses_processes(prose):
    assert found(pickle.loads(pickle.dumps(prose)), "GA 21w3d.") == found(prose, "GA 21w3d.")
