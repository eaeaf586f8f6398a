"""Links statements to examinations: which one each is about, and which statements contradict each other.

This needs all statements at once, so it is SQL in DuckDB, which spills to disk. Dating follows in the records stage
(``exams/stage.py``), patient by patient.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa

from sono.captioning.facts.statements import SEVERAL_FETUSES
from sono.manifests.handoff import hand_off, handoff_file
from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.query import view_table
from sono.manifests.schemas import RECORDS, STATEMENTS
from sono.manifests.stages import Part
from sono.manifests.store import TableStore

if TYPE_CHECKING:
    import duckdb

_EXAMS_A_PART = 16_000
_STATEMENTS_AT_ONCE = 1_500_000

LINKED = pa.schema(
    [
        pa.field("source_key", pa.string()),  # of the examination, or of the statement that is left out
        pa.field("study_key", pa.string()),
        pa.field("patient_key", pa.string()),
        pa.field("study_day", pa.int32()),  # of the images where they have one, else of the record
        pa.field("plane", pa.string()),
        pa.field(
            "facts",
            pa.list_(
                pa.struct(
                    [
                        pa.field("fact", pa.string()),
                        pa.field("number", pa.float64()),
                        pa.field("codes", pa.list_(pa.string())),
                        pa.field("field", pa.string()),
                        pa.field("place", pa.string()),
                        pa.field("conflict", pa.bool_()),  # statements of the lowest rank contradict each other
                    ]
                )
            ),
        ),
        pa.field("reason", pa.string()),  # where something is left out; then there are no facts
        pa.field("message", pa.string()),
    ]
)
"""The records stage's input. A patient's rows are adjacent: examinations, their planes, and what is left out."""


@contextmanager
def linked_parts(database: duckdb.DuckDBPyConnection, store: TableStore, keys: Pseudonymizer) -> Iterator[list[Part]]:
    """The statements of the ``statements`` table by examination (``LINKED``), as parts that contain complete patients.

    Parts can be loaded inside the ``with`` block only: their rows pass through a temporary file.

    Args:
        database: from ``captions_database``.
    """
    link(database, store, keys)
    ((exams,),) = database.execute("SELECT count(*) FROM resolved").fetchall()
    ((statements,),) = database.execute("SELECT count(*) FROM statements").fetchall()
    digits = 0
    while exams >> (4 * digits) > _EXAMS_A_PART:
        digits += 1
    slices = _slices(digits, -(-statements // _STATEMENTS_AT_ONCE))
    with handoff_file(store.folder(RECORDS)) as path:
        yield hand_off(database, (_linked(digits, first, last) for first, last in slices), LINKED, path)


def records_reach_images(database: duckdb.DuckDBPyConnection) -> bool:
    """Whether any statement is about an examination with images; call it inside ``linked_parts``."""
    found = database.execute(
        "SELECT count(*) FROM resolved WHERE reason IS NULL AND exam_key IN (SELECT study_key FROM frames)"
    ).fetchall()
    return bool(found[0][0])


def link(database: duckdb.DuckDBPyConnection, store: TableStore, keys: Pseudonymizer) -> None:
    """Make the table ``resolved``: whom and which examination each statement is about, or why that is not known."""
    view_table(database, store, STATEMENTS)
    for sql in _IDENTIFY.split(";"):
        database.execute(sql)
    _note_unnamed_studies(database, keys)
    for sql in _RESOLVE.split(";"):
        database.execute(sql)


def _slices(digits: int, count: int) -> list[tuple[str, str]]:
    """About ``count`` ranges of the first ``digits`` digits of patients' keys, which together are all."""
    parts = 16**digits
    count = min(max(count, 1), parts)
    starts = [parts * number // count for number in range(count + 1)]
    return [
        (f"{low:0{digits}x}"[:digits], f"{high - 1:0{digits}x}"[:digits]) for low, high in itertools.pairwise(starts)
    ]


def _note_unnamed_studies(database: duckdb.DuckDBPyConnection, keys: Pseudonymizer) -> None:
    """Make the table ``unnamed``: for patients whom a record names without an examination, the study of their images
    that named none."""
    where = "study_key IS NULL AND accession_key IS NULL AND study_day IS NULL AND NOT study_unknown"
    found = database.execute(f"SELECT DISTINCT patient_key FROM subjects WHERE {where}").fetchall()
    patients = [row[0] for row in found]
    unnamed = pa.table(
        {"patient_key": patients, "study_key": [keys.only_study(patient) for patient in patients]},
        schema=pa.schema([("patient_key", pa.string()), ("study_key", pa.string())]),
    )
    database.register("unnamed_studies", unnamed)
    database.execute(
        "CREATE OR REPLACE TEMP TABLE unnamed AS "
        "SELECT * FROM unnamed_studies WHERE study_key IN (SELECT study_key FROM frames)"
    )
    database.unregister("unnamed_studies")


SAYS_THE_SAME = """
    r.said_key = s.patient_key AND r.center_key = s.patient_center_key AND r.study_unknown = s.study_unknown
    AND r.study_key IS NOT DISTINCT FROM s.study_key AND r.accession_key IS NOT DISTINCT FROM s.accession_key
    AND r.study_day IS NOT DISTINCT FROM s.study_day
"""
"""SQL: the row ``r`` of ``resolved`` is that of the statement ``s``."""

# Which of the images' patients a statement is about. A number counts in its namespace: the one of the same issuer, else
# the one of the same center, and where either side names no namespace that the other has, the only one of that number,
# or else the one whose study or accession number it names. Two issuers' numbers cannot both be those of images that
# name no issuer. ``named`` holds each way in which records name a patient and an examination, as they say it;
# ``subjects`` adds the patient that is meant, ``unclear`` where several may be.
_IDENTIFY = """
CREATE OR REPLACE TEMP TABLE named AS
SELECT patient_key AS said_key, patient_center_key AS center_key, patient_number_key AS number_key,
    study_key, accession_key, study_day, study_unknown, min(source_key) AS source_key, min(place) AS place
FROM statements GROUP BY ALL;

CREATE OR REPLACE TEMP TABLE candidates AS
WITH patients AS (
    SELECT DISTINCT patient_key, patient_center_key, patient_number_key FROM frames
    WHERE patient_number_key IS NOT NULL
), sayings AS (SELECT DISTINCT said_key, center_key, number_key FROM named)
SELECT s.said_key, s.center_key, p.patient_key, s.said_key = p.patient_key AND s.said_key <> s.center_key AS is_issuers
FROM sayings s JOIN patients p ON p.patient_number_key = s.number_key
    AND (s.said_key = p.patient_key
        OR ((s.said_key = s.center_key OR p.patient_key = p.patient_center_key)
            AND s.center_key IN (p.patient_center_key, p.patient_number_key)))
QUALIFY is_issuers OR NOT bool_or(is_issuers) OVER (PARTITION BY s.said_key, s.center_key);

CREATE OR REPLACE TEMP TABLE subjects AS
WITH contested AS (
    SELECT patient_key FROM candidates WHERE said_key <> center_key AND NOT is_issuers
    GROUP BY patient_key HAVING count(DISTINCT said_key) > 1
), studies AS (SELECT DISTINCT patient_key, study_key FROM frames
), accessions AS (SELECT DISTINCT patient_key, accession_key FROM frames WHERE accession_key IS NOT NULL
), fitting AS (
    SELECT n.*, c.patient_key, st.study_key IS NOT NULL OR ac.accession_key IS NOT NULL AS has_exam,
        co.patient_key IS NOT NULL AND NOT c.is_issuers AND c.said_key <> c.center_key AS is_contested
    FROM named n
    LEFT JOIN candidates c ON c.said_key = n.said_key AND c.center_key = n.center_key
    LEFT JOIN studies st ON st.patient_key = c.patient_key AND st.study_key = n.study_key
    LEFT JOIN accessions ac ON ac.patient_key = c.patient_key AND ac.accession_key = n.accession_key
        AND n.study_key IS NULL
    LEFT JOIN contested co ON co.patient_key = c.patient_key
), counted AS (
    SELECT said_key, center_key, number_key, study_key, accession_key, study_day, study_unknown, source_key, place,
        count(patient_key) AS n, count(*) FILTER (has_exam) AS n_exam, min(patient_key) AS patient_key,
        min(patient_key) FILTER (has_exam) AS exam_patient, bool_or(is_contested) AS is_contested
    FROM fitting GROUP BY ALL
)
SELECT * EXCLUDE (n, n_exam, patient_key, exam_patient, is_contested),
    CASE WHEN n_exam = 1 THEN exam_patient WHEN n = 1 AND NOT is_contested THEN patient_key
         ELSE said_key END AS patient_key,
    n_exam <> 1 AND (n > 1 OR coalesce(is_contested, false)) AS unclear
FROM counted
"""

# Which examination a statement is about: the study it names, else the study with its accession number, else the
# patient's only study on its day, else the study of those images of the patient that named none, else the patient's
# only study, unless that has another accession number. Days are compared only on one patient's calendar: images in the
# study may be of another patient, or of one who is not named.
_RESOLVE = """
CREATE OR REPLACE TEMP TABLE exams AS
SELECT study_key, patient_key, count(accession_key) AS numbered, min(study_day) AS study_day, max(study_day) AS last_day
FROM frames GROUP BY study_key, patient_key;

CREATE OR REPLACE TEMP TABLE resolved AS
WITH by_accession AS (
    SELECT accession_key, min(study_key) AS study_key, count(*) AS n
    FROM (SELECT DISTINCT accession_key, study_key FROM frames WHERE accession_key IS NOT NULL) GROUP BY accession_key
), by_own_accession AS (
    SELECT accession_key, patient_key, min(study_key) AS study_key, count(DISTINCT study_key) AS n
    FROM frames WHERE accession_key IS NOT NULL GROUP BY ALL
), by_day AS (
    SELECT patient_key, study_day, min(study_key) AS study_key, count(DISTINCT study_key) AS n
    FROM exams WHERE study_day IS NOT NULL GROUP BY ALL
), by_patient AS (
    SELECT patient_key, min(study_key) AS study_key, count(DISTINCT study_key) AS n, count(study_day) AS dated,
        sum(numbered) AS numbered
    FROM exams GROUP BY patient_key
), matched AS (
    SELECT s.*,
        CASE WHEN s.study_key IS NOT NULL THEN s.study_key
             WHEN o.n = 1 THEN o.study_key
             WHEN a.n IS NOT NULL THEN CASE WHEN a.n = 1 THEN a.study_key END
             WHEN s.study_day IS NOT NULL AND d.n IS NOT NULL THEN CASE WHEN d.n = 1 THEN d.study_key END
             WHEN u.study_key IS NOT NULL THEN u.study_key
             WHEN p.n = 1 AND NOT s.study_unknown AND (s.study_day IS NULL OR p.dated = 0)
                AND (s.accession_key IS NULL OR p.numbered = 0)
             THEN p.study_key END AS exam_key,
        a.n > 1 OR (a.n IS NULL AND (d.n > 1 OR (s.study_day IS NULL AND p.n > 1))) AS several
    FROM subjects s
    LEFT JOIN by_accession a ON a.accession_key = s.accession_key
    LEFT JOIN by_own_accession o ON o.accession_key = s.accession_key AND o.patient_key = s.patient_key
    LEFT JOIN by_day d ON d.patient_key = s.patient_key AND d.study_day = s.study_day
    LEFT JOIN by_patient p ON p.patient_key = s.patient_key
    LEFT JOIN unnamed u ON u.patient_key = s.patient_key AND s.accession_key IS NULL AND s.study_day IS NULL
        AND NOT s.study_unknown
), claimed AS (
    SELECT exam_key, count(DISTINCT patient_key) AS patients, max(study_day) - min(study_day) AS apart
    FROM matched WHERE NOT unclear GROUP BY exam_key
)
SELECT m.* EXCLUDE (several, unclear), coalesce(e.study_day, m.study_day) AS exam_day,
    CASE WHEN m.unclear THEN 'patient_unclear'
         WHEN m.exam_key IS NULL AND m.several THEN 'matched_twice'
         WHEN m.exam_key IS NULL THEN 'unmatched'
         WHEN claimed.patients > 1 THEN 'two_patients'
         WHEN e.last_day - e.study_day > 1 THEN 'several_days'
         WHEN abs(e.study_day - m.study_day) > 1 THEN 'another_day'
         WHEN e.study_day IS NULL AND claimed.apart > 1 THEN 'two_days' END AS reason
FROM matched m
LEFT JOIN exams e ON e.study_key = m.exam_key AND e.patient_key = m.patient_key
LEFT JOIN claimed ON claimed.exam_key = m.exam_key
"""


def _linked(digits: int, first: str, last: str) -> str:
    """SQL for the linked statements of patients whose keys begin with ``first`` to ``last``."""
    return f"""
WITH attributed AS (
    SELECT r.exam_key, r.exam_day, r.patient_key, r.number_key, s.fact, s.number, s.code, s.field, s.place, s.rank,
        CASE WHEN s.fact IN ('structures_seen', 'laterality') THEN s.plane END AS plane
    FROM statements s JOIN resolved r ON {SAYS_THE_SAME}
    WHERE r.reason IS NULL
        AND left(s.patient_number_key, {digits}) BETWEEN '{first}' AND '{last}'
        AND left(r.number_key, {digits}) BETWEEN '{first}' AND '{last}'
    UNION ALL BY NAME
    -- that there are twins also counts where a record may be of several examinations, or its day is not the images'
    SELECT e.study_key AS exam_key, e.study_day AS exam_day, e.patient_key, r.number_key, s.fact, s.code, s.field,
        s.place, s.rank
    FROM statements s JOIN resolved r ON {SAYS_THE_SAME}
    JOIN exams e ON e.patient_key = r.patient_key AND (e.study_key = r.exam_key OR (
        r.reason = 'matched_twice' AND coalesce(abs(e.study_day - r.study_day) <= 1, true)))
    WHERE s.fact = '{SEVERAL_FETUSES}' AND r.reason IN ('matched_twice', 'another_day', 'two_days', 'several_days')
        AND left(s.patient_number_key, {digits}) BETWEEN '{first}' AND '{last}'
        AND left(r.number_key, {digits}) BETWEEN '{first}' AND '{last}'
), stated AS (
    SELECT exam_key, plane, fact, rank, min(patient_key) AS patient_key, min(number_key) AS number_key,
        min(exam_day) AS exam_day,
        min(number) AS number, max(number) AS most, min(field) AS field, min(place) AS place,
        list_sort(list(DISTINCT code) FILTER (code IS NOT NULL)) AS codes
    FROM attributed GROUP BY exam_key, plane, fact, rank
), agreed AS (
    SELECT *, CASE WHEN fact IN ('laterality', 'presentation') THEN len(codes) > 1
                   WHEN fact LIKE '%_mm' THEN round(most - number, 3) > 0.1  -- two documents may round differently
                   ELSE coalesce(most > number, false) END AS conflict
    FROM stated QUALIFY rank = min(rank) OVER (PARTITION BY exam_key, plane, fact)
), linked AS (
    SELECT exam_key AS source_key, exam_key AS study_key, min(patient_key) AS patient_key,
        min(number_key) AS number_key, min(exam_day) AS study_day, plane,
        list(struct_pack(
            fact := fact, number := number, codes := codes, field := field, place := place, conflict := conflict
        ) ORDER BY fact) AS facts,
        NULL AS reason, NULL AS message
    FROM agreed GROUP BY exam_key, plane
    UNION ALL BY NAME
    SELECT source_key, exam_key AS study_key, patient_key, number_key, exam_day AS study_day, NULL AS plane,
        NULL AS facts, reason,
        place || ': ' || CASE reason
            WHEN 'patient_unclear' THEN 'several patients have its number, and it does not say which is meant'
            WHEN 'matched_twice' THEN 'several examinations fit it'
            WHEN 'unmatched' THEN 'no image is of its patient and examination'
            WHEN 'two_patients' THEN 'another record names another patient for the same examination'
            WHEN 'several_days' THEN 'the images of its examination are of several days'
            WHEN 'another_day' THEN 'its date is not that of the images of its examination'
            WHEN 'two_days' THEN 'another record gives another day of the same examination' END AS message
    FROM resolved
    WHERE reason IS NOT NULL AND left(number_key, {digits}) BETWEEN '{first}' AND '{last}'
)
SELECT 'p' || left(number_key, {digits}) AS part, * EXCLUDE (number_key) FROM linked
ORDER BY part, patient_key, study_key, plane NULLS FIRST, reason, message, source_key
"""
