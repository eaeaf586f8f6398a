"""Reads the rows of a dataset, and counts what must not be published; neither keys nor captions are held in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from sono.curation.dataset.shards.configurations import CONFIGURATIONS
from sono.manifests.dataset_keys import DatasetKeys
from sono.manifests.errors import UserError
from sono.manifests.query import connect, insert_rows
from sono.manifests.schemas import SPLITS
from sono.manifests.store import damage_named
from sono.manifests.workspace import Workspace

from .images import count_unfit_masks, pixels_of
from .origin import create_origin, withdrawn_patients

if TYPE_CHECKING:
    import duckdb

Guard = Callable[[str, frozenset[str]], bool]
"""Whether a caption may be published, given the keyed hashes of the names that must not be in it."""

_MEMORY = "160MB"  # of DuckDB; beyond it keys and captions are on disk
_ROWS_AT_ONCE = 8_192


@dataclass
class RowFaults:
    """How many of what; the examples are frame ids."""

    frames: int = 0
    patients_across_splits: int = 0
    duplicates_across_splits: int = 0
    unfit_masks: int = 0
    unfit_example: str | None = None
    unguarded_captions: int = 0
    unguarded_example: str | None = None
    unknown_captions: int = 0
    unknown_frames: int = 0
    unchecked_frames: int = 0
    other_pixels: int = 0
    other_pixels_example: str | None = None
    moved_frames: int = 0
    withdrawn_frames: int = 0
    other_configurations: int = 0


def read_rows(files: Sequence[Path], workspace: Workspace | None, keys: DatasetKeys | None, guard: Guard) -> RowFaults:
    """Read every row of a dataset's Parquet files.

    Args:
        workspace, keys: what the dataset was built from, and its keys; None counts only what the dataset itself shows.

    Raises:
        UserError: a file cannot be read, or belongs to no split.
    """
    faults = RowFaults()
    shards = [path for path in files if path.parent.name == "data"]
    with connect(_MEMORY) as database:
        _view_files(database, files)
        _count_own(database, faults)
        _count_other_configurations(database, files, faults)
        faults.unfit_masks, faults.unfit_example = count_unfit_masks(shards)
        if workspace is None or keys is None:
            _judge_captions(database, "SELECT frame_id, text, [] AS words FROM texts", guard, faults)
        else:
            create_origin(database, workspace, keys)
            _compare_with_origin(database, faults)
            _find_withdrawn(database, withdrawn_patients(workspace, keys), faults)
            _judge_captions(database, _TEXTS_WITH_NAMES, guard, faults)
            _compare_pixels(database, shards, workspace, faults)
    return faults


def _view_files(database: duckdb.DuckDBPyConnection, files: Iterable[Path]) -> None:
    """Make ``shards`` readable, which are the files of ``default``, and ``texts``, their captions."""
    paths = [path for path in files if path.parent.name == "data"]
    for path in files:
        _check_file(path)
    rows = database.read_parquet([str(path) for path in paths], filename=True, hive_partitioning=False)
    rows.create_view("files")
    database.execute(
        f"CREATE VIEW shards AS SELECT *, {_SPLIT} AS split FROM files;"
        "CREATE VIEW texts AS SELECT frame_id, caption_id, caption AS text FROM files UNION ALL "
        "SELECT frame_id, region.caption_id, region.caption "
        "FROM (SELECT frame_id, unnest(regions) AS region FROM files)"
    )


def _check_file(path: Path) -> None:
    """Nothing is in a file that no check knows of."""
    fix = "run sono-curate build again"
    if path.name.partition("-")[0] not in SPLITS:
        raise UserError("belongs to no split", where=str(path), fix=fix)
    table = next(each.table for each in CONFIGURATIONS if each.folder == path.parent.name)
    with damage_named(path, fix):
        schema = pq.read_schema(path)
    if not schema.remove_metadata().equals(table.schema):
        raise UserError("has other columns than build writes", where=str(path), fix=fix)


_SPLIT = "split_part(parse_filename(filename), '-', 1)"


def _count_own(database: duckdb.DuckDBPyConnection, faults: RowFaults) -> None:
    faults.frames = _number(database, "SELECT count(*) FROM shards")
    faults.patients_across_splits = _number(
        database,
        "SELECT count(*) FROM (SELECT patient_key FROM shards GROUP BY ALL HAVING min(split) <> max(split))",
    )


_FACTS = "frame_id, patient_key, study_key, center, manufacturer, model, plane, ga_days"
_OTHER_CONFIGURATIONS = {
    "metadata": (
        f"{_FACTS}, caption, caption_id, pixel_mm",
        "shards",
    ),
    "regions": (
        f"{_FACTS}, structure, caption, caption_id, bbox, area_px, source",
        f"(SELECT {_FACTS}, split, unnest(region) "
        f"FROM (SELECT {_FACTS}, split, unnest(regions) AS region FROM shards))",
    ),
}
"""By folder the columns that its rows share with those of ``default``, and where these are.

A sum of hashes of all rows is compared, for which no row has to be kept.
"""


def _count_other_configurations(database: duckdb.DuckDBPyConnection, files: Iterable[Path], faults: RowFaults) -> None:
    """Count the splits in which another configuration is about anything else than ``default``."""
    files = list(files)
    for folder, (columns, expected) in _OTHER_CONFIGURATIONS.items():
        sums = f"SELECT split, count(*), sum(hash({columns})) FROM {{}} GROUP BY split"
        wanted = set(database.execute(sums.format(expected)).fetchall())
        paths = [str(path) for path in files if path.parent.name == folder]
        found = set()
        if paths:
            source = f"(SELECT *, {_SPLIT} AS split FROM read_parquet($paths, filename = true))"
            found = set(database.execute(sums.format(source), {"paths": paths}).fetchall())
        faults.other_configurations += len({split for split, *_ in wanted ^ found})


_COMPARED = """
SELECT count(*) FILTER (o.frame_id IS NULL),
       count(*) FILTER (NOT o.text_checked),
       count(*) FILTER (o.pulled_split IS NOT NULL AND o.pulled_split <> s.split)
FROM (SELECT frame_id, split FROM shards) s LEFT JOIN origin o USING (frame_id)
"""

_TORN_GROUPS = """
SELECT count(*) FROM (
    SELECT o.duplicate_group FROM (SELECT frame_id, split FROM shards) s JOIN origin o USING (frame_id)
    WHERE o.duplicate_group IS NOT NULL GROUP BY ALL HAVING min(s.split) <> max(s.split)
)
"""

_UNKNOWN_CAPTIONS = """
SELECT count(*) FROM texts t LEFT JOIN origin_captions c USING (caption_id)
WHERE c.caption_id IS NULL OR c.text IS DISTINCT FROM t.text
"""

_TEXTS_WITH_NAMES = """
SELECT t.frame_id, t.text, i.words
FROM texts t LEFT JOIN origin o USING (frame_id) LEFT JOIN identities i USING (study_key)
"""


def _compare_with_origin(database: duckdb.DuckDBPyConnection, faults: RowFaults) -> None:
    found = database.execute(_COMPARED).fetchall()[0]
    faults.unknown_frames, faults.unchecked_frames, faults.moved_frames = found
    faults.duplicates_across_splits = _number(database, _TORN_GROUPS)
    faults.unknown_captions = _number(database, _UNKNOWN_CAPTIONS)


def _find_withdrawn(database: duckdb.DuckDBPyConnection, patients: frozenset[str], faults: RowFaults) -> None:
    database.execute("CREATE TABLE withdrawn (patient_key VARCHAR)")
    insert_rows(database, "withdrawn", ((key,) for key in sorted(patients)))
    faults.withdrawn_frames = _number(database, "SELECT count(*) FROM shards SEMI JOIN withdrawn USING (patient_key)")


def _judge_captions(database: duckdb.DuckDBPyConnection, sql: str, guard: Guard, faults: RowFaults) -> None:
    """Ask the guard about every caption; ``sql`` gives frame, text, and hashed names."""
    for batch in database.sql(sql).to_arrow_reader(_ROWS_AT_ONCE):
        for frame_id, text, words in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if text is None or not guard(text, frozenset(words or ())):
                faults.unguarded_captions += 1
                faults.unguarded_example = min(frame_id, faults.unguarded_example or frame_id)


def _compare_pixels(
    database: duckdb.DuckDBPyConnection, shards: Sequence[Path], workspace: Workspace, faults: RowFaults
) -> None:
    """Of pulled frames, the pixels have to be those that were published."""
    if not _number(database, "SELECT count(*) FROM origin WHERE pulled_pixels IS NOT NULL"):
        return
    database.execute("CREATE TABLE pixels (frame_id VARCHAR, digest VARCHAR)")
    insert_rows(database, "pixels", pixels_of(shards, workspace.keys))
    others = (
        "FROM pixels p JOIN origin o USING (frame_id) "
        "WHERE o.pulled_pixels IS NOT NULL AND o.pulled_pixels IS DISTINCT FROM p.digest"
    )
    found = database.execute(f"SELECT count(*), min(p.frame_id) {others}").fetchall()[0]
    faults.other_pixels, faults.other_pixels_example = found


def _number(database: duckdb.DuckDBPyConnection, sql: str) -> int:
    return int(database.execute(sql).fetchall()[0][0])
