"""A phantom archive: synthetic fetal ultrasound examinations as a hospital has them, with the truth beside them.

::

    OUT/dicom/<center>/<patient>/<date>/IM0001.dcm    what ingest takes
    OUT/records/{csv,fhir,sr}/                        the same clinical facts in three forms
    OUT/truth/<table>/part-*.parquet                  the tables of ``phantom_truth``
    OUT/truth/masks/<center>/<structure>/<patient>/.. masks as ``masks import`` takes them
    OUT/phantom.json                                  what was asked for
"""

from __future__ import annotations

import dataclasses
import functools
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pydicom

from sono.curation.phantom.drawing.frames import DrawnImage, draw_image
from sono.curation.phantom.drawing.physics import Box, Sector
from sono.curation.phantom.files.dicom import Instance, UltrasoundRegion, write_instance
from sono.manifests import vocabulary
from sono.manifests.errors import UserError
from sono.manifests.schemas import TableSpec
from sono.manifests.stages import Engine, Part, Progress, RunReport, StageOutput, run_stage
from sono.manifests.store import PartInfo, TableStore, exclusive, write_atomically
from sono.manifests.vocabulary import Vocabulary

from . import truth
from .exams import Exam, ImagePlan, View, plan_exam, uid
from .files import csv_table, fhir, sr
from .truth import TRUE_FRAMES, TRUTH, Row

EXAMS_PER_PART = 4

_DESCRIPTION = "phantom.json"
_UNFINISHED = ".tmp-*"  # what write_atomically leaves where its process is killed
_TRANSDUCERS = {"convex": "CURVED LINEAR", "phased": "SECTOR_PHASED", "linear": "LINEAR"}
_CINE_MS = 33.3
_FORMAT_2D, _FORMAT_M_MODE = 1, 2  # PS3.3 C.8.5.5.1.1
_TYPE_TISSUE, _TYPE_COLOR_FLOW = 1, 2  # PS3.3 C.8.5.5.1.2
_TRACE_S = 4.0


def draw_phantom(
    out: Path,
    *,
    exams: int,
    seed: int = 0,
    engine: Engine,
    progress: Callable[[Progress], None] = lambda _: None,
) -> RunReport:
    """Draw ``exams`` examinations into ``out``, going on where an earlier run was interrupted.

    An examination is a function of (seed, its number): asking for more later adds to those that are there, and the
    same seed gives the same bytes wherever the same versions of the libraries are installed.

    Raises:
        UserError: ``exams`` is below 1, or the folder holds something else.
    """
    if exams < 1:
        raise UserError(f"{exams} exams cannot be drawn", fix="give --exams 1 or more")
    if out.exists() and not out.is_dir():
        raise UserError("not a folder", where=str(out), fix="name a new folder")
    out.mkdir(parents=True, exist_ok=True)
    with exclusive(out, str(out)):
        _claim(out, exams, seed)
        store = TableStore(out / "truth")
        _clear_leftovers(out)
        stage = PhantomStage(str(out.resolve()), seed)
        try:
            return run_stage(stage, _parts(exams), store, engine=engine, progress=progress)
        finally:
            _clear_leftovers(out)


def _clear_leftovers(out: Path) -> None:
    for leftover in out.rglob(_UNFINISHED):
        leftover.unlink(missing_ok=True)


def _claim(out: Path, exams: int, seed: int) -> None:
    """Only an empty folder, or one with fewer examinations of the same seed and version, is written to."""
    path = out / _DESCRIPTION
    wanted = {"exams": exams, "seed": seed, "version": PhantomStage.version}
    if path.exists():
        found = _described(path)
        if {**found, "exams": exams} != wanted or found["exams"] > exams:
            raise UserError(
                f"this folder holds a phantom of {found['exams']} exams, seed {found['seed']}",
                where=str(out),
                fix="name a new folder, or ask for the same seed and at least as many exams",
            )
    elif any(entry.name != ".lock" for entry in out.iterdir()):
        raise UserError("the folder is not empty", where=str(out), fix="name a new folder")
    write_atomically(path, lambda file: file.write(json.dumps(wanted, indent=2).encode()))


def _described(path: Path) -> dict[str, int]:
    try:
        found = json.loads(path.read_text())
        return {name: int(found[name]) for name in ("exams", "seed", "version")}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError("this does not describe a phantom", where=str(path), fix="name a new folder") from error


def _parts(exams: int) -> list[Part]:
    parts = []
    for start in range(0, exams, EXAMS_PER_PART):
        numbers = list(range(start, min(start + EXAMS_PER_PART, exams)))
        parts.append(Part(f"{start:06d}", json.dumps(numbers), functools.partial(_numbers, numbers)))
    return parts


def _numbers(numbers: list[int]) -> pa.Table:
    return pa.table({"source_key": [str(number) for number in numbers], "exam": pa.array(numbers, pa.int32())})


@dataclass(frozen=True)
class PhantomStage:
    """From numbers of examinations to their files. The truth about their frames is its table, and marks them done."""

    out: str
    seed: int

    name = "phantom"
    version = 1

    @property
    def output(self) -> TableSpec:
        return TRUE_FRAMES

    def config(self) -> Mapping[str, object]:
        return {"seed": self.seed, "libraries": {name: metadata.version(name) for name in _DRAWN_WITH}}

    def __call__(self, part: pa.Table) -> StageOutput:
        words = vocabulary.load()
        writer = _Writer(Path(self.out), words)
        numbers = part.column("exam").to_pylist()
        for number in numbers:
            writer.write(plan_exam(self.seed, number, words))
        writer.finish(f"{numbers[0]:06d}")
        return StageOutput(TRUE_FRAMES.from_rows(writer.truth["frames"]), [])


_DRAWN_WITH = ("numpy", "opencv-python-headless", "pillow", "pydicom")
"""A part that other versions of these drew is drawn again: its bytes may differ."""


class _Writer:
    """Writes examinations and gathers the truth about them. Holds one part."""

    def __init__(self, out: Path, words: Vocabulary) -> None:
        self._out, self._words = out, words
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
            shown = exam if image.exam == exam.index else plan_exam(exam.seed, image.exam, self._words)
            drawn = draw_image(shown, image)
            self._write_image(exam, image, drawn, file)
            if image.fault == "truncated_file":
                continue
            self._note(exam, shown, image, drawn, file)
            if image.fault not in ("filed_under_two_patients", "black_frame"):
                seen.setdefault(image.plane, set()).update(*(frame.masks for frame in drawn.frames))
        if "missing_record" not in exam.faults:
            self._write_record(exam, seen)

    def finish(self, part: str) -> None:
        """Write what belongs to the whole part: all truth but that of the frames, which marks the part done."""
        csv_table.write(self._out / "records" / "csv" / f"exams-{part}.csv", self._csv)
        store = TableStore(self._out / "truth")
        for table in TRUTH[1:]:
            rows = self.truth[table.name]
            store.write(table, PartInfo(part, PhantomStage.name, "", "", len(rows)), table.from_rows(rows))

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
        plane = None if image.fault == "no_plane" else self._words.planes[image.plane]
        number = int(image.name.removeprefix("IM"))
        return Instance(
            sop_instance_uid=uid(exam.seed, exam.index, image.name),
            series_uid=uid(exam.seed, exam.index, "series", image.plane, image.name),
            series_number=number,
            instance_number=number,
            acquired=exam.record.started + timedelta(seconds=40 * number),
            frames=np.stack([frame.pixels for frame in drawn.frames]),
            frame_time_ms=_CINE_MS if image.frames > 1 else None,
            regions=() if image.fault == "no_regions" else _regions(drawn),
            transfer_syntax=image.transfer_syntax,
            series_description=plane.name if plane else "Fetal ultrasound",
            plane=plane,
            transducer=_TRANSDUCERS[image.probe],
            frequency_mhz=drawn.settings["frequency_mhz"],
            mechanical_index=drawn.settings["mechanical_index"],
            thermal_index=drawn.settings["thermal_index"],
            depth_mm=drawn.sectors[0].depth_mm,
        )

    def _note(self, exam: Exam, shown: Exam, image: ImagePlan, drawn: DrawnImage, file: str) -> None:
        order = self._order(image.plane)
        self.truth["frames"] += truth.frame_rows(exam, shown, image, drawn, file, order)
        self.truth["regions"] += truth.region_rows(drawn, file)
        self.truth["text_boxes"] += truth.text_rows(drawn, file)
        if image.duplicate:
            original = next(other for other in shown.images if other.number == image.number)
            self.truth["duplicates"].append(
                {
                    "file": file,
                    "original": f"{shown.folder}/{original.name}.dcm",
                    "kind": image.duplicate,
                    "same_patient": shown.record.patient.patient_id == exam.record.patient.patient_id,
                }
            )
        center, _, below = file.removesuffix(".dcm").partition("/")
        for index, frame in enumerate(drawn.frames):
            name = f"{below}_f{index}" if len(drawn.frames) > 1 else below
            for structure, mask in frame.masks.items():
                png = cv2.imencode(".png", mask.astype(np.uint8) * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])[1].tobytes()
                path = self._out / "truth" / "masks" / center / structure / f"{name}.png"
                write_atomically(path, functools.partial(_put, png))

    def _write_record(self, exam: Exam, seen: Mapping[str, set[str]]) -> None:
        views = tuple(
            View(plane, tuple(structure for structure in self._order(plane) if structure in structures))
            for plane, structures in seen.items()
        )
        record = dataclasses.replace(exam.record, views=views)
        self._csv += csv_table.rows(record)
        name = f"{record.center.center}/exam-{exam.index:06d}"
        fhir.write(self._out / "records" / "fhir" / f"{name}.json", record, self._words)
        sr.write(self._out / "records" / "sr" / f"{name}.dcm", record, self._words)

    def _order(self, plane: str) -> list[str]:
        """The plane's structures in their priority, then whatever else its images happen to show."""
        return list(dict.fromkeys((*self._words.planes[plane].structures, *self._words.structures)))


def _put(content: bytes, file: io.IOBase) -> None:
    file.write(content)


def _regions(drawn: DrawnImage) -> tuple[UltrasoundRegion, ...]:
    regions = [_tissue(sector) for sector in drawn.sectors]
    mm = drawn.sectors[0].mm_per_px
    if drawn.flow_box is not None:
        regions.append(UltrasoundRegion(drawn.flow_box, _FORMAT_2D, _TYPE_COLOR_FLOW, (mm, mm)))
    if drawn.trace_box is not None:
        trace: Box = drawn.trace_box
        depth_mm = drawn.sectors[0].depth_mm / trace[3]
        regions.append(UltrasoundRegion(trace, _FORMAT_M_MODE, _TYPE_TISSUE, (depth_mm, depth_mm), _TRACE_S / trace[2]))
    return tuple(regions)


def _tissue(sector: Sector) -> UltrasoundRegion:
    return UltrasoundRegion(sector.box, _FORMAT_2D, _TYPE_TISSUE, (sector.mm_per_px, sector.mm_per_px))


def _move_region_outside(path: Path) -> None:
    """As where a program has scaled the pixels down and left the header as it was."""
    dataset = pydicom.dcmread(path)
    for region in dataset.SequenceOfUltrasoundRegions:
        region.RegionLocationMaxX1 = int(dataset.Columns) + 200
    content = io.BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    write_atomically(path, lambda file: file.write(content.getvalue()))
