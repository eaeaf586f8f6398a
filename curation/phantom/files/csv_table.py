"""A phantom's clinical records as CSV: one row for the examination, and one for each plane shown.

The columns have the names that ``sono-curate caption --records`` expects, so no mapping file is needed. Captioning
defines the same names; a test compares the two.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from sono.curation.phantom.records import ExamRecord, View
from sono.manifests.schemas import BIOMETRY
from sono.manifests.store import write_atomically

COLUMNS = (
    *("patient_id", "name", "study_id", "accession", "exam_date", "plane"),
    *("ga_days", "ga_weeks_by_lmp", "lmp", "edd", *BIOMETRY, "structures_seen", "findings"),
)


def rows(record: ExamRecord) -> list[dict[str, str]]:
    """Every column in every row; a cell is empty if its value is unknown or belongs to another row.

    The age by the last menstrual period is written as hospitals write it, '21+3'; it contradicts ``ga_days`` where the
    record does.
    """
    return [_study_row(record), *(_view_row(record, view) for view in record.views)]


def write(path: Path, content: Iterable[Mapping[str, str]]) -> None:
    """Write rows of any number of examinations to one file, atomically; without rows it holds only a header."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(content)
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))


def _study_row(record: ExamRecord) -> dict[str, str]:
    return _row(
        record,
        ga_days="" if record.ga_days is None else str(record.ga_days),
        ga_weeks_by_lmp="" if record.ga_days_by_lmp is None else "{}+{}".format(*divmod(record.ga_days_by_lmp, 7)),
        lmp="" if record.lmp is None else record.lmp.isoformat(),
        edd="" if record.edd is None else record.edd.isoformat(),
        findings=";".join(record.findings),
        **{name: str(record.biometry_mm[name]) for name in BIOMETRY if name in record.biometry_mm},
    )


def _view_row(record: ExamRecord, view: View) -> dict[str, str]:
    return _row(record, plane=view.plane, structures_seen=";".join(view.structures_seen))


def _row(record: ExamRecord, **cells: str) -> dict[str, str]:
    patient = record.patient
    filled = {
        "patient_id": patient.patient_id,
        "name": f"{patient.family_name}, {patient.given_name}",
        "study_id": record.study_uid,
        "accession": record.accession_number,
        "exam_date": record.started.date().isoformat(),
        **cells,
    }
    return {column: filled.get(column, "") for column in COLUMNS}
