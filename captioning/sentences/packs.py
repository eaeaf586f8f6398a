"""Template packs: the sentences of one language, the names they use, and what each template needs to know.

A pack is a folder: ``pack.toml`` with the language and names, ``global/*.jinja`` for sentences about whole images,
``region/*.jinja`` for sentences about one outlined structure. ``syntax`` says what a template may be.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sono.captioning.facts.statements import LATERALITIES, PRESENTATIONS, FaultError, finding
from sono.manifests.errors import UserError, did_you_mean
from sono.manifests.vocabulary import Plane, Structure, Vocabulary

from .guard import wording_fault
from .syntax import FACT_OF, checked, environment, one_of

__all__ = ["FACT_OF", "GLOBAL", "REGION", "Pack", "Template", "environment", "load_pack", "packaged"]

GLOBAL, REGION = "global", "region"


_PACKS = "templates"
_MAX_BYTES = 20_000
_WORDS = {"laterality": LATERALITIES, "presentation": PRESENTATIONS, "trimester": ("1", "2", "3")}
_ENGLISH = {
    "laterality": {name: name for name in LATERALITIES},
    "presentation": {name: name for name in PRESENTATIONS},
    "trimester": {"1": "first trimester", "2": "second trimester", "3": "third trimester"},
}


@dataclass(frozen=True)
class Template:
    """One template.

    Attributes:
        id: its folder and name: ``global/paper``.
        kind: ``GLOBAL`` or ``REGION``.
        where: the file that errors name.
        needs: the facts (names of ``Facts.known``) without which it cannot render.
        uses: every name it reads, of ``FACT_OF``.
        own_text: everything it can put into a sentence itself.
    """

    id: str
    kind: str
    text: str
    where: str
    needs: frozenset[str]
    uses: frozenset[str]
    own_text: str = field(repr=False)

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class Pack:
    """The templates, sorted by id, and every name that a sentence may hold.

    Attributes:
        planes, structures: names by id, of the whole vocabulary.
        findings: names by code.
        words: names by value of ``laterality``, ``presentation`` and ``trimester``.
    """

    name: str
    language: str
    templates: tuple[Template, ...]
    planes: Mapping[str, str]
    structures: Mapping[str, str]
    findings: Mapping[str, str]
    words: Mapping[str, Mapping[str, str]]

    @cached_property
    def sha256(self) -> str:
        """Of everything that decides its sentences."""
        templates = {template.id: template.text for template in self.templates}
        content = [self.language, templates, self.planes, self.structures, self.findings, self.words]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def packaged() -> tuple[str, ...]:
    """The names of the packs that come with this package."""
    return tuple(sorted(path.name for path in Path(__file__).with_name(_PACKS).iterdir() if path.is_dir()))


def load_pack(choice: str, vocabulary: Vocabulary, base: Path | None = None) -> Pack:
    """A packaged pack by its name, or a folder, whose path is relative to ``base``.

    Raises:
        UserError: there is no such pack, or something in it is wrong; the text names the file.
    """
    if choice in packaged():
        folder, shown = Path(__file__).with_name(_PACKS) / choice, choice
    else:
        folder = (base or Path()) / choice
        shown = str(folder)
        if not folder.is_dir():
            nearest = did_you_mean(choice, packaged())
            raise UserError("template pack not found", where=shown, fix=nearest or one_of("packs", packaged()))
    _check_entries(folder, shown)
    where = f"{shown}/pack.toml"
    content = _read_toml(folder / "pack.toml", where)
    english = content.language.split("-")[0] == "en"
    known = frozenset(FACT_OF) - (frozenset() if english else {"article"})
    templates = tuple(
        _load_template(kind, path, f"{shown}/{kind}/{path.name}", known)
        for kind in (GLOBAL, REGION)
        for path in sorted((folder / kind).glob("*.jinja"))
    )
    if not any(template.kind == GLOBAL for template in templates):
        raise UserError("the pack has no template for whole images", where=shown, fix="add global/NAME.jinja")
    names = _names(content, vocabulary, english, where)
    pack = Pack(folder.resolve().name, content.language, templates, *names)
    _check_names(pack, where)
    return pack


class _PackFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    language: Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]
    planes: dict[str, str] = {}
    structures: dict[str, str] = {}
    findings: dict[str, str] = {}
    laterality: dict[str, str] = {}
    presentation: dict[str, str] = {}
    trimester: dict[str, str] = {}


def _check_entries(folder: Path, shown: str) -> None:
    """Refuse links, which may lead out of the folder, and templates that would not be found where they are."""
    for path in sorted([*folder.iterdir(), *folder.glob("*/*")]):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise UserError("a link leads out of the pack", where=f"{shown}/{name}", fix="put the file itself there")
        parent, _, file = name.rpartition("/")
        stray_template = file.endswith(".jinja") and parent not in (GLOBAL, REGION)
        stray_folder = path.is_dir() and name not in (GLOBAL, REGION) and not name.startswith(".")
        if stray_template or stray_folder:
            raise UserError(
                "unexpected file or folder in a pack",
                where=f"{shown}/{name}",
                fix="templates belong in global or region",
            )


def _read(path: Path, where: str) -> str:
    most = _MAX_BYTES * (1 if path.suffix == ".jinja" else 50)
    try:
        if not path.is_file():  # a pipe would be waited for
            raise FileNotFoundError
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError:
        raise UserError("the file is missing or cannot be read", where=where, fix="see the packaged pack") from None
    if len(content) > most:
        raise UserError("the file is too large", where=where, fix="split it")
    try:
        return content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise UserError("not UTF-8 text", where=where, fix="save it as UTF-8") from None


def _read_toml(path: Path, where: str) -> _PackFile:
    try:
        return _PackFile.model_validate(tomllib.loads(_read(path, where)))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"not valid TOML: {error}", where=where, fix="correct the line it names") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            keys = tuple(_PackFile.model_fields)
            raise UserError(
                f"unknown key {key!r}", where=where, fix=did_you_mean(key, keys) or one_of("keys", keys)
            ) from None
        raise UserError(f"{key}: {first['msg']}", where=where, fix="correct that entry") from None


def _names(
    content: _PackFile, vocabulary: Vocabulary, english: bool, where: str
) -> tuple[dict[str, str], dict[str, str], dict[str, str], dict[str, dict[str, str]]]:
    """Planes, structures, findings and words by id, in the pack's language."""
    own = {"laterality": content.laterality, "presentation": content.presentation, "trimester": content.trimester}
    allowed: Mapping[str, tuple[Mapping[str, str], Collection[str]]] = {
        "planes": (content.planes, vocabulary.planes),
        "structures": (content.structures, vocabulary.structures),
        **{section: (own[section], ids) for section, ids in _WORDS.items()},
    }
    for section, (named, ids) in allowed.items():
        for name in named:
            if name not in ids:
                fix = did_you_mean(name, ids) or "use the vocabulary's ids"
                raise UserError(f"[{section}] names {name!r}, which is not in the vocabulary", where=where, fix=fix)
    for code in content.findings:
        try:
            finding(code)
        except FaultError:
            raise UserError("[findings] has a key that is not a code", where=where, fix='use "SYSTEM:CODE"') from None
    if english:
        planes = _english(vocabulary.planes) | content.planes
        structures = _english(vocabulary.structures) | content.structures
        return planes, structures, content.findings, {kind: _ENGLISH[kind] | own[kind] for kind in own}
    missing = [f"plane {name!r}" for name in vocabulary.planes if name not in content.planes]
    missing += [f"structure {name!r}" for name in vocabulary.structures if name not in content.structures]
    if missing:
        what = f"{len(missing)} planes and structures have no name in {content.language!r}, the first is {missing[0]}"
        raise UserError(what, where=where, fix="name every plane and structure of the vocabulary")
    return content.planes, content.structures, content.findings, own


def _english(entries: Mapping[str, Plane] | Mapping[str, Structure]) -> dict[str, str]:
    return {name: entry.name for name, entry in entries.items()}


def _check_names(pack: Pack, where: str) -> None:
    """Every name can stand in a sentence, and no template uses words that the pack does not have."""
    named = {"planes": pack.planes, "structures": pack.structures, "findings": pack.findings, **pack.words}
    for section, names in named.items():
        for key, name in names.items():
            fault = "is empty or has spaces around it" if not name or name != name.strip() else wording_fault(name)
            if fault:
                raise UserError(f"the name of {key!r} in [{section}] cannot be used: it {fault}", where=where)
    for template in pack.templates:
        for section, ids in _WORDS.items():
            if section in template.uses and not pack.words[section].keys() >= set(ids):
                fix = f"add [{section}] with {', '.join(ids)} to pack.toml"
                raise UserError(f"the pack lacks words for {section!r}", where=template.where, fix=fix)
        if "findings" in template.needs and not pack.findings:
            raise UserError("the pack names no findings", where=template.where, fix="add [findings] to pack.toml")


def _load_template(kind: str, path: Path, where: str, known: frozenset[str]) -> Template:
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,40}", path.stem):
        raise UserError(
            "a template's name may contain only lower-case letters, digits, - and _", where=where, fix="rename the file"
        )
    text = _read(path, where)
    names = known - {"structures" if kind == REGION else "structure"}
    needs, uses, own_text = checked(text, where, names)
    return Template(f"{kind}/{path.stem}", kind, text, where, needs, uses, own_text)
