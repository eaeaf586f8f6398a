"""Plans an import: which masks the files hold, which frame and structure each is for, or why it is for none.

The plan of millions of masks is a table on disk. Neither it nor a file of masks is ever in memory as a whole.
"""

from __future__ import annotations

import itertools
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sono.curation.images.pixels import ExcludedError
from sono.curation.ingest.files import SourceFile, cut
from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.query import connect
from sono.manifests.schemas import FRAMES, REGIONS
from sono.manifests.stages import Part, Progress
from sono.manifests.store import TEMPORARY, TableStore

from .formats.protocol import Format, Found
from .frame_names import FIND_FRAMES, READINGS, readings, stem_of
from .stage import MaskImportStage

if TYPE_CHECKING:
    import duckdb

FRAME = pa.struct(
    [
        pa.field("frame_id", pa.string()),
        pa.field("pixel_digest", pa.string()),
        pa.field("height", pa.int32()),
        pa.field("width", pa.int32()),
        pa.field("source_height", pa.int32()),
        pa.field("source_width", pa.int32()),
        pa.field("crop", pa.list_(pa.int32(), 4)),
    ]
)

INPUT = pa.schema(
    {
        "path": pa.binary(),
        "source_key": pa.string(),
        "frame_index": pa.int32(),
        "structure": pa.string(),  # null if the label is none
        "places": pa.list_(pa.string()),  # of the shapes that make up the mask
        "may_be_absent": pa.bool_(),
        "frame": FRAME,
        "by_frame_id": pa.bool_(),  # so the mask was drawn on the frame as it is stored
        "problem": pa.string(),
    }
)

_SHAPES = pa.schema(
    {
        "n": pa.int64(),
        "file": pa.int64(),
        "image": pa.int64(),
        "structure": pa.string(),
        "place": pa.string(),
        "may_be_absent": pa.bool_(),
        "problem": pa.string(),
    }
)

_ROWS_AT_ONCE = 20_000
_PART_MASKS = 2_048
_MEMORY = "1GB"  # beyond it the plan is on disk

NameStructure = Callable[[SourceFile, Found], "tuple[str | None, str | None]"]
"""The structure that a mask shows, and why it cannot be used: either may be None."""


@dataclass
class Plan:
    """An import's parts, and how many masks there are in them by problem; None counts those without."""

    parts: list[Part]
    masks: Mapping[str | None, int]
    path: Path


def plan_import(
    store: TableStore,
    keys: Pseudonymizer,
    scope: str,
    files: Sequence[SourceFile],
    mask_format: Format,
    name_structure: NameStructure,
    stem: Callable[[SourceFile], str | None],
    progress: Callable[[Progress], None],
) -> Plan:
    """Find the masks of files and their frames, and cut them into parts.

    Args:
        scope: of the run; what other scopes imported is not replaced.
        stem: the name that a file's masks have unless the file says otherwise; None if it has none.
        progress: is told of files as parts, and of masks as rows.
    """
    inventory = _Inventory(keys, mask_format, name_structure, stem)
    path = store.folder(REGIONS) / f"{TEMPORARY}plan-{uuid.uuid4().hex}"
    path.parent.mkdir(exist_ok=True)
    with connect() as database:
        database.execute(f"SET memory_limit = '{_MEMORY}'")
        _load(database, files, inventory, progress)
        _join(database, store, scope)
        counts = database.execute(_COUNT).fetchall()
        parts = _write(database, files, keys, scope, path)
    return Plan(parts, dict(counts), path)


@dataclass
class _Inventory:
    """Numbers the names of images, and names the structures, while files are read."""

    keys: Pseudonymizer
    mask_format: Format
    name_structure: NameStructure
    stem: Callable[[SourceFile], str | None]
    images: dict[tuple[str, int | None], int] = field(default_factory=dict)
    files_read: int = 0
    new_readings: list[dict[str, object]] = field(default_factory=list)

    def shapes(self, files: Sequence[SourceFile]) -> Iterator[dict[str, object]]:
        """Rows of ``_SHAPES``, the readings of whose images are in ``new_readings``."""
        numbers = itertools.count()
        for file_number, file in enumerate(files):
            if self.mask_format.is_beside(file.relative):
                continue
            for found in self._find(file):
                structure, problem = self.name_structure(file, found)
                yield {
                    "n": next(numbers),
                    "file": file_number,
                    "image": self._image(file, found),
                    "structure": structure,
                    "place": found.place,
                    "may_be_absent": found.may_be_absent,
                    "problem": found.problem or problem,
                }
            self.files_read = file_number + 1

    def _find(self, file: SourceFile) -> Iterator[Found]:
        try:
            yield from self.mask_format.find(file.path)
        except ExcludedError as error:
            yield Found(problem=error.reason, labels=("",))

    def _image(self, file: SourceFile, found: Found) -> int | None:
        name = self.stem(file) if found.image is None else found.image
        if name is None:
            return None
        number = self.images.get((name, found.frame))
        if number is None:
            number = self.images[name, found.frame] = len(self.images)
            stem = name if found.image is None else stem_of(name)
            self.new_readings += readings(number, stem, found.frame, self.keys)
        return number


def _load(
    database: duckdb.DuckDBPyConnection,
    files: Sequence[SourceFile],
    inventory: _Inventory,
    progress: Callable[[Progress], None],
) -> None:
    for name, schema in (("shapes", _SHAPES), ("readings", READINGS)):
        database.register("empty", schema.empty_table())
        database.execute(f"CREATE TABLE {name} AS SELECT * FROM empty")
        database.unregister("empty")
    shapes, masks = inventory.shapes(files), 0
    progress(Progress("masks-read", len(files), 0, 0, 0))
    while rows := list(itertools.islice(shapes, _ROWS_AT_ONCE)):
        for name, schema, new in (("shapes", _SHAPES, rows), ("readings", READINGS, inventory.new_readings)):
            database.register("new", pa.Table.from_pylist(new, schema=schema))
            database.execute(f"INSERT INTO {name} SELECT * FROM new")
            database.unregister("new")
        inventory.new_readings.clear()
        masks += len(rows)
        progress(Progress("masks-read", len(files), inventory.files_read, masks, 0))
    progress(Progress("masks-read", len(files), len(files), masks, 0))


_FRAME_COLUMNS = (
    "frame_id, source_key, name_key, frame_index, frame_count, height, width, source_height, source_width, crop, "
    "pixel_digest"
)

_PLAN = """
CREATE TABLE planned AS
WITH placed AS (
    SELECT s.*, m.frame_id, m.by_frame_id,
        coalesce(s.problem, CASE WHEN m.image IS NULL THEN 'no_frame' ELSE m.problem END) AS why
    FROM shapes s LEFT JOIN named m USING (image)
),
-- Shapes of one structure of a frame in one file are parts of one mask; a faulty one spoils the mask.
regions AS (
    SELECT min(n) AS n, file, any_value(frame_id) AS frame_id, any_value(structure) AS structure,
        list(place ORDER BY n) AS places, bool_and(may_be_absent) AS may_be_absent,
        any_value(by_frame_id) AS by_frame_id, min(why) AS problem
    FROM placed
    GROUP BY file, CASE WHEN frame_id IS NULL OR structure IS NULL THEN n ELSE -1 END, frame_id, structure
),
rivals AS (
    SELECT frame_id, structure FROM regions WHERE frame_id IS NOT NULL AND structure IS NOT NULL
    GROUP BY frame_id, structure HAVING count(*) > 1
)
SELECT r.n, r.file, r.places, r.may_be_absent, r.structure, r.by_frame_id,
    CASE WHEN r.problem IS NOT NULL THEN r.problem
        WHEN t.frame_id IS NOT NULL THEN 'region_exists'
        WHEN v.frame_id IS NOT NULL THEN 'second_mask'
    END AS problem,
    f.frame_index,
    CASE WHEN f.frame_id IS NOT NULL THEN struct_pack(frame_id := f.frame_id, pixel_digest := f.pixel_digest,
        height := f.height, width := f.width, source_height := f.source_height, source_width := f.source_width,
        crop := f.crop) END AS frame
FROM regions r
LEFT JOIN all_frames f ON f.frame_id = r.frame_id
LEFT JOIN rivals v ON v.frame_id = r.frame_id AND v.structure = r.structure
LEFT JOIN taken t ON t.frame_id = r.frame_id AND t.structure = r.structure
"""

# Values of label maps that are no structures matter only where they occur, which is not known yet.
_COUNT = """
SELECT problem, count(*) FROM planned
WHERE NOT (may_be_absent AND problem IS NOT DISTINCT FROM 'unknown_structure')
    OR NOT EXISTS (SELECT * FROM planned WHERE problem IS DISTINCT FROM 'unknown_structure')
GROUP BY problem
"""


def _join(database: duckdb.DuckDBPyConnection, store: TableStore, scope: str) -> None:
    """Tables ``named`` and ``planned``."""
    frames = {"paths": [str(path) for path in store.paths(FRAMES)]}
    database.execute(f"CREATE TABLE all_frames AS SELECT {_FRAME_COLUMNS} FROM read_parquet($paths)", frames)
    database.execute(FIND_FRAMES)
    elsewhere = [
        str(store.path(REGIONS, name))
        for name, info in store.parts(REGIONS).items()
        if info.stage == MaskImportStage.name and info.scope != scope
    ]
    database.execute("CREATE TABLE taken (frame_id VARCHAR, structure VARCHAR)")
    if elsewhere:
        database.execute(
            "INSERT INTO taken SELECT DISTINCT frame_id, structure FROM read_parquet($paths)", {"paths": elsewhere}
        )
    database.execute(_PLAN)


def _write(
    database: duckdb.DuckDBPyConnection, files: Sequence[SourceFile], keys: Pseudonymizer, scope: str, path: Path
) -> list[Part]:
    """Write the plan, a record batch per part."""
    rows = _planned(database)
    pending = next(rows, None)
    parts: list[Part] = []
    numbers = {file.relative: number for number, file in enumerate(files)}
    with pa.ipc.new_file(path, INPUT) as writer:
        for chunk in cut(files):
            last = numbers[chunk[-1].relative]
            for piece in itertools.count():
                wanted: list[tuple[int, dict[str, Any]]] = []
                while pending is not None and pending[0] <= last and len(wanted) < _PART_MASKS:
                    wanted.append(pending)
                    pending = next(rows, None)
                if not wanted and piece:
                    break
                inputs = [_input(files[number], row) for number, row in wanted]
                # In the order of pseudonyms: the order of file names would reveal something about them.
                inputs.sort(key=lambda row: str(row["source_key"]))
                writer.write_batch(pa.RecordBatch.from_pylist(inputs, schema=INPUT))
                load = partial(_load_part, path, len(parts))
                parts.append(_part(chunk, piece, inputs, keys, scope, load))
    return parts


def _planned(database: duckdb.DuckDBPyConnection) -> Iterator[tuple[int, dict[str, Any]]]:
    """The planned masks in the order of their files, each with the number of its file."""
    found = database.sql("SELECT * FROM planned ORDER BY file, n").to_arrow_reader(_ROWS_AT_ONCE)
    for batch in found:
        for row in batch.to_pylist():
            yield row["file"], row


def _input(file: SourceFile, row: dict[str, Any]) -> dict[str, object]:
    kept = {name: row[name] for name in INPUT.names if name in row}
    return {"path": os.fsencode(file.path), "source_key": file.source_key, **kept}


def _part(
    files: Sequence[SourceFile],
    piece: int,
    inputs: Sequence[Mapping[str, object]],
    keys: Pseudonymizer,
    scope: str,
    load: Callable[[], pa.Table],
) -> Part:
    """Name and digest are keyed, so that nobody can test guesses of file names against them."""
    facts = [
        [[file.size, file.mtime_ns] for file in files],
        [{name: value for name, value in row.items() if name != "path"} for row in inputs],
    ]
    return Part(
        name=keys.content("\n".join([scope, str(piece), *(file.relative for file in files)])),
        digest=keys.content(json.dumps(facts, sort_keys=True)),
        load=load,
    )


def _load_part(path: Path, number: int) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        return pa.Table.from_batches([pa.ipc.open_file(source).get_batch(number)], schema=INPUT)
