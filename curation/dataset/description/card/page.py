"""The dataset's card: README.md and its figures, from the dataset and the workspace themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from sono.curation.dataset.anonymity import Combination, spread
from sono.curation.dataset.config import PublishSection
from sono.curation.dataset.licences import licence_url
from sono.curation.dataset.shards.rows import RowOptions
from sono.curation.dataset.store import DatasetStore, count_vanished
from sono.manifests.pulled import Pulled
from sono.manifests.vocabulary import Vocabulary

from .charts import bars, histogram
from .content import Content
from .curated import Curated
from .front_matter import front_matter

FIGURES = "figures"
_LISTED = 50  # combinations


@dataclass(frozen=True)
class Card:
    """``text`` of README.md, and the PNG files that it shows by their names below the dataset."""

    text: str
    figures: Mapping[str, bytes]


def card(
    vocabulary: Vocabulary,
    store: DatasetStore,
    section: PublishSection,
    options: RowOptions,
    left_out: Mapping[str, int],
    combinations: Sequence[Combination],
    fingerprint: str,
    content: Content,
    curated: Curated,
    pulled: Pulled | None = None,
) -> Card:
    """The card of a dataset whose shards are written; the ``combinations`` are all of them, the rarest first."""
    text = _template().render(
        section=section,
        content=content,
        curated=curated,
        pulled=pulled,
        left_out=left_out,
        vanished=count_vanished(store),
        spread=spread(list(combinations)),
        rarest=combinations[:_LISTED],
        combinations=len(combinations),
        licence_url=licence_url(section.licence),
        linkable=options.keys.linkable,
        image_format={"png": "PNG", "webp": "WebP without loss", "jpeg": "JPEG"}[options.image_format.name],
    )
    figures = {"planes": bars(content.planes), "centers": bars(content.centers), "scanners": bars(content.scanners)}
    if content.weeks:
        figures["gestational_age"] = histogram(content.weeks)
    front = front_matter(store, vocabulary, section, content.total.frames, fingerprint)
    return Card(front + text.strip("\n") + "\n", {f"{FIGURES}/{name}.png": png for name, png in figures.items()})


def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"cell": _cell, "said": _said, "estimate": _estimate}
    source = resources.files(__package__).joinpath("card.jinja").read_text(encoding="utf-8")
    return environment.from_string(source)


def _cell(text: object) -> str:
    """Text in a cell of a table, without what Markdown or HTML would read in it."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")


def _said(value: object) -> str:
    return "" if value is None else str(value)


def _estimate(estimate: Any) -> str:
    if estimate.value is None:
        return ""
    interval = "" if estimate.low is None else f" ({estimate.low:.2f} to {estimate.high:.2f})"
    return f"{estimate.value:.2f}{interval}"
