"""A phantom archive: synthetic fetal ultrasound examinations as a hospital has them, with the truth beside them.

::

    OUT/dicom/<center>/<patient>/<date>/IM0001.dcm    what ingest reads
    OUT/records/{csv,fhir,sr}/                        the same clinical facts in three forms
    OUT/truth/<table>/part-*.parquet                  the tables of ``truth``
    OUT/truth/masks/<center>/<structure>/<patient>/.. masks as ``masks import`` reads them
    OUT/phantom.json                                  what was asked for
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from sono.manifests.errors import UserError
from sono.manifests.outputs import refuse_inside_dataset
from sono.manifests.stages import Engine, Progress, RunReport, run_stage
from sono.manifests.store import TableStore, exclusive, write_atomically

from .stage import PhantomStage, plan_parts

_DESCRIPTION = "phantom.json"
_UNFINISHED = ".tmp-*"  # what write_atomically leaves behind if its process is killed


def draw_phantom(
    out: Path,
    *,
    exams: int,
    seed: int = 0,
    engine: Engine,
    progress: Callable[[Progress], None] = lambda _: None,
) -> RunReport:
    """Draw ``exams`` examinations into ``out``, resuming an interrupted run.

    Asking for more examinations later adds to those already drawn. The same seed gives the same bytes wherever the same
    versions of the libraries are installed.

    Raises:
        UserError: ``exams`` is below 1, or the folder holds something else.
    """
    if exams < 1:
        raise UserError(f"cannot draw {exams} exams", fix="give --exams 1 or more")
    if out.exists() and not out.is_dir():
        raise UserError("not a folder", where=str(out), fix="name a new folder")
    refuse_inside_dataset(out)
    out.mkdir(parents=True, exist_ok=True)
    with exclusive(out, str(out)):
        _claim(out, exams, seed)
        store = TableStore(out / "truth")
        _remove_leftovers(out)
        stage = PhantomStage(str(out.resolve()), seed)
        try:
            return run_stage(stage, plan_parts(exams), store, engine=engine, progress=progress)
        finally:
            _remove_leftovers(out)


def _remove_leftovers(out: Path) -> None:
    for leftover in out.rglob(_UNFINISHED):
        leftover.unlink(missing_ok=True)


def _claim(out: Path, exams: int, seed: int) -> None:
    """Refuse every folder but an empty one, or one with at most as many examinations of the same seed and version."""
    path = out / _DESCRIPTION
    wanted = {"exams": exams, "seed": seed, "version": PhantomStage.version}
    if path.exists():
        found = _read_description(path)
        if {**found, "exams": exams} != wanted or found["exams"] > exams:
            raise UserError(
                f"this folder contains a phantom of {found['exams']} exams, seed {found['seed']}",
                where=str(out),
                fix="name a new folder, or ask for the same seed and at least as many exams",
            )
    elif any(entry.name != ".lock" for entry in out.iterdir()):
        raise UserError("the folder is not empty", where=str(out), fix="name a new folder")
    write_atomically(path, lambda file: file.write(json.dumps(wanted, indent=2).encode()))


def _read_description(path: Path) -> dict[str, int]:
    try:
        found = json.loads(path.read_text())
        return {name: int(found[name]) for name in ("exams", "seed", "version")}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError("this does not describe a phantom", where=str(path), fix="name a new folder") from error
