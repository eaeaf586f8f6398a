"""Which frame each mask file belongs to, or why it belongs to none."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa

from sono.curation.ingest.files import SourceFile
from sono.manifests.errors import UserError
from sono.manifests.pseudonyms import Pseudonymizer, without_extension
from sono.manifests.query import query
from sono.manifests.schemas import FRAMES, REGIONS
from sono.manifests.store import TableStore
from sono.manifests.vocabulary import Vocabulary

from .stage import MaskImportStage

INPUT = pa.schema(
    {
        "path": pa.binary(),
        "source_key": pa.string(),
        "structure": pa.string(),
        "frame_index": pa.int32(),
        "frame": pa.string(),  # JSON: id, sizes and crop of the frame
        "problem": pa.string(),
    }
)

_FRAME_SUFFIX = re.compile(r"^(.*)_f(\d+)$")

_FRAME_COLUMNS = (
    "frame_id, source_key, name_key, frame_index, frame_count, height, width, source_height, source_width, crop, "
    "pixel_digest"
)

_Frame = dict[str, object]


@dataclass(frozen=True)
class Drawing:
    """A mask file: what it shows, and its name without the suffix (``stem``), None if it has another suffix."""

    file: SourceFile
    structure: str
    stem: str | None


def find_drawings(
    files: Sequence[SourceFile], structure: str | None, vocabulary: Vocabulary, folder: Path, suffix: str
) -> list[Drawing]:
    """What each mask file shows, and its name; the arguments are those of ``import_masks``.

    Raises:
        UserError: ``structure`` is None and a folder is not named after a structure.
    """
    names = [(None, file.relative) if structure else _split(file.relative) for file in files]
    structures = {first: structure or vocabulary.find_structure(first or "") for first, _ in names}
    unknown = [first or "" for first, found in structures.items() if found is None]
    if unknown:  # counted, not named: a folder's name may be a patient's
        similar = sorted(filter(None, map(vocabulary.nearest_structure, unknown)))
        hint = f"did you mean {', '.join(map(repr, similar[:3]))}? If not, " if similar else ""
        raise UserError(
            f"{len(unknown)} of {len(structures)} folders are not named after a structure",
            where=str(folder),
            fix=f"{hint}use the names of structures in planes.toml, or give --structure",
        )
    stems = [without_extension(name) for _, name in names]
    return [
        Drawing(file, str(structures[first]), stem.removesuffix(suffix) if stem.endswith(suffix) else None)
        for file, (first, _), stem in zip(files, names, stems, strict=True)
    ]


def _split(relative: str) -> tuple[str, str]:
    """The first folder of a path, empty if there is none, and the rest."""
    first, slash, rest = relative.partition("/")
    return (first, rest) if slash else ("", relative)


class Targets:
    """Finds the frame that each mask file is for. Holds only the frames that one of the files could mean."""

    def __init__(self, store: TableStore, keys: Pseudonymizer, scope: str, drawings: Sequence[Drawing]) -> None:
        self._keys = keys
        names = {name for drawing in drawings if drawing.stem is not None for name in _readings(drawing.stem)}
        wanted = pa.table({"path_key": [keys.source(f"{name}.x") for name, _ in names]})
        bare = pa.table({"bare_key": [keys.name(f"{name}.x") for name, _ in names]})
        frames = query(
            f"SELECT {_FRAME_COLUMNS} FROM read_parquet($paths) "
            "WHERE source_key IN (SELECT path_key FROM wanted) OR name_key IN (SELECT bare_key FROM bare)",
            {"paths": [str(path) for path in store.paths(FRAMES)]},
            wanted=wanted,
            bare=bare,
        ).to_pylist()
        self._by_source: dict[object, list[_Frame]] = {}
        self._sources_by_name: dict[object, set[object]] = {}
        for frame in frames:
            self._by_source.setdefault(frame["source_key"], []).append(frame)
            self._sources_by_name.setdefault(frame["name_key"], set()).add(frame["source_key"])
        self._taken = _imported_elsewhere(store, {drawing.structure for drawing in drawings}, scope)
        self._uses = Counter(
            (frame["frame_id"], drawing.structure)
            for drawing in drawings
            if isinstance(frame := self._find(drawing), dict)
        )

    def row(self, drawing: Drawing) -> dict[str, object]:
        """The input row of a mask file; its columns are those of ``INPUT``."""
        found = self._find(drawing)
        problem = found if isinstance(found, str) else None
        if isinstance(found, dict):
            region = (found["frame_id"], drawing.structure)
            if region in self._taken:
                problem = "region_exists"
            elif self._uses[region] > 1:
                problem = "second_mask"
        frame = found if isinstance(found, dict) else None
        return {
            "path": os.fsencode(drawing.file.path),
            "source_key": drawing.file.source_key,
            "structure": drawing.structure,
            "frame_index": frame["frame_index"] if frame else None,
            "frame": json.dumps(frame, sort_keys=True) if frame else None,
            "problem": problem,
        }

    def _find(self, drawing: Drawing) -> _Frame | str:
        if drawing.stem is None:
            return "no_frame"
        for name, index in _readings(drawing.stem):
            exact = self._keys.source(f"{name}.x")
            sources: set[object] = {exact} if exact in self._by_source else set()
            if not sources and "/" not in name:
                # Not if the mask is in a folder: its image may be missing, and another patient's have that name.
                sources = self._sources_by_name.get(self._keys.name(f"{name}.x"), set())
            if len(sources) > 1:
                return "ambiguous_name"
            if not sources:
                continue
            frames = self._by_source[next(iter(sources))]
            if index is None:
                return frames[0] if frames[0]["frame_count"] == 1 else "frame_not_named"
            return next((frame for frame in frames if frame["frame_index"] == index), "no_frame")
        return "no_frame"


def _readings(stem: str) -> list[tuple[str, int | None]]:
    """What a mask's name can mean: a file, or a frame of one."""
    match = _FRAME_SUFFIX.match(stem)
    named = [(match.group(1), int(match.group(2)))] if match and PurePosixPath(match.group(1)).name else []
    return [(stem, None), *named]


def _imported_elsewhere(store: TableStore, structures: Set[str], scope: str) -> set[tuple[object, str]]:
    """The frames, with those of ``structures`` that were imported for them from another folder."""
    taken: set[tuple[object, str]] = set()
    for name, info in store.parts(REGIONS).items():
        if info.stage == MaskImportStage.name and info.scope != scope:
            regions = store.read(REGIONS, name, ["frame_id", "structure"]).to_pylist()
            taken |= {
                (region["frame_id"], region["structure"]) for region in regions if region["structure"] in structures
            }
    return taken
