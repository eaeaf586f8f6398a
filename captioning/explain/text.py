"""Captions as text for the terminal, each fact in its own colour, next to its source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .preview import PreviewedCaption
from .trace import TracedCaption, TracedFact, TracedStatement

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
_MOST_STATEMENTS = 8  # of one fact


def preview_text(caption: PreviewedCaption) -> Text:
    """The caption with each fact's words in its colour, and below it the facts in the same colours."""
    from rich.text import Text

    text = Text(caption.text)
    for name, words in caption.words.items():
        for word in sorted(words, key=len, reverse=True):
            text.highlight_words([word], _style(name), case_sensitive=False)
    text.append(f"\n  {caption.template}, {caption.tokens} tokens\n", "dim")
    for name, fact in caption.facts.items():
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
    template = (caption.template_text or "changed since this caption was written").strip()
    text.append(f"template  {caption.template}: {template}\n")
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
    for statement in fact.statements[:_MOST_STATEMENTS]:
        text.append(f"    {_sentence(statement)}\n")
    if len(fact.statements) > _MOST_STATEMENTS:
        text.append(f"    and {len(fact.statements) - _MOST_STATEMENTS} more statements\n")


def _sentence(statement: TracedStatement) -> str:
    value = "a date, which is not stored" if statement.value is None else _value(statement.value)
    other = ", of another examination" if statement.elsewhere else ""
    return f"{statement.place}, {statement.field}: {statement.fact} {value}{other}"


def _style(name: str) -> str:
    return _STYLES.get(name, _OTHER_STYLE)


def _value(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
