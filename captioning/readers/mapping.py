"""The mapping file: which fact each column of a hospital's table gives, in which unit and by which code list."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from sono.manifests.errors import UserError, did_you_mean
from sono.manifests.schemas import BIOMETRY

IGNORED, NAME, TEXT = "ignore", "name", "text"

AGES: Mapping[str, tuple[str, str]] = {
    "ga_days": ("ga_days", "d"),
    "ga_weeks": ("ga_days", "wk"),
    "ga_days_by_edd": ("ga_days_by_edd", "d"),
    "ga_weeks_by_edd": ("ga_days_by_edd", "wk"),
    "ga_days_by_lmp": ("ga_days_by_lmp", "d"),
    "ga_weeks_by_lmp": ("ga_days_by_lmp", "wk"),
    "ga_days_by_ultrasound": ("ga_days_by_ultrasound", "d"),
    "ga_weeks_by_ultrasound": ("ga_days_by_ultrasound", "wk"),
}
"""Columns that hold a gestational age: the fact they give, and their unit (UCUM)."""

DATES: Mapping[str, str] = {"lmp": "lmp_day", "edd": "edd_day"}
"""Columns that hold a date of the pregnancy: the fact they give."""

IDENTIFIERS = ("patient_id", "study_id", "accession", "exam_date", "plane")
COLUMNS = (
    *IDENTIFIERS,
    *AGES,
    *DATES,
    *BIOMETRY,
    "laterality",
    "presentation",
    "structures_seen",
    "findings",
    NAME,
    TEXT,
)
"""What a column may contain. ``name``: a person's name or another identifier, kept out of captions. ``text``: prose."""

_SEVERAL = (NAME, TEXT, IGNORED)


class _Column(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    holds: str
    unit: str | None = None  # UCUM, of a measurement or an age
    codes: Mapping[str, str] = {}  # what a cell says -> what it means here
    format: str | None = None  # of a date, as in Python's strptime


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    date_format: str | None = None
    columns: Mapping[str, str | _Column]


@dataclass(frozen=True)
class Column:
    """What a column of the table holds: one of ``COLUMNS`` or ``ignore``, and how its cells are to be read."""

    name: str
    holds: str
    unit: str | None = None
    codes: Mapping[str, str] = field(default_factory=dict)
    date_format: str | None = None  # None: ISO 8601


@dataclass(frozen=True)
class ColumnMapping:
    """The columns that a mapping file names, by names in lower case; others must have the names of ``COLUMNS``."""

    columns: Mapping[str, Column] = field(default_factory=dict)
    date_format: str | None = None
    where: str | None = None

    @cached_property
    def as_json(self) -> dict[str, object]:
        """Everything that decides what is read, for fingerprints."""
        return {
            name: [column.holds, column.unit, dict(column.codes), column.date_format]
            for name, column in self.columns.items()
        } | {"": self.date_format}

    def resolve(self, header: Sequence[str], where: str) -> list[Column]:
        """What each column of a table holds.

        Raises:
            UserError: a column is unknown or is listed twice, one that the mapping names is missing, or no column holds
                the patient. The text names columns only, and not even those where the first line may be a patient's.
        """
        names = [name.strip().lower() for name in header]
        found = [self._column(original.strip(), name) for original, name in zip(header, names, strict=True)]
        if not any(column is not None and column.holds == "patient_id" for column in found):
            # First of all, and without showing the line: a file without a header begins with a patient.
            raise UserError(
                "no column gives the patient_id",
                where=where,
                fix="name it in the first line, or map a column to it in the mapping file",
            )
        for name, column in zip(names, found, strict=True):
            if column is None:
                self._unknown(name, where)
        columns = [column for column in found if column is not None]
        self._check(columns, names, where)
        return columns

    def column(self, name: str) -> Column:
        """The column of one of the names of ``COLUMNS``."""
        return Column(name, name, date_format=self.date_format)

    def _column(self, original: str, name: str) -> Column | None:
        if name in self.columns:
            return self.columns[name]
        return replace(self.column(name), name=original) if name in COLUMNS else None

    def _unknown(self, name: str, where: str) -> None:
        known = [*COLUMNS, *(column.name.lower() for column in self.columns.values())]
        question = did_you_mean(name, known)
        otherwise = f"map it to a fact, or to {IGNORED!r}, in a mapping file"
        fix = f"{question} If not, {otherwise}" if question else otherwise
        raise UserError(f"unknown column {name!r}", where=where, fix=fix)

    def _check(self, columns: Sequence[Column], names: Sequence[str], where: str) -> None:
        missing = [column.name for name, column in self.columns.items() if name not in names]
        if missing:
            hint = did_you_mean(missing[0].lower(), names) or "remove it from the mapping file"
            raise UserError(
                f"the mapping names the column {missing[0]!r}, which the table does not have", where=where, fix=hint
            )
        for column in columns:
            same = [other.name for other in columns if other.holds == column.holds]
            if len(same) > 1 and column.holds not in _SEVERAL:
                raise UserError(
                    f"two columns hold {column.holds!r}: {same[0]!r} and {same[1]!r}",
                    where=where,
                    fix=f"map one of them to {IGNORED!r}",
                )


def load_mapping(path: Path | None) -> ColumnMapping:
    """The mapping in a TOML file; without one, columns must have the names of ``COLUMNS``.

    Raises:
        UserError: the file is missing or not valid TOML, or names something unknown; the text names the column.
    """
    if path is None:
        return ColumnMapping()
    where = str(path)
    try:
        content = _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError("file not found", where=where, fix="check the path of the mapping file") from None
    except IsADirectoryError:
        raise UserError("this is a folder", where=where, fix="name the mapping file") from None
    except UnicodeDecodeError as error:
        raise UserError("not UTF-8", where=where, fix="save it again as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"not valid TOML: {error}", where=where, fix="correct that line") from error
    except ValidationError as error:
        # for a column that is neither a name nor a table, pydantic reports two errors; the second one helps
        first = next((each for each in error.errors() if "_Column" in each["loc"]), error.errors()[0])
        place = ".".join(str(part) for part in first["loc"] if part != "_Column")
        raise UserError(f"{place}: {first['msg']}", where=where, fix="see docs/record_formats.md") from error
    columns = {
        name.strip().lower(): _mapped(name.strip(), value, content.date_format, where)
        for name, value in content.columns.items()
    }
    return ColumnMapping(columns, content.date_format, where)


def _mapped(name: str, value: str | _Column, date_format: str | None, where: str) -> Column:
    given = _Column(holds=value) if isinstance(value, str) else value
    if given.holds not in (*COLUMNS, IGNORED):
        raise UserError(
            f"column {name!r} is mapped to {given.holds!r}, which is not a fact",
            where=where,
            fix=did_you_mean(given.holds, (*COLUMNS, IGNORED)) or "see docs/record_formats.md for the facts",
        )
    measured = given.holds in BIOMETRY
    units = ("mm", "cm", "m") if measured else ("d", "wk") if given.holds in AGES else ()
    if given.unit is not None and given.unit not in units:
        known = f"give one of {', '.join(units)}" if units else "it takes no unit"
        raise UserError(f"column {name!r} has the unknown unit {given.unit!r}", where=where, fix=known)
    return Column(name, given.holds, given.unit, dict(given.codes), given.format or date_format)
