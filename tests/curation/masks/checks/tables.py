"""Frames, regions and records written straight into a workspace's tables: masks with whatever fault a test needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from sono.curation.images.stored_png import encode_png
from sono.manifests import masks
from sono.manifests.schemas import FRAMES, RECORDS, REGIONS, TableSpec
from sono.manifests.store import PartInfo
from sono.manifests.workspace import Workspace

Mask = npt.NDArray[np.bool_]
SIZE = (80, 100)


def disc(x: int, y: int, radius: int) -> Mask:
    canvas = np.zeros(SIZE, np.uint8)
    cv2.circle(canvas, (x, y), radius, 1, -1)
    return canvas > 0


@dataclass
class Tables:
    """Collects rows; ``write`` puts them into one part of each table."""

    frames: list[dict[str, object]] = field(default_factory=list)
    regions: list[dict[str, object]] = field(default_factory=list)
    records: list[dict[str, object]] = field(default_factory=list)

    def frame(
        self, name: str, *, plane: str | None = "transthalamic", ga_days: int | None = None, **others: Any
    ) -> str:
        """A frame of a patient of its own, 0.5 mm per px; with ``ga_days`` its examination has a record."""
        height, width = SIZE
        sector = {
            "kind": "linear",
            "apex": None,
            "angles": None,
            "radii": None,
            "box": [10, 0, 80, 80],
            "confidence": 1,
        }
        row: dict[str, object] = {
            "frame_id": name,
            "image": {"bytes": encode_png(np.full(SIZE, 60, np.uint8)), "path": None},
            "height": height,
            "width": width,
            "crop": [0, 0, width, height],
            "patient_key": f"patient of {name}",
            "study_key": f"study of {name}",
            "source_key": f"source of {name}",
            "source_digest": "",
            "frame_index": 0,
            "frame_count": 1,
            "plane": plane,
            "pixel_mm_x": 0.5,
            "pixel_mm_y": 0.5,
            "sectors": [sector],
            "pixel_digest": f"pixels of {name}",
            "grey_histogram": [0] * 256,
            "laplacian_energy": 0.0,
            "burned_in_text": "none",
            **others,
        }
        self.frames.append(row)
        if ga_days is not None:
            record = {"study_key": row["study_key"], "patient_key": row["patient_key"], "provenance": "{}"}
            self.records.append({**record, "ga_days": ga_days})
        return name

    def region(
        self, frame: str, structure: str, drawn: Mask, *, source: str = "import", status: str = "accepted",
        updated_at: datetime | None = None, **others: Any,
    ) -> str:  # fmt: skip
        name = f"{structure} of {frame} by {source}"
        self.regions.append(
            {
                "region_id": name,
                "frame_id": frame,
                "pixel_digest": f"pixels of {frame}",
                "structure": structure,
                "mask": masks.encode(drawn),
                "area_px": masks.area_px(drawn),
                "bbox": list(masks.bbox(drawn)),
                "source": source,
                "status": status,
                "updated_at": updated_at,
                **others,
            }
        )
        return name

    def write(self, workspace: Workspace) -> None:
        def put(table: TableSpec, rows: list[dict[str, object]]) -> None:
            info = PartInfo("drawn", "drawn", str(len(rows)), "", len(rows))
            workspace.store.write(table, info, table.from_rows(rows))

        put(FRAMES, self.frames)
        put(REGIONS, self.regions)
        put(RECORDS, self.records)
