"""The examinations of a dataset: of each, the patient and the gestational age, which all of its frames agree on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial

import pyarrow as pa

from sono.manifests.errors import UserError
from sono.manifests.stages import Part

from .rows import PulledKeys

_ROWS_MOST = 8_192
_SCHEMA = pa.schema(
    {
        "study_key": pa.string(),
        "patient_key": pa.string(),
        "ga_days": pa.int32(),
        "source_key": pa.string(),
        "frame_index": pa.int32(),
    }
)


def exam_parts(rows: pa.Table | None, keys: PulledKeys, place: str) -> list[Part]:
    """The parts of ``records``, by the first digits of the examinations' keys.

    Args:
        rows: of ``groups.read_keys``.

    Raises:
        UserError: an examination has two patients or two gestational ages.
    """
    exams: dict[str, Mapping[str, object]] = {}
    distinct = rows.group_by(["study_key", "patient_key", "ga_days"]).aggregate([]) if rows is not None else None
    for exam in distinct.to_pylist() if distinct is not None else ():
        if exams.setdefault(exam["study_key"], exam) is not exam:
            raise UserError(
                "an examination has two patients or two gestational ages",
                where=place,
                fix="ask whoever published it to build it again",
            )
    digits = 0
    while len(exams) > _ROWS_MOST * 16**digits:
        digits += 1
    by_name: dict[str, list[Mapping[str, object]]] = {}
    for key in sorted(exams):
        by_name.setdefault(f"pull-{key[:digits]}" if digits else "pull-all", []).append(exams[key])
    return [
        Part(name, keys.keys.content(json.dumps(found)), partial(_table, found, keys))
        for name, found in by_name.items()
    ]


def _table(exams: Sequence[Mapping[str, object]], keys: PulledKeys) -> pa.Table:
    rows = [{**exam, "source_key": keys.study(str(exam["study_key"])), "frame_index": 0} for exam in exams]
    return pa.Table.from_pylist(rows, schema=_SCHEMA)
