"""Refuses tables that nothing may be made from: missing, doubled by an interrupted command, or judged by another qc."""

from __future__ import annotations

from collections.abc import Sequence

from sono.manifests.errors import UserError
from sono.manifests.query import query
from sono.manifests.schemas import TableSpec
from sono.manifests.stages import stale_parts
from sono.manifests.workspace import Workspace

from .parts import qc_parts
from .stage import QcSection, QcStage

WrittenBy = Sequence[tuple[TableSpec, str]]
"""Tables, each with the command of sono-curate that writes it."""


def refuse_missing(workspace: Workspace, tables: WrittenBy) -> None:
    """Refuse to go on without one of the tables.

    Raises:
        UserError: one is not there; the text names the command to run.
    """
    for table, command in tables:
        if not workspace.store.paths(table):
            raise UserError(
                f"the workspace has no {table.name} yet",
                where=str(workspace.path),
                fix=f"run sono-curate {command} first",
            )


def refuse_interrupted(workspace: Workspace, tables: WrittenBy) -> None:
    """Refuse tables that have a key twice.

    Old parts are removed after the new ones are written; in between, a frame may even have two patients.

    Raises:
        UserError: one has; the text names the command to run again.
    """
    for table, command in tables:
        paths = [str(path) for path in workspace.store.paths(table)]
        sql = f"SELECT count(*) > count(DISTINCT {table.key}) AS twice FROM read_parquet($paths)"
        if paths and query(sql, {"paths": paths})["twice"][0].as_py():
            raise UserError(
                f"sono-curate {command} was interrupted",
                where=str(workspace.path),
                fix="run it again and let it finish",
            )


def refuse_outdated_verdicts(workspace: Workspace) -> None:
    """Refuse verdicts on other pixels, or with other thresholds: they must not decide what is used or shown.

    Raises:
        UserError: there are some.
    """
    store, path = workspace.store, str(workspace.path)
    if stale_parts(QcStage(workspace.section("qc", QcSection)), qc_parts(store), store):
        raise UserError("quality control is out of date", where=path, fix=f"run sono-curate qc {path} first")
