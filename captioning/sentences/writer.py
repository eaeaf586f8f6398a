"""Sentences from facts: templates rendered, checked, and kept short enough for the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sono.captioning.facts.facts import Facts
from sono.manifests.schemas import BIOMETRY
from sono.manifests.vocabulary import Vocabulary, vocabulary_sha256

from .guard import RefusedError as RefusedError
from .guard import Wording, check_sentence, wording
from .packs import GLOBAL, REGION, Pack, Template, environment
from .tokens import CLIP, Tokenizer, load_tokenizer
from .values import Value, Values, as_words, value_reader

if TYPE_CHECKING:
    import jinja2

_TEMPLATE_FAULTS = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_CACHED_SENTENCES = 200_000


@dataclass(frozen=True)
class Budget:
    """What the model to be trained can read.

    Attributes:
        tokenizer: ``clip``, or a Hugging Face ``tokenizer.json``, whose path is relative to ``base``.
        context_length: tokens, with start and end: 77 of CLIP, 117 of FetalCLIP.
    """

    tokenizer: str = CLIP
    context_length: int = 77
    base: Path | None = None


class Sentence(NamedTuple):
    """A sentence; ``tokens`` with start and end, ``dropped`` the structures left out for length, in that order."""

    text: str
    template: Template
    tokens: int
    dropped: tuple[str, ...]


@dataclass(frozen=True)
class Writer:
    """Writes sentences. Compiles its templates on first use and remembers what it wrote."""

    pack: Pack
    vocabulary: Vocabulary
    budget: Budget

    def about(self, facts: Facts, draw: int) -> Sentence | None:
        """The sentence about a frame, or about a region if ``facts.structure`` is known.

        Args:
            draw: chooses among the templates that these facts are enough for, evenly over all integers.

        Returns:
            None if the facts are not enough for any template.

        Raises:
            RefusedError: the sentence must not be stored.
        """
        templates = self.templates_for(facts)
        return self.write(templates[draw % len(templates)], facts) if templates else None

    def templates_for(self, facts: Facts) -> Sequence[Template]:
        """The templates, sorted by id, whose every needed fact is known."""
        kind = GLOBAL if facts.structure is None else REGION
        known = tuple([read(facts) is not None for read in self._readers_of_needs])
        found = self._applicable.get((kind, known))
        return self._find_applicable(kind, known) if found is None else found

    def shared_values(self, facts: Facts) -> Values:
        """What templates can show of the facts besides structures. Equal values and structures: equal sentences."""
        return tuple([read(facts) for read in self._shared_readers])

    def write(self, template: Template, facts: Facts) -> Sentence:
        """The sentence that ``template`` makes of the facts; equal values are rendered once.

        Raises:
            RefusedError: the sentence must not be stored.
        """
        values = tuple([read(facts) for read in self._readers[template.id]])
        key = (template.id, values)
        found = self._written.get(key)
        if found is None:
            if len(self._written) >= _CACHED_SENTENCES:
                self._written.clear()
            found = self._written[key] = self.render(template, values)
        return found

    def render(self, template: Template, values: Values) -> Sentence:
        """Write the sentence, without the memory of what was written.

        Args:
            values: of ``sorted(template.uses)``: ids, codes and numbers; None if not known.

        Raises:
            RefusedError: the sentence must not be stored.
        """
        known = {name: value for name, value in zip(sorted(template.uses), values, strict=True) if value is not None}
        dropped: list[str] = []
        while True:
            text = self._text(template, known)
            tokens = self.tokenizer.count(text)
            if tokens <= self.budget.context_length:
                return Sentence(text, template, tokens, tuple(dropped))
            structures = known.get("structures", ())
            if not isinstance(structures, tuple) or len(structures) < 2:
                limit = self.budget.context_length
                raise RefusedError("sentence_too_long", f"has {tokens} tokens where the model reads {limit}")
            dropped.append(structures[-1])
            known["structures"] = structures[:-1]

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return load_tokenizer(self.budget.tokenizer, self.budget.base)

    def __reduce__(self) -> tuple[object, ...]:  # compiled templates do not cross processes
        return _restored, (self.signature, self.pack, self.vocabulary, self.budget)

    @cached_property
    def signature(self) -> str:
        """Equal for writers that write the same."""
        words = vocabulary_sha256(self.vocabulary)
        return f"{self.pack.sha256}/{words}/{self.tokenizer.sha256}/{self.budget.context_length}"

    def _text(self, template: Template, known: Mapping[str, Value]) -> str:
        """The checked sentence."""
        import jinja2

        try:
            shown = {name: as_words(name, value, self.pack) for name, value in known.items()}
        except KeyError:
            raise RefusedError("name_unknown", "needs a name that the pack does not have") from None
        try:
            text = self._compiled[template.id].render(shown).strip()
        except (jinja2.TemplateError, *_TEMPLATE_FAULTS) as error:
            raise RefusedError("template_fails", "cannot be written with these facts", _line(error)) from None
        text = text[:1].upper() + text[1:]
        numbers = [value for value in shown.values() if isinstance(value, int | float)]
        check_sentence(text, self._allowed[template.id], numbers)
        return text

    def _find_applicable(self, kind: str, known: tuple[bool, ...]) -> Sequence[Template]:
        facts = {fact for fact, is_known in zip(self._needs, known, strict=True) if is_known}
        found = tuple(each for each in self.pack.templates if each.kind == kind and each.needs <= facts)
        self._applicable[kind, known] = found
        return found

    @cached_property
    def _needs(self) -> tuple[str, ...]:
        return tuple(sorted({fact for template in self.pack.templates for fact in template.needs}))

    @cached_property
    def _readers_of_needs(self) -> tuple[Callable[[Facts], Value | None], ...]:
        return tuple(value_reader(fact, self.pack) for fact in self._needs)

    @cached_property
    def _readers(self) -> dict[str, tuple[Callable[[Facts], Value | None], ...]]:
        return {
            template.id: tuple(value_reader(name, self.pack) for name in sorted(template.uses))
            for template in self.pack.templates
        }

    @cached_property
    def named_biometry(self) -> tuple[str, ...]:
        """The measurements that some template names; captions have no others among their facts."""
        return tuple(name for name in BIOMETRY if any(name in template.uses for template in self.pack.templates))

    @cached_property
    def _shared_readers(self) -> tuple[Callable[[Facts], Value | None], ...]:
        names = {name for template in self.pack.templates for name in template.uses} - {"structures", "structure"}
        return tuple(value_reader(name, self.pack) for name in sorted(names))

    @cached_property
    def _applicable(self) -> dict[tuple[str, tuple[bool, ...]], Sequence[Template]]:
        return {}

    @cached_property
    def _written(self) -> dict[tuple[str, Values], Sentence]:
        return {}

    @cached_property
    def _allowed(self) -> dict[str, Wording]:
        words = [name for named in self.pack.words.values() for name in named.values()]
        names = [*self.pack.planes.values(), *self.pack.structures.values(), *self.pack.findings.values(), *words]
        return {template.id: wording([template.own_text, *names]) for template in self.pack.templates}

    @cached_property
    def _compiled(self) -> dict[str, jinja2.Template]:
        sandbox = environment()
        return {template.id: sandbox.from_string(template.text) for template in self.pack.templates}


_LEFT_BEHIND: dict[str, Writer] = {}


def _restored(signature: str, pack: Pack, vocabulary: Vocabulary, budget: Budget) -> Writer:
    """The writer that this process used for the part before, with all it remembers, or else a new one."""
    if signature not in _LEFT_BEHIND:
        _LEFT_BEHIND.clear()
        _LEFT_BEHIND[signature] = Writer(pack, vocabulary, budget)
    return _LEFT_BEHIND[signature]


def _line(error: Exception) -> int | None:
    """The template's line at which it failed."""
    lines = []
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return lines[-1] if lines else None
