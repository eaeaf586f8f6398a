"""A small archive of real files, taken as far as captions, and what a build of it wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from sono.captioning.captions.run import caption_workspace
from sono.curation.dataset.run import BuildReport, build
from sono.curation.ingest.run import ingest
from sono.curation.masks.run import import_masks
from sono.curation.qc.run import qc
from sono.manifests.splits import SplitPlan
from sono.manifests.stages import Engine, in_process
from sono.manifests.workspace import Workspace, open_workspace

PLAN = SplitPlan(validation=0.25, test=0.25, seed=3)


def disk(center: tuple[int, int] = (130, 110)) -> npt.NDArray[np.bool_]:
    canvas = np.zeros((200, 260), np.uint8)
    cv2.circle(canvas, center, 45, 255, -1)
    return canvas > 0


class Curation:
    """An archive with its metadata, records and masks, which is taken as far as captions."""

    def __init__(self, workspace: Workspace, archive: Path, folder: Path) -> None:
        self.workspace, self.archive, self.folder = workspace, archive, folder
        self.metadata = folder / "metadata.csv"
        self.records = folder / "records.csv"
        self.drawn = folder / "masks"

    def describe(
        self, center_of: Callable[[str], str] = lambda _: "A", *, pixel_mm: str = "0.2", ga_days: int = 140
    ) -> None:
        files = sorted(path.relative_to(self.archive).as_posix() for path in self.archive.rglob("*.png"))
        patients = sorted({file[:2] for file in files})
        lines = [f"{file},{file[:2]},transthalamic,{center_of(file)},{pixel_mm}" for file in files]
        self.metadata.write_text("\n".join(["file,patient_id,plane,center,pixel_mm", *lines]) + "\n")
        ages = [f"{patient},{ga_days + 7 * number}" for number, patient in enumerate(patients)]
        self.records.write_text("\n".join(["patient_id,ga_days", *ages]) + "\n")
        for file in files[::2]:
            (self.drawn / file).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(self.drawn / file), disk().astype(np.uint8) * 255)

    def run(self) -> None:
        ingest(self.workspace, [self.archive], engine=in_process, metadata=self.metadata, cropped=True)
        qc(self.workspace, engine=in_process)
        import_masks(self.workspace, self.drawn, structure="head", mask_format="png", engine=in_process)
        caption_workspace(self.workspace, [self.records], templates="paper", engine=in_process)

    def publish(self, **values: str | int) -> None:
        """Set keys of ``[publish]`` and no others."""
        file = self.workspace.path / "sono.toml"
        text = file.read_text().partition("[publish]")[0]
        file.write_text(
            text + "[publish]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
        )
        self.workspace = open_workspace(self.workspace.path)

    def build(
        self,
        out: Path,
        plan: SplitPlan = PLAN,
        max_side_px: int | None = None,
        unchecked: bool = True,
        engine: Engine = in_process,
        **options: Any,
    ) -> BuildReport:
        return build(
            self.workspace,
            out,
            plan=plan,
            **options,
            max_side_px=max_side_px,
            allow_unchecked_text=unchecked,
            engine=engine,
        )


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [
        {**row, "split": path.name.partition("-")[0]}
        for path in sorted((out / "data").glob("*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]
