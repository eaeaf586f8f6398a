"""Real frames with their annotations: where the ultrasound is, and every text and mark in boxes.

The annotations are polygons and boxes alone. The pictures are read from the folder of real ultrasound that the project
does not ship, and from pydicom's wheel. Fans are lines and circles through the outermost lit pixels of the frame, or of
the whole cine; rectangles and boxes were read off a pixel grid. Each was checked by looking at it drawn over the frame.
They follow the edge within 1 px on HC18, whose surroundings are exactly black, and within 3 px elsewhere, except where
``hard`` says ``unseen_edge``.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.data import get_testdata_file

from sono.curation.images.dicom.frames import open_dicom
from sono.curation.images.pixels import ExcludedError, Pixels
from sono.curation.images.raster import read_frames
from sono.curation.images.signatures import image_kind

ANNOTATIONS = Path(__file__).with_name("annotations")
SOURCES = ("hc18", "us_dicom", "us_screens", "pydicom")

MODES = ("b_mode", "color_doppler", "m_mode", "spectral", "dual", "volume")
TEXT_KINDS = ("identity", "measurement", "setting", "label", "logo")
MARK_KINDS = (
    "caliper", "dotted_line",  # of a measurement
    "ruler", "focus", "marker", "cursor", "color_box", "color_bar", "grey_bar",  # of the screen
)  # fmt: skip

HARD = {
    "dark": "a third or more of the sector is nearly black",
    "no_arc": "neither the near nor the far arc is on the picture",
    "one_side": "only one side of the fan is on the picture",
    "wide": "the arcs have another centre than the sides",
    "touching": "two panels have an edge in common",
    "inverted": "the sector is brighter than its surroundings, and not grey",
    "unseen_edge": "a part of the edge is too dark to see: drawn by the depth scale or the other frames of the cine",
    "hidden": "black boxes cover more than a twelfth of the sector",
    "text_inside": "a text is inside the sector, or crosses its edge",
}
"""Why a frame is hard."""

Box = tuple[int, int, int, int]
"""x, y, width, height in px."""
Point = tuple[float, float]
"""x, y in px; the first pixel covers 0 to 1, so that its centre is (0.5, 0.5)."""
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Mark:
    """A text, or another thing drawn over the picture; ``kind`` is one of ``TEXT_KINDS`` or ``MARK_KINDS``."""

    kind: str
    box: Box

    @property
    def window(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        x, y, width, height = self.box
        return slice(y, y + height), slice(x, x + width)


@dataclass(frozen=True)
class Annotation:
    """What one frame shows.

    ``sectors`` are complete fans, trapezoids or rectangles, dark fields included, cut only where the picture ends.
    ``hidden`` are boxes that somebody painted black over a sector before the picture was published.
    ``marks`` are those that touch a sector; ``texts`` are all of the screen.
    """

    source: str
    file: str
    frame: int
    width: int
    height: int
    mode: str
    other_modes: tuple[str, ...]
    sectors: tuple[tuple[Point, ...], ...]
    hidden: tuple[Box, ...]
    texts: tuple[Mark, ...]
    marks: tuple[Mark, ...]
    hard: tuple[str, ...]

    @property
    def modes(self) -> tuple[str, ...]:
        """Every right answer: two panels in colour are both "dual" and "color_doppler"."""
        return (self.mode, *self.other_modes)

    def sector_mask(self) -> Mask:
        """Which pixels are in a sector, [height, width]."""
        masks = [polygon_mask(sector, self.height, self.width) for sector in self.sectors]
        return np.asarray(np.any(masks, axis=0), dtype=np.bool_)

    def hidden_mask(self) -> Mask:
        """Which pixels were painted black: inside a sector, but they show no ultrasound."""
        covered = np.zeros((self.height, self.width), np.bool_)
        for box in self.hidden:
            covered[Mark("hidden", box).window] = True
        return covered

    def texts_inside(self) -> list[Mark]:
        """Texts that touch a sector."""
        inside = self.sector_mask()
        return [text for text in self.texts if inside[text.window].any()]


def annotations_of(*sources: str) -> list[Annotation]:
    """The annotated frames of these sources, by default of all, in the order of files and frames."""
    return [_annotation(source, row) for source in sources or SOURCES for row in _rows(source)]


def annotated_frames(shared_data: Path, *sources: str) -> Iterator[tuple[Pixels, Annotation]]:
    """Pixels as ingest decodes them, [height, width] or [height, width, 3] RGB, each with its annotation.

    The fixture ``shared_data`` skips a test where the folder is absent. The source ``pydicom`` needs no folder.
    """
    for _, group in itertools.groupby(annotations_of(*sources), key=lambda one: (one.source, one.file)):
        wanted = {one.frame: one for one in group}
        first = next(iter(wanted.values()))
        for index, pixels in enumerate(itertools.islice(_decoded(path_of(first, shared_data)), max(wanted) + 1)):
            if index in wanted:
                yield pixels, wanted[index]


def path_of(annotation: Annotation, shared_data: Path) -> Path:
    """Where the file is."""
    if annotation.source == "pydicom":
        return Path(str(get_testdata_file(annotation.file)))
    return shared_data / annotation.file


def polygon_mask(polygon: Sequence[Point], height: int, width: int) -> Mask:
    """Which pixels have their centre inside a polygon, by the even-odd rule."""
    flips = np.zeros((height, width + 1), np.bool_)
    rows = np.arange(height) + 0.5
    for (x, y), (next_x, next_y) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        crossed = np.flatnonzero((y <= rows) != (next_y <= rows))
        at = x + (rows[crossed] - y) * (next_x - x) / (next_y - y or 1)
        flips[crossed, np.clip(np.ceil(at - 0.5), 0, width).astype(int)] ^= True
    return np.logical_xor.accumulate(flips, axis=1)[:, :width]


def _decoded(path: Path) -> Iterator[Pixels]:
    content = path.read_bytes()
    kind = image_kind(content)
    frames = open_dicom(content, ()).frames() if kind == "dicom" else read_frames(content, str(kind))
    for pixels in frames:
        if isinstance(pixels, ExcludedError):
            raise pixels
        yield pixels


@functools.cache
def _rows(source: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((ANNOTATIONS / f"{source}.json").read_text(encoding="utf-8"))["frames"]
    return rows


def _annotation(source: str, row: dict[str, Any]) -> Annotation:
    def marks(key: str) -> tuple[Mark, ...]:
        return tuple(Mark(mark["kind"], tuple(mark["box"])) for mark in row.get(key, ()))

    return Annotation(
        source,
        row["file"],
        row["frame"],
        row["width"],
        row["height"],
        row["mode"],
        tuple(row.get("other_modes", ())),
        tuple(tuple((x, y) for x, y in sector) for sector in row["sectors"]),
        tuple(tuple(box) for box in row.get("hidden", ())),
        marks("texts"),
        marks("marks"),
        tuple(row.get("hard", ())),
    )
