"""The truth about a phantom archive, as tables: what every later stage can be measured against.

Boxes, masks and sectors are in px of the entire screen, as stored in the file, before ingest crops it. A sector's
geometry is continuous: pixel (i, j) covers i to i + 1, and belongs to the sector if its centre does.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from sono.curation.phantom.drawing.frames import DrawnImage
from sono.curation.phantom.drawing.screen import IDENTITY, MEASUREMENT_MARKS
from sono.curation.phantom.drawing.sector import Sector
from sono.manifests import masks
from sono.manifests.schemas import RLE, SECTOR, TableSpec

from .exams import Exam
from .faults import EXAM_FAULTS, FILE_FAULTS
from .image_plans import ImagePlan

Row = dict[str, object]


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, kind) for name, kind in columns.items()])


TRUE_FRAMES = TableSpec(
    "frames",
    "file",
    _schema(
        file=pa.string(),  # relative to the folder dicom/
        frame_index=pa.int32(),
        exam=pa.int32(),
        center=pa.string(),
        patient_id=pa.string(),
        study_uid=pa.string(),
        plane=pa.string(),  # null for a rendering, which shows a surface
        mode=pa.string(),
        ga_days=pa.int32(),  # of the fetus shown
        height=pa.int32(),  # px, of the screen
        width=pa.int32(),
        sectors=pa.list_(SECTOR),  # two on a dual screen, none or three planes with a rendering
        flow_box=pa.list_(pa.int32(), 4),  # of colour Doppler
        trace_box=pa.list_(pa.int32(), 4),  # of M-mode or spectral Doppler
        rendering_box=pa.list_(pa.int32(), 4),  # of a 3-D rendering
        pixel_mm=pa.float64(),  # mm per px in both directions
        structures=pa.list_(pa.string()),  # seen in it: the plane's own first, then any others
        findings=pa.list_(pa.string()),
        measured=pa.bool_(),  # with calipers
        fault=pa.string(),
    ),
)

TRUE_REGIONS = TableSpec(
    "regions",
    "file",
    _schema(
        file=pa.string(),
        frame_index=pa.int32(),
        structure=pa.string(),
        mask=RLE,
        area_px=pa.int64(),
        bbox=pa.list_(pa.int32(), 4),
    ),
)

TRUE_TEXTS = TableSpec(
    "text_boxes",
    "file",
    _schema(
        file=pa.string(),  # the text is on every frame of it
        text=pa.string(),
        kind=pa.string(),  # see ``screen.TextBox``
        identity=pa.bool_(),  # says who was examined, where or when: one of ``screen.IDENTITY``
        script=pa.string(),  # latin, cyrillic, greek
        angle=pa.int32(),  # degrees counterclockwise
        inside=pa.bool_(),  # over ultrasound, at least in part
        box=pa.list_(pa.int32(), 4),  # x, y, width, height
    ),
)

TRUE_MARKS = TableSpec(
    "marks",
    "file",
    _schema(
        file=pa.string(),  # the mark is on every frame of it
        kind=pa.string(),  # see ``screen.Mark``
        measurement=pa.bool_(),  # somebody placed it to measure: one of ``screen.MEASUREMENT_MARKS``
        inside=pa.bool_(),  # over ultrasound, at least in part
        box=pa.list_(pa.int32(), 4),  # x, y, width, height
    ),
)

TRUE_DUPLICATES = TableSpec(
    "duplicates",
    "file",
    _schema(file=pa.string(), original=pa.string(), kind=pa.string(), same_patient=pa.bool_()),
)

TRUE_FAULTS = TableSpec(
    "faults",
    "study_uid",
    _schema(study_uid=pa.string(), file=pa.string(), fault=pa.string(), meaning=pa.string()),
)

TRUTH = (TRUE_FRAMES, TRUE_REGIONS, TRUE_TEXTS, TRUE_MARKS, TRUE_DUPLICATES, TRUE_FAULTS)


def frame_rows(exam: Exam, shown: Exam, image: ImagePlan, drawn: DrawnImage, file: str, order: list[str]) -> list[Row]:
    """One row per frame. ``exam`` is the one it is filed under, ``shown`` the one that was scanned."""
    height, width = drawn.frames[0].pixels.shape[:2]
    return [
        {
            "file": file,
            "frame_index": index,
            "exam": exam.index,
            "center": exam.record.center.center,
            "patient_id": exam.record.patient.patient_id,
            "study_uid": exam.record.study_uid,
            "plane": image.shown_plane,
            "mode": image.mode,
            "ga_days": shown.record.ga_days,
            "height": height,
            "width": width,
            "sectors": [sector_row(sector) for sector in drawn.sectors],
            "flow_box": drawn.flow_box and list(drawn.flow_box),
            "trace_box": drawn.trace_box and list(drawn.trace_box),
            "rendering_box": drawn.rendering_box and list(drawn.rendering_box),
            "pixel_mm": drawn.sectors[0].mm_per_px if drawn.sectors else None,
            "structures": [structure for structure in order if structure in frame.masks],
            "findings": list(shown.record.findings),
            "measured": image.has_marks,
            "fault": image.fault,
        }
        for index, frame in enumerate(drawn.frames)
    ]


def region_rows(drawn: DrawnImage, file: str) -> Iterator[Row]:
    for index, frame in enumerate(drawn.frames):
        for structure, mask in frame.masks.items():
            yield {
                "file": file,
                "frame_index": index,
                "structure": structure,
                "mask": masks.encode(mask),
                "area_px": int(np.count_nonzero(mask)),
                "bbox": list(masks.bbox(mask)),
            }


def text_rows(drawn: DrawnImage, file: str) -> Iterator[Row]:
    for text in drawn.texts:
        yield {
            "file": file,
            "text": text.text,
            "kind": text.kind,
            "identity": text.kind in IDENTITY,
            "script": text.script,
            "angle": text.angle,
            "inside": text.inside,
            "box": list(text.box),
        }


def mark_rows(drawn: DrawnImage, file: str) -> Iterator[Row]:
    for mark in drawn.marks:
        yield {
            "file": file,
            "kind": mark.kind,
            "measurement": mark.kind in MEASUREMENT_MARKS,
            "inside": mark.inside,
            "box": list(mark.box),
        }


def duplicate_row(exam: Exam, shown: Exam, image: ImagePlan, file: str) -> Row:
    original = next(other for other in shown.images if other.number == image.number)
    return {
        "file": file,
        "original": f"{shown.folder}/{original.name}.dcm",
        "kind": image.duplicate,
        "same_patient": shown.record.patient.patient_id == exam.record.patient.patient_id,
    }


def fault_rows(exam: Exam) -> Iterator[Row]:
    for fault in exam.faults:
        yield {"study_uid": exam.record.study_uid, "file": None, "fault": fault, "meaning": EXAM_FAULTS[fault]}


def file_fault_row(exam: Exam, fault: str, file: str) -> Row:
    return {"study_uid": exam.record.study_uid, "file": file, "fault": fault, "meaning": FILE_FAULTS[fault]}


def sector_row(sector: Sector) -> Row:
    """As ``schemas.SECTOR``; a trapezoid is linear with an apex, and its radii are straight down from it."""
    return {
        "kind": sector.kind,
        "apex": None if sector.parallel else list(sector.apex),
        "angles": None if sector.parallel else [-sector.half_angle, sector.half_angle],
        "radii": None if sector.parallel else [sector.near, sector.far],
        "box": list(sector.box),
        "confidence": 1.0,
    }
