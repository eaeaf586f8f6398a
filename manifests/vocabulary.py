"""The vocabulary of standard planes and anatomical structures, read from ``planes.toml``."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import UserError, nearest
from .toml import parse_toml

SYSTEMS = ("head", "face", "heart", "abdomen", "upper_limb", "lower_limb")

_Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Structure(BaseModel):
    """An anatomical structure: its id, the words a caption uses for it, and other names it goes by."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: _Identifier
    name: str
    synonyms: tuple[str, ...] = ()


class Plane(BaseModel):
    """A standard plane; ``structures`` are ids in caption priority, ``ga_weeks`` the gestational window in weeks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: _Identifier
    name: str
    synonyms: tuple[str, ...] = ()
    system: Literal["head", "face", "heart", "abdomen", "upper_limb", "lower_limb"]
    ga_weeks: tuple[int, int]
    structures: tuple[_Identifier, ...] = Field(min_length=1)
    source: str  # the guidance the entry follows


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: int
    structures: list[Structure]
    planes: list[Plane]


@dataclass(frozen=True)
class Vocabulary:
    """Planes and structures by id, in the file's order, which is also the order of class labels."""

    planes: Mapping[str, Plane]
    structures: Mapping[str, Structure]

    @property
    def plane_ids(self) -> tuple[str, ...]:
        return tuple(self.planes)

    def find_plane(self, text: str) -> str | None:
        """The id of the plane that ``text`` names exactly (id, name or synonym; case and punctuation ignored)."""
        return self._plane_index.get(normalise(text))

    def find_structure(self, text: str) -> str | None:
        """The id of the structure that ``text`` names exactly (id, name or synonym; case and punctuation ignored)."""
        return self._structure_index.get(normalise(text))

    def nearest_plane(self, text: str) -> str | None:
        """The id of the plane whose name is most like ``text``, for error messages only."""
        return _nearest(text, self._plane_index)

    def nearest_structure(self, text: str) -> str | None:
        return _nearest(text, self._structure_index)

    def require_structure(self, text: str) -> str:
        """Like ``find_structure``.

        Raises:
            UserError: no structure has that name.
        """
        found = self.find_structure(text)
        if found is None:
            similar = self.nearest_structure(text)
            raise UserError(
                f"unknown structure {text!r}",
                fix=f"did you mean {similar!r}?" if similar else "see planes.toml for the vocabulary",
            )
        return found

    @cached_property
    def _plane_index(self) -> dict[str, str]:
        return _index(self.planes.values())

    @cached_property
    def _structure_index(self) -> dict[str, str]:
        return _index(self.structures.values())


def load(override: Path | None = None) -> Vocabulary:
    """The packaged vocabulary, or the file ``override`` in its place.

    Raises:
        UserError: the file is missing, is not TOML, or breaks the vocabulary's rules; the text names the entry.
    """
    return _packaged() if override is None else _parse(override, str(override))


@cache
def _packaged() -> Vocabulary:
    return _parse(resources.files(__package__).joinpath("planes.toml"), "planes.toml")


def _parse(file: Path | Traversable, where: str) -> Vocabulary:
    try:
        content = _File.model_validate(parse_toml(file.read_text(encoding="utf-8"), where))
    except FileNotFoundError:
        raise UserError("vocabulary file not found", where=where, fix="check [vocabulary] in sono.toml") from None
    except UnicodeDecodeError as error:
        raise UserError("not UTF-8", where=where, fix="save it again as UTF-8") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{place}: {first['msg']}", where=where, fix="correct that entry") from error
    return _checked(content, where)


def vocabulary_sha256(vocabulary: Vocabulary) -> str:
    """Changes when anything in the vocabulary does."""
    entries = (*vocabulary.planes.values(), *vocabulary.structures.values())
    return hashlib.sha256("\n".join(entry.model_dump_json() for entry in entries).encode()).hexdigest()


def normalise(text: str) -> str:
    """Lower case, every run of other characters than letters and digits of any script one space.

    Marks belong to their letters: in many scripts two words differ in them alone.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join("".join(each if unicodedata.category(each)[0] in "LMN" else " " for each in folded).split())


def _checked(content: _File, where: str) -> Vocabulary:
    structures = {entry.id: entry for entry in content.structures}
    for plane in content.planes:
        low, high = plane.ga_weeks
        if not 0 < low < high <= 45:
            raise UserError(f"plane {plane.id}: ga_weeks {low}-{high} is not a valid gestational window", where=where)
        for structure in plane.structures:
            if plane.structures.count(structure) > 1:
                raise UserError(f"plane {plane.id}: structure {structure!r} is listed twice", where=where)
            if structure not in structures:
                raise UserError(
                    f"plane {plane.id}: structure {structure!r} is not listed under [[structures]]", where=where
                )
    for kind, entries in (("plane", content.planes), ("structure", content.structures)):
        seen: dict[str, str] = {}
        for entry in entries:
            for name in {normalise(word) for word in (entry.id, entry.name, *entry.synonyms)}:
                if not name:
                    raise UserError(f"{kind} {entry.id}: a name has no letters or digits", where=where)
                if seen.setdefault(name, entry.id) != entry.id:
                    raise UserError(f"two {kind}s are called {name!r}: {seen[name]} and {entry.id}", where=where)
        if len({entry.id for entry in entries}) != len(entries):
            raise UserError(f"a {kind} id is listed twice", where=where)
    return Vocabulary(planes={plane.id: plane for plane in content.planes}, structures=structures)


def _index(entries: Iterable[Plane | Structure]) -> dict[str, str]:
    return {normalise(word): entry.id for entry in entries for word in (entry.id, entry.name, *entry.synonyms)}


def _nearest(text: str, index: Mapping[str, str]) -> str | None:
    name = nearest(normalise(text), index)
    return index[name] if name else None
