"""Sentences and clauses of report prose: what is denied, doubted or remembered gives nothing."""

from __future__ import annotations

import pytest

from sono.captioning.prose.clauses import normalised, several_fetuses
from tests.captioning.prose.endpoints import taken


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
def test_statements_doubted_or_dated_afterwards_give_nothing(prose, text, doubt):
    assert taken(prose, text.format("."))[0] != set()
    assert taken(prose, text.format(doubt))[0] == set()


@pytest.mark.parametrize(
    "doubt", ["No ", "Previous scan: ", "Possible ", "Unable to see ", "To exclude ", "Mother: ", "Outside report: "]
)
@pytest.mark.parametrize(
    "text", ["heart seen.", "VSD seen.", "breech presentation.", "ductal arch, stomach and spine seen."]
)
def test_statements_doubted_or_remembered_beforehand_give_nothing(prose, doubt, text):
    assert taken(prose, text)[0] != set()
    assert taken(prose, doubt + text)[0] == set()


@pytest.mark.parametrize(
    "text",
    [
        "There are two foetuses.",
        "Foetus 1.",
        "Second foetus.",
        "Multiple pregnancy.",
        "MCMA pregnancy.",
        "Fetus C.",
        "Baby A.",
        "Both babies are well.",
        "Multifetal gestation.",
    ],
)
def test_reports_of_several_fetuses_are_known_in_any_spelling(text):
    assert several_fetuses(normalised(text))


@pytest.mark.parametrize("text", ["Fetus active.", "The baby is well.", "Fetus in breech.", "Foetal heart seen."])
def test_one_fetus_is_not_several(text):
    assert not several_fetuses(normalised(text))


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
    assert taken(prose, text)[0] == set()


def test_a_new_clause_after_a_denied_abnormality_counts(prose):
    assert taken(prose, "No hydrops, a VSD is seen, breech presentation.")[0] == {
        ("findings", "SCT:30288003"),
        ("presentation", "breech"),
    }
    assert taken(prose, "No hydronephrosis, the kidneys are normal.")[0] == {("structures_seen", "kidneys")}


def test_normalising_keeps_positions():
    text = "İ\N{NO-BREAK SPACE}Ä – ’x’\t"
    assert len(normalised(text)) == len(text)
