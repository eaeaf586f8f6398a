"""The CSV that describes files: patient, study, plane, center, pixel size, date."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from sono.manifests.errors import UserError, did_you_mean
from sono.manifests.pseudonyms import without_extension
from sono.manifests.vocabulary import Vocabulary

REQUIRED = ("file", "patient_id")
OPTIONAL = ("study_id", "plane", "center", "pixel_mm", "date")

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
    """Read the CSV that ``sono-curate ingest --metadata`` takes.

    Raises:
        UserError: the file is missing, empty or not UTF-8, a column is missing or unknown, or two rows name one file.
            Values of cells are never quoted; lines are named by number.
    """
    rows: dict[str, FileMetadata] = {}
    warnings: list[str] = []
    for line, cells in enumerate(_read_cells(csv, patient_required), start=2):
        file = without_extension(cells["file"].replace("\\", "/").removeprefix("./")) if cells["file"] else ""
        if not file:
            raise UserError(
                "the file cell is empty", where=f"{csv}, line {line}", fix="name the file, or delete the row"
            )
        if file in rows:
            raise UserError("a second row names the same file", where=f"{csv}, line {line}", fix="keep one of them")
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


def _read_cells(csv: Path, patient_required: bool) -> Iterator[dict[str, str]]:
    """The rows of the file, as stripped cells by column."""
    import pandas as pd

    try:
        table = pd.read_csv(csv, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True)
    except FileNotFoundError:
        raise UserError("file not found", where=str(csv), fix="check the path of the metadata CSV") from None
    except IsADirectoryError:
        raise UserError("this is a folder", where=str(csv), fix="give the metadata CSV itself") from None
    except UnicodeDecodeError as error:
        raise UserError("the CSV is not UTF-8", where=str(csv), fix="save it again as UTF-8") from error
    except pd.errors.EmptyDataError:
        raise UserError("the CSV is empty", where=str(csv), fix=f"columns: {', '.join(REQUIRED + OPTIONAL)}") from None
    except pd.errors.ParserError as error:
        found = re.search(r"line (\d+)", str(error))
        place = f"line {found.group(1)}" if found else "a line"
        raise UserError(f"{place} has more cells than the header", where=str(csv), fix="correct that line") from None
    _check_columns([str(name) for name in table.columns], csv, patient_required)
    for row in table.to_dict("records"):
        yield {str(name): str(value).strip() for name, value in row.items()}


def _check_columns(columns: Sequence[str], csv: Path, patient_required: bool) -> None:
    required = REQUIRED if patient_required else REQUIRED[:1]
    for name in required:
        if name not in columns:
            raise UserError(
                f"the column {name!r} is missing", where=str(csv), fix=f"its columns are: {', '.join(columns)}"
            )
    unknown = [name for name in columns if name not in REQUIRED + OPTIONAL]
    if unknown:
        known = f"known columns: {', '.join(REQUIRED + OPTIONAL)}; delete or rename it"
        fix = did_you_mean(unknown[0], REQUIRED + OPTIONAL) or known
        raise UserError(f"unknown column {unknown[0]!r}", where=str(csv), fix=fix)


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
    return FileMetadata(*ids, plane, center, pixel_mm, date, problem), warning


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
