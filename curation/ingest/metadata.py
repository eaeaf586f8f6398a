"""The CSV that describes files: patient, study, plane, center, pixel size, date."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping, Sequence
from csv import Error as CsvError
from csv import reader as csv_reader
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from sono.manifests.delimited import LongLineError, bounded_lines, text_format
from sono.manifests.errors import UserError, did_you_mean
from sono.manifests.pseudonyms import without_extension
from sono.manifests.vocabulary import Vocabulary

REQUIRED = ("file", "patient_id")
OPTIONAL = ("study_id", "plane", "center", "issuer", "pixel_mm", "date")

_EXPECTED = f"columns: {', '.join(REQUIRED)}; optional: {', '.join(OPTIONAL)}"
_CENTER = re.compile(r"^[\w .()-]{1,64}$")


@dataclass(frozen=True)
class FileMetadata:
    """One row of the CSV; ``problem`` is the reason code of an exclusion if the row cannot be used."""

    patient_id: str = ""
    study_id: str = ""
    plane: str | None = None
    center: str | None = None
    pixel_mm: float | None = None
    date: datetime.date | None = None  # of the examination
    issuer: str = ""  # of the patient's number
    problem: str | None = None


@dataclass(frozen=True)
class Metadata:
    """Rows by file (its relative path or bare name, without extension), and what is wrong with rows, by line."""

    rows: Mapping[str, FileMetadata] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    def find(self, relative: str, bare_name_is_unique: bool) -> FileMetadata | None:
        """The row of a file, by its path, or by its bare name if only one file has that name."""
        path = without_extension(relative)
        if path in self.rows:
            return self.rows[path]
        return self.rows.get(PurePosixPath(path).name) if bare_name_is_unique else None


def read_metadata(csv: Path, vocabulary: Vocabulary, patient_required: bool = True) -> Metadata:
    """Read the CSV that ``sono-curate ingest --metadata`` takes: cells separated by commas, semicolons or tabs.

    Where the delimiter is not a comma, ``pixel_mm`` may have a decimal comma.

    Raises:
        UserError: the file is missing, empty, or neither UTF-8 nor UTF-16; a column is missing or unknown; a line has
            another number of cells than the header; or two rows name one file. Cells are never quoted; lines and
            columns are named by number.
    """
    rows: dict[str, FileMetadata] = {}
    warnings: list[str] = []
    for line, cells, decimal_comma in _read_cells(csv, patient_required):
        file = without_extension(cells["file"].replace("\\", "/").removeprefix("./")) if cells["file"] else ""
        if not file:
            raise UserError(
                "the file cell is empty", where=f"{csv}, line {line}", fix="name the file, or delete the row"
            )
        if file in rows:
            raise UserError("a second row for the same file", where=f"{csv}, line {line}", fix="keep one of them")
        if decimal_comma and cells.get("pixel_mm"):
            cells["pixel_mm"] = cells["pixel_mm"].replace(",", ".")
        rows[file], warning = _row(cells, vocabulary, patient_required)
        if warning:
            warnings.append(f"line {line}: {warning}")
    return Metadata(rows, warnings)


def require_center(name: str) -> str:
    """``name``, if it can be the name of a center in a dataset.

    Raises:
        UserError: it cannot.
    """
    if not _CENTER.fullmatch(name):
        raise UserError(
            "this cannot be the name of a center",
            where="--center",
            fix="use up to 64 letters, digits, spaces and . ( ) -",
        )
    return name


def _read_cells(csv: Path, patient_required: bool) -> Iterator[tuple[int, dict[str, str], bool]]:
    """The rows of the file: the number of the line, stripped cells by column, whether cells may hold decimal commas."""
    where = str(csv)
    line = 1
    try:
        form = text_format(csv)
        with csv.open(encoding=form.encoding, newline="") as file:
            lines = bounded_lines(file)
            reader = csv_reader(lines, delimiter=form.delimiter, skipinitialspace=True, strict=True)
            columns: list[str] = []
            for cells in reader:
                if not columns and any(cells):
                    columns = [name.strip() for name in cells]
                    _check_columns(columns, where, patient_required)
                elif columns and len(cells) == len(columns):
                    values = (cell.strip() for cell in cells)
                    yield line, dict(zip(columns, values, strict=True)), form.decimal_comma
                elif any(cell.strip() for cell in cells):
                    raise _wrong_number(len(cells), len(columns), f"{where}, line {line}")
                line = reader.line_num + 1
    except FileNotFoundError:
        raise UserError("file not found", where=where, fix="check the path of the metadata CSV") from None
    except IsADirectoryError:
        raise UserError("this is a folder", where=where, fix="give the metadata CSV itself") from None
    except UnicodeError:
        raise UserError("the CSV is neither UTF-8 nor UTF-16", where=where, fix="save it again as UTF-8") from None
    except (CsvError, LongLineError):
        raise UserError(
            "not valid CSV: a quote that is not closed, or a line far too long",
            where=f"{where}, line {line}",
            fix="correct that line",
        ) from None
    if not columns:
        raise UserError("the CSV is empty", where=where, fix=_EXPECTED)


def _wrong_number(cells: int, columns: int, where: str) -> UserError:
    """Cells are never shifted: one too many or too few puts a value under another column's name."""
    kind = "more" if cells > columns else "fewer"
    return UserError(
        f"{kind} cells than the header: {cells}, not {columns}",
        where=where,
        fix="correct the line, and put cells that contain the delimiter between quotes",
    )


def _check_columns(columns: Sequence[str], where: str, patient_required: bool) -> None:
    """Names that are not known are told by their place only: the first line of a file without a header is a patient's.

    Raises:
        UserError: a column is missing, unknown or listed twice.
    """
    known = REQUIRED + OPTIONAL
    if not set(columns) & set(known):
        raise UserError("the first line names none of the columns", where=where, fix=_EXPECTED)
    required = REQUIRED if patient_required else REQUIRED[:1]
    for number, name in enumerate(columns, start=1):
        if name in known:
            if columns.index(name) < number - 1:
                raise UserError(f"the column {name!r} is listed twice", where=where, fix="delete one of them")
            continue
        fix = did_you_mean(name, known) or f"{_EXPECTED}; delete or rename it"
        raise UserError(f"column {number} is unknown", where=where, fix=fix)
    for name in required:
        if name not in columns:
            raise UserError(f"the column {name!r} is missing", where=where, fix=_EXPECTED)


def _row(cells: Mapping[str, str], vocabulary: Vocabulary, patient_required: bool) -> tuple[FileMetadata, str | None]:
    plane, problem, warning = None, None, None
    if cells.get("plane"):
        plane = vocabulary.find_plane(cells["plane"])
        if plane is None:
            nearest = vocabulary.nearest_plane(cells["plane"])
            problem = "unknown_plane"
            warning = "unknown plane" + (f"; did you mean {nearest!r}?" if nearest else "")
    center = cells.get("center") or None
    if center is not None and not _CENTER.fullmatch(center):
        problem, warning = "bad_metadata", "this cannot be the name of a center"
    pixel_mm = None
    if cells.get("pixel_mm"):
        pixel_mm = _positive(cells["pixel_mm"])
        if pixel_mm is None:
            problem, warning = "bad_metadata", "pixel_mm is not a number between 0 and 100"
    date = None
    if cells.get("date"):
        date = _date(cells["date"])
        if date is None:
            problem, warning = "bad_metadata", "date is not written as 2024-05-31 or 20240531"
    if patient_required and not cells.get("patient_id"):
        problem, warning = "patient_unknown", "no patient_id"
    ids = cells.get("patient_id", ""), cells.get("study_id", "")
    return FileMetadata(*ids, plane, center, pixel_mm, date, cells.get("issuer", ""), problem), warning


def _date(text: str) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        return None


def _positive(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < 100 else None
