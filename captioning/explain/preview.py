"""A preview of captions: a few that ``caption`` would write, each fact with its source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sono.captioning.captions.join import joined_parts_of_last_run
from sono.captioning.captions.plan import plan_stage
from sono.captioning.captions.stage import CaptionStage
from sono.captioning.facts.facts import from_json
from sono.captioning.sentences.packs import Pack
from sono.manifests.errors import UserError
from sono.manifests.store import TableStore
from sono.manifests.workspace import Workspace

_CANDIDATES_PER_CAPTION = 20


@dataclass(frozen=True)
class PreviewedCaption:
    """A caption that would be written.

    Attributes:
        facts: as in ``Facts.as_json``.
        words: for each fact, the words that it may have given to the text.
    """

    text: str
    template: str
    tokens: int
    facts: Mapping[str, Mapping[str, Any]]
    words: Mapping[str, tuple[str, ...]]


_ByPlane = dict[str, dict[str, list[PreviewedCaption]]]
"""plane -> template -> captions."""


def preview(
    workspace: Workspace, count: int, *, templates: str | None = None, seed: int | None = None
) -> list[PreviewedCaption]:
    """``count`` captions of as many planes as possible, from the records of the last run; nothing is written.

    Raises:
        UserError: there are no frames, none of them gets a caption, or the templates cannot be used.
    """
    stage = plan_stage(workspace, templates=templates, seed=seed)
    candidates = _candidates(stage, workspace.store, count)
    if not candidates:
        raise UserError(
            "no frame would get a caption from the records of the last run",
            where=str(workspace.path),
            fix="run sono-curate caption with --records first; sono-curate exclusions gives the reason for each frame",
        )
    return list(_in_turn(candidates))[:count]


def _candidates(stage: CaptionStage, store: TableStore, count: int) -> _ByPlane:
    """Up to ``count`` captions for each plane and template, part by part until there are enough."""
    found: _ByPlane = {}
    total = 0
    with joined_parts_of_last_run(store) as parts:
        for part in parts:
            for row in stage(part.load()).table.to_pylist():
                facts = from_json(row["facts"])
                captions = found.setdefault(facts["plane"]["value"], {}).setdefault(row["template"], [])
                if len(captions) < count:
                    words = _words(stage.writer.pack, facts)
                    captions.append(PreviewedCaption(row["text"], row["template"], row["tokens"], facts, words))
                    total += 1
            if total >= _CANDIDATES_PER_CAPTION * count:
                break
    return found


def _words(pack: Pack, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """For each fact, the words that it may have given to the text."""
    return {name: tuple(filter(None, _words_of(pack, name, fact["value"]))) for name, fact in facts.items()}


def _words_of(pack: Pack, name: str, value: Any) -> tuple[str, ...]:
    if name == "ga_days":
        return f"{value // 7}-week", f"{value // 7} weeks", str(value)
    ids = tuple(value) if isinstance(value, list) else (str(value),)
    if name in pack.words:
        return tuple(pack.words[name].get(key, "") for key in ids)
    names = {"plane": pack.planes, "findings": pack.findings}.get(name, pack.structures)
    return tuple(names.get(key, key) for key in ids)


def _in_turn(candidates: _ByPlane) -> Iterator[PreviewedCaption]:
    """One caption of each plane in turn, each time with another template, so that a few captions show a lot."""
    planes = [[captions for _, captions in sorted(templates.items())] for _, templates in sorted(candidates.items())]
    rounds = max(sum(map(len, lists)) for lists in planes)
    for number in range(rounds):
        for first, lists in enumerate(planes):
            captions = lists[(first + number) % len(lists)]
            if number // len(lists) < len(captions):
                yield captions[number // len(lists)]
