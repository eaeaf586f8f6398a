"""Facts that captions share: glued together, they are what would have been encoded for each caption."""

from __future__ import annotations

import json

import pytest

from sono.captioning.captions.frames import JoinedFrame
from sono.captioning.captions.shared_facts import plane_facts, study_facts
from sono.captioning.captions.stage import _structure_json, draw, seed_factor
from sono.captioning.facts.facts import Fact, fact_json
from sono.captioning.sentences.packs import load_pack
from sono.captioning.sentences.writer import Budget, Writer
from sono.manifests import vocabulary
from sono.manifests.schemas import BIOMETRY


@pytest.fixture(scope="module")
def writer() -> Writer:
    words = vocabulary.load()
    return Writer(load_pack("en", words), words, Budget())


@pytest.mark.parametrize("laterality", [None, "left"])
@pytest.mark.parametrize("ga_days", [None, 150])
def test_shared_json_is_what_the_facts_give(writer: Writer, laterality: str | None, ga_days: int | None) -> None:
    record = {
        **dict.fromkeys(BIOMETRY),
        **{"ga_days": ga_days, "presentation": 'cephalic "or" not', "findings": ["HP:0001561"], "hc_mm": 176.5},
        **{"study_laterality": laterality, "identity": None},
        "provenance": json.dumps(dict.fromkeys(("ga_days", "presentation", "findings", "hc_mm", "laterality"), "é")),
    }
    frame = JoinedFrame("s", 0, "f", "p", "femur", "header", None, None, None, record, ["r"], ["femur"])
    shared = plane_facts(frame, study_facts(record, writer))
    shown = Fact(("femur", "thigh"), "regions")
    assert shared.json_with(fact_json("structures", shown)) == shared.facts(shown).as_json()
    assert shared.json_with(_structure_json("femur")) == shared.facts("femur").as_json()


def test_draws_spread_evenly_and_change_with_the_seed() -> None:
    keys = [f"{number:032x}" for number in range(4_000)]
    for seed in (0, 1):
        counts = [sum(draw(key, seed_factor(seed)) % 4 == choice for key in keys) for choice in range(4)]
        assert all(800 < count < 1_200 for count in counts)
    same = sum(draw(key, seed_factor(0)) % 4 == draw(key, seed_factor(1)) % 4 for key in keys)
    assert same < 2_000
