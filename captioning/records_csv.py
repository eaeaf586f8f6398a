"""Clinical records from CSV files: one line an examination, or one plane of an examination.

Cells hold identifiers and may hold names by mistake, so no cell's content leaves this module except as a pseudonym, a
number, a vocabulary id or a code. Errors and faults name columns, lines and reasons.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sono.manifests.errors import UserError
from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.schemas import BIOMETRY
from sono.manifests.vocabulary import Vocabulary

from .dating import GA_DAYS
from .records import Entry, Fault

COLUMNS = ("patient_id", "study_id", "plane", "ga_days", "ga_weeks", *BIOMETRY, "structures_seen", "findings")

LIMITS_MM: Mapping[str, float] = {
    "bpd_mm": 130,
    "hc_mm": 450,
    "ac_mm": 500,
    "fl_mm": 100,
    "crl_mm": 200,
    "nt_mm": 30,
    "tcd_mm": 80,
    "hl_mm": 100,
}
"""Well above anything measured at term: beyond them stands a typing error or another unit."""

_NUMBER = re.compile(r"\d{1,7}(\.\d{1,9})?")
_WEEKS_AND_DAYS = re.compile(r"(\d{1,2})\s*(?:\+|[wW]\s?)\s*([0-6])\s*[dD]?")
_CODE = re.compile(r"(DCM|HP|ICD10|ICD11|LN|MONDO|OMIM|ORPHA|SCT):[A-Z0-9][A-Z0-9.\-]{0,17}")


def read_records(paths: Sequence[Path], keys: Pseudonymizer, vocabulary: Vocabulary) -> list[Entry]:
    """Every line of the files, in order; a line that cannot be used carries its fault.

    Args:
        paths: CSV files (UTF-8, comma-separated, first line the column names), or folders of them.

    Raises:
        UserError: a file is missing, empty, not UTF-8 or no CSV, lacks ``patient_id``, or has an unknown column.
    """
    files = [file for path in paths for file in _files(path)]
    if not files:
        raise UserError("no records were named", fix="name at least one CSV file")
    return [entry for number, path in enumerate(files, 1) for entry in _read_file(path, number, keys, vocabulary)]


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise UserError("there is no such file", where=str(path), fix="check the path of the records")
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*.csv"))
    if not found:
        raise UserError("no CSV file in this folder", where=str(path), fix="name a folder that holds records")
    return found


def _read_file(path: Path, number: int, keys: Pseudonymizer, vocabulary: Vocabulary) -> Iterator[Entry]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    for line, row in _rows(path):
        source_key = keys.content(f"records/{digest}/line/{line}")
        place = f"line {line} of records file {number}"
        try:
            yield _entry(row, source_key, place, keys, vocabulary)
        except _RowError as problem:
            yield Entry(source_key, place, fault=problem.fault)


class _RowError(Exception):
    def __init__(self, reason: str, text: str) -> None:
        super().__init__(reason)
        self.fault = Fault(reason, text)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str] | None]]:
    """The number of the line where a row begins, and its cells by column; None where their number is wrong."""
    where = str(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            columns = _columns(next(reader, None), where)
            line = reader.line_num + 1
            for cells in reader:
                if cells:
                    stripped = [cell.strip() for cell in cells]
                    yield line, dict(zip(columns, stripped, strict=True)) if len(cells) == len(columns) else None
                line = reader.line_num + 1
    except UnicodeDecodeError:
        raise UserError("not UTF-8 text", where=where, fix="save it as CSV with UTF-8 encoding") from None
    except csv.Error as error:
        # the csv module's messages name characters and limits, never a cell
        raise UserError(f"not valid CSV near line {reader.line_num}: {error}", where=where, fix="mend it") from None


def _columns(header: list[str] | None, where: str) -> list[str]:
    if header is None:
        raise UserError("the file is empty", where=where, fix="its first line must name the columns")
    columns = [name.strip().lower() for name in header]
    if "patient_id" not in columns:
        # Before anything else, and without showing the line: a file without a header begins with a patient.
        semicolons = len(columns) == 1 and ";" in columns[0]
        raise UserError(
            "the cells are separated by semicolons" if semicolons else "the first line names no column patient_id",
            where=where,
            fix="save it comma-separated" if semicolons else f"known columns: {', '.join(COLUMNS)}",
        )
    for name in columns:
        if name not in COLUMNS:
            nearest = difflib.get_close_matches(name, COLUMNS, n=1, cutoff=0)[0]
            raise UserError(f"unknown column {name!r}", where=where, fix=f"did you mean {nearest!r}?")
        if columns.count(name) > 1:
            raise UserError(f"the column {name!r} stands twice", where=where, fix="remove one of them")
    return columns


def _entry(
    row: dict[str, str] | None, source_key: str, place: str, keys: Pseudonymizer, vocabulary: Vocabulary
) -> Entry:
    if row is None:
        raise _RowError("row_malformed", "it has another number of cells than the header")
    patient_id = row["patient_id"]
    if not patient_id:
        raise _RowError("patient_missing", "it names no patient")
    patient_key = keys.patient(patient_id)
    study_id = row.get("study_id")
    plane = row.get("plane") or None
    if plane is not None and vocabulary.find_plane(plane) is None:
        raise _RowError("plane_unknown", "it names a plane that the vocabulary does not have")
    return Entry(
        source_key,
        place,
        patient_key=patient_key,
        study_key=keys.study(study_id) if study_id else keys.only_study(patient_key),
        plane=vocabulary.find_plane(plane) if plane else None,
        ga_days=_gestational_age(row, "ga_days"),
        ga_weeks_in_days=_gestational_age(row, "ga_weeks"),
        biometry={name: value for name in BIOMETRY if (value := _millimetres(row, name)) is not None},
        structures_seen=_structures(row, vocabulary),
        findings=_findings(row),
    )


def _gestational_age(row: Mapping[str, str], column: str) -> int | None:
    """In days. ``ga_weeks`` is decimal weeks (21.5), or weeks and days (21+3, 21w3d)."""
    text = row.get(column)
    if not text:
        return None
    both = _WEEKS_AND_DAYS.fullmatch(text)
    if column == "ga_weeks" and both:
        days = int(both[1]) * 7 + int(both[2])
    else:
        number = _number(text, column)
        if column == "ga_days" and not number.is_integer():
            raise _RowError("number_impossible", f"its {column} is no whole number")
        days = round(number * 7) if column == "ga_weeks" else int(number)
    if not GA_DAYS[0] <= days <= GA_DAYS[1]:
        raise _RowError("gestational_age_impossible", "its gestational age lies outside 4 to 45 weeks")
    return days


def _millimetres(row: Mapping[str, str], column: str) -> float | None:
    text = row.get(column)
    if not text:
        return None
    number = _number(text, column)
    if not 0 < number <= LIMITS_MM[column]:
        raise _RowError("number_impossible", f"its {column} is impossible")
    return number


def _number(text: str, column: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise _RowError("number_impossible", f"its {column} is no number")
    return float(text)


def _structures(row: Mapping[str, str], vocabulary: Vocabulary) -> tuple[str, ...]:
    """Vocabulary ids, in the vocabulary's order."""
    found = {vocabulary.find_structure(name) for name in _listed(row, "structures_seen")}
    if None in found:
        raise _RowError("structure_unknown", "it names a structure that the vocabulary does not have")
    return tuple(structure for structure in vocabulary.structures if structure in found)


def _findings(row: Mapping[str, str]) -> tuple[str, ...]:
    """Codes with their coding system; free text is refused, because it may name somebody."""
    codes = _listed(row, "findings")
    if not all(_CODE.fullmatch(code) for code in codes):
        raise _RowError("finding_malformed", "a finding is not written as SYSTEM:CODE")
    return tuple(sorted(set(codes)))


def _listed(row: Mapping[str, str], column: str) -> list[str]:
    return [item.strip() for item in row.get(column, "").split(";") if item.strip()]
