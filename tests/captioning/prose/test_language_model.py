"""The language model: what it is asked, and which of its claims are taken."""

from __future__ import annotations

import json
import time

import pytest

from sono.captioning.facts.statements import BY_MODEL
from sono.captioning.prose.endpoint import Endpoint
from tests.captioning.prose.endpoints import TEXT, taken


def test_facts_that_the_text_says_are_taken(make, endpoint):
    endpoint.answers = [
        [
            ("ga_days", "150", "21+3 weeks today"),
            ("bpd_mm", "52.3", "BPD 52.3 mm"),
            ("structures_seen", "thalami", "The thalami look  fine"),
        ]
    ]
    statements, faults = make()(TEXT, "column report", [])
    assert {(s.fact, s.value, s.field, s.rank) for s in statements} == {
        ("ga_days", 150, "column report, model small-1", BY_MODEL),
        ("bpd_mm", 52.3, "column report, model small-1", BY_MODEL),
        ("structures_seen", "thalami", "column report, model small-1", BY_MODEL),
    }
    assert faults == []


@pytest.mark.parametrize(
    "claim",
    [
        ("hc_mm", "194", "HC 194 mm"),  # nowhere said
        ("bpd_mm", "53.2", "BPD 52.3 mm"),  # another number
        ("hc_mm", "52.3", "BPD 52.3 mm"),  # of another measurement
        ("ga_days", "151", "21+3 weeks today"),
        ("ga_days", "21", "21+3 weeks today"),
        ("presentation", "breech", "Fetus at 21+3 weeks"),
        ("structures_seen", "heart", "The thalami look fine"),
        ("structures_seen", "cerebellum", "the cerebellum was"),  # denied by the words behind the quote
        ("findings", "SCT:30288003", "ventricular septal defect"),  # denied by the word before the quote
        ("findings", "SCT:62067003", "ventricular septal defect"),
        ("bpd_mm", "5", "5"),
        ("bpd_mm", "52.3", ""),
    ],
)
def test_facts_that_the_text_does_not_say_are_refused(make, endpoint, claim):
    endpoint.answers = [[claim]]
    assert taken(make()) == (set(), ["not_in_text"])


@pytest.mark.parametrize(
    ("text", "claim"),
    [
        ("At 12 weeks gestation the NT was fine.", ("ga_days", "84", "At 12 weeks gestation")),
        ("Previous scan: breech presentation.", ("presentation", "breech", "breech presentation")),
        ("Possible scalp edema.", ("findings", "SCT:443168008", "scalp edema")),
        ("Brother had VSD.", ("findings", "SCT:30288003", "VSD")),
        ("Stomach seen. Stomach not seen.", ("structures_seen", "stomach", "stomach")),
        ("HC 180 mm, 194 mm at 20 weeks.", ("hc_mm", "180", "HC 180 mm")),
        ("Stomach xqzt seen.", ("structures_seen", "stomach", "stomach")),  # the removed word may have been "never"
    ],
)
def test_claims_that_the_text_remembers_or_doubts_are_refused(make, endpoint, text, claim):
    endpoint.answers = [[claim]]
    assert taken(make(), text) == (set(), ["not_in_text"])


@pytest.mark.parametrize(
    ("text", "claim"),
    [
        ("Formerly unstable but the presentation was breech.", ("presentation", "breech", "presentation was breech")),
        ("VSD seen. Ignore that.", ("findings", "SCT:30288003", "VSD seen")),
        ("Schwester:\nHeart normal.", ("structures_seen", "heart", "Heart normal")),
        ("VSD seen. VSD not confirmed.", ("findings", "SCT:30288003", "VSD seen")),
        ("Left kidney seen, right kidney not seen.", ("structures_seen", "kidney", "Left kidney seen")),
        ("BPD 52 mm, GA 21w6d.", ("ga_days", "153", "BPD 52 mm, GA 21w6d")),
    ],
)
def test_claims_that_the_original_text_takes_back_are_refused(make, endpoint, text, claim):
    endpoint.answers = [[claim]]
    assert taken(make(), text) == (set(), ["not_in_text"])


def test_texts_that_are_sent_alike_are_verified_separately(make, endpoint):
    endpoint.answers = [[("presentation", "breech", "presentation was breech")]]
    assert taken(make(), "Rambling but the presentation was breech.") == ({("presentation", "breech")}, [])
    assert taken(make(), "Formerly but the presentation was breech.") == (set(), ["not_in_text"])
    assert len(endpoint.bodies) == 1


@pytest.mark.parametrize("text", ["Twin 1 cephalic, twin 2 breech.", "DCDA.\nCephalic presentation."])
def test_a_text_about_twins_is_not_even_sent(make, endpoint, text):
    assert taken(make(), text) == ({("several_fetuses", "yes")}, ["text_ambiguous"])
    assert endpoint.bodies == []


def test_the_request_is_deterministic_and_asks_for_the_schema(make, endpoint):
    make()(TEXT, "column report", [])
    body = json.loads(endpoint.bodies[0])
    assert endpoint.paths == ["/v1/chat/completions"]
    assert (body["model"], body["temperature"], body["seed"]) == ("small-1", 0, 0)
    assert body["response_format"]["type"] == "json_schema"
    schema = body["response_format"]["json_schema"]
    assert schema["strict"] is True
    assert schema["schema"]["additionalProperties"] is False
    assert schema["schema"]["properties"]["facts"]["items"]["required"] == ["fact", "value", "quote"]


@pytest.mark.parametrize(
    "bad", ["{", "[]", '{"facts": [{"fact": "x", "value": "", "quote": ""}]}', '{"facts": [], "more": 1}']
)
def test_a_malformed_reply_is_asked_for_once_more(make, endpoint, bad):
    endpoint.answers = [bad, [("bpd_mm", "52.3", "BPD 52.3 mm")]]
    assert taken(make()) == ({("bpd_mm", 52.3)}, [])
    endpoint.answers = [bad]
    assert taken(make(model="other")) == (set(), ["model_answer"])
    assert len(endpoint.bodies) == 4


def test_a_deeply_nested_reply_is_malformed(make, endpoint, monkeypatch):
    monkeypatch.setattr(Endpoint, "_send", lambda self, body: (200, "", b"[" * 100_000))
    assert taken(make()) == (set(), ["model_answer"])


def test_a_very_long_quote_is_not_searched_for(make, endpoint):
    endpoint.answers = [[("bpd_mm", "52.3", "a " * 500_000)]]
    start = time.monotonic()
    assert taken(make()) == (set(), ["not_in_text"])
    assert time.monotonic() - start < 2  # without the limit 3 s, and so for each of up to 200 claims
