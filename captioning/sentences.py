"""Sentences from facts: the template pack, its check before a run, and the guard on every sentence.

Templates are Jinja2 in a sandbox. They see ``article`` ("A" or "An", for the week that follows), ``ga`` (completed
weeks), ``plane`` (its name) and either ``anatomies`` (names, in caption order) or ``structure`` (its name).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from sono.manifests.errors import UserError
from sono.manifests.vocabulary import Vocabulary

from .dating import GA_DAYS
from .facts import FrameFacts, RegionFacts

if TYPE_CHECKING:
    import jinja2

GLOBAL, REGION = "global", "region"

_TEMPLATE_FAULTS = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


@dataclass(frozen=True)
class Template:
    """One template: its name in the ``captions`` table, its text, and the file to name in errors."""

    name: str
    text: str
    where: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class TemplatePack:
    """The two templates that a run uses."""

    frame: Template
    region: Template


def load_templates(folder: Path | None = None) -> TemplatePack:
    """The packaged templates, or ``global.jinja`` and ``region.jinja`` of ``folder`` in their place.

    Raises:
        UserError: one of the two files is missing or not UTF-8.
    """
    return TemplatePack(_load(GLOBAL, folder), _load(REGION, folder))


def check_templates(templates: TemplatePack, vocabulary: Vocabulary) -> None:
    """Render a sentence about each plane in each week, and about each structure of each plane.

    Raises:
        UserError: a template does not render, or its sentence is empty, has several lines, holds a number besides the
            gestational age, or a word that is neither the template's nor the vocabulary's.
    """
    writer = Writer(templates, vocabulary)
    weeks = range(GA_DAYS[0] // 7, GA_DAYS[1] // 7 + 1)
    for plane in vocabulary.planes.values():
        for ga in weeks:
            writer.frame(ga, plane.id, plane.structures)
            writer.region(ga, plane.id, plane.structures[0])
        for structure in plane.structures:
            writer.frame(weeks[0], plane.id, (structure,))
            writer.region(weeks[0], plane.id, structure)


@dataclass(frozen=True)
class Writer:
    """Writes sentences. Compiles its templates on first use; make one a part, not one a sentence."""

    templates: TemplatePack
    vocabulary: Vocabulary

    def about_frame(self, facts: FrameFacts) -> str:
        assert isinstance(facts.ga.value, int)
        assert isinstance(facts.plane.value, str)
        assert isinstance(facts.anatomies.value, tuple)
        return self.frame(facts.ga.value, facts.plane.value, facts.anatomies.value)

    def about_region(self, facts: RegionFacts) -> str:
        assert isinstance(facts.ga.value, int)
        assert isinstance(facts.plane.value, str)
        assert isinstance(facts.structure.value, str)
        return self.region(facts.ga.value, facts.plane.value, facts.structure.value)

    def frame(self, ga: int, plane: str, structures: tuple[str, ...]) -> str:
        """The sentence about a whole image; ``ga`` in completed weeks, plane and structures by id."""
        names = tuple(self.vocabulary.structures[structure].name for structure in structures)
        return self._write(self.templates.frame, ga, plane, anatomies=names)

    def region(self, ga: int, plane: str, structure: str) -> str:
        """The sentence about one region; ``ga`` in completed weeks, plane and structure by id."""
        return self._write(self.templates.region, ga, plane, structure=self.vocabulary.structures[structure].name)

    def _write(self, template: Template, ga: int, plane: str, **names: str | tuple[str, ...]) -> str:
        import jinja2

        try:
            name = self.vocabulary.planes[plane].name
            text = self._compiled[template.name].render(article=article(ga), ga=ga, plane=name, **names).strip()
        except (jinja2.TemplateError, *_TEMPLATE_FAULTS) as error:
            raise UserError(
                f"the template does not render: {error}", where=template.where, fix="see docs/captions.md for its words"
            ) from error
        fault = self._fault(template, text, ga)
        if fault:
            raise UserError(f"the template's sentence {fault}", where=template.where, fix="mend the template")
        return text

    def _fault(self, template: Template, text: str, ga: int) -> str | None:
        """Why a sentence must not be stored. It is the last door before data that may be published."""
        if not text:
            return "is empty"
        if len(text.splitlines()) > 1:
            return "has several lines"
        if any(number != str(ga) for number in re.findall(r"\d+", text)):
            return "holds a number besides the gestational age"
        if not _words(text) <= self._allowed[template.name]:
            return "holds a word that is neither the template's nor the vocabulary's"
        return None

    @cached_property
    def _allowed(self) -> dict[str, frozenset[str]]:
        planes = [plane.name for plane in self.vocabulary.planes.values()]
        structures = [structure.name for structure in self.vocabulary.structures.values()]
        known = _words(" ".join(["A", "An", *planes, *structures]))
        pair = (self.templates.frame, self.templates.region)
        return {template.name: known | _words(template.text) for template in pair}

    @cached_property
    def _compiled(self) -> dict[str, jinja2.Template]:
        import jinja2
        import jinja2.sandbox

        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, autoescape=False)
        compiled = {}
        for template in (self.templates.frame, self.templates.region):
            try:
                compiled[template.name] = environment.from_string(template.text)
            except jinja2.TemplateSyntaxError as error:
                raise UserError(
                    f"line {error.lineno} is no valid template: {error.message}",
                    where=template.where,
                    fix="mend that line",
                ) from error
        return compiled


def article(weeks: int) -> str:
    """The article that stands before the number when it is read aloud: an 8-week, an 11-week, an 18-week scan."""
    return "An" if weeks in (8, 11, 18) or 80 <= weeks < 90 else "A"


def _load(name: str, folder: Path | None) -> Template:
    file = f"{name}.jinja"
    where = str(folder / file) if folder else file
    try:
        path = folder / file if folder else resources.files(__package__).joinpath("templates", file)
        return Template(name, path.read_text(encoding="utf-8"), where)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            "there is no such template", where=where, fix="a template folder holds global.jinja and region.jinja"
        ) from None
    except UnicodeDecodeError:
        raise UserError("not UTF-8 text", where=where, fix="save the template as UTF-8") from None


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[^\W\d_]+", text.casefold()))
