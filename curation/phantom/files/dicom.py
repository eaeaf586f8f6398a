"""Ultrasound images as a scanner writes them: DICOM files of the phantom's screens.

``dciodvfy`` (dicom3tools) finds no error in any file written here. It warns about the coding scheme 99SONO, which it
cannot know. Pixel Spacing is not part of these IODs: sizes are in the ultrasound regions.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import UID, UltrasoundImageStorage, UltrasoundMultiFrameImageStorage
from pydicom.valuerep import format_number_as_ds

from sono.curation.phantom.anatomy import FIRST_TRIMESTER_DAYS
from sono.curation.phantom.identifiers import PLANE_SCHEME, PLANE_SCHEME_NAME, PLANE_SCHEME_UID
from sono.curation.phantom.records import ExamRecord
from sono.manifests.store import write_atomically
from sono.manifests.vocabulary import Plane

from .encodings import ENCODINGS, TRANSFER_SYNTAXES, Pixels
from .modules import (
    code_item,
    coding_scheme_item,
    dicom_date,
    dicom_time,
    file_meta,
    person_name,
    set_character_set,
    set_equipment,
    set_patient,
    set_study,
)
from .regions import TYPE_COLOR_FLOW, UltrasoundRegion, image_type_value, region_item

_BONE_INDEX_FROM_DAYS = 10 * 7  # British Medical Ultrasound Society: TIS before ten weeks, TIB from then on


@dataclass(frozen=True, eq=False)  # arrays cannot be compared with ==
class Instance:
    """One DICOM object to write.

    Attributes:
        frames: grey [frames, height, width] or RGB [frames, height, width, 3].
        frame_time_ms: from frame to frame; None for a still.
        transfer_syntax: UID, one of ``TRANSFER_SYNTAXES``.
        plane: for View Code Sequence; None to leave it out.
        transducer: a defined term of Transducer Type (PS3.3 C.8.5.6): CURVED LINEAR, SECTOR_PHASED, LINEAR.
        depth_mm: depth of the deepest echo shown; None for a rendering, which shows no depth.
    """

    sop_instance_uid: str
    series_uid: str
    series_number: int
    instance_number: int
    acquired: datetime
    frames: Pixels
    frame_time_ms: float | None
    regions: tuple[UltrasoundRegion, ...]
    transfer_syntax: str
    series_description: str
    plane: Plane | None
    transducer: str
    frequency_mhz: float
    mechanical_index: float
    thermal_index: float
    depth_mm: float | None

    def __post_init__(self) -> None:
        shape = self.frames.shape
        if self.frames.dtype != np.uint8 or len(shape) not in (3, 4) or 0 in shape or shape[3:] not in ((), (3,)):
            raise ValueError(f"frames are {self.frames.dtype} {shape}, not uint8 grey or RGB with the frames first")
        if shape[1] * shape[2] % 2:
            # GDCM pads a frame to even length before encoding it: RLE then crashes the process, JPEG Lossless fails.
            raise ValueError(f"an image of {shape[2]} x {shape[1]} px has an odd number of pixels")
        if self.frame_time_ms is None and shape[0] != 1:
            raise ValueError(f"{shape[0]} frames without frame_time_ms: a still has one frame")
        if self.frame_time_ms is not None and not self.frame_time_ms > 0:
            raise ValueError(f"frame_time_ms is {self.frame_time_ms}, not above 0")
        if self.transfer_syntax not in TRANSFER_SYNTAXES:
            raise ValueError(f"transfer syntax {self.transfer_syntax!r} is not one of TRANSFER_SYNTAXES")
        for region in self.regions:
            region.check_fits(image_width=shape[2], image_height=shape[1])


def write_instance(file: Path, record: ExamRecord, instance: Instance) -> None:
    """Write one image or cine atomically. The same input gives the same bytes."""
    dataset = _dataset(record, instance)
    write_atomically(file, lambda target: dataset.save_as(target, enforce_file_format=True))


def _dataset(record: ExamRecord, instance: Instance) -> Dataset:
    dataset = Dataset()
    _sop_common(dataset, instance)
    set_patient(dataset, record)
    dataset.PatientAge = _age(record)  # Patient Study (PS3.3 C.7.2.2)
    set_study(dataset, record)
    _series(dataset, record, instance)
    set_equipment(dataset, record)
    _general_image(dataset, instance)
    _us_image(dataset, record, instance)
    if instance.frame_time_ms is not None:
        _cine(dataset, len(instance.frames), instance.frame_time_ms)
    if instance.regions:
        dataset.SequenceOfUltrasoundRegions = [
            region_item(region, instance.frequency_mhz) for region in instance.regions
        ]
    set_character_set(dataset, record.character_set)
    _pixels(dataset, instance)
    dataset.file_meta = file_meta(dataset, UID(instance.transfer_syntax))
    return dataset


def _sop_common(dataset: Dataset, instance: Instance) -> None:
    """PS3.3 C.12.1."""
    still = instance.frame_time_ms is None
    dataset.SOPClassUID = UltrasoundImageStorage if still else UltrasoundMultiFrameImageStorage
    dataset.SOPInstanceUID = UID(instance.sop_instance_uid)
    if instance.plane is not None:
        scheme = coding_scheme_item(PLANE_SCHEME, PLANE_SCHEME_UID, PLANE_SCHEME_NAME)
        dataset.CodingSchemeIdentificationSequence = [scheme]


def _age(record: ExamRecord) -> str:
    """The mother's age in completed years."""
    born, today = record.patient.birth_date, record.started.date()
    return f"{_completed_years(born, today):03d}Y"


def _completed_years(born: date, today: date) -> int:
    return today.year - born.year - ((today.month, today.day) < (born.month, born.day))


def _series(dataset: Dataset, record: ExamRecord, instance: Instance) -> None:
    """PS3.3 C.7.3.1; without laterality, since a fetus in its mother's abdomen is not a paired structure."""
    dataset.Modality = "US"
    dataset.SeriesInstanceUID = UID(instance.series_uid)
    dataset.SeriesNumber = instance.series_number
    dataset.SeriesDescription = instance.series_description
    dataset.ProtocolName = _protocol(record.ga_days)
    dataset.BodyPartExamined = "ABDOMEN"
    dataset.OperatorsName = person_name(record.sonographer)


def _protocol(ga_days: int | None) -> str:
    """The scanner's preset, which depends on the examination and names no plane."""
    if ga_days is None:
        return "OB"
    return "OB 1st Trimester" if ga_days < FIRST_TRIMESTER_DAYS else "OB 2nd/3rd Trimester"


def _general_image(dataset: Dataset, instance: Instance) -> None:
    """PS3.3 C.7.6.1; as in practice, the scanner does not know the orientation."""
    dataset.InstanceNumber = instance.instance_number
    dataset.PatientOrientation = ""
    dataset.ContentDate, dataset.ContentTime = dicom_date(instance.acquired), dicom_time(instance.acquired)
    dataset.AcquisitionDateTime = dicom_date(instance.acquired) + dicom_time(instance.acquired)
    dataset.BurnedInAnnotation = "YES"
    dataset.LossyImageCompression = "00"


def _us_image(dataset: Dataset, record: ExamRecord, instance: Instance) -> None:
    """PS3.3 C.8.5.6."""
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "OBSTETRICAL", image_type_value(instance.regions)]
    dataset.UltrasoundColorDataPresent = int(any(region.data_type == TYPE_COLOR_FLOW for region in instance.regions))
    if instance.plane is not None:
        dataset.ViewCodeSequence = [code_item(instance.plane.id, PLANE_SCHEME, instance.plane.name)]
    dataset.TransducerType = instance.transducer
    dataset.TransducerData = f"{instance.frequency_mhz:g} MHz"
    dataset.MechanicalIndex = format_number_as_ds(instance.mechanical_index)
    # An unknown age counts as late, as most examinations are.
    early = record.ga_days is not None and record.ga_days < _BONE_INDEX_FROM_DAYS
    index = "SoftTissueThermalIndex" if early else "BoneThermalIndex"
    setattr(dataset, index, format_number_as_ds(instance.thermal_index))
    if instance.depth_mm is not None:
        dataset.DepthOfScanField = round(instance.depth_mm)


def _cine(dataset: Dataset, frame_count: int, frame_time_ms: float) -> None:
    """PS3.3 C.7.6.5 Cine and C.7.6.6 Multi-frame."""
    rate = max(1, round(1000 / frame_time_ms))
    dataset.NumberOfFrames = frame_count
    dataset.FrameIncrementPointer = Tag("FrameTime")
    dataset.FrameTime = format_number_as_ds(frame_time_ms)
    dataset.CineRate = dataset.RecommendedDisplayFrameRate = rate
    dataset.StartTrim, dataset.StopTrim = 1, frame_count
    dataset.EffectiveDuration = format_number_as_ds(frame_count * frame_time_ms / 1000)


def _pixels(dataset: Dataset, instance: Instance) -> None:
    """PS3.3 C.7.6.3 Image Pixel; PS3.5 8.2 and A.4 for the encodings."""
    frames, encoding = instance.frames, ENCODINGS.get(UID(instance.transfer_syntax))
    colored = frames.ndim == 4
    dataset.SamplesPerPixel = 3 if colored else 1
    dataset.PhotometricInterpretation = "RGB" if colored else "MONOCHROME2"
    if colored:
        dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = frames.shape[1:3]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    if encoding is None:
        # With implicit VR it would be OW (PS3.5 A.1), but the VR is not written, and single bytes have the same order.
        dataset.add_new("PixelData", "OB", frames.tobytes())
        return
    encoded = [encoding.encode(np.ascontiguousarray(frame)) for frame in frames]
    if colored:
        dataset.PhotometricInterpretation = encoding.color
    if encoding.lossy_method:
        # PS3.3 C.7.6.1.1.5.
        dataset.LossyImageCompression = "01"
        dataset.LossyImageCompressionRatio = f"{frames.size / sum(map(len, encoded)):.2f}"
        dataset.LossyImageCompressionMethod = encoding.lossy_method
    dataset.add_new("PixelData", "OB", encapsulate(encoded, has_bot=True))
    dataset["PixelData"].is_undefined_length = True
