"""Rows of a workspace's tables from a row of a dataset."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from sono.manifests import masks
from sono.manifests.errors import UserError
from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.stages import Exclusion

MESSAGES: Mapping[str, str] = {
    "undecodable": "the dataset's image does not decode, or claims more pixels than any scanner's image has",
    "unfit_mask": "the dataset's mask does not have its image's size, or not the area and box that are stated",
    "structure_unknown": "the dataset does not name this structure among its own",
}
"""Reason codes of exclusions, and their texts."""

_SOURCE = "the dataset"
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class PulledKeys:
    """A workspace's keys of what a dataset names by its own; ``pseudonyms`` tells that dataset's keys from others'."""

    keys: Pseudonymizer = field(repr=False)
    pseudonyms: str

    def patient(self, key: str) -> Mapping[str, str]:
        """The columns by which ``frames`` know a patient. A list for ``withdraw`` names them by the dataset's key."""
        known = self.keys.patient_keys(key, issuer=self.pseudonyms)
        return {
            "patient_key": known.patient,
            "patient_center_key": known.center,
            "patient_number_key": known.number,
        }

    def study(self, key: str) -> str:
        return self.keys.study(f"{self.pseudonyms}/{key}")

    def frame(self, key: str) -> str:
        return self.keys.frame(self.keys.source(key), 0)

    def region(self, frame_id: str, structure: str, caption_id: str) -> str:
        """By the id of its caption: a frame may have two masks of a structure and a source."""
        return self.keys.region(frame_id, structure, f"{self.pseudonyms}/{caption_id}")


def frame_row(row: Mapping[str, Any], keys: PulledKeys, planes: Sequence[str], text: str) -> dict[str, object] | None:
    """A row of ``frames``; None if the image does not decode.

    Args:
        planes: ids of planes by their numbers.
        text: what the dataset states of text in its pixels, as ``burned_in_text`` has it.
    """
    from sono.curation.images.pixels import without_equal_channels
    from sono.curation.images.statistics import pixel_statistics
    from sono.curation.images.stored_png import bare_png, decode_png, encode_png

    content = row["image"]["bytes"]
    if not _may_decode(content):
        return None
    decoded = decode_png(content)
    pixels = without_equal_channels(decoded)
    height, width = pixels.shape[:2]
    png = bare_png(content, pixels) if content.startswith(_PNG) else None
    spacing = row["pixel_mm"] or (None, None)
    return {
        "frame_id": keys.frame(row["frame_id"]),
        "image": {"bytes": png or encode_png(pixels), "path": None},
        "height": height,
        "width": width,
        "crop": [0, 0, width, height],
        "source_height": height,
        "source_width": width,
        **keys.patient(row["patient_key"]),
        "study_key": keys.study(row["study_key"]),
        "source_key": row["source_key"],
        "name_key": keys.keys.name(row["frame_id"]),
        "source_digest": keys.keys.file(content),
        "frame_index": 0,
        "frame_count": 1,
        **{name: row[name] for name in ("center", "manufacturer", "model", "sectors")},
        "mode": "unknown",
        "plane": None if row["plane"] is None else planes[row["plane"]],
        "plane_source": None if row["plane"] is None else "dataset",
        "pixel_mm_x": spacing[0],
        "pixel_mm_y": spacing[1],
        "pixel_digest": keys.keys.pixels(pixels.shape, np.ascontiguousarray(pixels).data),
        **vars(pixel_statistics(pixels)),
        "burned_in_text": text,
        "text_readers": [],
        "text_boxes": [],
        "mark_boxes": [],
        "cleaning_reasons": [],
    }


def region_rows(
    row: Mapping[str, Any], frame: Mapping[str, Any], keys: PulledKeys, structures: frozenset[str]
) -> Iterator[dict[str, object] | Exclusion]:
    """Rows of ``regions``.

    Args:
        frame: its row of ``frames``.
    """
    for region in row["regions"] or ():
        if region["structure"] not in structures:
            yield excluded(row, "structure_unknown")
        elif not _fits(region, (frame["height"], frame["width"])):
            yield excluded(row, "unfit_mask")
        else:
            yield {
                "region_id": keys.region(frame["frame_id"], region["structure"], region["caption_id"]),
                "frame_id": frame["frame_id"],
                "pixel_digest": frame["pixel_digest"],
                **{name: region[name] for name in ("structure", "mask", "area_px", "bbox", "source")},
                "status": "accepted",
            }


def caption_rows(row: Mapping[str, Any], keys: PulledKeys, planes: Sequence[str]) -> Iterator[dict[str, object]]:
    """Rows of ``captions``: the frame's, and one of each region. What they were made from, the dataset does not say."""
    frame_id = keys.frame(row["frame_id"])
    known = {"plane": None if row["plane"] is None else planes[row["plane"]], "ga_days": row["ga_days"]}
    facts = {name: {"value": value, "source": _SOURCE} for name, value in known.items() if value is not None}
    yield _caption(frame_id, None, row["caption"], facts)
    for region in row["regions"] or ():
        region_id = keys.region(frame_id, region["structure"], region["caption_id"])
        structure = {"structure": {"value": region["structure"], "source": _SOURCE}}
        yield _caption(frame_id, region_id, region["caption"], {**facts, **structure})


def excluded(row: Mapping[str, Any], reason: str) -> Exclusion:
    """Why something of a row was left out."""
    return Exclusion(row["source_key"], reason, MESSAGES[reason], 0)


def _caption(frame_id: str, region_id: str | None, text: str, facts: Mapping[str, object]) -> dict[str, object]:
    return {
        "caption_id": region_id or frame_id,
        "frame_id": frame_id,
        "region_id": region_id,
        "text": text,
        "template": "pulled",
        "template_sha256": "",
        "facts": json.dumps(facts),
        "dropped": [],
    }


def _may_decode(content: bytes | None) -> bool:
    """By the header: what an image costs is bounded before it is decoded, and then it is decoded in full once."""
    from sono.curation.images.bounds import check_size
    from sono.curation.images.pixels import ExcludedError

    if not content:
        return False
    try:
        with Image.open(io.BytesIO(content), formats=["PNG", "JPEG", "WEBP"]) as image:
            check_size(image.height, image.width)
            image.load()
            return image.mode in ("L", "RGB")
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError, ExcludedError):
        return False


def _fits(region: Mapping[str, Any], size: tuple[int, int]) -> bool:
    try:
        mask = masks.decode(region["mask"], size)
    except (UserError, ValueError, KeyError, TypeError):
        return False
    return masks.area_px(mask) == region["area_px"] > 0 and list(masks.bbox(mask)) == list(region["bbox"])
