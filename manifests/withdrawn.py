"""Patients who took back their consent: no stage's rows of them are written any more.

The file holds keys alone. ``TableStore.admitted`` asks it, through which every stage's output passes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from .errors import UserError
from .schemas import FRAMES, RECORDS, STATEMENTS, TableSpec

FILE = "withdrawn.json"
PROOFS = "withdrawals"
"""The folder of what every withdrawal removed, by key."""

REASON, MESSAGE = "withdrawn", "the patient has taken back the consent"

PATIENT_COLUMNS = ("patient_key", "patient_center_key", "patient_number_key")
"""The columns by which a patient is known (``pseudonyms.PatientKeys``)."""

TABLES_OF_PATIENTS: Mapping[str, Sequence[str]] = {
    FRAMES.name: PATIENT_COLUMNS,
    STATEMENTS.name: PATIENT_COLUMNS,
    RECORDS.name: ("patient_key",),
}
"""The tables that name patients; all others follow from them."""


@dataclass(frozen=True)
class Withdrawn:
    """Keys of patients by the column of a table that has them.

    Attributes:
        unfinished: some of what the workspace had of them may still be there.
    """

    keys: Mapping[str, frozenset[str]] = field(default_factory=dict)
    unfinished: bool = False

    def __bool__(self) -> bool:
        return any(self.keys.values())

    def names(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of a table of patients is of one of them."""
        return any(row.get(column) in keys for column, keys in self.keys.items())

    def with_keys(self, keys: Mapping[str, frozenset[str]]) -> Withdrawn:
        merged = {
            column: self.keys.get(column, frozenset()) | keys.get(column, frozenset()) for column in PATIENT_COLUMNS
        }
        return Withdrawn(merged, self.unfinished)

    def as_json(self) -> dict[str, Any]:
        return {"unfinished": self.unfinished, **{column: sorted(keys) for column, keys in self.keys.items()}}


def read_withdrawn(workspace: Path) -> Withdrawn:
    """Who took back consent.

    Raises:
        UserError: the file is damaged: without it, nobody may write frames.
    """
    path = workspace / FILE
    try:
        content = json.loads(path.read_bytes())
        keys = {column: frozenset(map(str, content[column])) for column in PATIENT_COLUMNS}
        return Withdrawn(keys, bool(content["unfinished"]))
    except FileNotFoundError:
        return Withdrawn()
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            "the list of patients who took back their consent is damaged",
            where=str(path),
            fix="put a copy from your backup in its place",
        ) from error


def refuse_older_list(workspace: Path) -> None:
    """Refuse a list that names fewer patients than withdrawals have added: with it, they would come back.

    Raises:
        UserError: it does, or it is missing; or a proof is damaged.
    """
    keys = read_withdrawn(workspace).keys
    for path in sorted((workspace / PROOFS).glob("*.json")):
        if not path.stem.isdigit():
            continue
        try:
            remembered: Mapping[str, int] = json.loads(path.read_bytes()).get("remembered", {})
            older = any(len(keys.get(column, ())) < int(count) for column, count in remembered.items())
        except (ValueError, AttributeError, TypeError) as error:
            fix = "put a copy from your backup there"
            raise UserError("this proof is damaged", where=str(path), fix=fix) from error
        if older:
            raise UserError(
                f"the list of patients who took back their consent is older than {PROOFS}/{path.name}",
                where=str(workspace / FILE),
                fix="put the newest copy from your backup there, or move that folder away and withdraw them again",
            )


def refuse_unfinished(workspace: Path) -> None:
    """Refuse to go on while some of what has to go is still there: a run might take away what shows whose it is.

    Raises:
        UserError: a withdrawal was interrupted.
    """
    if read_withdrawn(workspace).unfinished:
        raise UserError(
            "a withdrawal was interrupted, so some of its patients' data may still be here",
            where=str(workspace),
            fix="run sono-curate withdraw again with the same list",
        )


def admitted(withdrawn: Withdrawn, table: TableSpec, rows: pa.Table) -> pa.Table:
    """Rows without those of these patients."""
    columns = TABLES_OF_PATIENTS.get(table.name)
    if not columns or not withdrawn:
        return rows
    keep = [not withdrawn.names(row) for row in rows.select(list(columns)).to_pylist()]
    return rows if all(keep) else rows.take(pa.array([number for number, kept in enumerate(keep) if kept], pa.int64()))
