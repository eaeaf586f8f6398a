"""The frames of a file, cleaned: mode, sector, everything else blanked, text and measurement marks removed.

What leaves here is cropped to the ultrasound, and everything outside the sector is black. A frame whose text cannot be
shown to be gone is blacked out where text was found. What is not understood gets a reason for a person to review.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice

import cv2
import numpy as np
from isal import isal_zlib

from sono.curation.images.dicom.regions import Region
from sono.curation.images.pixels import Box, ExcludedError, Mask, Pixels, without_equal_channels

from .config import CleaningSection
from .frame_mode import ModeFinding, frame_mode
from .overlays.burned_in_text import TextFinding, clean_text
from .overlays.calipers import CaliperFinding, remove_calipers
from .overlays.find import boxes_of
from .overlays.text_readers import search
from .overlays.views import brightness_and_colorfulness
from .reasons import LEFT_OUT
from .sectors.find import MODES_WITH_SECTORS, SectorFinding, find_sectors
from .sectors.geometry import Sector, sector_mask
from .sectors.screen import Screen, read_screen

CINE_FRAMES = 16
"""Whose maximum a cine's mode and sectors are found in, from its start: as many as are held in memory."""

LEAST_CONFIDENCE = 0.9
"""Of a mode that decides by itself whether a frame goes on."""

BLACKED_OUT_PX = 4
"""Beyond the box of what a reader still reads."""

BRIGHT, COLORFUL = 140, 24
"""Levels of the median pixel of a frame that fills the screen, beyond which it is no ultrasound."""


@dataclass(frozen=True)
class CleanedFrame:
    """What is stored of a frame. Boxes and sectors are in px of ``pixels``.

    Attributes:
        pixels: cropped to the sectors, black outside of them.
        crop: x, y, width, height in px of the frame as it was decoded.
        unchanged: nothing was cropped, blanked or painted over.
        mode_source: header or pixels.
        text_boxes, mark_boxes: where burned-in text and measurement marks were painted over.
        text_readers: what looked for text, of ``detector``, ``rapidocr``, ``tesserocr``.
        burned_in_text: none, removed or unchecked, as in the frames table.
        edited_fraction: share of the sectors' pixels that was painted over.
        reasons: keys of ``reasons.REASONS``, sorted: why a person has to look at the frame.
    """

    pixels: Pixels
    crop: Box
    unchanged: bool
    mode: str
    mode_source: str
    sectors: Sequence[Sector]
    text_boxes: Sequence[Box]
    mark_boxes: Sequence[Box]
    text_readers: Sequence[str]
    burned_in_text: str
    edited_fraction: float
    reasons: Sequence[str]


def clean_frames(
    frames: Iterator[Pixels | ExcludedError],
    regions: Sequence[Region],
    section: CleaningSection,
    *,
    cine: bool,
    cropped: bool = False,
) -> Iterator[CleanedFrame | ExcludedError]:
    """Clean the frames of one file, in order; for each there is a result, or the reason why it is left out.

    A file's result depends on nothing but the file.

    Args:
        frames: of a cine all of one shape, as a DICOM file's are.
        regions: of the header, those that are valid.
        cine: the frames follow each other in time and show the same view.
        cropped: the frames show nothing but ultrasound: they are not searched for a sector.
    """
    first = deque(islice(frames, CINE_FRAMES)) if cine else deque()
    clip = _read_clip(first, regions)
    for frame in chain(_emptied(first), frames):
        if isinstance(frame, ExcludedError):
            yield frame
            continue
        try:
            yield _clean(without_equal_channels(frame), regions, section, clip, cropped=cropped)
        except ExcludedError as error:
            yield error.with_traceback(None)  # which holds the frame


def _left_out(reason: str) -> ExcludedError:
    return ExcludedError(reason, LEFT_OUT[reason])


_Window = tuple[Sequence[Sector], Mask, Box]
"""Sectors, which pixels of the frame show ultrasound, and the box around these."""


@dataclass
class _Clip:
    """What the first frames of a cine show together, and the text of its first frame.

    Attributes:
        text_boxes: in px of the decoded frame; None if the text was not looked at yet.
        searched: the slow reader looked at a frame of the cine, and what it read is among ``text_boxes`` and gone.
        shape, window: of the last frame with these sectors, and what ``_window`` gave.
    """

    mode: ModeFinding
    sectors: SectorFinding
    text_boxes: Sequence[Box] | None = None
    searched: bool = False
    shape: tuple[int, ...] = ()
    window: _Window | None = None

    def window_of(self, sectors: Sequence[Sector], height: int, width: int) -> _Window:
        """As ``_window``, computed once for the sectors that all frames of a cine have."""
        if sectors is not self.sectors.sectors:
            return _window(sectors, height, width)
        if self.window is None or self.shape != (height, width):
            self.shape, self.window = (height, width), _window(sectors, height, width)
        return self.window


@dataclass(frozen=True)
class _Shown:
    """Where a frame shows ultrasound: its sectors, in px of the decoded frame, and what is doubtful."""

    mode: ModeFinding
    sectors: Sequence[Sector]
    reasons: Sequence[str]


def _emptied(frames: deque[Pixels | ExcludedError]) -> Iterator[Pixels | ExcludedError]:
    """The frames, each let go as soon as the next is asked for."""
    while frames:
        yield frames.popleft()


def _read_clip(frames: Sequence[Pixels | ExcludedError], regions: Sequence[Region]) -> _Clip | None:
    """None for fewer than two frames that could be decoded, and where they show nothing, as before a cine fades in."""
    decoded = [frame for frame in frames if not isinstance(frame, ExcludedError)]
    if len(decoded) < 2:
        return None
    maximum = decoded[0].copy()
    for frame in decoded[1:]:
        cv2.max(maximum, frame, dst=maximum)
    screen = read_screen(without_equal_channels(maximum))
    mode = frame_mode(screen, regions)
    sectors = find_sectors(screen, mode.mode, regions)
    if screen.layout.kind == "empty" or (mode.mode in MODES_WITH_SECTORS and not sectors.sectors):
        return None
    return _Clip(mode, sectors)


def _clean(
    pixels: Pixels,
    regions: Sequence[Region],
    section: CleaningSection,
    clip: _Clip | None,
    *,
    cropped: bool,
) -> CleanedFrame:
    screen = read_screen(pixels)
    mode = clip.mode if clip else frame_mode(screen, regions)
    if cropped and mode.confidence < LEAST_CONFIDENCE:  # without a screen around it an outline says little
        mode = ModeFinding("unknown", "pixels", 0.0)
    if mode.confidence >= LEAST_CONFIDENCE and not mode.disagrees and mode.mode not in section.modes:
        raise _left_out("mode_not_wanted")
    doubts = ["mode_disagrees_with_header"] if mode.disagrees else []
    shown = _whole_frame(screen, mode, *doubts) if cropped else _find(screen, mode, regions, clip)
    sectors, mask, crop = (clip.window_of if clip else _window)(shown.sectors, *pixels.shape[:2])
    x, y, width, height = crop
    window = np.s_[y : y + height, x : x + width]
    inside = np.ascontiguousarray(mask[window])
    blanked = without_equal_channels(_blanked(pixels[window], inside))
    text = clean_text(
        blanked,
        inside,
        search_too=_is_searched(blanked, section, shown, known=bool(clip and clip.searched)),
        known_boxes=[_moved(box, -x, -y) for box in (clip and clip.text_boxes) or ()],
    )
    if clip and clip.text_boxes is None:
        clip.text_boxes = [_moved(box, x, y) for box in text.boxes]
        clip.searched = "rapidocr" in text.readers and not text.reasons
    text = _blacked_out(text, inside) if text.reasons else text
    marks = remove_calipers(text.pixels, inside, None if text.reasons else text.overlays)
    text = _without_what_marks_left(text, marks, inside)
    edited = text.edited | marks.edited
    whole = crop == (0, 0, pixels.shape[1], pixels.shape[0]) and bool(inside.all())
    return CleanedFrame(
        pixels=text.pixels,
        crop=crop,
        unchanged=whole and not np.any(edited),
        mode=mode.mode,
        mode_source=mode.source,
        sectors=[sector.moved(-x, -y) for sector in sectors],
        text_boxes=text.boxes,
        mark_boxes=boxes_of(marks.edited),
        text_readers=text.readers,
        burned_in_text=text.status,
        edited_fraction=np.count_nonzero(edited) / np.count_nonzero(inside),
        reasons=sorted({*shown.reasons, *text.reasons, *marks.reasons}),
    )


def _find(screen: Screen, mode: ModeFinding, regions: Sequence[Region], clip: _Clip | None) -> _Shown:
    """The sectors by header, cine and pixels.

    Raises:
        ExcludedError: nothing looks like ultrasound.
    """
    if mode.mode not in MODES_WITH_SECTORS:
        if screen.layout.kind == "empty" or not _may_be_ultrasound(screen.frame.pixels):
            raise _left_out("no_ultrasound")
        shows = "sector_fills_frame" if mode.mode == "unknown" else "no_sector_in_mode"
        return _whole_frame(screen, mode, *_mode_reasons(mode), shows)
    found = find_sectors(screen, mode.mode, regions, cine=clip.sectors if clip else None)
    if not found.sectors:
        raise _left_out("no_ultrasound")
    return _Shown(mode, found.sectors, [*_mode_reasons(mode), *found.reasons])


def _may_be_ultrasound(pixels: Pixels) -> bool:
    """Whether a frame that is lit all over may be a crop of ultrasound: it is neither bright nor coloured all over.

    Photographs and pages are, and they may show a person.
    """
    if pixels.ndim == 2:
        return float(np.median(pixels)) <= BRIGHT
    brightness, colorfulness = brightness_and_colorfulness(pixels)
    return float(np.median(brightness)) <= BRIGHT and float(np.median(colorfulness)) <= COLORFUL


def _mode_reasons(mode: ModeFinding) -> list[str]:
    if mode.disagrees:
        return ["mode_disagrees_with_header"]
    return [] if mode.confidence >= LEAST_CONFIDENCE else ["mode_uncertain"]


def _whole_frame(screen: Screen, mode: ModeFinding, *reasons: str) -> _Shown:
    """The frame itself as the sector: of frames that were cropped before, and of those where none can be found."""
    height, width = screen.frame.size
    sector = Sector("unknown", (width / 2, 0.0), (0.0, 0.0), (0.0, float(height)), (0, 0, width, height), 0.0)
    return _Shown(mode, [sector], reasons)


def _window(sectors: Sequence[Sector], height: int, width: int) -> _Window:
    """The sectors in the smallest boxes around their pixels, which pixels show ultrasound, and the box around these.

    A fitted sector's box is its outline's: rounded, and wider than what is left of a fan whose lower end is cut.

    Raises:
        ExcludedError: no pixel shows ultrasound.
    """
    shown: list[Sector] = []
    mask = np.zeros((height, width), np.bool_)
    for sector in sectors:
        own = sector_mask([sector], height, width)
        box = _box_around(own)
        if box[2]:
            shown.append(replace(sector, box=box))
            mask |= own
    if not shown:
        raise _left_out("no_ultrasound")
    return shown, mask, _box_around(mask)


def _box_around(mask: Mask) -> Box:
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return x, y, width, height


def _blanked(pixels: Pixels, inside: Mask) -> Pixels:
    return np.asarray(cv2.copyTo(pixels, inside.view(np.uint8)), np.uint8)


def _is_searched(pixels: Pixels, section: CleaningSection, shown: _Shown, *, known: bool) -> bool:
    """Whether the slow reader looks at a frame, too.

    At those where no sector was found, unless it is ``known`` what it reads in their cine; and at a share of the
    others, by their pixels: so that a file gives the same frames whatever else the archive holds.
    """
    if not known and ("sector_fills_frame" in shown.reasons or "no_sector_in_mode" in shown.reasons):
        return True
    return isal_zlib.crc32(pixels.data) / 2**32 < section.search_share


def _blacked_out(text: TextFinding, inside: Mask) -> TextFinding:
    """A frame whose text cannot be shown to be gone, black wherever it is or was.

    Raises:
        ExcludedError: even so it can be read.
    """
    black = text.edited | text.overlays.possible_text
    readers = (*dict.fromkeys([*text.readers, "rapidocr"]),)
    for _ in range(2):
        pixels = text.pixels.copy()
        pixels[black] = 0
        readings = search(pixels)
        if not readings:
            edited = black & inside
            return replace(text, pixels=pixels, edited=edited, boxes=boxes_of(edited), readers=readers)
        for reading in readings:
            x, y, width, height = reading.box
            black[max(y - BLACKED_OUT_PX, 0) : y + height + BLACKED_OUT_PX,
                  max(x - BLACKED_OUT_PX, 0) : x + width + BLACKED_OUT_PX] = True  # fmt: skip
    raise _left_out("text_readable")


def _without_what_marks_left(text: TextFinding, marks: CaliperFinding, inside: Mask) -> TextFinding:
    """The frame as it is stored, without text: also without what looks like text only now that marks are gone.

    Such as the rest of a dotted line. So it is always the stored pixels that are shown to have no text.

    Raises:
        ExcludedError: text can be read, even if it is blacked out.
    """
    if text.reasons or not np.any(marks.edited):
        return replace(text, pixels=marks.pixels)
    again = clean_text(marks.pixels, inside, overlays=marks.overlays)
    again = _blacked_out(again, inside) if again.reasons else again
    return replace(
        again,
        edited=text.edited | again.edited,
        boxes=(*text.boxes, *again.boxes),
        status=text.status if again.status == "none" else again.status,
        readers=(*dict.fromkeys([*text.readers, *again.readers]),),
    )


def _moved(box: Box, x: int, y: int) -> Box:
    return box[0] + x, box[1] + y, box[2], box[3]
