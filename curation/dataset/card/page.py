"""The dataset's card, README.md, from the dataset itself."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources

from sono.curation.dataset.config import PublishSection
from sono.curation.dataset.store import DatasetStore, count_vanished
from sono.manifests.vocabulary import Vocabulary

from .front_matter import front_matter


def card(
    store: DatasetStore,
    vocabulary: Vocabulary,
    section: PublishSection,
    counts: Mapping[str, int],
    left_out: Mapping[str, int],
    fingerprint: str,
) -> str:
    """The text of the card."""
    from jinja2 import Environment, StrictUndefined

    source = resources.files(__package__).joinpath("card.jinja").read_text(encoding="utf-8")
    template = Environment(undefined=StrictUndefined, autoescape=False, trim_blocks=True).from_string(source)
    text = template.render(counts=counts, left_out=left_out, vanished=count_vanished(store), section=section)
    return front_matter(store, vocabulary, section, sum(counts.values()), fingerprint) + text
