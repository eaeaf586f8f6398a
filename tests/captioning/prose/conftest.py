"""Readers of prose for tests: by rules, and by a language model at an endpoint of our own."""

from __future__ import annotations

import pytest

from sono.captioning.prose.endpoint import LanguageModelSection
from sono.captioning.prose.language_model import ModelProse
from sono.captioning.prose.rules import RuleBasedProse
from sono.manifests import vocabulary as vocabularies
from tests.captioning.prose.endpoints import Endpoint


@pytest.fixture(scope="module")
def vocabulary():
    return vocabularies.load()


@pytest.fixture(scope="module")
def prose(vocabulary):
    return RuleBasedProse(vocabulary)


@pytest.fixture
def endpoint():
    server = Endpoint()
    yield server
    server.close()


@pytest.fixture
def waits():
    return []


@pytest.fixture
def make(endpoint, vocabulary, tmp_path, waits):
    def make(**settings):
        section = LanguageModelSection(**{"base_url": endpoint.url, "model": "small-1", **settings})
        return ModelProse(section, vocabulary, tmp_path / "cache.sqlite", waits.append)

    return make
