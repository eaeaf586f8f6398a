"""Carrying of one part: cines with accepted masks in, proposed regions of their other frames out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.schemas import FRAMES, REGIONS, TableSpec
from sono.manifests.stages import Exclusion, StageOutput
from sono.manifests.store import TableStore

if TYPE_CHECKING:
    from sono.curation.masks.backends.protocol import Backend
    from sono.curation.masks.backends.registry import BackendChoice

    from .propagate import Anchor, Carried, Cine
    from .refine import Refined

_REGION = pa.struct(list(REGIONS.schema))

INPUT = pa.schema(
    {
        "source_key": pa.string(),  # of the cine; null with regions whose frames are gone
        "frames_path": pa.string(),  # the part that has its frames
        "frame_ids": pa.list_(pa.string()),  # in order
        "anchors": pa.list_(_REGION),
        "settled": pa.list_(pa.struct({"frame_id": pa.string(), "structure": pa.string()})),  # propose nothing here
        "kept": pa.list_(_REGION),  # rows of this table that stay as they are
    }
)

SOURCE = "flow"
"""Of the regions."""

OTHER_PIXELS = "other_pixels"

_COLUMNS = ("frame_index", "image.bytes", "height", "width", "crop", "sectors", "pixel_digest")


@dataclass(frozen=True)
class CarryStage:
    """From cines with accepted masks to proposed regions. Input columns: ``INPUT``.

    Attributes:
        structures: that are carried; None for all.
        backend: corrects carried masks; None to leave them as they are.
        model_sha256: of the files of ``backend``.
    """

    keys: Pseudonymizer
    store: TableStore
    structures: Sequence[str] | None = None
    backend: BackendChoice | None = None
    model_sha256: str | None = None

    name = "masks-carry"
    version = 2

    @property
    def output(self) -> TableSpec:
        return REGIONS

    def config(self) -> Mapping[str, object]:
        return self.made_with()

    def made_with(self) -> Mapping[str, object]:
        refined_by = self.backend.as_config(self.model_sha256) if self.backend else None
        return {"structures": sorted(self.structures) if self.structures else None, "refined_by": refined_by}

    def __call__(self, part: pa.Table) -> StageOutput:
        # Imported here, because a run that finds everything up to date does not need OpenCV.
        from .propagate import MESSAGES, carry

        backend = self._backend()
        rows: list[dict[str, object]] = []
        exclusions: list[Exclusion] = []
        for row in part.to_pylist():
            rows += row["kept"]
            if not row["anchors"]:
                continue
            frames = self._frames(row)
            cine, anchors = _cine(frames), []
            for region in row["anchors"]:
                anchor, frame = _anchor(region, frames)
                if anchor is None:
                    exclusions.append(_other_pixels(row["source_key"], frame))
                else:
                    anchors.append(anchor)
            places = {frame["frame_id"]: position for position, frame in enumerate(frames)}
            settled = {(places[each["frame_id"]], each["structure"]) for each in row["settled"]}
            carried, stops = carry(cine, anchors, settled)
            rows += self._rows(carried, cine, frames, backend)
            exclusions += (
                Exclusion(row["source_key"], stop.reason, MESSAGES[stop.reason], _index(frames, stop.position))
                for stop in stops
            )
        return StageOutput(REGIONS.from_rows(rows), exclusions)

    def _backend(self) -> Backend | None:
        if self.backend is None:
            return None
        from sono.curation.masks.backends.registry import reopen_backend

        return reopen_backend(self.backend, self.model_sha256)

    def _frames(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The frames of a cine, which fit in memory as the PNG that they are stored as."""
        found = self.store.find_rows(Path(row["frames_path"]), FRAMES, set(row["frame_ids"]), _COLUMNS)
        return sorted(found, key=lambda frame: int(frame["frame_index"]))

    def _rows(
        self, carried: Sequence[Carried], cine: Cine, frames: Sequence[Mapping[str, Any]], backend: Backend | None
    ) -> Iterator[dict[str, object]]:
        by_position: dict[int, list[Carried]] = {}
        for each in carried:
            by_position.setdefault(each.position, []).append(each)
        for position, here in by_position.items():
            refined = _refined(backend, cine, position, here) if backend else {}
            yield from (self._row(each, refined.get(each.anchor.structure), frames[position]) for each in here)

    def _row(self, carried: Carried, refined: Refined | None, frame: Mapping[str, Any]) -> dict[str, object]:
        from sono.curation.masks.backends.scores import for_json
        from sono.manifests import masks

        structure, mask = carried.anchor.structure, refined.mask if refined else carried.mask
        scores = {"confidence": carried.confidence, "likeness": carried.likeness, "area_ratio": carried.area_ratio}
        prompt: dict[str, object] = {"carried_from": carried.anchor.region_id, "frames": carried.steps}
        if refined:
            scores |= refined.scores
            prompt |= {"refined_by": self.backend.name if self.backend else None, "box": list(refined.box)}
        return {
            "region_id": self.keys.region(frame["frame_id"], structure, SOURCE),
            "frame_id": frame["frame_id"],
            "pixel_digest": frame["pixel_digest"],
            "structure": structure,
            "mask": masks.encode(mask),
            "area_px": masks.area_px(mask),
            "bbox": list(masks.bbox(mask)),
            "source": SOURCE,
            "status": "proposed",
            "parent_id": carried.anchor.region_id,
            "prompt": json.dumps(prompt),
            "scores": json.dumps(for_json(scores)),
            "model_sha256": self.model_sha256 if refined else None,
        }


def _refined(backend: Backend, cine: Cine, position: int, here: Sequence[Carried]) -> Mapping[str, Refined]:
    """The corrected masks of a frame, by structure."""
    from .refine import refine

    pixels = cine.image(position)
    assert pixels is not None, "a mask was carried to this frame"
    return refine(backend, pixels, cine.shown, {each.anchor.structure: each.mask for each in here})


def _cine(frames: Sequence[Mapping[str, Any]]) -> Cine:
    """Frames of another size or crop than most have no image: nothing can be carried between them and the others."""
    import numpy as np

    from sono.curation.cleaning.sectors.geometry import Sector, sector_mask
    from sono.curation.images.pixels import ExcludedError, Pixels
    from sono.curation.images.stored_png import decode_png

    from .propagate import Cine

    (common, _), *_ = Counter(map(_placement, frames)).most_common()
    height, width = common[:2]
    like = [frame for frame in frames if _placement(frame) == common]
    sectors = [Sector.from_row(sector) for frame in like for sector in frame["sectors"] or []]
    distinct = list(dict.fromkeys(sectors))
    shown = sector_mask(distinct, height, width) if distinct else np.ones((height, width), np.bool_)

    def image(position: int) -> Pixels | None:
        if _placement(frames[position]) != common:
            return None
        try:
            pixels = decode_png(frames[position]["image"]["bytes"])
        except ExcludedError:
            return None
        return pixels if pixels.shape[:2] == (height, width) else None

    return Cine(len(frames), image, shown)


def _placement(frame: Mapping[str, Any]) -> tuple[int, ...]:
    return frame["height"], frame["width"], *frame["crop"]


def _anchor(region: Mapping[str, Any], frames: Sequence[Mapping[str, Any]]) -> tuple[Anchor | None, Mapping[str, Any]]:
    """The region as an anchor, None if it was drawn on other pixels than its frame has; and that frame."""
    from sono.manifests import masks

    from .propagate import Anchor

    position = next(index for index, frame in enumerate(frames) if frame["frame_id"] == region["frame_id"])
    frame = frames[position]
    if region["pixel_digest"] != frame["pixel_digest"] or region["mask"]["size"] != [frame["height"], frame["width"]]:
        return None, frame
    return Anchor(region["region_id"], region["structure"], position, masks.decode(region["mask"])), frame


def _other_pixels(source_key: str, frame: Mapping[str, Any]) -> Exclusion:
    return Exclusion(source_key, OTHER_PIXELS, "the accepted mask was drawn on other pixels than the frame has now",
                     frame["frame_index"])  # fmt: skip


def _index(frames: Sequence[Mapping[str, Any]], position: int) -> int | None:
    return frames[position]["frame_index"] if 0 <= position < len(frames) else None
