"""A workspace with a cine of which one frame has accepted masks."""

from __future__ import annotations

from pathlib import Path

import pytest

from sono.curation.ingest.run import ingest
from sono.curation.masks.run import import_masks
from sono.manifests.stages import in_process
from sono.manifests.workspace import Workspace
from tests.curation.masks.cines import DrawnCine, draw_cine


@pytest.fixture
def drawn() -> DrawnCine:
    return draw_cine(5)


@pytest.fixture
def with_cine(workspace: Workspace, tmp_path: Path, drawn: DrawnCine) -> Workspace:
    """P1.tiff has five frames; both structures of frame 1 were drawn."""
    drawn.save(tmp_path / "scans" / "P1.tiff")
    ingest(workspace, [tmp_path / "scans"], engine=in_process, patient_regex=r"^(P\d)", cropped=True)
    for structure in drawn.masks:
        drawn.save_mask(tmp_path / "drawings" / structure, "P1", structure, 1)
    import_masks(workspace, tmp_path / "drawings", mask_format="png", engine=in_process)
    return workspace
