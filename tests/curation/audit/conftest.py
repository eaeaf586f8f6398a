"""An archive of two patients, with text over the ultrasound, and its audited workspace."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sono.curation.audit.report.result import AuditReport
from sono.curation.audit.run import audit
from sono.curation.images.stored_png import decode_png, encode_png
from sono.curation.ingest.cleaning_page import write_cleaning_report
from sono.curation.ingest.run import ingest
from sono.curation.qc.page import write_qc_report
from sono.curation.qc.run import qc
from sono.manifests.key_check import record_key
from sono.manifests.schemas import FRAMES, TableSpec
from sono.manifests.stages import in_process
from sono.manifests.workspace import Workspace, create, open_workspace
from tests.curation.phantom.archive import Phantom, draw_and_read, read

SEED, EXAMS = 8, 2
Row = dict[str, Any]
MadeOnce = Callable[[str, Callable[[Path], object]], Path]


@dataclass(frozen=True)
class Audited:
    """A workspace with a passed audit, and the archive that it was made from."""

    workspace: Workspace
    phantom: Phantom

    @property
    def sources(self) -> list[Path]:
        return centers(self.phantom)

    def audit(self, sources: Sequence[Path] | None = None, **options: Any) -> AuditReport:
        return audit(self.workspace, sources or self.sources, engine=in_process, centers=["north", "south"], **options)

    def edit(self, change: Callable[[list[Row]], object], table: TableSpec = FRAMES) -> None:
        """Change the rows of every part of a table, as ``change`` does in place."""
        store = self.workspace.store
        for name, info in store.parts(table).items():
            rows = store.read(table, name).to_pylist()
            change(rows)
            store.write(table, info, table.from_rows(rows))


@pytest.fixture(scope="session")
def audited_once(made_once: MadeOnce) -> Path:
    return made_once("audited", _fill)


@pytest.fixture
def audited(audited_once: Path, tmp_path: Path) -> Audited:
    """A copy that a test may break; the archive is shared and only read."""
    shutil.copytree(audited_once / "workspace", tmp_path / "workspace")
    return Audited(open_workspace(tmp_path / "workspace"), read(audited_once / "out", SEED, EXAMS))


def repaint(row: Row, change: Callable[[Any], Any], workspace: Workspace) -> None:
    """Change a row's stored pixels, and its digest with them."""
    pixels = np.ascontiguousarray(change(decode_png(row["image"]["bytes"]).copy()))
    row["image"] = {"bytes": encode_png(pixels), "path": None}
    row["pixel_digest"] = workspace.keys.pixels(pixels.shape, pixels.data)


def centers(phantom: Phantom) -> list[Path]:
    return sorted((phantom.out / "dicom").iterdir())


def _fill(folder: Path) -> None:
    phantom = draw_and_read(folder / "out", SEED, EXAMS)
    workspace = create(folder / "workspace", "north")
    (workspace.path / "secret.key").write_text("5e" * 32)
    record_key(workspace.path, workspace.keys)
    for center in centers(phantom):
        ingest(workspace, [center], center=center.name, engine=in_process)
    audited = Audited(workspace, phantom)
    qc(workspace, engine=in_process)
    write_cleaning_report(workspace)
    write_qc_report(workspace)
    audited.audit()
