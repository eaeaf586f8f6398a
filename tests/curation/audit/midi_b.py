"""MIDI-B's own way of scoring, on tables: an answer key says what each frame must keep, lose or replace.

The semantics are those of the benchmark's script: a text is removed if the answer and each of its tokens are no
substring of what is stored, a UID or date is changed if it is no substring, identifiers are consistent if they are what
the first file with them got, pixels by digest, hidden text by reading the answer's box. What is not there
passes what must be removed and fails what must be kept; such passes are counted as empty here.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import pydicom

from sono.curation.audit.checks.cleaned import Box, Mask, boxes_area, cleaning_of, sector_area
from sono.curation.cleaning.overlays.text_readers import read_again, search
from sono.curation.images.pixels import Pixels
from sono.curation.images.stored_png import decode_png
from sono.manifests.schemas import FRAMES
from sono.manifests.workspace import Workspace
from tests.curation.phantom.archive import Phantom

Row = dict[str, Any]

REMOVED = (
    *("PatientName", "PatientID", "PatientBirthDate", "InstitutionName", "ReferringPhysicianName", "OperatorsName"),
    *("AccessionNumber", "StudyID", "StudyTime"),
)
_MARGIN_PX = 6
_TOKEN = re.compile(r"[^\s,;:()\[\]^']+")


@dataclass
class Score:
    """Of one action: passed and all checks, and how many of the passed had nothing to judge.

    ``left`` are texts that can still be read: file, frame, text and its box on the screen.
    """

    passed: int = 0
    checks: int = 0
    empty: int = 0
    left: list[tuple[str, int, str, list[int]]] = field(default_factory=list)

    def add(self, right: bool, empty: bool = False) -> None:
        self.passed += right
        self.checks += 1
        self.empty += right and empty


@dataclass
class Scoring:
    scores: dict[str, Score] = field(default_factory=lambda: defaultdict(Score))
    keys: dict[tuple[str, str], str] = field(default_factory=dict)  # of column and identifier, as first seen

    def consistent(self, action: str, column: str, identifier: str, key: str) -> None:
        self.scores[action].add(self.keys.setdefault((column, identifier), key) == key)


def score(workspace: Workspace, phantom: Phantom) -> Mapping[str, Score]:
    """The ten actions over all frames of the answer key that the workspace has."""
    keys, scoring = workspace.keys, Scoring()
    stored = {(row["source_key"], row["frame_index"]): row for row in workspace.store.read_all(FRAMES).to_pylist()}
    for true in phantom.frames:
        row = stored.get((keys.source(true["file"].partition("/")[2]), true["frame_index"]))
        if row is not None:
            header = pydicom.dcmread(phantom.path(true["file"]), stop_before_pixels=True)
            _score_text(row, header, scoring)
            _score_keys(row, header, scoring)
            _score_pixels(row, true, phantom, scoring)
    return dict(scoring.scores)


def is_removed(stored: str, answer: str) -> bool:
    """MIDI-B's test of a text that must be gone."""
    stored, answer = stored.casefold(), answer.casefold()
    if stored.replace(".", "", 1).isdigit() and answer.replace(".", "", 1).isdigit():
        return float(stored) != float(answer)
    return answer not in stored and not any(token in stored for token in _TOKEN.findall(answer) if len(token) > 1)


def _score_text(row: Row, header: pydicom.Dataset, scoring: Scoring) -> None:
    cells = list(_cells(row))
    for keyword in REMOVED:
        answer = str(header.get(keyword) or "")
        right = all(is_removed(cell, answer) for cell in cells) if answer else True
        scoring.scores["text_removed"].add(right, empty=not answer)
    for keyword in ("StudyDate", "ContentDate", "PatientBirthDate"):
        scoring.scores["date_shifted"].add(all(header[keyword].value not in cell for cell in cells))
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        scoring.scores["uid_changed"].add(all(header[keyword].value not in cell for cell in cells))
    for column, keyword in (("manufacturer", "Manufacturer"), ("model", "ManufacturerModelName")):
        said = str(header[keyword].value).casefold()
        kept = (row[column] or "").casefold()
        scoring.scores["text_retained"].add(kept in said or said in kept)
    for column in ("patient_key", "study_key", "series_key", "accession_key", "study_day", "center"):
        scoring.scores["text_not_null"].add(row[column] not in (None, ""))
    scoring.scores["tag_retained"].add((row["source_height"], row["source_width"]) == (header.Rows, header.Columns))
    scoring.scores["tag_retained"].add(row["frame_count"] == int(header.get("NumberOfFrames") or 1))


def _cells(row: Row) -> Iterator[str]:
    """Every cell of a frame that is no picture, as text.

    Keys are hexadecimal and hold every short word; the center's name is meant to stay.
    """
    for name, value in row.items():
        if name == "center":
            continue
        if isinstance(value, str) and not (
            name.endswith(("_key", "_digest", "_id")) and re.fullmatch("[0-9a-f]{32}", value)
        ):
            yield value
        elif name == "study_day" and value is not None:
            yield str(value)


def _score_keys(row: Row, header: pydicom.Dataset, scoring: Scoring) -> None:
    for column, keyword in (("study_key", "StudyInstanceUID"), ("series_key", "SeriesInstanceUID")):
        scoring.consistent("uid_consistent", column, header[keyword].value, row[column] or "")
    scoring.consistent("patient_id_consistent", "patient_key", header.PatientID, row["patient_key"])


def _score_pixels(row: Row, true: Row, phantom: Phantom, scoring: Scoring) -> None:
    cleaning = cleaning_of(row)
    x, y, width, height = cleaning.crop
    stored = decode_png(row["image"]["bytes"])
    original = phantom.pixels(true)[y : y + height, x : x + width]
    edited = boxes_area([*cleaning.text_boxes, *cleaning.mark_boxes], height, width)
    area = (
        cv2.erode(sector_area(cleaning.sectors, height, width).view(np.uint8), np.ones((3, 3))).astype(bool) & ~edited
    )
    scoring.scores["pixels_retained"].add(_digest(stored, area) == _digest(original, area))
    for text in phantom.texts:
        if text["file"] == true["file"] and text["identity"]:
            left, top, across, down = text["box"]
            box = (left - x, top - y, across, down)
            visible = box[0] + across > 0 and box[0] < width and box[1] + down > 0 and box[1] < height
            found = read_box(stored, box) if visible else ""
            removed = is_removed(found, text["text"])
            scoring.scores["pixels_hidden"].add(removed, empty=not visible)
            if not removed:
                scoring.scores["pixels_hidden"].left.append(
                    (true["file"], true["frame_index"], text["text"], text["box"])
                )


def read_box(pixels: Pixels, box: Box) -> str:
    """Everything that either reader makes of a box, with a margin, in two sizes and, if it is tall, on its side."""
    x, y, width, height = box
    part = pixels[max(y - _MARGIN_PX, 0) : y + height + _MARGIN_PX, max(x - _MARGIN_PX, 0) : x + width + _MARGIN_PX]
    if 0 in part.shape:
        return ""
    turned = [part] if width >= height else [np.rot90(part, 1), np.rot90(part, 3)]
    views = [np.ascontiguousarray(view) for view in turned]
    views += [cv2.resize(view, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC) for view in views]
    readings = [*read_again(pixels, (box,)), *(reading for view in views for reading in search(view))]
    return " ".join(reading.text for reading in readings)


def _digest(pixels: Pixels, area: Mask) -> str:
    colored = np.broadcast_to(np.atleast_3d(pixels), (*pixels.shape[:2], 3))
    return hashlib.sha256(colored[area].tobytes()).hexdigest()
