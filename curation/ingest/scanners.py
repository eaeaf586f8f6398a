"""Names of scanners: those of a list pass, anything else that was typed in their place becomes a keyed code."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import NamedTuple

from sono.manifests.pseudonyms import Pseudonymizer

_CODE_DIGITS = 8


def manufacturer_name(text: str | None, keys: Pseudonymizer) -> str | None:
    """The manufacturer as ``scanners.toml`` spells it, else ``manufacturer-`` and a code; None for no name."""
    compact = _compact(text or "")
    return (_names().manufacturers.get(compact) or _code("manufacturer", compact, keys)) if compact else None


def model_name(text: str | None, keys: Pseudonymizer) -> str | None:
    """The model as ``scanners.toml`` spells it, else ``model-`` and a code; None for no name."""
    compact = _compact(text or "")
    return (_known_model(compact) or _code("model", compact, keys)) if compact else None


class _Names(NamedTuple):
    """The listed spelling by its letters and digits."""

    manufacturers: Mapping[str, str]
    models: Mapping[str, str]


@functools.cache
def _names() -> _Names:
    text = resources.files(__package__).joinpath("scanners.toml").read_text(encoding="utf-8")
    entries = tomllib.loads(text)["manufacturers"]
    return _Names(
        {_compact(name): name for entry in entries for name in entry["names"]},
        {_compact(name): name for entry in entries for name in entry["models"]},
    )


def _known_model(compact: str) -> str | None:
    """A manufacturer's name may stand before the model's: GE Voluson E10."""
    models = _names().models
    if compact in models:
        return models[compact]
    rests = (compact.removeprefix(name) for name in _names().manufacturers if compact.startswith(name))
    return next((models[rest] for rest in rests if rest in models), None)


def _code(kind: str, compact: str, keys: Pseudonymizer) -> str:
    return f"{kind}-{keys.content(f'{kind} {compact}')[:_CODE_DIGITS]}"


def _compact(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())
