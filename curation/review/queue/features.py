"""What speaks against a mask before anybody has looked at it: every sign with its meaning, as one query.

Each sign grows with suspicion and is NULL where nothing is known. Scores of models are clamped to what they can be;
what is not a number is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sono.curation.masks.decisions import ACCEPTED_BY_PERSON, WAITS
from sono.curation.masks.propose.places import FIELD_MACRO
from sono.manifests.vocabulary import Vocabulary

if TYPE_CHECKING:
    import duckdb

FEWEST_PATIENTS = 8
"""With fewer, nothing is said of how masks of a structure usually are."""

_FEWEST_HERE = 3  # masks in a frame, for some of them to stand out from the others
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
    "others": ("1 - s.others", "other masks of the structure in the frame are different"),
    "area": ("oddness(s.z_area)", "its share of the field is unusual for the structure in the plane"),
    "relative_area": (
        "oddness(s.z_area - h.z_area)",
        "its size does not go with that of the other structures in the frame",
    ),
    "place": ("oddness(sqrt(s.z_x**2 + s.z_y**2))", "it lies where the structure usually is not"),
    "relative_place": (
        "oddness(sqrt((s.z_x - h.z_x)**2 + (s.z_y - h.z_y)**2))",
        "it is not where the other structures of the frame make one expect it",
    ),
    "aspect": ("oddness(s.z_aspect)", "it is narrower or wider than usual"),
    "fill": ("oddness(s.z_fill)", "it covers an unusual share of its box"),
    "specks": ("ln(1 + s.specks)", "it has parts of less than 2% of the largest one"),
    "holes": ("ln(1 + s.holes)", "it has holes"),
    "outside": (
        "CASE WHEN s.outside_px > s.area_px THEN 1 ELSE s.outside_px / greatest(s.area_px, 1) END",
        "it lies outside of the ultrasound",
    ),
    "overlap": ("s.overlap", "it overlaps with a structure that it is neither part of nor passes into"),
    "not_in_plane": ("s.not_in_plane", "the vocabulary does not list the structure for the plane"),
    "empty": ("(s.area_px <= 0)::DOUBLE", "nothing is drawn"),
}
"""Name -> expression, and what it means. Z-scores are absolute, robust and at most 6."""

MEASURED = pa.schema(
    {
        "region_id": pa.string(),
        "frame_id": pa.string(),
        "pixel_digest": pa.string(),
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
        keys: columns region_id, frame (of ``frame_fields``), structure, source, and those that were asked for.
        values: shape [masks, signs], in the order of ``SIGNS``; NaN where nothing is known.
    """

    keys: pa.Table
    values: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return int(self.values.shape[0])


def prepare(database: duckdb.DuckDBPyConnection, vocabulary: Vocabulary) -> None:
    """Make what signs are computed from: frames with their fields, masks with their shapes, and what is usual.

    ``frame_fields``: one row per frame, numbered by ``frame`` from 0. ``known``: one row per mask that nobody rejected.

    Args:
        database: with the views ``frames``, ``qc`` and ``regions``.
    """
    listed = [(plane.id, structure) for plane in vocabulary.planes.values() for structure in plane.structures]
    database.execute(  # an Arrow table of these would load pandas
        "CREATE TEMP TABLE plane_structures AS SELECT unnest($planes) AS plane, unnest($structures) AS structure",
        {"planes": [plane for plane, _ in listed], "structures": [name for _, name in listed]},
    )
    for statement in (FIELD_MACRO, _ODDNESS, _FRAMES, _KNOWN, _USUAL):
        database.execute(statement)


def signs_of(database: duckdb.DuckDBPyConnection, asked: str, also: Sequence[str] = ()) -> Signs:
    """The signs of the masks in a table or view, in no order.

    Args:
        asked: its name; it has region_id, frame, structure, source, scores, area_px, ``SHAPE``, and the columns of
            ``MEASURED`` from ``specks`` on.
        also: further columns of it that are wanted among the keys.
    """
    expressions = ", ".join(f"({expression})::FLOAT AS sign_{name}" for name, (expression, _) in SIGNS.items())
    keys = ["region_id", "frame", "structure", "source", *also]
    sql = _SIGNS.format(asked=asked, expressions=expressions, keys=", ".join(f"s.{key}" for key in keys))
    found = database.sql(sql).to_arrow_table()
    values = np.empty((found.num_rows, len(SIGNS)), np.float32)
    for column, name in enumerate(SIGNS):
        values[:, column] = found[f"sign_{name}"].to_numpy()
    return Signs(found.select(keys), values)


_ODDNESS = f"""
CREATE OR REPLACE MACRO oddness(z) AS CASE WHEN z IS NOT NULL THEN least(abs(z), {_MOST_Z}) END
"""
"""``least`` alone takes NULL for no limit: what is not known would be the worst."""

_FRAMES = """
CREATE TEMP TABLE frame_fields AS
SELECT (row_number() OVER () - 1)::INTEGER AS frame, f.frame_id, parse_filename(f.filename) AS part, f.plane,
    f.patient_key, f.center, f.pixel_digest, q.verdict, field_of(f.sectors, f.height, f.width) AS field
FROM frames f
LEFT JOIN qc q ON q.frame_id = f.frame_id AND parse_filename(q.filename) = parse_filename(f.filename)
"""

SHAPE = """
    ln(nullif(r.area_px, 0) / (f.field[3]::DOUBLE * f.field[4])) AS area,
    (r.bbox[1] + r.bbox[3] / 2 - f.field[1]) / f.field[3] AS x,
    (r.bbox[2] + r.bbox[4] / 2 - f.field[2]) / f.field[4] AS y,
    ln(nullif(r.bbox[3], 0) / nullif(r.bbox[4], 0)::DOUBLE) AS aspect,
    r.area_px / nullif(r.bbox[3]::DOUBLE * r.bbox[4], 0) AS fill
"""
"""Of a mask ``r`` in a frame ``f``, as columns of SQL."""

_KNOWN = f"""
CREATE TEMP TABLE known AS
SELECT r.region_id, f.frame, r.structure, r.source, r.status, parse_filename(r.filename) AS part, r.area_px,
    CASE WHEN r.status = 'proposed' THEN r.scores END AS scores, r.pixel_digest = f.pixel_digest AS same_pixels,
    {ACCEPTED_BY_PERSON} AS reference, {WAITS} AS waits, coalesce(f.plane, '') AS plane, f.patient_key, {SHAPE}
FROM regions r JOIN frame_fields f USING (frame_id) WHERE r.status <> 'rejected'
"""

_MEASURES = {"area": 0.1, "x": 0.02, "y": 0.02, "aspect": 0.1, "fill": 0.03}
"""Of a mask's shape, and the smallest spread that counts: if others happen to be closer together, that is no reason."""

_COMPARED = 200_000
"""Masks of the whole workspace that are enough to say what is usual; those of people all count."""


def _usual(keys: str, condition: str) -> str:
    spread = ", ".join(
        f"median({name}) AS {name}, greatest(1.4826 * mad({name}), {least}) AS {name}_spread"
        for name, least in _MEASURES.items()
    )
    return (
        f"SELECT {keys}, {spread} FROM known WHERE {condition} "
        f"GROUP BY ALL HAVING count(DISTINCT patient_key) >= {FEWEST_PATIENTS}"
    )


_SOME = f"hash(frame) % greatest(1, (SELECT count(*) // {_COMPARED} FROM known)) = 0"

_USUAL = f"""
CREATE TEMP TABLE usual AS
WITH levels AS (
    SELECT 0 AS level, * FROM ({_usual("structure, plane", "reference")})
    UNION ALL SELECT 1, * FROM ({_usual("structure, plane", _SOME)})
    UNION ALL SELECT 2, * FROM ({_usual("structure, NULL::VARCHAR AS plane", _SOME)})
)
SELECT p.structure, p.plane, arg_min(columns(levels.* EXCLUDE (level, structure, plane)), level)
FROM (SELECT DISTINCT structure, plane FROM known) p
JOIN levels ON levels.structure = p.structure AND coalesce(levels.plane, p.plane) = p.plane
GROUP BY p.structure, p.plane
"""
"""Accepted masks say what is usual; before there are enough, most of all masks; and at last those of other planes."""

_NUMBERS = ", ".join(
    f"CASE WHEN isfinite(try_cast(found[{number}] AS DOUBLE)) THEN "
    f"least(1.0, greatest(0.0, try_cast(found[{number}] AS DOUBLE))) END AS {name}"
    for number, name in enumerate(_SCORES, start=1)
)

_SIGNS = f"""
WITH valid AS (
    SELECT a.*, coalesce(f.plane, '') AS plane, CASE WHEN json_valid(scores) THEN scores
        ELSE regexp_replace(scores, '-?(NaN|Infinity)', 'null', 'g') END AS json
    FROM {{asked}} a JOIN frame_fields f USING (frame)
), texts AS (
    SELECT * EXCLUDE (json), json_extract_string(
        CASE WHEN json_valid(json) THEN json END, {[f"$.{name}" for name in _SCORES]}) AS found
    FROM valid
), numbers AS (
    SELECT * EXCLUDE (found), {_NUMBERS} FROM texts
), scored AS (
    SELECT * REPLACE (coalesce(score, confidence) AS score),
        CASE WHEN score IS NOT NULL AND count(score) OVER (PARTITION BY source, structure) >= 20 THEN
            percent_rank() OVER (PARTITION BY source, structure ORDER BY score) END AS score_rank
    FROM numbers
), compared AS (
    SELECT m.* EXCLUDE (area, x, y, aspect, fill), (m.area - u.area) / u.area_spread AS z_area,
        (m.x - u.x) / u.x_spread AS z_x, (m.y - u.y) / u.y_spread AS z_y,
        (m.aspect - u.aspect) / u.aspect_spread AS z_aspect, (m.fill - u.fill) / u.fill_spread AS z_fill,
        CASE WHEN p.plane IS NOT NULL THEN (s.structure IS NULL)::DOUBLE END AS not_in_plane
    FROM scored m
    LEFT JOIN usual u ON u.structure = m.structure AND u.plane = m.plane
    LEFT JOIN (SELECT DISTINCT plane FROM plane_structures) p ON p.plane = m.plane
    LEFT JOIN plane_structures s ON s.plane = m.plane AND s.structure = m.structure
), here AS (
    SELECT frame, median(z_area) AS z_area, median(z_x) AS z_x, median(z_y) AS z_y
    FROM compared GROUP BY frame HAVING count(z_area) >= {_FEWEST_HERE}
)
SELECT {{keys}}, {{expressions}} FROM compared s LEFT JOIN here h USING (frame)
"""
