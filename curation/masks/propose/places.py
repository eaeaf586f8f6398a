"""Where a structure is expected in frames of a plane: learned from accepted masks, else from published criteria."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from sono.manifests.toml import parse_toml

if TYPE_CHECKING:
    import duckdb

FEWEST_MASKS, FEWEST_PATIENTS = 5, 3
"""Of a structure in frames of a plane: below that, what they have in common is one patient's anatomy."""

PLACES = pa.schema(
    {
        "plane": pa.string(),
        "structure": pa.string(),
        "typical": pa.list_(pa.float64()),  # left, top, right, bottom as shares of the field: medians
        "wide": pa.list_(pa.float64()),  # the same, to hold nine of ten masks; null if not learned
        "origin": pa.string(),  # learned or default
    }
)

FIELD_MACRO = """
CREATE OR REPLACE MACRO field_of(sectors, height, width) AS coalesce(
    list_sort([{'area': s.box[3]::BIGINT * s.box[4], 'box': s.box} FOR s IN sectors IF s.box[3] > 0], 'DESC')[1].box,
    [0, 0, width, height])
"""
"""The field of a frame: x, y, width, height in px of the box of its largest sector, or of the frame without sectors."""

_LEARNED = """
WITH placed AS (
    SELECT f.plane, a.structure, f.patient_key,
        (a.bbox[1] - f.field[1]) / f.field[3] AS x0, (a.bbox[2] - f.field[2]) / f.field[4] AS y0,
        (a.bbox[1] + a.bbox[3] - f.field[1]) / f.field[3] AS x1,
        (a.bbox[2] + a.bbox[4] - f.field[2]) / f.field[4] AS y1
    FROM accepted a JOIN known_frames f USING (frame_id)
    WHERE f.plane IS NOT NULL
)
SELECT plane, structure,
    [round(50 * v) / 50 FOR v IN [median(x0), median(y0), median(x1), median(y1)]] AS typical,
    [round(50 * v) / 50 FOR v IN [quantile_cont(x0, 0.05), quantile_cont(y0, 0.05),
                                  quantile_cont(x1, 0.95), quantile_cont(y1, 0.95)]] AS wide,
    'learned' AS origin
FROM placed
WHERE (x0 + x1) / 2 BETWEEN 0 AND 1 AND (y0 + y1) / 2 BETWEEN 0 AND 1  -- not in another sector of a dual image
GROUP BY plane, structure
HAVING count(*) >= $masks AND count(DISTINCT patient_key) >= $patients
ORDER BY plane, structure
"""
"""Rounded to a fiftieth: one more accepted mask makes no proposals stale unless it moves a place."""


def find_places(database: duckdb.DuckDBPyConnection) -> pa.Table:
    """The places (``PLACES``), at most one for each plane and structure; learned ones replace the defaults.

    Args:
        database: with the views ``known_frames`` (frame_id, plane, patient_key, field) and ``accepted`` (frame_id,
            structure, bbox), as ``propose.plan`` makes them.
    """
    learned = database.sql(_LEARNED, params={"masks": FEWEST_MASKS, "patients": FEWEST_PATIENTS})
    rows = {(row["plane"], row["structure"]): row for row in _defaults()}
    rows |= {(row["plane"], row["structure"]): row for row in learned.to_arrow_table().to_pylist()}
    return pa.Table.from_pylist(list(rows.values()), schema=PLACES)


class _Place(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    structure: str
    planes: tuple[str, ...]
    box: tuple[float, float, float, float]  # x, y, width, height
    source: str


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    places: list[_Place] = Field(min_length=1)


@cache
def _defaults() -> tuple[dict[str, object], ...]:
    text = resources.files(__package__).joinpath("places.toml").read_text(encoding="utf-8")
    found = _File.model_validate(parse_toml(text, "places.toml")).places
    return tuple(
        {
            "plane": plane,
            "structure": place.structure,
            "typical": [place.box[0], place.box[1], place.box[0] + place.box[2], place.box[1] + place.box[3]],
            "wide": None,
            "origin": "default",
        }
        for place in found
        for plane in place.planes
    )
