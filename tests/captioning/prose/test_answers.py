"""Kept answers of a language model: nothing is asked twice, and no text is kept."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace

import pytest

from sono.manifests.errors import UserError
from tests.captioning.prose.endpoints import TEXT, taken


def test_a_second_reading_sends_nothing_and_the_cache_holds_no_text(make, endpoint, tmp_path):
    endpoint.answers = [[("bpd_mm", "52.3", "BPD 52.3 mm"), ("hc_mm", "1", "HC")]]
    first = make()(TEXT, "column report", [])
    assert make()(TEXT, "column report", []) == first
    assert len(endpoint.bodies) == 1
    path = tmp_path / "cache.sqlite"
    assert path.stat().st_mode & 0o777 == 0o600
    ((key, facts),) = sqlite3.connect(path).execute("SELECT * FROM answers").fetchall()
    assert len(key) == 64
    assert json.loads(facts) == {"facts": [["bpd_mm", 52.3]], "refused": 1}
    assert b"weeks" not in path.read_bytes()
    make(model="other")(TEXT, "column report", [])
    assert len(endpoint.bodies) == 2


def test_another_vocabulary_asks_again(make, endpoint, vocabulary):
    endpoint.answers = [[("structures_seen", "thalami", "The thalami look fine")]]
    prose = make()
    assert taken(prose) == ({("structures_seen", "thalami")}, [])
    thalami = vocabulary.structures["thalami"].model_copy(update={"name": "dorsal nuclei", "synonyms": ("nuclei",)})
    other = replace(vocabulary, structures={**vocabulary.structures, "thalami": thalami})
    assert taken(replace(prose, vocabulary=other)) == (set(), ["not_in_text"])
    assert len(endpoint.bodies) == 2


def test_a_cache_that_others_may_read_is_refused(make, tmp_path):
    (tmp_path / "cache.sqlite").touch(mode=0o644)
    with pytest.raises(UserError, match="chmod 600"):
        make()(TEXT, "column report", [])
