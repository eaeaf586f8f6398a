"""Ultrasound images as a scanner writes them: DICOM files of the phantom's screens.

``dciodvfy`` (dicom3tools) finds no error in any file written here. It warns of the coding scheme 99SONO, which it
cannot know. Pixel Spacing is not part of these IODs: sizes are in the ultrasound regions.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import get_encoder
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)
from pydicom.valuerep import format_number_as_ds

from sono.curation.phantom.exams import (
    FIRST_TRIMESTER_DAYS,
    IMPLEMENTATION_NAME,
    IMPLEMENTATION_UID,
    PLANE_SCHEME,
    PLANE_SCHEME_NAME,
    PLANE_SCHEME_UID,
    ExamRecord,
)
from sono.manifests.store import write_atomically
from sono.manifests.vocabulary import Plane

Box = tuple[int, int, int, int]
"""x, y, width, height in px."""

_CODE_VALUE_MOST = 16  # PS3.3 8.8: a longer code stands in Long Code Value

_JPEG_QUALITY = 92
_JPEG_SUBSAMPLING = "4:2:2"  # PS3.3 C.7.6.3.1.2: YBR_FULL_422

# PS3.3 C.8.5.5.1.1, C.8.5.5.1.2 and C.8.5.5.1.15.
_FORMAT_2D, _FORMAT_M_MODE, _FORMAT_SPECTRAL = 1, 2, 3
_TYPE_COLOR_FLOW = 2
_UNIT_NONE, _UNIT_CM, _UNIT_SECONDS = 0, 3, 4
_LOW_PRIORITY, _HIGH_PRIORITY = 1, 0  # PS3.3 C.8.5.5.1.3, bit 0 of Region Flags

# PS3.3 C.8.5.6.1.1: what an image shows, as bits of the fourth value of Image Type.
_SHOWS = {_FORMAT_2D: 0x0001, _FORMAT_M_MODE: 0x0002, _FORMAT_SPECTRAL: 0x0008}
_SHOWS_COLOR_FLOW = 0x0010

_BONE_INDEX_FROM_DAYS = 10 * 7  # British Medical Ultrasound Society: TIS before ten weeks, TIB from then on

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class UltrasoundRegion:
    """One item of the Sequence of Ultrasound Regions (PS3.3 C.8.5.5).

    Attributes:
        box: in the image.
        spatial_format: 1 2D, 2 M-mode, 3 spectral.
        data_type: 1 tissue, 2 colour flow, 3 pulsed-wave spectral.
        pixel_mm: size of a pixel along x and y; None: not calibrated. Of an M-mode region only y counts, of a spectral
            region neither.
        seconds_per_px: along x, of M-mode and spectral regions only.
    """

    box: Box
    spatial_format: int
    data_type: int
    pixel_mm: tuple[float, float] | None
    seconds_per_px: float | None = None


@dataclass(frozen=True, eq=False)  # arrays have no truth value to compare by
class Instance:
    """One DICOM object to write.

    Attributes:
        frames: grey [frames, height, width] or RGB [frames, height, width, 3].
        frame_time_ms: from frame to frame; None: a still.
        transfer_syntax: UID, one of ``TRANSFER_SYNTAXES``.
        plane: for View Code Sequence; None: the header does not say it there.
        transducer: a defined term of Transducer Type (PS3.3 C.8.5.6): CURVED LINEAR, SECTOR_PHASED, LINEAR.
        depth_mm: of the deepest echo shown.
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
    depth_mm: float

    def __post_init__(self) -> None:
        shape = self.frames.shape
        if self.frames.dtype != np.uint8 or len(shape) not in (3, 4) or 0 in shape or shape[3:] not in ((), (3,)):
            raise ValueError(f"frames are {self.frames.dtype} {shape}, not uint8 grey or RGB with the frames first")
        if shape[1] * shape[2] % 2:
            # GDCM pads a frame to even length before it encodes it: RLE then ends the process, JPEG Lossless fails.
            raise ValueError(f"an image of {shape[2]} x {shape[1]} px has an odd number of pixels")
        if self.frame_time_ms is None and shape[0] != 1:
            raise ValueError(f"{shape[0]} frames without frame_time_ms: a still has one")
        if self.frame_time_ms is not None and not self.frame_time_ms > 0:
            raise ValueError(f"frame_time_ms is {self.frame_time_ms}, not above 0")
        if self.transfer_syntax not in TRANSFER_SYNTAXES:
            raise ValueError(f"transfer syntax {self.transfer_syntax!r} is none of TRANSFER_SYNTAXES")
        for region in self.regions:
            x, y, width, height = region.box
            if region.spatial_format not in _SHOWS:
                raise ValueError(f"region with spatial format {region.spatial_format}, not one of {tuple(_SHOWS)}")
            if min(x, y) < 0 or min(width, height) < 1 or x + width > shape[2] or y + height > shape[1]:
                raise ValueError(f"region {(x, y, width, height)} is not inside an image of {shape[2]} x {shape[1]} px")


def write_instance(file: Path, record: ExamRecord, instance: Instance) -> None:
    """Write one image or cine atomically. The same input gives the same bytes."""
    dataset = _dataset(record, instance)
    write_atomically(file, lambda target: dataset.save_as(target, enforce_file_format=True))


def _dataset(record: ExamRecord, instance: Instance) -> Dataset:
    dataset = Dataset()
    _sop_common(dataset, instance)
    _patient(dataset, record)
    _study(dataset, record)
    _series(dataset, record, instance)
    _equipment(dataset, record)
    _general_image(dataset, instance)
    _us_image(dataset, record, instance)
    if instance.frame_time_ms is not None:
        _cine(dataset, len(instance.frames), instance.frame_time_ms)
    if instance.regions:
        dataset.SequenceOfUltrasoundRegions = [_region(region, instance) for region in instance.regions]
    _pixels(dataset, instance)
    dataset.file_meta = _file_meta(dataset, instance)
    return dataset


def _file_meta(dataset: Dataset, instance: Instance) -> FileMetaDataset:
    """PS3.10 7.1; what is not set here would be pydicom's."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = UID(instance.transfer_syntax)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_NAME
    return meta


def _sop_common(dataset: Dataset, instance: Instance) -> None:
    """PS3.3 C.12.1."""
    still = instance.frame_time_ms is None
    dataset.SOPClassUID = UltrasoundImageStorage if still else UltrasoundMultiFrameImageStorage
    dataset.SOPInstanceUID = UID(instance.sop_instance_uid)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    if instance.plane is not None:
        scheme = Dataset()
        scheme.CodingSchemeDesignator = PLANE_SCHEME
        scheme.CodingSchemeUID = UID(PLANE_SCHEME_UID)
        scheme.CodingSchemeName = PLANE_SCHEME_NAME
        dataset.CodingSchemeIdentificationSequence = [scheme]


def _patient(dataset: Dataset, record: ExamRecord) -> None:
    """PS3.3 C.7.1.1 and, of the Patient Study Module C.7.2.2, the age."""
    patient = record.patient
    dataset.PatientName = _person(patient.family_name, patient.given_name)
    dataset.PatientID = patient.patient_id
    dataset.PatientBirthDate = _da(patient.birth_date)
    dataset.PatientSex = "F"
    dataset.PatientAge = f"{_completed_years(patient.birth_date, record.started.date()):03d}Y"


def _study(dataset: Dataset, record: ExamRecord) -> None:
    """PS3.3 C.7.2.1."""
    dataset.StudyInstanceUID = UID(record.study_uid)
    dataset.StudyDate, dataset.StudyTime = _da(record.started), _tm(record.started)
    dataset.ReferringPhysicianName = _person(*record.referring_physician)
    dataset.StudyID = dataset.AccessionNumber = record.accession_number
    dataset.StudyDescription = "Obstetric ultrasound"


def _series(dataset: Dataset, record: ExamRecord, instance: Instance) -> None:
    """PS3.3 C.7.3.1; a fetus in its mother's abdomen is no paired structure, so there is no laterality."""
    dataset.Modality = "US"
    dataset.SeriesInstanceUID = UID(instance.series_uid)
    dataset.SeriesNumber = instance.series_number
    dataset.SeriesDescription = instance.series_description
    dataset.ProtocolName = _protocol(record.ga_days)
    dataset.BodyPartExamined = "ABDOMEN"
    dataset.OperatorsName = _person(*record.sonographer)


def _protocol(ga_days: int | None) -> str:
    """The scanner's preset: it belongs to the examination, and names no plane."""
    if ga_days is None:
        return "OB"
    return "OB 1st Trimester" if ga_days < FIRST_TRIMESTER_DAYS else "OB 2nd/3rd Trimester"


def _equipment(dataset: Dataset, record: ExamRecord) -> None:
    """PS3.3 C.7.5.1."""
    center = record.center
    dataset.Manufacturer, dataset.ManufacturerModelName = center.manufacturer, center.model
    dataset.SoftwareVersions = center.software
    dataset.InstitutionName = center.hospital


def _general_image(dataset: Dataset, instance: Instance) -> None:
    """PS3.3 C.7.6.1; the orientation is unknown to the scanner, as in practice."""
    dataset.InstanceNumber = instance.instance_number
    dataset.PatientOrientation = ""
    dataset.ContentDate, dataset.ContentTime = _da(instance.acquired), _tm(instance.acquired)
    dataset.AcquisitionDateTime = _da(instance.acquired) + _tm(instance.acquired)
    dataset.BurnedInAnnotation = "YES"
    dataset.LossyImageCompression = "00"


def _us_image(dataset: Dataset, record: ExamRecord, instance: Instance) -> None:
    """PS3.3 C.8.5.6."""
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "OBSTETRICAL", _shown(instance.regions)]
    dataset.UltrasoundColorDataPresent = int(any(region.data_type == _TYPE_COLOR_FLOW for region in instance.regions))
    if instance.plane is not None:
        dataset.ViewCodeSequence = [_view_code(instance.plane)]
    dataset.TransducerType = instance.transducer
    dataset.TransducerData = f"{instance.frequency_mhz:g} MHz"
    dataset.MechanicalIndex = format_number_as_ds(instance.mechanical_index)
    # An unknown age is late rather than early: most examinations are.
    early = record.ga_days is not None and record.ga_days < _BONE_INDEX_FROM_DAYS
    index = "SoftTissueThermalIndex" if early else "BoneThermalIndex"
    setattr(dataset, index, format_number_as_ds(instance.thermal_index))
    dataset.DepthOfScanField = round(instance.depth_mm)


def _shown(regions: Sequence[UltrasoundRegion]) -> str:
    """The fourth value of Image Type; without regions, plain 2D imaging."""
    bits = 0
    for region in regions:
        bits |= _SHOWS[region.spatial_format]
        bits |= _SHOWS_COLOR_FLOW if region.data_type == _TYPE_COLOR_FLOW else 0
    return f"{bits or _SHOWS[_FORMAT_2D]:04X}"


def _view_code(plane: Plane) -> Dataset:
    """PS3.3 8.8."""
    code = Dataset()
    if len(plane.id) <= _CODE_VALUE_MOST:
        code.CodeValue = plane.id
    else:
        code.LongCodeValue = plane.id
    code.CodingSchemeDesignator = PLANE_SCHEME
    code.CodeMeaning = plane.name
    return code


def _cine(dataset: Dataset, frame_count: int, frame_time_ms: float) -> None:
    """PS3.3 C.7.6.5 Cine and C.7.6.6 Multi-frame."""
    rate = max(1, round(1000 / frame_time_ms))
    dataset.NumberOfFrames = frame_count
    dataset.FrameIncrementPointer = Tag("FrameTime")
    dataset.FrameTime = format_number_as_ds(frame_time_ms)
    dataset.CineRate = dataset.RecommendedDisplayFrameRate = rate
    dataset.StartTrim, dataset.StopTrim = 1, frame_count
    dataset.EffectiveDuration = format_number_as_ds(frame_count * frame_time_ms / 1000)


def _region(region: UltrasoundRegion, instance: Instance) -> Dataset:
    """An item of the US Region Calibration Module (PS3.3 C.8.5.5)."""
    x, y, width, height = region.box
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType = region.spatial_format, region.data_type
    # Colour lies over the echoes: where both are, the echoes' calibration of grey levels is void.
    item.RegionFlags = _HIGH_PRIORITY if region.data_type == _TYPE_COLOR_FLOW else _LOW_PRIORITY
    item.RegionLocationMinX0, item.RegionLocationMinY0 = x, y
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = x + width - 1, y + height - 1
    item.PhysicalUnitsXDirection, item.PhysicalDeltaX = _along_x(region)
    item.PhysicalUnitsYDirection, item.PhysicalDeltaY = _along_y(region)
    item.TransducerFrequency = round(instance.frequency_mhz * 1000)  # kHz
    return item


def _along_x(region: UltrasoundRegion) -> tuple[int, float]:
    """Unit and increment from pixel to pixel, which has to be there even where there is no unit."""
    if region.spatial_format != _FORMAT_2D:
        return (_UNIT_NONE, 1.0) if region.seconds_per_px is None else (_UNIT_SECONDS, region.seconds_per_px)
    return (_UNIT_NONE, 1.0) if region.pixel_mm is None else (_UNIT_CM, region.pixel_mm[0] / 10)


def _along_y(region: UltrasoundRegion) -> tuple[int, float]:
    if region.spatial_format == _FORMAT_SPECTRAL or region.pixel_mm is None:
        return _UNIT_NONE, 1.0
    return _UNIT_CM, region.pixel_mm[1] / 10


def _pixels(dataset: Dataset, instance: Instance) -> None:
    """PS3.3 C.7.6.3 Image Pixel; PS3.5 8.2 and A.4 for the encodings."""
    frames, encoding = instance.frames, _ENCODINGS.get(UID(instance.transfer_syntax))
    colored = frames.ndim == 4
    dataset.SamplesPerPixel = 3 if colored else 1
    dataset.PhotometricInterpretation = "RGB" if colored else "MONOCHROME2"
    if colored:
        dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = frames.shape[1:3]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    if encoding is None:
        # With implicit VR it is OW (PS3.5 A.1), but then it is not written, and of bytes the order is the same.
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


def _jpeg(frame: Pixels) -> bytes:
    """JPEG Baseline; Pillow turns RGB to YCbCr."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=_JPEG_SUBSAMPLING)
    return buffer.getvalue()


def _jpeg_lossless(frame: Pixels) -> bytes:
    """JPEG Lossless by GDCM, for which pydicom has no encoder."""
    import gdcm

    writer = gdcm.ImageWriter()
    image = writer.GetImage()  # belongs to the writer, which must not go out of scope before it
    kind = gdcm.PhotometricInterpretation
    image.SetNumberOfDimensions(2)
    image.SetDimensions((frame.shape[1], frame.shape[0], 1))
    image.SetPhotometricInterpretation(kind(kind.RGB if frame.ndim == 3 else kind.MONOCHROME2))
    image.SetPixelFormat(gdcm.PixelFormat(3 if frame.ndim == 3 else 1, 8, 8, 7, 0))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.ExplicitVRLittleEndian))
    raw = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    raw.SetByteStringValue(frame.tobytes())
    image.SetDataElement(raw)
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(image)
    if not change.Change():
        raise RuntimeError("GDCM does not encode JPEG Lossless")
    fragments = change.GetOutput().GetDataElement().GetSequenceOfFragments()
    assert fragments.GetNumberOfFragments() == 1
    # The Python binding hands bytes over as text.
    text: str = fragments.GetFragment(0).GetByteValue().GetBuffer()
    return text.encode("utf-8", "surrogateescape")


def _by_pydicom(syntax: UID, plugin: str, color: str = "RGB") -> Callable[[Pixels], bytes]:
    """``color`` is the Photometric Interpretation to encode colour in."""

    def encode(frame: Pixels) -> bytes:
        colored = frame.ndim == 3
        return get_encoder(syntax).encode(
            frame,
            encoding_plugin=plugin,
            rows=frame.shape[0],
            columns=frame.shape[1],
            number_of_frames=1,
            samples_per_pixel=3 if colored else 1,
            planar_configuration=0,
            photometric_interpretation=color if colored else "MONOCHROME2",
            bits_allocated=8,
            bits_stored=8,
            pixel_representation=0,
        )

    return encode


@dataclass(frozen=True)
class _Encoding:
    """How one frame becomes one fragment. ``color``: Photometric Interpretation of colour images once encoded."""

    encode: Callable[[Pixels], bytes]
    color: str
    lossy_method: str = ""


# As in the reader, the encoder is fixed and not whichever is installed: bytes have to be the same everywhere. GDCM's
# RLE takes a quarter of pylibjpeg's time and a thirtieth of pydicom's.
_ENCODINGS: Mapping[UID, _Encoding] = {
    RLELossless: _Encoding(_by_pydicom(RLELossless, "gdcm"), "RGB"),
    JPEGBaseline8Bit: _Encoding(_jpeg, "YBR_FULL_422", lossy_method="ISO_10918_1"),
    JPEGLosslessSV1: _Encoding(_jpeg_lossless, "RGB"),
    JPEGLSLossless: _Encoding(_by_pydicom(JPEGLSLossless, "pyjpegls"), "RGB"),
    JPEG2000Lossless: _Encoding(_by_pydicom(JPEG2000Lossless, "pylibjpeg", "YBR_RCT"), "YBR_RCT"),
}

TRANSFER_SYNTAXES: tuple[UID, ...] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, *_ENCODINGS)
"""What can be written."""


def _person(family_name: str, given_name: str) -> str:
    return f"{family_name}^{given_name}"


def _da(day: date) -> str:
    return f"{day:%Y%m%d}"


def _tm(time: datetime) -> str:
    return f"{time:%H%M%S}"


def _completed_years(born: date, today: date) -> int:
    return today.year - born.year - ((today.month, today.day) < (born.month, born.day))
