"""Frames, their regions and their records brought together, part by part of the frames table.

The join is DuckDB over the Parquet parts, with a memory limit and spilling to disk; pixels and masks are not read.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.query import connect
from sono.manifests.schemas import FRAMES, RECORDS, REGIONS, TableSpec
from sono.manifests.stages import Part
from sono.manifests.store import TableStore

from .sentences import GLOBAL, REGION

if TYPE_CHECKING:
    import duckdb

JOINED = pa.schema(
    [
        pa.field("source_key", pa.string()),
        pa.field("frame_index", pa.int32()),
        pa.field("frame_id", pa.string()),
        pa.field("caption_id", pa.string()),
        pa.field("plane", pa.string()),
        pa.field("ga_days", pa.int32()),
        pa.field("ga_field", pa.string()),  # of the record, with the formula
        pa.field("seen_in_plane", pa.list_(pa.string())),
        pa.field("seen_in_study", pa.list_(pa.string())),
        pa.field("problem", pa.string()),  # another_patient, no_record, no_gestational_age, or null
        pa.field(
            "regions",
            pa.list_(
                pa.struct(
                    [
                        pa.field("region_id", pa.string()),
                        pa.field("caption_id", pa.string()),
                        pa.field("structure", pa.string()),
                    ]
                )
            ),
        ),
    ]
)
"""One row a frame: everything its captions are made from."""


@dataclass(frozen=True)
class Joined:
    """The caption stage's parts, one for every part of frames, and what the join found besides.

    Attributes:
        records_unmatched: records that no frame belongs to.
    """

    parts: list[Part]
    records_unmatched: int


def join_frames(store: TableStore, keys: Pseudonymizer, undated: set[tuple[str, str | None]]) -> Joined:
    """Give every frame its record and its accepted regions.

    A record about the frame's plane wins over one about the whole study, fact by fact.

    Args:
        undated: study and plane of records that were left out for want of a gestational age.
    """
    names = {str(store.path(FRAMES, name)): name for name in store.parts(FRAMES)}
    with connect() as connection:
        _prepare(connection, store, undated)
        rows: dict[str, list[dict[str, object]]] = {name: [] for name in names.values()}
        parts = []
        cursor = connection.execute(_JOIN)
        for file, group in itertools.groupby(_fetch(cursor), key=lambda row: row["file"]):
            parts.append(_part(names[file], [_row(row, keys) for row in group], keys))
            del rows[names[file]]
        parts.extend(_part(name, [], keys) for name in rows)  # frames parts without a row
        return Joined(sorted(parts, key=lambda part: part.name), _number(connection, _UNMATCHED))


def _prepare(connection: duckdb.DuckDBPyConnection, store: TableStore, undated: set[tuple[str, str | None]]) -> None:
    columns = ("frame_id", "source_key", "frame_index", "study_key", "patient_key", "plane")
    _load(connection, store, FRAMES, f"{', '.join(columns)}, filename AS file, file_row_number AS row")
    _load(connection, store, RECORDS, "study_key, patient_key, plane, ga_days, structures_seen, provenance")
    _load(connection, store, REGIONS, "frame_id, region_id, structure, status")
    connection.execute("CREATE TEMP TABLE undated (study_key VARCHAR, plane VARCHAR)")
    if undated:
        connection.executemany("INSERT INTO undated VALUES (?, ?)", [list(key) for key in undated])


def _load(connection: duckdb.DuckDBPyConnection, store: TableStore, table: TableSpec, columns: str) -> None:
    """The named columns of a table's parts; nothing else of the files is read."""
    paths = [str(path) for path in store.paths(table)]
    if paths:
        connection.execute(
            f"CREATE TEMP TABLE {table.name} AS SELECT {columns} "
            "FROM read_parquet(?, filename = true, file_row_number = true)",
            [paths],
        )
    else:
        connection.register("empty", table.empty())
        connection.execute(f"CREATE TEMP TABLE {table.name} AS SELECT {columns} FROM empty")
        connection.unregister("empty")


_JOIN = """
WITH outlined AS (
    SELECT frame_id, list({'region_id': region_id, 'structure': structure} ORDER BY region_id) AS regions
    FROM regions WHERE status IN ('accepted', 'edited') GROUP BY frame_id
), missing AS (
    SELECT DISTINCT f.frame_id FROM frames f
    JOIN undated u ON u.study_key = f.study_key AND (u.plane IS NULL OR u.plane = f.plane)
)
SELECT
    f.file, f.frame_id, f.source_key, f.frame_index, f.plane, f.patient_key, f.study_key,
    coalesce(own.patient_key, whole.patient_key) AS recorded_patient_key,
    coalesce(own.ga_days, whole.ga_days) AS ga_days,
    CASE WHEN own.ga_days IS NULL THEN whole.provenance ELSE own.provenance END AS provenance,
    own.structures_seen AS seen_in_plane, whole.structures_seen AS seen_in_study,
    own.study_key IS NULL AND whole.study_key IS NULL AND missing.frame_id IS NULL AS without_record,
    outlined.regions
FROM frames f
LEFT JOIN records own ON own.study_key = f.study_key AND own.plane = f.plane
LEFT JOIN records whole ON whole.study_key = f.study_key AND whole.plane IS NULL
LEFT JOIN missing ON missing.frame_id = f.frame_id
LEFT JOIN outlined ON outlined.frame_id = f.frame_id
ORDER BY f.file, f.row
"""

_UNMATCHED = """
SELECT count(*) FROM records r WHERE NOT EXISTS (
    SELECT 1 FROM frames f WHERE f.study_key = r.study_key AND (r.plane IS NULL OR r.plane = f.plane))
"""


def _fetch(cursor: duckdb.DuckDBPyConnection) -> Iterator[dict[str, Any]]:
    names = [column[0] for column in cursor.description or ()]
    while rows := cursor.fetchmany(10_000):
        for row in rows:
            yield dict(zip(names, row, strict=True))


def _row(row: Mapping[str, Any], keys: Pseudonymizer) -> dict[str, object]:
    frame_id = row["frame_id"]
    dated = row["ga_days"] is not None
    problem = None if dated else "no_record" if row["without_record"] else "no_gestational_age"
    if _of_another_patient(row, keys):
        dated, problem = False, "another_patient"
    return {
        **{name: row[name] for name in ("source_key", "frame_index", "frame_id", "plane")},
        "ga_days": row["ga_days"] if dated else None,
        **{name: row[name] for name in ("seen_in_plane", "seen_in_study")},
        "caption_id": _caption_id(keys, frame_id, "", GLOBAL),
        "ga_field": json.loads(row["provenance"])["ga_days"] if dated else None,
        "problem": problem,
        "regions": [
            {**region, "caption_id": _caption_id(keys, frame_id, region["region_id"], REGION)}
            for region in row["regions"] or ()
        ],
    }


def _of_another_patient(row: Mapping[str, Any], keys: Pseudonymizer) -> bool:
    """Whether the study's record is about another patient than the frame: one of the two is under a wrong name.

    A frame whose header named no patient may carry its study in the patient's place; that is no contradiction.
    """
    recorded = row["recorded_patient_key"]
    return recorded not in (None, row["patient_key"]) and row["patient_key"] != keys.patient_of_study(row["study_key"])


def _caption_id(keys: Pseudonymizer, frame_id: str, region_id: str, template: str) -> str:
    return keys.content(f"caption/{frame_id}/{region_id}/{template}")


def _part(name: str, rows: list[dict[str, object]], keys: Pseudonymizer) -> Part:
    """The digest is over the facts themselves, so that a rewritten file with the same facts makes nothing stale."""
    digest = keys.content(json.dumps(rows, sort_keys=True))
    return Part(name, digest, functools.partial(_given, pa.Table.from_pylist(rows, schema=JOINED)))


def _given(table: pa.Table) -> pa.Table:
    return table


def _number(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])
