"""The phantom's DICOM files hold what was put in, for every reader, and conform to their IODs."""

from __future__ import annotations

import dataclasses
import shutil
import struct
import subprocess
from datetime import date, datetime
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
)

from sono.curation.images.dicom.frames import open_dicom
from sono.curation.images.dicom.regions import image_mode
from sono.curation.phantom.files.dicom import Instance, write_instance
from sono.curation.phantom.files.encodings import TRANSFER_SYNTAXES
from sono.curation.phantom.files.regions import UltrasoundRegion
from sono.curation.phantom.hospitals import Center
from sono.curation.phantom.records import ExamRecord, Patient
from sono.manifests import vocabulary

PLANES = vocabulary.load().planes
FIELDS = ("ViewCodeSequence", "SeriesDescription", "ProtocolName")
HEIGHT, WIDTH = 93, 122
FRAME_TIME_MS = 1000 / 30

TISSUE = UltrasoundRegion((5, 8, 60, 50), 1, 1, (0.21, 0.23))
BESIDE = UltrasoundRegion((70, 8, 40, 50), 1, 1, (0.21, 0.23))
FLOW = UltrasoundRegion((15, 18, 20, 20), 1, 2, (0.21, 0.23))
M_MODE = UltrasoundRegion((5, 60, 100, 33), 2, 1, (9.0, 0.25), seconds_per_px=0.005)
SPECTRAL = UltrasoundRegion((5, 60, 100, 33), 3, 3, None, seconds_per_px=0.004, cm_s_per_px=1.5, baseline=80)
RENDERING = UltrasoundRegion((5, 8, 100, 85), 0, 0, None)
UNCALIBRATED = dataclasses.replace(TISSUE, pixel_mm=None)

RECORD = ExamRecord(
    center=Center("north", "Frauenklinik Müllerstadt", "Sonovendor", "Wave 7", "1.2.3"),
    patient=Patient("P-0042", "Größmann", "Änne", date(1990, 5, 7)),
    study_uid="2.25.1001",
    accession_number="A20240506",
    started=datetime(2024, 5, 6, 9, 10, 11),
    referring_physician=("Öztürk", "Bülent"),
    sonographer=("Sørensen", "Tåge"),
    lmp=date(2023, 12, 8),
    edd=None,
    ga_days=150,
    ga_days_by_lmp=150,
    biometry_mm={},
    views=(),
    findings=(),
)

every_syntax = pytest.mark.parametrize("syntax", TRANSFER_SYNTAXES, ids=lambda uid: uid.keyword)
every_kind = pytest.mark.parametrize(
    ("colored", "frame_count"), [(False, 1), (False, 3), (True, 1), (True, 3)], ids=["grey", "greys", "rgb", "rgbs"]
)


def drawn(colored: bool, frame_count: int) -> npt.NDArray[np.uint8]:
    """Speckle on black, different in every frame; in colour with a red patch."""
    random = np.random.default_rng(7)
    frames = np.zeros((frame_count, HEIGHT, WIDTH), np.uint8)
    for frame in frames:
        speckle = cv2.GaussianBlur(random.rayleigh(60, (50, 60)), (5, 5), 1.5)
        frame[8:58, 5:65] = speckle.clip(0, 255)
    if not colored:
        return frames
    rgb = np.repeat(frames[..., None], 3, axis=-1)
    rgb[:, 20:36, 16:36] = (200, 40, 30)
    return rgb


def instance_of(
    syntax: str = ExplicitVRLittleEndian,
    colored: bool = False,
    frame_count: int = 1,
    regions: tuple[UltrasoundRegion, ...] = (TISSUE,),
    plane: str | None = "femur",
) -> Instance:
    return Instance(
        sop_instance_uid="2.25.1003",
        series_uid="2.25.1002",
        series_number=4,
        instance_number=12,
        acquired=datetime(2024, 5, 6, 9, 21, 33),
        frames=drawn(colored, frame_count),
        frame_time_ms=FRAME_TIME_MS if frame_count > 1 else None,
        regions=regions,
        transfer_syntax=syntax,
        series_description="Oberschenkel, Länge",
        plane=PLANES[plane] if plane else None,
        transducer="CURVED LINEAR",
        frequency_mhz=3.5,
        mechanical_index=0.9,
        thermal_index=0.4,
        depth_mm=152.3,
    )


def written(folder: Path, instance: Instance, record: ExamRecord = RECORD) -> Path:
    file = folder / "new" / f"{instance.instance_number}.dcm"
    write_instance(file, record, instance)
    return file


def by_ingest(file: Path) -> npt.NDArray[np.uint8]:
    frames = list(open_dicom(file.read_bytes(), FIELDS).frames())
    assert all(isinstance(frame, np.ndarray) for frame in frames)
    return np.stack(frames)  # type: ignore[arg-type]


def by_pydicom(file: Path) -> npt.NDArray[np.uint8]:
    dataset = pydicom.dcmread(file)
    # GDCM wrote it; libjpeg knows nothing of GDCM.
    plugin = "pylibjpeg" if dataset.file_meta.TransferSyntaxUID == JPEGLosslessSV1 else ""
    pixels = pixel_array(file, decoding_plugin=plugin)
    return pixels if "NumberOfFrames" in dataset else pixels[None]


def by_gdcm(file: Path) -> npt.NDArray[np.uint8]:
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(file))
    assert reader.Read()
    image = reader.GetImage()
    values = np.frombuffer(image.GetBuffer().encode("utf-8", "surrogateescape"), np.uint8)
    rows, columns = image.GetDimension(1), image.GetDimension(0)
    if image.GetPixelFormat().GetSamplesPerPixel() == 1:
        return values.reshape(-1, rows, columns)
    assert image.GetPlanarConfiguration() == 0
    frames = values.reshape(-1, rows, columns, 3)
    if "YBR_FULL" not in str(image.GetPhotometricInterpretation()):
        return frames
    return np.stack([cv2.cvtColor(frame[..., [0, 2, 1]], cv2.COLOR_YCrCb2RGB) for frame in frames])


@every_syntax
@every_kind
@pytest.mark.parametrize("read", [by_ingest, by_pydicom, by_gdcm])
def test_every_reader_gets_the_pixels_that_were_written(
    tmp_path: Path, syntax: str, colored: bool, frame_count: int, read: object
) -> None:
    assert callable(read)
    instance = instance_of(syntax, colored, frame_count)
    pixels = read(written(tmp_path, instance))
    assert pixels.shape == instance.frames.shape
    if syntax == JPEGBaseline8Bit:
        difference = np.abs(pixels.astype(int) - instance.frames)
        assert 0 < difference.mean() < 2
        assert np.percentile(difference, 99) < 20  # chroma has half the columns: a coloured edge is blurred
    else:
        assert np.array_equal(pixels, instance.frames)


@every_syntax
@every_kind
def test_ingest_reads_the_facts_that_were_written(tmp_path: Path, syntax: str, colored: bool, frame_count: int) -> None:
    instance = instance_of(syntax, colored, frame_count)
    file = written(tmp_path, instance)
    image = open_dicom(file.read_bytes(), FIELDS)
    facts = image.facts
    assert (facts.patient_id, facts.study_id, facts.series_id) == ("P-0042", "2.25.1001", "2.25.1002")
    assert (facts.manufacturer, facts.model) == ("Sonovendor", "Wave 7")
    assert facts.plane_texts == ("femur", "Oberschenkel, Länge", "OB 2nd/3rd Trimester")
    assert (facts.image.rows, facts.image.columns, image.frame_count) == (HEIGHT, WIDTH, frame_count)
    assert [region.box for region in facts.regions] == [TISSUE.box]
    assert facts.pixel_mm == pytest.approx((0.21, 0.23))
    assert image.times_ms == ([None] if frame_count == 1 else pytest.approx([0, FRAME_TIME_MS, 2 * FRAME_TIME_MS]))
    assert list(image.left_out) == []
    assert pydicom.dcmread(file).file_meta.TransferSyntaxUID == syntax


@pytest.mark.parametrize(
    ("regions", "mode", "pixel_mm", "shown", "color"),
    [
        ((TISSUE,), "b_mode", (0.21, 0.23), "0001", 0),
        ((TISSUE, BESIDE), "dual", (0.21, 0.23), "0001", 0),
        ((TISSUE, M_MODE), "m_mode", (0.21, 0.23), "0003", 0),
        ((TISSUE, SPECTRAL), "spectral", (0.21, 0.23), "0009", 0),
        ((TISSUE, FLOW), "color_doppler", (0.21, 0.23), "0011", 1),
        ((UNCALIBRATED,), "b_mode", None, "0001", 0),
        ((), "unknown", None, "0001", 0),
    ],
    ids=["b_mode", "dual", "m_mode", "spectral", "flow", "uncalibrated", "none"],
)
def test_regions_give_mode_and_spacing(
    tmp_path: Path,
    regions: tuple[UltrasoundRegion, ...],
    mode: str,
    pixel_mm: tuple[float, float] | None,
    shown: str,
    color: int,
) -> None:
    file = written(tmp_path, instance_of(regions=regions))
    dataset, facts = pydicom.dcmread(file), open_dicom(file.read_bytes(), FIELDS).facts
    assert image_mode(facts.regions) == mode
    assert [region.box for region in facts.regions] == [region.box for region in regions]
    assert facts.pixel_mm == (pytest.approx(pixel_mm) if pixel_mm else None)
    assert dataset.ImageType[3] == shown
    assert dataset.UltrasoundColorDataPresent == color


def test_an_m_mode_region_runs_in_seconds_along_x_and_in_centimetres_along_y(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(written(tmp_path, instance_of(regions=(TISSUE, M_MODE))))
    region = dataset.SequenceOfUltrasoundRegions[1]
    assert (region.PhysicalUnitsXDirection, region.PhysicalDeltaX) == (4, 0.005)
    assert (region.PhysicalUnitsYDirection, region.PhysicalDeltaY) == (3, pytest.approx(0.025))


def test_a_spectral_region_runs_in_seconds_along_x_and_in_velocities_upwards_from_its_baseline(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(written(tmp_path, instance_of(regions=(TISSUE, SPECTRAL))))
    region = dataset.SequenceOfUltrasoundRegions[1]
    assert (region.RegionSpatialFormat, region.RegionDataType) == (3, 3)
    assert (region.PhysicalUnitsXDirection, region.PhysicalDeltaX) == (4, 0.004)
    assert (region.PhysicalUnitsYDirection, region.PhysicalDeltaY) == (7, -1.5)
    assert (region.ReferencePixelY0, region.ReferencePixelPhysicalValueY) == (20, 0)


def test_a_rendering_is_an_image_type_and_has_no_depth(tmp_path: Path) -> None:
    instance = dataclasses.replace(instance_of(regions=(RENDERING,)), depth_mm=None)
    dataset = pydicom.dcmread(written(tmp_path, instance))
    assert dataset.ImageType[3] == "0040"
    assert dataset.SequenceOfUltrasoundRegions[0].RegionSpatialFormat == 0
    assert "DepthOfScanField" not in dataset


def test_letters_that_a_character_set_lacks_lose_their_accents(tmp_path: Path) -> None:
    record = dataclasses.replace(RECORD, character_set="ISO_IR 144")
    dataset = pydicom.dcmread(written(tmp_path, instance_of(), record))
    assert dataset.SpecificCharacterSet == "ISO_IR 144"
    assert str(dataset.OperatorsName).isascii()
    assert str(dataset.InstitutionName) == "Frauenklinik Mullerstadt"


def test_colour_takes_precedence_over_the_echoes_below_it(tmp_path: Path) -> None:
    regions = pydicom.dcmread(written(tmp_path, instance_of(regions=(TISSUE, FLOW)))).SequenceOfUltrasoundRegions
    assert [region.RegionFlags & 1 for region in regions] == [1, 0]  # PS3.3 C.8.5.5.1.3: 1 is low


def test_names_keep_their_letters(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(written(tmp_path, instance_of()))
    assert dataset.SpecificCharacterSet == "ISO_IR 192"
    assert str(dataset.PatientName) == "Größmann^Änne"
    assert str(dataset.OperatorsName) == "Sørensen^Tåge"
    assert dataset.InstitutionName == "Frauenklinik Müllerstadt"


def test_the_settings_of_the_scanner_are_in_dicoms_units(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(written(tmp_path, instance_of(frame_count=3)))
    assert dataset.PatientAge == "033Y"  # on the day before her birthday
    assert dataset.DepthOfScanField == 152  # mm
    assert dataset.SequenceOfUltrasoundRegions[0].TransducerFrequency == 3500  # kHz
    assert (dataset.MechanicalIndex, dataset.BoneThermalIndex) == (0.9, 0.4)
    assert (dataset.CineRate, dataset.EffectiveDuration) == (30, pytest.approx(0.1))


def test_early_in_pregnancy_the_thermal_index_is_that_of_soft_tissue(tmp_path: Path) -> None:
    early = dataclasses.replace(RECORD, ga_days=60)
    dataset = pydicom.dcmread(written(tmp_path, instance_of(), early))
    assert dataset.SoftTissueThermalIndex == 0.4
    assert "BoneThermalIndex" not in dataset
    assert dataset.ProtocolName == "OB 1st Trimester"


@pytest.mark.parametrize(("plane", "keyword"), [("femur", "CodeValue"), ("abdominal_circumference", "LongCodeValue")])
def test_a_plane_is_coded_by_its_id(tmp_path: Path, plane: str, keyword: str) -> None:
    dataset = pydicom.dcmread(written(tmp_path, instance_of(plane=plane)))
    (code,) = dataset.ViewCodeSequence
    assert code[keyword].value == plane
    assert ("CodeValue" in code) != ("LongCodeValue" in code)
    assert code.CodeMeaning == PLANES[plane].name
    assert code.CodingSchemeDesignator == dataset.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator


@pytest.mark.parametrize("ga_days", [None, 60, 150])
def test_without_a_plane_only_the_series_description_can_name_one(tmp_path: Path, ga_days: int | None) -> None:
    file = written(tmp_path, instance_of(plane=None), dataclasses.replace(RECORD, ga_days=ga_days))
    dataset, facts = pydicom.dcmread(file), open_dicom(file.read_bytes(), FIELDS).facts
    assert "ViewCodeSequence" not in dataset
    assert "CodingSchemeIdentificationSequence" not in dataset
    description, protocol = facts.plane_texts
    assert description == "Oberschenkel, Länge"
    assert vocabulary.load().find_plane(protocol) is None


def test_a_cine_has_an_offset_for_every_frame(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(written(tmp_path, instance_of(JPEGBaseline8Bit, True, 3)))
    data = dataset.PixelData
    size = struct.unpack_from("<I", data, 4)[0]
    offsets = struct.unpack_from(f"<{size // 4}I", data, 8)
    assert len(offsets) == 3
    first = 8 + size
    assert all(data[first + at + 8 : first + at + 10] == b"\xff\xd8" for at in offsets)


def test_lossy_compression_is_declared(tmp_path: Path) -> None:
    lossy = pydicom.dcmread(written(tmp_path, instance_of(JPEGBaseline8Bit, colored=True)))
    assert lossy.PhotometricInterpretation == "YBR_FULL_422"
    assert (lossy.LossyImageCompression, lossy.LossyImageCompressionMethod) == ("01", "ISO_10918_1")
    assert float(lossy.LossyImageCompressionRatio) == pytest.approx(HEIGHT * WIDTH * 3 / len(lossy.PixelData), rel=0.02)
    assert pydicom.dcmread(written(tmp_path, instance_of(JPEGBaseline8Bit))).PhotometricInterpretation == "MONOCHROME2"
    assert pydicom.dcmread(written(tmp_path, instance_of(RLELossless))).LossyImageCompression == "00"


@every_syntax
@every_kind
def test_the_same_input_gives_the_same_bytes(tmp_path: Path, syntax: str, colored: bool, frame_count: int) -> None:
    instance = instance_of(syntax, colored, frame_count)
    first = written(tmp_path / "first", instance).read_bytes()
    assert written(tmp_path / "second", instance).read_bytes() == first


def test_every_time_and_identifier_is_from_the_input(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(written(tmp_path, instance_of(JPEG2000Lossless, True, 3)))
    elements = list(dataset.iterall())
    times = {str(element.value) for element in elements if element.VR in ("DA", "TM", "DT")}
    assert times == {"19900507", "20240506", "091011", "092133", "20240506092133"}
    numbers = {str(element.value) for element in elements if element.VR == "UI"} - {dataset.SOPClassUID}
    (scheme,) = dataset.CodingSchemeIdentificationSequence
    assert numbers == {"2.25.1001", "2.25.1002", "2.25.1003", scheme.CodingSchemeUID}
    assert dataset.file_meta.ImplementationClassUID.startswith("2.25.")
    assert dataset.file_meta.ImplementationVersionName == "SONO_PHANTOM"


def test_no_temporary_file_is_left(tmp_path: Path) -> None:
    file = written(tmp_path, instance_of())
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": np.zeros((HEIGHT, WIDTH), np.uint8)}, "frames are uint8"),
        ({"frames": np.zeros((1, HEIGHT, WIDTH, 4), np.uint8)}, "frames are uint8"),
        ({"frames": np.zeros((1, HEIGHT, WIDTH), np.float32)}, "frames are float32"),
        ({"frames": np.zeros((0, HEIGHT, WIDTH), np.uint8)}, "frames are uint8"),
        ({"frames": np.zeros((1, HEIGHT, 121), np.uint8)}, "121 x 93 px has an odd number of pixels"),
        ({"frames": np.zeros((2, HEIGHT, WIDTH), np.uint8)}, "2 frames without frame_time_ms"),
        ({"frame_time_ms": 0.0}, "frame_time_ms is 0"),
        ({"transfer_syntax": "1.2.840.10008.1.2.2"}, "not one of TRANSFER_SYNTAXES"),
        ({"regions": (dataclasses.replace(TISSUE, box=(80, 0, 60, 50)),)}, "not inside an image of 122 x 93 px"),
        ({"regions": (dataclasses.replace(TISSUE, box=(0, 0, 0, 50)),)}, "not inside an image"),
        ({"regions": (dataclasses.replace(TISSUE, spatial_format=5),)}, "spatial format 5"),
    ],
)
def test_impossible_instances_are_refused_at_construction(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(instance_of(), **change)  # type: ignore[arg-type]


def check_conformance(file: Path) -> None:
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy not found: apt-get install dicom3tools")
    done = subprocess.run([program, "-new", str(file)], capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).splitlines()
    assert said[0] in ("USImage", "USMultiFrameImage")  # it found the IOD to check against
    # It has to find our private coding scheme strange, and nothing else.
    assert [line for line in said[1:] if "Coding" not in line] == []
    assert [line for line in said if line.startswith("Error")] == []


@every_syntax
@every_kind
def test_dciodvfy_accepts_every_syntax(tmp_path: Path, syntax: str, colored: bool, frame_count: int) -> None:
    check_conformance(written(tmp_path, instance_of(syntax, colored, frame_count)))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit])
@pytest.mark.parametrize("frame_count", [1, 3])
@pytest.mark.parametrize(
    "regions",
    [(TISSUE, BESIDE), (TISSUE, M_MODE), (TISSUE, SPECTRAL), (TISSUE, FLOW), (RENDERING,), (UNCALIBRATED,), ()],
    ids=["dual", "m_mode", "spectral", "flow", "rendering", "uncalibrated", "none"],
)
@pytest.mark.parametrize("plane", [None, "abdominal_circumference"])
def test_dciodvfy_accepts_all_regions(
    tmp_path: Path, syntax: str, frame_count: int, regions: tuple[UltrasoundRegion, ...], plane: str | None
) -> None:
    check_conformance(written(tmp_path, instance_of(syntax, True, frame_count, regions, plane)))
