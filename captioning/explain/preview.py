"""Examples of captions before a run, each fact with its source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sono.captioning.captions.config import load_section
from sono.captioning.captions.run import frames_to_caption, stage_of
from sono.captioning.facts.facts import from_json
from sono.captioning.sentences.packs import Pack
from sono.manifests.errors import UserError
from sono.manifests.schemas import FRAMES
from sono.manifests.workspace import Workspace


@dataclass(frozen=True)
class Example:
    """A caption that would be written: ``facts`` as in ``Facts.as_json``, and the ``words`` each of them may give."""

    text: str
    template: str
    tokens: int
    facts: Mapping[str, Mapping[str, Any]]
    words: Mapping[str, tuple[str, ...]]


def preview(
    workspace: Workspace, count: int, *, templates: str | None = None, seed: int | None = None
) -> list[Example]:
    """``count`` captions over as many planes as there are, from the records of the last run; nothing is written.

    Raises:
        UserError: there are no frames, none of them gets a caption, or the templates cannot be used.
    """
    if not workspace.store.paths(FRAMES):
        raise UserError("there are no frames to caption", where=str(workspace.path), fix="run sono-curate ingest first")
    stage = stage_of(workspace, load_section(workspace), templates, seed)
    found: dict[tuple[str, str], list[Example]] = {}
    with frames_to_caption(workspace) as parts:
        for part in parts:
            for row in stage(part.load()).table.to_pylist():
                facts = from_json(row["facts"])
                examples = found.setdefault((facts["plane"]["value"], row["template"]), [])
                if len(examples) < count:
                    words = _words(stage.writer.pack, facts)
                    examples.append(Example(row["text"], row["template"], row["tokens"], facts, words))
            if sum(map(len, found.values())) >= 20 * count:
                break
    if not found:
        raise UserError(
            "no frame gets a caption from the records of the last run",
            where=str(workspace.path),
            fix="run sono-curate caption with --records first; sono-curate exclusions says why for each frame",
        )
    return list(_in_turn(found))[:count]


def _words(pack: Pack, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """What each fact may have given to the text."""
    found: dict[str, tuple[str, ...]] = {}
    for name, fact in facts.items():
        value = fact["value"]
        ids = tuple(value) if isinstance(value, list) else (str(value),)
        if name == "ga_days":
            found[name] = (f"{value // 7}-week", f"{value // 7} weeks", str(value))
        elif name in pack.words:
            found[name] = tuple(pack.words[name].get(key, "") for key in ids)
        else:
            names = {"plane": pack.planes, "findings": pack.findings}.get(name, pack.structures)
            found[name] = tuple(names.get(key, key) for key in ids)
    return {name: tuple(word for word in words if word) for name, words in found.items()}


def _in_turn(found: Mapping[tuple[str, str], list[Example]]) -> Iterator[Example]:
    """Plane after plane, each time with the plane's next template, so that few examples show much."""
    by_plane: dict[str, list[list[Example]]] = {}
    for (plane, _), examples in sorted(found.items()):
        by_plane.setdefault(plane, []).append(examples)
    rounds = max((sum(map(len, lists)) for lists in by_plane.values()), default=0)
    for number in range(rounds):
        for place, lists in enumerate(by_plane.values()):
            examples = lists[(place + number) % len(lists)]
            if number // len(lists) < len(examples):
                yield examples[number // len(lists)]
