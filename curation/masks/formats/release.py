"""The layout that the paper's own trainer reads: an image and a JSON file per frame, and a list of their names.

``NAME.json`` has ``caption``, ``plane``, and lists with one entry per mask: ``mask_captions``, ``seudo_masks`` (COCO
RLE) and ``ref_exps``, as GRIT has them: where the caption's words for the mask begin and end, its box as shares of the
image's sides, and a confidence. ``structures`` is our own addition.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from sono.curation.masks.reasons import excluded
from sono.manifests import masks
from sono.manifests.masks import Mask
from sono.manifests.vocabulary import Vocabulary, normalise

from .encodings import shapes
from .encodings.rle import mask_of_coco
from .protocol import ExportedFrame, ExportedRegion, Found, ReadMask, Size, Writer

IDS = "ids.txt"
_NAME_WORDS_MOST = 6


@dataclass(frozen=True)
class Release:
    """``NAME.png``, ``NAME.json`` and ``ids.txt``."""

    structures_from_folders = False
    with_images = True

    def is_beside(self, relative: str) -> bool:
        return not relative.casefold().endswith(".json")

    def find(self, path: Path) -> Iterator[Found]:
        content = shapes.read_json(path)
        rles = content.get("seudo_masks") if isinstance(content, dict) else None
        if not isinstance(rles, list):
            raise excluded("not_this_format")
        structures, captions = content.get("structures"), content.get("mask_captions")
        for name, listed in (("structures", structures), ("mask_captions", captions)):
            if name in content and (not isinstance(listed, list) or len(listed) != len(rles)):
                raise excluded("not_this_format")
        for number in range(len(rles)):
            labels = (str(structures[number]),) if structures else ()
            caption = str(captions[number]) if captions else ""
            yield Found(labels=labels or _names_in(caption), place=str(number))

    def reader(self, path: Path) -> ReadMask:
        content = shapes.read_json(path)

        def read(place: str, size: Size) -> Mask:
            return mask_of_coco(content["seudo_masks"][int(place)])

        return read

    def writer(self, folder: Path, vocabulary: Vocabulary, structures: Sequence[str]) -> Writer:
        return _Writer(folder, vocabulary)


def _names_in(caption: str) -> tuple[str, ...]:
    """Every sequence of words in a caption that could be a structure's name."""
    words = normalise(caption).split()
    longest = range(1, _NAME_WORDS_MOST + 1)
    found = {" ".join(words[at : at + n]) for n in longest for at in range(len(words) - n + 1)}
    return tuple(sorted(found)) or ("",)


@dataclass
class _Writer:
    folder: Path
    vocabulary: Vocabulary
    _ids: IO[str] = field(init=False)

    def __post_init__(self) -> None:
        self._ids = (self.folder / IDS).open("w", encoding="utf-8")

    def add(self, frame: ExportedFrame) -> Sequence[Mask]:
        if frame.caption is None or any(region.caption is None for region in frame.regions):
            raise excluded("no_caption")
        content = {
            "caption": frame.caption,
            "plane": frame.plane,
            "ref_exps": [_expression(self.vocabulary, frame, frame.caption, region) for region in frame.regions],
            "mask_captions": [region.caption for region in frame.regions],
            "seudo_masks": [masks.encode(region.mask) for region in frame.regions],
            "structures": [region.structure for region in frame.regions],
        }
        (self.folder / f"{frame.frame_id}.png").write_bytes(frame.png)
        (self.folder / f"{frame.frame_id}.json").write_text(json.dumps(content), encoding="utf-8")
        self._ids.write(f"{frame.frame_id}\n")
        return [region.mask for region in frame.regions]

    def close(self) -> None:
        self._ids.close()


def _expression(vocabulary: Vocabulary, frame: ExportedFrame, caption: str, region: ExportedRegion) -> list[float]:
    """Where the caption names the structure, or all of it, and the mask's box."""
    name = vocabulary.structures[region.structure].name
    named = re.search(rf"\b{re.escape(name)}\b", caption, re.IGNORECASE)
    first, last = named.span() if named else (0, len(caption))
    x, y, width, height = masks.bbox(region.mask)
    box = [x / frame.width, y / frame.height, (x + width) / frame.width, (y + height) / frame.height]
    return [first, last, *box, 1.0]
