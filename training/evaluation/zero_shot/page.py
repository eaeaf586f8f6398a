"""The page of an evaluation: figures by mask and group, confusion, calibration, and frames whose answer changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from sono.manifests import pages
from sono.manifests.filenames import evaluation_file
from sono.manifests.store import write_atomically
from sono.manifests.thumbnails import THUMBNAIL_PX, encode, reduced, reduced_size
from sono.training.arrays import Integers
from sono.training.data.dataset import Frames, decode_image, decode_mask
from sono.training.features.views import MODES
from sono.training.model.transforms import Pixels

if TYPE_CHECKING:
    from sono.training.evaluation.answers import Answers
    from sono.training.evaluation.selection import Selection

_PER_GROUP = 8
_OUTLINE = (255, 196, 61)
_MEANING = {
    "none": "the image, with a mask of all ones",
    "region": "the image through the dataset's masks",
    "predicted": "the image through masks that a program made",
    "shuffled": "the image through another patient's masks",
    "blank": "a black image through the dataset's masks",
}


@dataclass(frozen=True)
class TurnedFrame:
    """A frame that the masks turned to another answer: both answers, with probabilities from 0 to 1."""

    frame_id: str
    png: str  # base64, with the masks' outlines
    truth: str
    without: str
    without_probability: float
    with_mask: str
    with_probability: float


def write_page(
    run: Path,
    name: str,
    result: Mapping[str, Any],
    frames: Frames,
    selection: Selection,
    answers: Mapping[str, Answers],
) -> Path:
    """Write ``RUN/evaluation/<dataset>/<name>.html``, a page that needs no other file, and return its path."""
    page = pages.render(
        __package__,
        "page.html",
        name=name,
        result=result,
        masks=result["masks"],
        leak=result["leak"] or {},
        meaning=_MEANING,
        groups=_groups(result["masks"]),
        confusions={mask: _confusion(figures["confusion"]) for mask, figures in result["masks"].items()},
        turned=_turned_frames(frames, selection, answers),
        thumbnail_px=THUMBNAIL_PX,
    )
    path = evaluation_file(run, result["dataset"], name).with_suffix(".html")
    write_atomically(path, lambda file: file.write(page.encode()))
    return path


def _groups(masks: Mapping[str, Any]) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """By center, scanner and trimester: every group with its figures by mask."""
    first = next(iter(masks.values()))
    return {
        by: [(group, {mask: figures["by"][by][group] for mask, figures in masks.items()}) for group in groups]
        for by, groups in first["by"].items()
    }


def _confusion(confusion: Mapping[str, Any]) -> list[tuple[str, list[tuple[int, float, bool]]]]:
    """For every plane present its cells: count, share of the plane's frames, and whether the answer is right."""
    rows = zip(confusion["true_by_predicted"], confusion["counts"], strict=True)
    return [
        (plane, [(count, count / sum(counts), place == number) for place, count in enumerate(counts)])
        for number, (plane, counts) in enumerate(rows)
        if sum(counts)
    ]


def _turned_frames(
    frames: Frames, selection: Selection, answers: Mapping[str, Answers]
) -> list[tuple[str, str, int, list[TurnedFrame]]]:
    """Frames whose answer the masks changed, in groups: the mask's name, what changed, how many frames, some of them.

    The frames shown are spread evenly over the split, so that they are not hand-picked.
    """
    if "none" not in answers:
        return []
    groups = []
    for mode in ("region", "predicted"):
        if mode not in answers:
            continue
        before, after = answers["none"], answers[mode]
        moved = before.best[:, 0] != after.best[:, 0]
        for what, kind in (
            ("wrong without, right with it", after.top1),
            ("right without, wrong with it", before.top1),
            ("wrong both times, but differently", ~before.top1 & ~after.top1),
        ):
            places = np.flatnonzero(moved & kind)
            some = [_turned_frame(frames, selection, int(place), mode, answers) for place in _spread(places)]
            groups.append((mode, what, len(places), some))
    return groups


def _spread(places: Integers) -> Integers:
    """A few of them, spread evenly over the split."""
    if len(places) <= _PER_GROUP:
        return places
    return places[np.linspace(0, len(places) - 1, _PER_GROUP).round().astype(np.int64)]


def _turned_frame(
    frames: Frames, selection: Selection, place: int, mode: str, answers: Mapping[str, Answers]
) -> TurnedFrame:
    row = frames.row(int(selection.indices[place]))
    regions = row["regions"]
    if MODES[mode].predicted:
        assert selection.predicted is not None
        regions = selection.predicted.regions(row)
    image = decode_image(row)
    outlined = _outlined(image, [decode_mask(row, region, image) for region in regions])
    before, after = answers["none"], answers[mode]
    return TurnedFrame(
        frame_id=row["frame_id"],
        png=encode(outlined),
        truth=selection.names[int(selection.truth[place])],
        without=selection.names[int(before.best[place, 0])],
        without_probability=float(before.probability[place]),
        with_mask=selection.names[int(after.best[place, 0])],
        with_probability=float(after.probability[place]),
    )


def _outlined(image: Image.Image, masks: Sequence[np.ndarray[Any, np.dtype[np.bool_]]]) -> Image.Image:
    """The image's thumbnail with the outlines of the masks drawn on it."""
    size = reduced_size(image)
    pixels: Pixels = np.array(reduced(image.convert("RGB")))
    for mask in masks:
        small = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)) >= 128
        pixels[_border(small)] = _OUTLINE
    return Image.fromarray(pixels)


def _border(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """The pixels of a mask that have a neighbour outside it, or lie at the image's edge."""
    padded = np.pad(mask, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inside
