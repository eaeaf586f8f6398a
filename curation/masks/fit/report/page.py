"""The page about a fit: Dice of every structure, how far its confidence can be trusted, and frames to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from sono.curation.images.pixels import Pixels
from sono.curation.images.stored_png import decode_png
from sono.curation.masks.fit.data.examples import REASONS, Example
from sono.curation.masks.fit.letterbox import Letterbox
from sono.curation.masks.fit.model_file import Segmenter
from sono.manifests import masks, pages
from sono.manifests.masks import Mask
from sono.manifests.schemas import FRAMES, REGIONS
from sono.manifests.store import TableStore, write_atomically
from sono.manifests.thumbnails import THUMBNAIL_PX, encode, reduced
from sono.manifests.workspace import Workspace

from .calibration import Reliability
from .scores import StructureScores

_DRAWN, _FOUND = (90, 220, 140), (255, 120, 60)
_SHARE_SHOWN = 0.0005  # of the pixels in a bin, below which a point says nothing
_ENLARGED = 2  # outlines are drawn on twice the pixels, else they cover what they are around


@dataclass(frozen=True)
class Shown:
    """A validating frame with both outlines."""

    rank: str
    frame_id: str
    dice: float
    confidence: float
    png: str  # base64


@dataclass(frozen=True)
class Plot:
    """Points of a reliability curve, in percent of the plot, from its lower left corner; radius by share of pixels."""

    structure: str
    before: Sequence[tuple[float, float]]
    after: Sequence[tuple[float, float]]
    error_before: float
    error_after: float | None
    temperature: float


def write_page(
    path: Path,
    workspace: Workspace,
    segmenter: Segmenter,
    examples: Sequence[Example],
    scores: Sequence[StructureScores],
    figures: Mapping[str, Any],
) -> None:
    """Write the page of one fit."""
    page = pages.render(
        __package__,
        "page.html",
        center=workspace.center,
        figures=figures,
        sha256=segmenter.sha256,
        scores=scores,
        left_out=[(reason, REASONS[reason], count) for reason, count in figures["left_out"].items()],
        plots=[_plot(each) for each in scores],
        curve=_curve([dice for _, dice in figures["history"]]),
        shown=_shown(workspace.store, segmenter, examples, scores),
        thumbnail_px=THUMBNAIL_PX,
        percent=pages.percent,
    )
    write_atomically(path, lambda file: file.write(page.encode()))


def _plot(scores: StructureScores) -> Plot:
    return Plot(
        scores.structure,
        _points(scores.before),
        _points(scores.after) if scores.after else (),
        scores.before.error,
        scores.after.error if scores.after else None,
        scores.temperature,
    )


def _points(curve: Reliability) -> list[tuple[float, float]]:
    shown = curve.weight > _SHARE_SHOWN
    return [(100 * float(x), 100 * float(y)) for x, y in zip(curve.confidence[shown], curve.truth[shown], strict=True)]


def _curve(dice: Sequence[float]) -> str:
    """The validation Dice by epoch as the points of a line, in percent of the plot, from its upper left corner."""
    across = 100 / max(len(dice) - 1, 1)
    return " ".join(f"{number * across:.2f},{100 - 100 * value:.2f}" for number, value in enumerate(dice))


def _shown(
    store: TableStore, segmenter: Segmenter, examples: Sequence[Example], scores: Sequence[StructureScores]
) -> list[tuple[str, list[Shown]]]:
    """Of every structure, the frames with the best, the median and the worst Dice."""
    chosen = [(each, _ranked(each.frame_dice)) for each in scores]
    frames = {examples[each.examples[place]].frame_id: examples[each.examples[place]].frame_path
              for each, places in chosen for place in places.values()}  # fmt: skip
    pixels = {
        row["frame_id"]: decode_png(row["image"]["bytes"])
        for path in sorted(set(frames.values()))
        for row in store.find_rows(Path(path), FRAMES, frames.keys(), ["image"])
    }
    return [
        (each.structure, [_example(store, segmenter, examples, each, rank, place, pixels) for rank, place in
                          places.items()])
        for each, places in chosen
    ]  # fmt: skip


def _ranked(dice: Sequence[float]) -> dict[str, int]:
    order = sorted(range(len(dice)), key=lambda place: (dice[place], place))
    ranks = {"best": order[-1], "median": order[len(order) // 2], "worst": order[0]}
    return {
        rank: place for rank, place in ranks.items() if list(ranks.values()).index(place) == list(ranks).index(rank)
    }


def _example(
    store: TableStore,
    segmenter: Segmenter,
    examples: Sequence[Example],
    scores: StructureScores,
    rank: str,
    place: int,
    pixels: Mapping[str, Pixels],
) -> Shown:
    example = examples[scores.examples[place]]
    frame = pixels[example.frame_id]
    region, path = example.regions[scores.structure]
    (row,) = store.find_rows(Path(path), REGIONS, {region}, ["mask"])
    channel = segmenter.channel(scores.structure)
    assert channel is not None
    box = Letterbox(frame.shape[0], frame.shape[1], segmenter.description.size_px)
    found = box.unfit(segmenter.logits(frame)[channel]) > 0
    drawn = masks.decode(row["mask"], frame.shape[:2])
    return Shown(
        rank,
        example.frame_id,
        scores.frame_dice[place],
        scores.frame_confidence[place],
        _picture(frame, drawn, found),
    )


def _picture(frame: Pixels, drawn: Mask, found: Mask) -> str:
    """The thumbnail with the outline that a person drew and the one that the model found."""
    small = reduced(Image.fromarray(frame).convert("RGB"))
    size = small.width * _ENLARGED, small.height * _ENLARGED
    canvas = np.array(small.resize(size, Image.Resampling.BILINEAR))
    for mask, color in ((drawn, _DRAWN), (found, _FOUND)):
        scaled = cv2.resize(mask.astype(np.uint8) * 255, size, interpolation=cv2.INTER_AREA)
        contours, _ = cv2.findContours((scaled > 127).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, contours, -1, color, 1)
    return encode(Image.fromarray(canvas))
