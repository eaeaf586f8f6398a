"""Import of masks that people have drawn, or a program has predicted, elsewhere: images named after their frames."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sono.curation.images import raster
from sono.curation.images.pixels import ExcludedError, Pixels
from sono.curation.ingest.files import SourceFile, cut, find_files, part_of
from sono.manifests import masks
from sono.manifests.errors import UserError
from sono.manifests.pseudonyms import Pseudonymizer, without_extension
from sono.manifests.query import query
from sono.manifests.schemas import FRAMES, REGIONS, TableSpec
from sono.manifests.stages import Engine, Exclusion, Progress, RunReport, StageOutput, run_stage
from sono.manifests.store import TableStore
from sono.manifests.vocabulary import Vocabulary
from sono.manifests.workspace import Workspace

MaskFormat = Literal["png", "outline"]

MESSAGES: Mapping[str, str] = {
    "no_frame": "no frame has the mask's name",
    "ambiguous_name": "several frames have the mask's bare name; lay the masks out in the same folders as the images",
    "frame_not_named": "the mask's image has several frames; name the mask NAME_f0.png, NAME_f1.png, ...",
    "second_mask": "another mask file is for the same frame and structure",
    "region_exists": "an earlier import from another folder holds this structure of the frame",
    "size_mismatch": "the mask has another size than its image; masks are never rotated or stretched to fit",
    "outline_not_closed": "the outline does not enclose an area",
    "outline_is_filled": "the drawing is a filled area, not an outline; import it with --format png",
    "empty_mask": "nothing is drawn in the mask",
    "not_binary": "the mask has more than two grey levels",
    "outside_crop": "the mask lies outside the part of the image that was kept",
}

_LOOSE_PX = 6  # an outline may be this thick
_LOOSE_FRACTION = 0.1


def import_masks(
    workspace: Workspace,
    folder: Path,
    *,
    structure: str | None = None,
    mask_format: MaskFormat,
    suffix: str = "",
    predicted: bool = False,
    engine: Engine,
    progress: Callable[[Progress], None] = lambda _: None,
) -> RunReport:
    """Bring the masks in ``folder`` into ``regions``, as accepted. The caller holds ``writing()``.

    A mask belongs to the frame whose source has the same path relative to its folder, or, where it is unique, the same
    bare name, extension left away; frame N of a cine or a paged TIFF is ``NAME_fN``, counted from 0.

    Args:
        structure: what is drawn in all of them; None where each folder directly in ``folder`` is named by a structure
            and holds its masks.
        suffix: what the names of masks have behind the names of their frames, as ``_Annotation``.
        predicted: a program made them: their source is ``model``, and nobody takes them for a person's.

    Raises:
        UserError: the folder or a structure is unknown, or no mask finds a frame.
    """
    vocabulary = workspace.vocabulary
    structure = structure and vocabulary.require_structure(structure)
    if not workspace.store.paths(FRAMES):
        raise UserError(
            "the workspace has no frames yet", where=str(workspace.path), fix="run sono-curate ingest first"
        )
    files = find_files(folder, workspace.keys)
    scope = f"import/{structure or 'by-folder'}/{workspace.keys.folder(str(folder.resolve()))}"
    drawings = _drawings(files, structure, vocabulary, folder, suffix)
    targets = _Targets(workspace.store, workspace.keys, scope, drawings)
    rows = {drawing.file.relative: targets.row(drawing) for drawing in drawings}
    if all(row["problem"] == "no_frame" for row in rows.values()):
        raise UserError(
            f"none of the {len(files)} files is named like a frame",
            where=str(folder),
            fix="give --suffix what mask names have behind the image's name"
            if not suffix
            else f"check --suffix {suffix}, and that the images themselves were ingested",
        )
    stage = MaskImportStage(workspace.keys, mask_format, "model" if predicted else "import")
    parts = [part_of(part, rows, _INPUT, workspace.keys, scope) for part in cut(files)]
    return run_stage(stage, parts, workspace.store, engine=engine, scope=scope, progress=progress)


def fill_outline(outline: npt.NDArray[np.bool_]) -> masks.Mask:
    """The area a drawn outline encloses, with the outline itself. Shape [height, width] in and out.

    Raises:
        ExcludedError: the outline does not enclose an area, or most of it encloses nothing.
    """
    # The background is filled over four neighbours, so it cannot slip through a line one pixel wide.
    walls = cv2.copyMakeBorder(outline.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    cv2.floodFill(walls, None, (0, 0), 2, flags=4)
    outside = walls[1:-1, 1:-1] == 2
    inside = ~outside & ~outline
    thick = np.ones((2 * _LOOSE_PX + 3, 2 * _LOOSE_PX + 3), np.uint8)
    if cv2.erode(outline.astype(np.uint8), thick).any():
        raise ExcludedError("outline_is_filled", MESSAGES["outline_is_filled"])
    if not inside.any():
        raise ExcludedError("outline_not_closed", MESSAGES["outline_not_closed"])
    # A speck's loop on an open line encloses something too: nearly all of the line must border on the area.
    side = 2 * _LOOSE_PX + 1
    near = cv2.dilate(inside.astype(np.uint8), np.ones((side, side), np.uint8)).astype(bool)
    if np.count_nonzero(outline & ~near) > _LOOSE_FRACTION * np.count_nonzero(outline):
        raise ExcludedError("outline_not_closed", MESSAGES["outline_not_closed"])
    return np.asarray(~outside, dtype=np.bool_)


@dataclass(frozen=True)
class MaskImportStage:
    """From mask files, each with its frame, to regions. Its input's columns are those of ``_INPUT``."""

    keys: Pseudonymizer
    mask_format: MaskFormat
    source: Literal["import", "model"] = "import"

    name = "masks-import"
    version = 2

    @property
    def output(self) -> TableSpec:
        return REGIONS

    def config(self) -> Mapping[str, object]:
        return {"format": self.mask_format, "source": self.source}

    def __call__(self, part: pa.Table) -> StageOutput:
        rows: list[dict[str, object]] = []
        exclusions: list[Exclusion] = []
        for file in part.to_pylist():
            try:
                rows.append(self._region(file))
            except ExcludedError as error:
                exclusions.append(Exclusion(file["source_key"], error.reason, error.message, file["frame_index"]))
        return StageOutput(REGIONS.from_rows(rows), exclusions)

    def _region(self, file: Mapping[str, object]) -> dict[str, object]:
        if file["problem"]:
            raise ExcludedError(str(file["problem"]), MESSAGES[str(file["problem"])])
        drawn = read_mask(Path(str(file["path"])))
        frame = json.loads(str(file["frame"]))
        if drawn.shape not in ((frame["source_height"], frame["source_width"]), (frame["height"], frame["width"])):
            raise ExcludedError("size_mismatch", MESSAGES["size_mismatch"])
        if not drawn.any():
            raise ExcludedError("empty_mask", MESSAGES["empty_mask"])
        mask = fill_outline(drawn) if self.mask_format == "outline" else drawn
        if mask.shape != (frame["height"], frame["width"]):
            x, y, width, height = frame["crop"]
            mask = mask[y : y + height, x : x + width]
            if not mask.any():
                raise ExcludedError("outside_crop", MESSAGES["outside_crop"])
        return {
            "region_id": self.keys.region(frame["frame_id"], str(file["structure"]), self.source),
            "frame_id": frame["frame_id"],
            "pixel_sha256": frame["pixel_sha256"],
            "structure": file["structure"],
            "mask": masks.encode(mask),
            "area_px": masks.area_px(mask),
            "bbox": list(masks.bbox(mask)),
            "source": self.source,
            "status": "accepted",
        }


def read_mask(path: Path) -> masks.Mask:
    """The drawn pixels of a mask image, as a boolean array of shape [height, width].

    Raises:
        ExcludedError: the file cannot be read, is no image, or has more than two grey levels.
    """
    try:
        content = path.read_bytes()
    except OSError:
        raise ExcludedError("unreadable", "the file cannot be read") from None
    kind = raster.image_kind(content)
    if kind is None:
        raise ExcludedError("not_an_image", "neither PNG, JPEG, TIFF nor BMP")
    pixels: Pixels = raster.read_frames(content, kind)[0]
    grey = pixels if pixels.ndim == 2 else pixels.max(axis=2)
    top = int(grey.max())
    if np.any((grey != 0) & (grey != top)):
        raise ExcludedError("not_binary", MESSAGES["not_binary"])
    return np.asarray(grey != 0, dtype=np.bool_)


_INPUT = pa.schema(
    {
        "path": pa.string(),
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
    "pixel_sha256"
)

_Frame = dict[str, object]


@dataclass(frozen=True)
class _Drawing:
    """A mask file: what it shows, and its name less its suffix (``stem``), None where it has another suffix."""

    file: SourceFile
    structure: str
    stem: str | None


def _drawings(
    files: Sequence[SourceFile], structure: str | None, vocabulary: Vocabulary, folder: Path, suffix: str
) -> list[_Drawing]:
    names = [(None, file.relative) if structure else _split(file.relative) for file in files]
    found = {first: structure or vocabulary.find_structure(first or "") for first, _ in names}
    unknown = sum(name is None for name in found.values())
    if unknown:  # counted, not named: a folder's name may be a patient's
        raise UserError(
            f"{unknown} of {len(found)} folders are not named by a structure",
            where=str(folder),
            fix="name them as planes.toml names structures, or give --structure",
        )
    stems = [without_extension(name) for _, name in names]
    return [
        _Drawing(file, str(found[first]), stem.removesuffix(suffix) if stem.endswith(suffix) else None)
        for file, (first, _), stem in zip(files, names, stems, strict=True)
    ]


def _split(relative: str) -> tuple[str, str]:
    """The first folder of a path, empty where there is none, and the rest."""
    first, slash, rest = relative.partition("/")
    return (first, rest) if slash else ("", relative)


class _Targets:
    """Finds the frame each mask file is for. Holds the frames that any of the files could mean, and no others."""

    def __init__(self, store: TableStore, keys: Pseudonymizer, scope: str, drawings: Sequence[_Drawing]) -> None:
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

    def row(self, drawing: _Drawing) -> dict[str, object]:
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
            "path": str(drawing.file.path),
            "source_key": drawing.file.source_key,
            "structure": drawing.structure,
            "frame_index": frame["frame_index"] if frame else None,
            "frame": json.dumps(frame, sort_keys=True) if frame else None,
            "problem": problem,
        }

    def _find(self, drawing: _Drawing) -> _Frame | str:
        if drawing.stem is None:
            return "no_frame"
        for name, index in _readings(drawing.stem):
            exact = self._keys.source(f"{name}.x")
            sources: set[object] = {exact} if exact in self._by_source else set()
            if not sources and "/" not in name:
                # Not where the mask lies in a folder: its own image may be missing, and another patient's has its name.
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
    """What a mask's name can mean: a source, or a frame of one."""
    match = _FRAME_SUFFIX.match(stem)
    named = [(match.group(1), int(match.group(2)))] if match and PurePosixPath(match.group(1)).name else []
    return [(stem, None), *named]


def _imported_elsewhere(store: TableStore, structures: Set[str], scope: str) -> set[tuple[object, str]]:
    """Frames and those of ``structures`` that they have from an import of another folder."""
    taken: set[tuple[object, str]] = set()
    for name, info in store.parts(REGIONS).items():
        if info.stage == MaskImportStage.name and info.scope != scope:
            regions = store.read(REGIONS, name, ["frame_id", "structure"]).to_pylist()
            taken |= {
                (region["frame_id"], region["structure"]) for region in regions if region["structure"] in structures
            }
    return taken
