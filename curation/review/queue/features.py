"""What speaks against a mask before anybody has looked at it: every sign with its meaning, as one query.

Each sign grows with suspicion and is NULL where nothing is known. Scores of models are clamped to what they can be;
what is not a number is not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sono.curation.masks.decisions import ACCEPTED_BY_PERSON
from sono.curation.masks.propose.places import FIELD_MACRO
from sono.manifests.vocabulary import Vocabulary

if TYPE_CHECKING:
    import duckdb

FEWEST_PATIENTS = 8
"""With fewer, nothing is said of how masks of a structure usually are."""

_MOST_Z = 6.0  # robust z-scores beyond it are as bad as this

_SCORES = (
    *("score", "stability", "fit", "contrast", "agreement", "confidence", "expected_dice", "predicted_iou"),
    "likeness",
)

SIGNS: Mapping[str, tuple[str, str]] = {
    "score": ("1 - s.score", "the score by which the proposal was chosen is low"),
    "score_rank": ("1 - s.score_rank", "its score is low among those of its source and structure"),
    "stability": ("1 - s.stability", "the mask changes with the threshold"),
    "fit": ("1 - s.fit", "it does not fit the box or the points that it was asked with"),
    "contrast": ("1 - s.contrast", "grey levels do not tell both sides of its edge apart"),
    "prompts": ("1 - s.agreement", "other prompts for the same structure lead to another mask"),
    "confidence": ("1 - s.confidence", "the model is not sure of its pixels"),
    "expected_dice": ("1 - s.expected_dice", "the model expects a low Dice"),
    "predicted_iou": ("1 - s.predicted_iou", "the model predicts a low IoU of its own mask"),
    "likeness": ("1 - s.likeness", "what was carried along a cine does not look like where it came from"),
    "others": ("1 - a.others", "other masks of the structure in the frame are different"),
    "area": ("z.area", "its share of the field is unusual for the structure in the plane"),
    "relative_area": ("z.relative_area", "its size does not go with that of the other structures in the frame"),
    "place": ("z.place", "it lies where the structure usually is not"),
    "aspect": ("z.aspect", "it is narrower or wider than usual"),
    "fill": ("z.fill", "it covers an unusual share of its box"),
    "specks": ("ln(1 + a.specks)", "it has parts of less than 2% of the largest one"),
    "holes": ("ln(1 + a.holes)", "it has holes"),
    "outside": ("at_most(a.outside_px / greatest(a.area_px, 1), 1)", "it lies outside of the ultrasound"),
    "overlap": ("a.overlap", "it overlaps with a structure that it is neither part of nor passes into"),
    "not_in_plane": ("a.not_in_plane", "the vocabulary does not list the structure for the plane"),
    "empty": ("(a.area_px <= 0)::DOUBLE", "nothing is drawn"),
}
"""Name -> expression, and what it means. Z-scores are absolute, robust and at most 6."""

ASKED = pa.schema(
    {
        "region_id": pa.string(),
        "frame_id": pa.string(),
        "structure": pa.string(),
        "source": pa.string(),
        "area_px": pa.int64(),
        "bbox": pa.list_(pa.int32(), 4),
        "scores": pa.string(),
        "specks": pa.int32(),  # this and what follows: null where it was not measured
        "holes": pa.int32(),
        "outside_px": pa.int64(),
        "overlap": pa.float32(),  # the greatest share with another structure
        "others": pa.float32(),  # mean IoU with other masks of the structure in the frame; null without any
    }
)
"""What the signs need to know of a mask besides its frame."""


@dataclass(frozen=True)
class Signs:
    """Masks with their signs, one row per mask.

    Attributes:
        keys: columns region_id, frame_id, structure, source, patient_key.
        values: shape [masks, signs], in the order of ``SIGNS``; NaN where nothing is known.
    """

    keys: pa.Table
    values: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return int(self.values.shape[0])


def prepare(database: duckdb.DuckDBPyConnection, vocabulary: Vocabulary) -> None:
    """Make what signs are compared with: frames with their fields, and how masks of a structure usually are.

    Args:
        database: with the views ``frames`` and ``regions``.
    """
    listed = [(plane.id, structure) for plane in vocabulary.planes.values() for structure in plane.structures]
    database.execute(  # an Arrow table of these would load pandas
        "CREATE TEMP TABLE plane_structures AS SELECT unnest($planes) AS plane, unnest($structures) AS structure",
        {"planes": [plane for plane, _ in listed], "structures": [name for _, name in listed]},
    )
    database.execute(FIELD_MACRO)
    database.execute(_AT_MOST)
    database.execute(_FRAMES)
    database.execute(_SHAPED.format(name="usual_masks", table="regions", reference=ACCEPTED_BY_PERSON,
                                    condition="t.status <> 'rejected'"))  # fmt: skip
    database.execute(_USUAL)


def signs_of(database: duckdb.DuckDBPyConnection, asked: str) -> Signs:
    """The signs of the masks in a table or view of the columns ``ASKED``, in no order.

    Masks whose frame is not in the workspace are left out.
    """
    database.execute(_SHAPED.format(name="shaped", table=asked, reference="false", condition="true"))
    database.execute(_SCORED.format(asked=asked))
    expressions = ", ".join(f"({expression})::FLOAT AS {name}" for name, (expression, _) in SIGNS.items())
    found = database.sql(_SIGNS.format(asked=asked, expressions=expressions)).to_arrow_table()
    database.execute("DROP TABLE shaped; DROP TABLE scored")
    values = np.empty((found.num_rows, len(SIGNS)), np.float32)
    for column, name in enumerate(SIGNS):
        values[:, column] = found[name].to_numpy()
    return Signs(found.select(["region_id", "frame_id", "structure", "source", "patient_key"]), values)


_AT_MOST = "CREATE OR REPLACE MACRO at_most(value, most) AS CASE WHEN value IS NOT NULL THEN least(value, most) END"
"""``least`` alone takes NULL for no limit: what is not known would be the worst."""

_FRAMES = """
CREATE TEMP TABLE frame_fields AS
SELECT frame_id, coalesce(plane, '') AS plane, patient_key, field_of(sectors, height, width) AS field FROM frames
"""

_SHAPED = """
CREATE TEMP TABLE {name} AS
SELECT t.region_id, t.frame_id, t.structure, f.plane, f.patient_key, {reference} AS reference,
    ln(nullif(t.area_px, 0) / (f.field[3]::DOUBLE * f.field[4])) AS area,
    (t.bbox[1] + t.bbox[3] / 2 - f.field[1]) / f.field[3] AS x,
    (t.bbox[2] + t.bbox[4] / 2 - f.field[2]) / f.field[4] AS y,
    ln(nullif(t.bbox[3], 0) / nullif(t.bbox[4], 0)::DOUBLE) AS aspect,
    t.area_px / nullif(t.bbox[3]::DOUBLE * t.bbox[4], 0) AS fill
FROM {table} t JOIN frame_fields f USING (frame_id)
WHERE {condition}
"""

_MEASURES = {"area": 0.1, "x": 0.02, "y": 0.02, "aspect": 0.1, "fill": 0.03}
"""Of a mask's shape, and the smallest spread that counts: if others happen to be closer together, that is no reason."""


def _usual(keys: str, condition: str) -> str:
    spread = ", ".join(
        f"median({name}) AS {name}, greatest(1.4826 * mad({name}), {least}) AS {name}_spread"
        for name, least in _MEASURES.items()
    )
    return (
        f"SELECT {keys}, {spread} FROM usual_masks WHERE {condition} "
        f"GROUP BY ALL HAVING count(DISTINCT patient_key) >= {FEWEST_PATIENTS}"
    )


_USUAL = f"""
CREATE TEMP TABLE usual AS
WITH levels AS (
    SELECT 0 AS level, * FROM ({_usual("structure, plane", "reference")})
    UNION ALL SELECT 1, * FROM ({_usual("structure, plane", "true")})
    UNION ALL SELECT 2, * FROM ({_usual("structure, NULL::VARCHAR AS plane", "true")})
)
SELECT p.structure, p.plane, arg_min(columns(levels.* EXCLUDE (level, structure, plane)), level)
FROM (SELECT DISTINCT structure, plane FROM usual_masks) p
JOIN levels ON levels.structure = p.structure AND coalesce(levels.plane, p.plane) = p.plane
GROUP BY p.structure, p.plane
"""
"""Accepted masks say what is usual; before there are enough, most of all masks; and at last those of other planes."""

_NUMBERS = ", ".join(
    f"CASE WHEN isfinite(try_cast(found[{number}] AS DOUBLE)) THEN "
    f"least(1.0, greatest(0.0, try_cast(found[{number}] AS DOUBLE))) END AS {name}"
    for number, name in enumerate(_SCORES, start=1)
)

_SCORED = f"""
CREATE TEMP TABLE scored AS
WITH valid AS (
    SELECT region_id, source, structure, CASE WHEN json_valid(scores) THEN scores
        ELSE regexp_replace(scores, '-?(NaN|Infinity)', 'null', 'g') END AS scores
    FROM {{asked}}
), texts AS (
    SELECT region_id, source, structure, json_extract_string(
        CASE WHEN json_valid(scores) THEN scores END, {[f"$.{name}" for name in _SCORES]}) AS found
    FROM valid
), numbers AS (SELECT region_id, source, structure, {_NUMBERS} FROM texts)
SELECT * REPLACE (coalesce(score, confidence) AS score),
    CASE WHEN score IS NOT NULL AND count(score) OVER same >= 20 THEN
        percent_rank() OVER (PARTITION BY source, structure ORDER BY score) END AS score_rank
FROM numbers WINDOW same AS (PARTITION BY source, structure)
"""


def _z(name: str) -> str:
    return f"abs(m.{name} - u.{name}) / u.{name}_spread"


_SIGNS = f"""
WITH zs AS (
    SELECT m.region_id, m.frame_id, (m.area - u.area) / u.area_spread AS signed_area,
        sqrt(({_z("x")})**2 + ({_z("y")})**2) AS place, {_z("aspect")} AS aspect, {_z("fill")} AS fill
    FROM shaped m LEFT JOIN usual u ON u.structure = m.structure AND u.plane = m.plane
), z AS (
    SELECT region_id, {", ".join(f"at_most({name}, {_MOST_Z}) AS {name}" for name in ("place", "aspect", "fill"))},
        at_most(abs(signed_area), {_MOST_Z}) AS area,
        CASE WHEN count(signed_area) OVER here >= 3 THEN
            at_most(abs(signed_area - median(signed_area) OVER here), {_MOST_Z}) END AS relative_area
    FROM zs WINDOW here AS (PARTITION BY frame_id)
), a AS (
    SELECT t.*, f.patient_key,
        CASE WHEN p.plane IS NOT NULL THEN (s.structure IS NULL)::DOUBLE END AS not_in_plane
    FROM {{asked}} t JOIN frame_fields f USING (frame_id)
    LEFT JOIN (SELECT DISTINCT plane FROM plane_structures) p ON p.plane = f.plane
    LEFT JOIN plane_structures s ON s.plane = f.plane AND s.structure = t.structure
)
SELECT a.region_id, a.frame_id, a.structure, a.source, a.patient_key, {{expressions}}
FROM a JOIN scored s USING (region_id) JOIN z USING (region_id)
"""
