"""From planned examinations to an archive's files: images, masks, records and truth."""

from __future__ import annotations

import dataclasses
import functools
import io
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import cv2
import numpy as np
import pydicom

from sono.curation.phantom.drawing.frames import DrawnImage, draw_image
from sono.curation.phantom.drawing.m_mode import SWEEP_S
from sono.curation.phantom.drawing.sector import Box, Sector
from sono.curation.phantom.files.dicom import Instance, write_instance
from sono.curation.phantom.files.regions import (
    FORMAT_2D,
    FORMAT_M_MODE,
    FORMAT_NONE,
    FORMAT_SPECTRAL,
    TYPE_COLOR_FLOW,
    TYPE_NONE,
    TYPE_PULSED_WAVE,
    TYPE_TISSUE,
    UltrasoundRegion,
)
from sono.manifests.store import PartInfo, TableStore, write_atomically
from sono.manifests.vocabulary import Vocabulary

from . import truth
from .exams import Exam, plan_exam
from .files import csv_table, fhir, sr
from .identifiers import seeded_uid
from .image_plans import ImagePlan
from .records import View
from .truth import TRUTH, Row

STAGE_NAME = "phantom"

_TRANSDUCERS = {"convex": "CURVED LINEAR", "phased": "SECTOR_PHASED", "linear": "LINEAR"}
"""Defined terms of Transducer Type (PS3.3 C.8.5.6)."""

_CINE_FRAME_MS = 33.3


class ExamWriter:
    """Writes the examinations of one part, and collects the truth about them."""

    def __init__(self, out: Path, vocabulary: Vocabulary) -> None:
        self._out, self._vocabulary = out, vocabulary
        self.truth: dict[str, list[Row]] = {table.name: [] for table in TRUTH}
        self._csv: list[dict[str, str]] = []

    def write(self, exam: Exam) -> None:
        seen: dict[str, set[str]] = {}
        self.truth["faults"] += truth.fault_rows(exam)
        for image in exam.images:
            file = f"{exam.folder}/{image.name}.dcm"
            if image.fault in ("empty_file", "not_dicom"):
                self._write_junk(exam, image, file)
                continue
            shown = exam if image.exam == exam.index else plan_exam(exam.seed, image.exam, self._vocabulary)
            drawn = draw_image(shown, image)
            self._write_image(exam, image, drawn, file)
            if image.fault == "truncated_file":
                continue
            self._add_truth(exam, shown, image, drawn, file)
            if image.shown_plane and image.fault not in ("filed_under_two_patients", "black_frame"):
                seen.setdefault(image.shown_plane, set()).update(*(frame.masks for frame in drawn.frames))
        if "missing_record" not in exam.faults:
            self._write_record(exam, seen)

    def finish(self, part: str) -> None:
        """Write what belongs to the part as a unit: all truth except the frames', which the stage writes last."""
        csv_table.write(self._out / "records" / "csv" / f"exams-{part}.csv", self._csv)
        store = TableStore(self._out / "truth")
        for table in TRUTH[1:]:
            rows = self.truth[table.name]
            store.write(table, PartInfo(part, STAGE_NAME, "", "", len(rows)), table.from_rows(rows))

    def _write_junk(self, exam: Exam, image: ImagePlan, file: str) -> None:
        if image.fault == "not_dicom":
            file = file.removesuffix(".dcm") + ".txt"
        content = b"" if image.fault == "empty_file" else b"export finished\r\n"
        write_atomically(self._out / "dicom" / file, lambda target: target.write(content))
        self.truth["faults"].append(truth.file_fault_row(exam, str(image.fault), file))

    def _write_image(self, exam: Exam, image: ImagePlan, drawn: DrawnImage, file: str) -> None:
        path = self._out / "dicom" / file
        record = exam.record
        if image.fault == "no_patient_id":
            record = dataclasses.replace(record, patient=dataclasses.replace(record.patient, patient_id=""))
        write_instance(path, record, self._instance(exam, image, drawn))
        if image.fault == "truncated_file":
            content = path.read_bytes()
            write_atomically(path, lambda target: target.write(content[: int(0.55 * len(content))]))
        if image.fault == "regions_outside":
            _move_region_outside(path)
        if image.fault:
            self.truth["faults"].append(truth.file_fault_row(exam, image.fault, file))

    def _instance(self, exam: Exam, image: ImagePlan, drawn: DrawnImage) -> Instance:
        shown = None if image.fault == "no_plane" else image.shown_plane
        plane = None if shown is None else self._vocabulary.planes[shown]
        number = int(image.name.removeprefix("IM"))
        return Instance(
            sop_instance_uid=seeded_uid(exam.seed, exam.index, image.name),
            series_uid=seeded_uid(exam.seed, exam.index, "series", image.plane, image.name),
            series_number=number,
            instance_number=number,
            acquired=exam.record.started + timedelta(seconds=40 * number),
            frames=np.stack([frame.pixels for frame in drawn.frames]),
            frame_time_ms=_CINE_FRAME_MS if image.frames > 1 else None,
            regions=() if image.fault == "no_regions" else ultrasound_regions(drawn),
            transfer_syntax=image.transfer_syntax,
            series_description=plane.name if plane else "Fetal ultrasound",
            plane=plane,
            transducer=_TRANSDUCERS[image.probe],
            frequency_mhz=drawn.settings["frequency_mhz"],
            mechanical_index=drawn.settings["mechanical_index"],
            thermal_index=drawn.settings["thermal_index"],
            depth_mm=drawn.sectors[0].depth_mm if drawn.sectors else None,
        )

    def _add_truth(self, exam: Exam, shown: Exam, image: ImagePlan, drawn: DrawnImage, file: str) -> None:
        self.truth["frames"] += truth.frame_rows(exam, shown, image, drawn, file, self._order(image.plane))
        self.truth["regions"] += truth.region_rows(drawn, file)
        self.truth["text_boxes"] += truth.text_rows(drawn, file)
        self.truth["marks"] += truth.mark_rows(drawn, file)
        if image.duplicate:
            self.truth["duplicates"].append(truth.duplicate_row(exam, shown, image, file))
        self._write_masks(drawn, file)

    def _write_masks(self, drawn: DrawnImage, file: str) -> None:
        center, _, below = file.removesuffix(".dcm").partition("/")
        for index, frame in enumerate(drawn.frames):
            name = f"{below}_f{index}" if len(drawn.frames) > 1 else below
            for structure, mask in frame.masks.items():
                png = cv2.imencode(".png", mask.astype(np.uint8) * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])[1].tobytes()
                path = self._out / "truth" / "masks" / center / structure / f"{name}.png"
                write_atomically(path, functools.partial(_write_bytes, png))

    def _write_record(self, exam: Exam, seen: Mapping[str, set[str]]) -> None:
        views = tuple(
            View(plane, tuple(structure for structure in self._order(plane) if structure in structures))
            for plane, structures in seen.items()
        )
        record = dataclasses.replace(exam.record, views=views)
        self._csv += csv_table.rows(record)
        name = f"{record.center.center}/exam-{exam.index:06d}"
        fhir.write(self._out / "records" / "fhir" / f"{name}.json", record, self._vocabulary)
        sr.write(self._out / "records" / "sr" / f"{name}.dcm", record, self._vocabulary)

    def _order(self, plane: str) -> list[str]:
        """The plane's structures by priority, then any others that its images happen to show."""
        return list(dict.fromkeys((*self._vocabulary.planes[plane].structures, *self._vocabulary.structures)))


def _write_bytes(content: bytes, file: io.IOBase) -> None:
    file.write(content)


def ultrasound_regions(drawn: DrawnImage) -> tuple[UltrasoundRegion, ...]:
    """The regions that a header lists for an image, without those of a black or damaged one."""
    regions = [_tissue_region(sector) for sector in drawn.sectors]
    if drawn.flow_box is not None:
        mm = drawn.sectors[0].mm_per_px
        regions.append(UltrasoundRegion(drawn.flow_box, FORMAT_2D, TYPE_COLOR_FLOW, (mm, mm)))
    if drawn.trace_box is not None:
        regions.append(_trace_region(drawn, drawn.trace_box))
    if drawn.rendering_box is not None:
        regions.append(UltrasoundRegion(drawn.rendering_box, FORMAT_NONE, TYPE_NONE, None))
    return tuple(regions)


def _trace_region(drawn: DrawnImage, box: Box) -> UltrasoundRegion:
    spectrum = drawn.spectrum
    if spectrum is None:
        depth_mm = drawn.sectors[0].depth_mm / box[3]
        return UltrasoundRegion(box, FORMAT_M_MODE, TYPE_TISSUE, (depth_mm, depth_mm), SWEEP_S / box[2])
    return UltrasoundRegion(
        box,
        FORMAT_SPECTRAL,
        TYPE_PULSED_WAVE,
        pixel_mm=None,
        seconds_per_px=spectrum.seconds_per_px,
        cm_s_per_px=spectrum.cm_s_per_px,
        baseline=spectrum.baseline,
    )


def _tissue_region(sector: Sector) -> UltrasoundRegion:
    return UltrasoundRegion(sector.box, FORMAT_2D, TYPE_TISSUE, (sector.mm_per_px, sector.mm_per_px))


def _move_region_outside(path: Path) -> None:
    """As if a program had scaled the pixels down and not updated the header."""
    dataset = pydicom.dcmread(path)
    for region in dataset.SequenceOfUltrasoundRegions:
        region.RegionLocationMaxX1 = int(dataset.Columns) + 200
    content = io.BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    write_atomically(path, lambda file: file.write(content.getvalue()))
