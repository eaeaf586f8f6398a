"""The list of patients who took back their consent, as a hospital writes it."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sono.manifests.delimited import DELIMITERS, bounded_lines, text_format
from sono.manifests.errors import UserError, did_you_mean
from sono.manifests.pseudonyms import GLOBAL, Pseudonymizer

COLUMNS = ("patient_id", "issuer", "center")


@dataclass(frozen=True)
class ListedPatient:
    """A patient by the number of the hospital. Its representation does not show it."""

    line: int
    patient_id: str
    issuer: str = ""
    center: str = ""

    def __repr__(self) -> str:
        return f"ListedPatient(line={self.line})"

    def rule(self, keys: Pseudonymizer) -> tuple[str, str]:
        """The column of tables, and the key in it, by which the patient is known."""
        known = keys.patient_keys(self.patient_id, issuer=self.issuer, center=self.center)
        if self.issuer.strip() and keys.patient_scope != GLOBAL:
            return "patient_key", known.patient
        if self.center.strip() and keys.patient_scope != GLOBAL:
            return "patient_center_key", known.center
        return "patient_number_key", known.number


def read_patients(path: Path) -> list[ListedPatient]:
    """Patients of a text file, one number per line, or of a CSV file with the columns ``COLUMNS``.

    Raises:
        UserError: the file cannot be read, is empty, or has other columns. No line is quoted.
    """
    if not path.is_file():
        what = "not a file" if path.exists() else "file not found"
        raise UserError(what, where=str(path), fix="give the list of patients")
    try:
        found = text_format(path)
        with path.open(encoding=found.encoding, newline="") as file:
            lines = list(csv.reader(bounded_lines(file), delimiter=found.delimiter, skipinitialspace=True))
    except (OSError, ValueError, csv.Error) as error:  # text of another encoding, and endless lines, are ValueErrors
        raise UserError("the list of patients cannot be read", where=str(path), fix="give a UTF-8 text file") from error
    rows = list(_rows(lines, str(path)))
    patients = [ListedPatient(number, **cells) for number, cells in rows if cells.get("patient_id")]
    if not patients:
        raise UserError("the list names nobody", where=str(path), fix="give one patient number per line")
    return patients


def _rows(lines: Sequence[Sequence[str]], where: str) -> Iterator[tuple[int, dict[str, str]]]:
    """The cells of each line by name, with the line's number."""
    names = [cell.strip().lower() for cell in lines[0]] if lines else []
    for number, cells in enumerate(lines, 1):
        if len(names) == 1 and (len(cells) > 1 or any(cell in DELIMITERS for cell in "".join(cells))):
            fix = f"name all of them in the first line: {', '.join(COLUMNS)}"
            raise UserError(f"line {number} of the list has several columns, the first has one", where=where, fix=fix)
    if "patient_id" not in names:
        if any(len(cells) > 1 for cells in lines):
            fix = f"name them in the first line: {', '.join(COLUMNS)}"
            raise UserError("the list has several columns without names", where=where, fix=fix)
        yield from ((number, {"patient_id": cells[0].strip()}) for number, cells in enumerate(lines, 1) if cells)
        return
    for number, name in enumerate(names, 1):
        if name not in COLUMNS:
            fix = did_you_mean(name, COLUMNS) or f"columns are {', '.join(COLUMNS)}"
            raise UserError(f"column {number} of the list has no known name", where=where, fix=fix)
    for number, cells in enumerate(lines[1:], 2):
        if any(cell.strip() for cell in cells[len(names) :]):  # a comma in a name, perhaps: nobody else may be meant
            fix = "put names with commas into quotes"
            raise UserError(f"line {number} of the list has more columns than the first", where=where, fix=fix)
        yield number, dict(zip(names, map(str.strip, cells), strict=False))
