"""Captions for the terminal, each fact in a colour of its own, beside where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .preview import Example
from .trace import Said, TracedCaption, TracedFact

if TYPE_CHECKING:
    from rich.text import Text

_STYLES: Mapping[str, str] = {
    "plane": "bold cyan",
    "ga_days": "bold yellow",
    "trimester": "yellow",
    "structures": "bold green",
    "structure": "bold green",
    "laterality": "bold magenta",
    "presentation": "magenta",
    "findings": "bold red",
}
_OTHER_STYLE = "bold blue"
_SAID_MOST = 8


def example_text(example: Example) -> Text:
    """The caption with each fact's words in its colour, and below it the facts in the same colours."""
    from rich.text import Text

    text = Text(example.text)
    for name, words in example.words.items():
        for word in sorted(words, key=len, reverse=True):
            text.highlight_words([word], _style(name), case_sensitive=False)
    text.append(f"\n  {example.template}, {example.tokens} tokens\n", "dim")
    for name, fact in example.facts.items():
        text.append(f"  {name:<13}", _style(name))
        text.append(f"{_value(fact['value'])}  ")
        text.append(f"from {fact['source']}\n", "dim")
    return text


def trace_text(caption: TracedCaption) -> Text:
    """The caption, its template, and every fact with what the records say about it."""
    from rich.text import Text

    text = Text(f"{caption.text}\n", "bold")
    text.append(f"caption   {caption.caption_id}\nframe     {caption.frame_id}\n")
    if caption.region_id is not None:
        text.append(f"region    {caption.region_id}\n")
    written = (caption.template_text or "changed since this caption was written").strip()
    text.append(f"template  {caption.template}: {written}\n")
    text.append(f"tokens    {caption.tokens}\n")
    if caption.dropped:
        text.append(f"left out  {', '.join(caption.dropped)} (too long otherwise)\n")
    for fact in caption.facts:
        _append_fact(text, fact)
    return text


def _append_fact(text: Text, fact: TracedFact) -> None:
    text.append(f"{fact.name:<14}", _style(fact.name))
    text.append(f"{_value(fact.value)}  ")
    text.append(f"from {fact.source}\n", "dim")
    for said in fact.statements[:_SAID_MOST]:
        text.append(f"    {_sentence(said)}\n")
    if len(fact.statements) > _SAID_MOST:
        text.append(f"    and {len(fact.statements) - _SAID_MOST} more statements\n")


def _sentence(said: Said) -> str:
    value = "a date, which is not stored" if said.value is None else _value(said.value)
    other = ", of another examination" if said.elsewhere else ""
    return f"{said.place}, {said.field}: {said.fact} {value}{other}"


def _style(name: str) -> str:
    return _STYLES.get(name, _OTHER_STYLE)


def _value(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
