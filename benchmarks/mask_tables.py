"""Memory and time of `status` and of the page of masks in a workspace with many masks.

    python benchmarks/mask_tables.py OUT [--masks 1000000] [--proposed]

Frames of cines with four masks each. Half of the frames have accepted masks, the others proposals that were carried
from them or, with --proposed, made by a backend. Masks are random text of 400 characters, because nothing here decodes
them, and there are hardly any pixels. Each measurement is a process of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sono.manifests.schemas import TableSpec
    from sono.manifests.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "typings"))

MASKS, FRAMES_IN_PART, FRAMES_IN_CINE = 4, 2000, 10
CARRIED = "masks-carry", "carry-", {"structures": None, "refined_by": None}
PROPOSED = "masks-propose", "proposed-grabcut-", {
    **{"backend": "grabcut", "model_sha256": None, "preprocessing": "sam"},
    "wanted": {"structures": None, "keep_others": False, "all_frames": True},
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--masks", type=int, default=1_000_000)
    parser.add_argument("--proposed", action="store_true")
    parser.add_argument("--measure", choices=("status", "page"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.out, options.measure)
        return
    if not options.out.exists():
        draw(options.out, options.masks, options.proposed)
    for what in ("status", "page"):
        subprocess.run([sys.executable, __file__, str(options.out), "--measure", what], check=True)


def measure(path: Path, what: str) -> None:
    from sono.curation.masks.page import write_masks_report
    from sono.curation.status import read_status
    from sono.manifests.workspace import open_workspace

    workspace = open_workspace(path)
    started = time.process_time()
    (read_status if what == "status" else write_masks_report)(workspace)
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what}: {peak:.0f} MB at most, {seconds:.1f} s of processor time", flush=True)


def draw(path: Path, masks: int, proposed: bool) -> None:
    import numpy as np

    from sono.manifests.schemas import FRAMES, MASK_CHECKS, QC, REGIONS
    from sono.manifests.store import PartInfo
    from sono.manifests.workspace import create

    workspace, random = create(path, "center"), np.random.default_rng(0)
    stage, prefix, made_with = PROPOSED if proposed else CARRIED
    for first in range(0, masks // MASKS, FRAMES_IN_PART):
        frames = list(_frames(workspace, first, min(first + FRAMES_IN_PART, masks // MASKS)))
        regions = [region for frame in frames for region in _regions(workspace, frame, stage, random)]
        verdicts = [{"frame_id": frame["frame_id"], "verdict": "accept", "config_sha256": "c" * 64} for frame in frames]
        waiting = [region for region in regions if region["status"] == "proposed"]
        accepted = [region for region in regions if region["status"] != "proposed"]
        measured = [{"region_id": region["region_id"]} for region in regions]
        name = f"{first:08d}"
        for table, of_stage, part, rows, said in (
            (FRAMES, "ingest", name, frames, {}),
            (QC, "qc", name, verdicts, {}),
            (REGIONS, "masks-import", f"import-{name}", accepted, {}),
            (REGIONS, stage, f"{prefix}{name}", waiting, made_with),
            (MASK_CHECKS, "masks-check", name, measured, {}),
        ):
            info = PartInfo(part, of_stage, _key(part), "", len(rows), {}, dict(said))
            workspace.store.write(table, info, table.from_rows([{**_blank(table), **row} for row in rows]))


def _frames(workspace: Workspace, first: int, last: int) -> Iterator[dict[str, Any]]:
    import cv2
    import numpy as np

    planes = workspace.vocabulary.plane_ids
    picture = cv2.imencode(".png", np.zeros((8, 8), np.uint8))[1].tobytes()
    for number in range(first, last):
        cine = number // FRAMES_IN_CINE
        yield {
            "frame_id": _key("frame", number), "pixel_digest": _key("pixels", number),
            "image": {"bytes": picture, "path": None},
            **dict.fromkeys(("height", "source_height"), 600), **dict.fromkeys(("width", "source_width"), 800),
            "patient_key": _key("patient", cine // 4), "study_key": _key("study", cine // 4),
            **dict.fromkeys(("series_key", "source_key", "name_key", "source_digest"), _key("cine", cine)),
            "frame_index": number % FRAMES_IN_CINE, "frame_count": FRAMES_IN_CINE, "center": "center",
            "plane": planes[number % len(planes)], "pixel_mm_x": 0.1, "pixel_mm_y": 0.1,
        }  # fmt: skip


def _regions(workspace: Workspace, frame: dict[str, Any], stage: str, random: Any) -> Iterator[dict[str, Any]]:
    structures = workspace.vocabulary.planes[frame["plane"]].structures
    source = "flow" if stage == CARRIED[0] else "grabcut"
    waits = frame["frame_index"] % 2
    for number in range(MASKS):
        yield {
            "region_id": _key(frame["frame_id"], number), "frame_id": frame["frame_id"],
            "pixel_digest": frame["pixel_digest"], "structure": structures[number % len(structures)],
            "mask": {"size": [600, 800], "counts": random.bytes(200).hex()}, "bbox": [10, 10, 100, 100],
            "area_px": int(random.integers(500, 9000)), "source": source if waits else "import",
            "status": "proposed" if waits else "accepted", "scores": '{"confidence": 0.9}' if waits else None,
        }  # fmt: skip


def _blank(table: TableSpec) -> dict[str, object]:
    """Something in every required column."""
    import pyarrow as pa

    def blank(kind: pa.DataType) -> object:
        if pa.types.is_fixed_size_list(kind):
            return [0] * kind.list_size
        return [] if pa.types.is_list(kind) else "" if pa.types.is_string(kind) else 0

    return {field.name: blank(field.type) for field in table.schema if not field.nullable}


def _key(*of: object) -> str:
    return hashlib.md5(repr(of).encode(), usedforsecurity=False).hexdigest()


if __name__ == "__main__":
    main()
