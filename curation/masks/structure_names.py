"""Which structure a mask shows: its folder says so, its label does, or the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from sono.curation.ingest.files import SourceFile
from sono.manifests.errors import UserError
from sono.manifests.vocabulary import Vocabulary, normalise

from .formats.protocol import Found

_REMEMBERED = 1000  # labels; a file may hold any text as one

Named = tuple[str | None, str | None]
"""A structure, and the reason for which a mask is left out; either may be None."""


class StructureNames(Protocol):
    """Names what a mask of a file shows."""

    def __call__(self, file: SourceFile, found: Found) -> Named: ...

    def unknown(self, masks: Path) -> UserError:
        """The error if no mask shows a structure of the vocabulary."""
        ...


class FolderNames:
    """Every mask shows ``structure``, or what the folder directly in ``masks`` that it is in is named after.

    Raises:
        UserError: ``structure`` is None and a folder is not named after a structure.
    """

    def __init__(self, vocabulary: Vocabulary, structure: str | None, files: Sequence[SourceFile], masks: Path) -> None:
        self._structure = structure
        folders = set() if structure else {_first_folder(file) for file in files}
        found = {folder: vocabulary.find_structure(folder) for folder in sorted(folders)}
        self._structures = {folder: name for folder, name in found.items() if name}
        unknown = [folder for folder, name in found.items() if name is None]
        if unknown:  # counted, not named: a folder's name may be a patient's
            similar = sorted(filter(None, map(vocabulary.nearest_structure, unknown)))
            hint = f"did you mean {', '.join(map(repr, similar[:3]))}? If not, " if similar else ""
            raise UserError(
                f"{len(unknown)} of {len(folders)} folders are not named after a structure",
                where=str(masks),
                fix=f"{hint}use the names of structures in planes.toml, or give --structure",
            )

    def __call__(self, file: SourceFile, found: Found) -> Named:
        return self._structure or self._structures[_first_folder(file)], None

    def unknown(self, masks: Path) -> UserError:
        raise AssertionError("folders are checked first")


class LabelNames:
    """A mask shows what its label says, in the vocabulary's words or the user's.

    Raises:
        UserError: a structure of ``labels`` is unknown, or one label has two, written in different ways.
    """

    def __init__(self, vocabulary: Vocabulary, structure: str | None, labels: Mapping[str, str]) -> None:
        self._vocabulary = vocabulary
        self._structure = structure
        self._mapped: dict[str, str] = {}
        for label, name in labels.items():
            meant = vocabulary.require_structure(name)
            if self._mapped.setdefault(_folded(label), meant) != meant:
                raise UserError(f"--label {label!r} is given for two structures", fix="give it for one")
        self._unknown: set[str] = set()
        self._known: dict[tuple[tuple[str, ...], tuple[str, ...]], set[str]] = {}

    def __call__(self, file: SourceFile, found: Found) -> Named:
        if not found.labels:
            return (self._structure, None) if self._structure else (None, "unknown_structure")
        names = (found.labels, found.otherwise)
        structures = self._known.get(names)
        if structures is None:
            structures = self._find(found.labels) or self._find(found.otherwise)
            if len(self._known) < _REMEMBERED:
                self._known[names] = structures
        if not structures:
            if len(self._unknown) < _REMEMBERED:
                self._unknown.update(filter(None, found.labels))
            return None, "unknown_structure"
        if len(structures) > 1:
            return None, "ambiguous_label"
        structure = next(iter(structures))
        return (structure, None) if self._structure in (None, structure) else (structure, "other_structure")

    def _find(self, labels: Sequence[str]) -> set[str]:
        found = (self._mapped.get(_folded(label)) or self._vocabulary.find_structure(label) for label in labels)
        return {structure for structure in found if structure}

    def unknown(self, masks: Path) -> UserError:
        """The error if no label is a structure; they are counted, not named: one may be a patient's name."""
        similar = sorted(set(filter(None, map(self._vocabulary.nearest_structure, sorted(self._unknown)))))
        hint = f"did you mean {', '.join(map(repr, similar[:3]))}? If so, " if similar else ""
        return UserError(
            "no label of the masks is the name of a structure",
            where=str(masks),
            fix=f"{hint}map them with --label, such as --label Capsule=kidney; planes.toml lists the structures",
        )


def _folded(label: str) -> str:
    """A label whose case and punctuation do not count, unless there is nothing else."""
    return normalise(label) or label


def _first_folder(file: SourceFile) -> str:
    """Empty for a file that is in no folder."""
    return file.relative.partition("/")[0] if "/" in file.relative else ""
