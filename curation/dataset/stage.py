"""Build of one shard: images and masks scaled together, in Hugging Face's features."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from sono.curation.images.stored_png import decode_png, encode_png
from sono.manifests import masks
from sono.manifests.dataset_keys import DatasetKeys, Kind
from sono.manifests.schemas import DATASET, TableSpec
from sono.manifests.stages import StageOutput
from sono.manifests.vocabulary import Vocabulary

from .precision import Precision

VANISHED = b"sono.regions_vanished"
"""Where a shard's metadata count, by structure, the regions left out because no pixel of them is left."""

_KEYS: Mapping[Kind, str] = {"frame": "frame_id", "patient": "patient_key", "study": "study_key"}


@dataclass(frozen=True)
class BuildStage:
    """From the joined rows of a shard to the dataset's rows, without regions that scaling wiped out."""

    max_side_px: int | None
    precision: Precision
    keys: DatasetKeys
    huggingface: bytes = field(repr=False)  # the features, as ``datasets`` keeps them in a schema's metadata

    name = "build"
    version = 7

    @property
    def output(self) -> TableSpec:
        return DATASET

    def config(self) -> Mapping[str, object]:
        precision = asdict(self.precision)
        return {
            "max_side_px": self.max_side_px,
            **precision,
            "keys": self.keys.id,
            "huggingface": hashlib.sha256(self.huggingface).hexdigest(),
        }

    def __call__(self, part: pa.Table) -> StageOutput:
        vanished: Counter[str] = Counter()
        rows = [self._row(row, vanished) for row in part.to_pylist()]
        metadata = {b"huggingface": self.huggingface, VANISHED: json.dumps(dict(sorted(vanished.items()))).encode()}
        return StageOutput(DATASET.from_rows(rows).replace_schema_metadata(metadata), [])

    def _row(self, row: dict[str, Any], vanished: Counter[str]) -> dict[str, object]:
        height, width = row.pop("height"), row.pop("width")
        x_mm, y_mm = row.pop("pixel_mm_x"), row.pop("pixel_mm_y")
        row["pixel_mm"] = [x_mm, y_mm] if x_mm and y_mm else None
        for name in ("source_key", "frame_index"):
            del row[name]
        for region in row["regions"]:
            masks.decode(region["mask"], (height, width))  # raises for a mask of another size than its image
        scale = self.max_side_px / max(height, width) if self.max_side_px else 1.0
        row = _scaled(row, scale, height, width) if scale < 1 else row
        self.precision.apply(row)
        self._derive_keys(row)
        vanished.update(region["structure"] for region in row["regions"] if not region["area_px"])
        row["regions"] = [region for region in row["regions"] if region["area_px"]]
        return row

    def _derive_keys(self, row: dict[str, Any]) -> None:
        """Replace the workspace's keys in a row of the dataset by the dataset's own, in place."""
        for kind, column in _KEYS.items():
            row[column] = self.keys.derive(kind, row[column])
        for column in ("manufacturer", "model"):
            row[column] = self.keys.scanner(row[column])
        for captioned in (row, *row["regions"]):
            captioned["caption_id"] = self.keys.derive("caption", captioned["caption_id"])


def huggingface_metadata(vocabulary: Vocabulary) -> bytes:
    """The features of the dataset as ``datasets`` keeps them: ``image`` an Image, ``plane`` a ClassLabel."""
    from datasets import ClassLabel, Features, Image

    features = Features.from_arrow_schema(DATASET.schema)
    features["image"] = Image()
    features["plane"] = ClassLabel(names=list(vocabulary.plane_ids))
    metadata: bytes = features.arrow_schema.metadata[b"huggingface"]
    return metadata


def _scaled(row: dict[str, Any], scale: float, height: int, width: int) -> dict[str, Any]:
    """The row with image, masks, boxes, sectors and pixel size at ``scale``."""
    size = max(1, round(width * scale)), max(1, round(height * scale))
    ratio_x, ratio_y = size[0] / width, size[1] / height
    pixels = cv2.resize(decode_png(row["image"]["bytes"]), size, interpolation=cv2.INTER_AREA)
    row["image"] = {"bytes": encode_png(np.asarray(pixels, dtype=np.uint8)), "path": None}
    for region in row["regions"]:
        shares = cv2.resize(masks.decode(region["mask"]).astype(np.float32), size, interpolation=cv2.INTER_AREA)
        mask = np.asarray(shares >= 0.5, dtype=np.bool_)
        region |= {"mask": masks.encode(mask), "area_px": masks.area_px(mask), "bbox": list(masks.bbox(mask))}
    if row["pixel_mm"]:
        row["pixel_mm"] = [row["pixel_mm"][0] / ratio_x, row["pixel_mm"][1] / ratio_y]
    row["sectors"] = [_scaled_sector(sector, ratio_x, ratio_y, scale) for sector in row["sectors"] or ()]
    return row


def _scaled_sector(sector: Mapping[str, Any], ratio_x: float, ratio_y: float, scale: float) -> dict[str, Any]:
    x, y, width, height = sector["box"]
    box = [round(value) for value in (x * ratio_x, y * ratio_y, width * ratio_x, height * ratio_y)]
    scaled = {**sector, "box": box}
    if sector["apex"]:
        scaled["apex"] = [sector["apex"][0] * ratio_x, sector["apex"][1] * ratio_y]
    if sector["radii"]:
        scaled["radii"] = [radius * scale for radius in sector["radii"]]
    return scaled
