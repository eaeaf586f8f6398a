"""DICOM files decode to the colours of an independent decoder, and no file stops the run."""

from __future__ import annotations

import io
import os
import struct
import warnings
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from openjpeg.utils import encode_array
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, generate_uid

from sono.curation.images.dicom.frames import open_dicom
from sono.curation.images.dicom.header import frame_times_ms
from sono.curation.images.dicom.regions import image_mode
from sono.curation.images.pixels import ExcludedError, Pixels
from sono.manifests import pydicom_warnings

FIELDS = ("ViewCodeSequence", "SeriesDescription", "ProtocolName")
SHARED = (
    "JPGLosslessP14SV1_1s_1f_8b.dcm",
    "OBXXXX1A.dcm",
    "OBXXXX1A_rle_2frame.dcm",
    "US1_J2KI.dcm",
    "US1_J2KR.dcm",
    "US1_UNCR.dcm",
    "gdcm-US-ALOKA-16.dcm",
)
EXAMPLES = ("examples_ybr_color.dcm", "examples_rgb_color.dcm", "examples_palette.dcm", "examples_jpeg2k.dcm")


def frames_of(content: bytes) -> list[Pixels | ExcludedError]:
    image = open_dicom(content, FIELDS)
    return [*image.frames(), *(error for error in image.left_out if error.reason == "frames_missing")]


def by_gdcm(path: Path) -> npt.NDArray[np.uint8]:
    """All frames as RGB or grey through GDCM's own reader and colour conversion, which share no code with pydicom."""
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    image = reader.GetImage()
    interpretation = str(image.GetPhotometricInterpretation())
    if "PALETTE" in interpretation:
        lut = gdcm.ImageApplyLookupTable()
        lut.SetInput(image)
        assert lut.Apply()
        image = lut.GetOutput()
    wide = image.GetPixelFormat().GetBitsAllocated() == 16
    raw = image.GetBuffer().encode("utf-8", errors="surrogateescape")
    values = np.frombuffer(raw, np.uint16 if wide else np.uint8)
    values = (values >> 8 if wide else values).astype(np.uint8)
    columns, rows = image.GetDimension(0), image.GetDimension(1)
    samples = image.GetPixelFormat().GetSamplesPerPixel()
    if samples == 3 and image.GetPlanarConfiguration() == 1:
        return values.reshape(-1, 3, rows, columns).transpose(0, 2, 3, 1)
    shaped = values.reshape((-1, rows, columns, 3) if samples == 3 else (-1, rows, columns))
    return rgb_of(shaped) if "YBR_FULL" in interpretation else shaped


def rgb_of(ybr: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """PS3.3 C.7.6.3.1.2, the equations solved for R, G and B."""
    y, cb, cr = (ybr[..., channel].astype(np.float64) - offset for channel, offset in enumerate((0, 128, 128)))
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=-1)
    return np.asarray(np.rint(rgb).clip(0, 255), dtype=np.uint8)


def check_against_gdcm(path: Path) -> None:
    ours = frames_of(path.read_bytes())
    theirs = by_gdcm(path)
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert isinstance(mine, np.ndarray)
        assert mine.shape == other.shape
        assert np.array_equal(mine, other)


@pytest.mark.parametrize("name", SHARED)
def test_shared_files_have_the_colours_that_gdcm_decodes(us_dicom: Path, name: str) -> None:
    check_against_gdcm(us_dicom / name)


@pytest.mark.parametrize("name", EXAMPLES)
def test_pydicoms_examples_have_the_colours_that_gdcm_decodes(name: str) -> None:
    path = get_testdata_file(name)
    assert isinstance(path, str)
    check_against_gdcm(Path(path))


def test_a_cine_gives_its_frames_with_times() -> None:
    path = get_testdata_file("examples_ybr_color.dcm")
    assert isinstance(path, str)
    image = open_dicom(Path(path).read_bytes(), FIELDS)
    assert image.frame_count == len(image.times_ms) == 30
    assert image.times_ms[:3] == [0.0, 33.333, 66.666]


def test_times_come_from_the_frame_time_vector() -> None:
    dataset = Dataset()
    dataset.FrameTimeVector = [0, 20, 30, 20]
    assert frame_times_ms(dataset, 4) == [0.0, 20.0, 50.0, 70.0]
    dataset.FrameTimeVector = [20, 20, 30, 20]  # some writers give the first frame a time, too
    assert frame_times_ms(dataset, 4) == [0.0, 20.0, 50.0, 70.0]


def test_a_region_outside_the_image_is_left_out_and_counted() -> None:
    path = get_testdata_file("examples_ybr_color.dcm")
    assert isinstance(path, str)
    image = open_dicom(Path(path).read_bytes(), FIELDS)
    assert image.facts.regions == ()
    assert image.facts.pixel_mm is None
    assert [error.reason for error in image.left_out] == ["unreadable_region"]


def test_regions_give_mode_and_spacing(us_dicom: Path) -> None:
    facts = open_dicom((us_dicom / "OBXXXX1A.dcm").read_bytes(), FIELDS).facts
    assert [region.box for region in facts.regions] == [(120, 60, 680, 459), (176, 522, 568, 55)]
    assert image_mode(facts.regions) == "b_mode"
    assert facts.pixel_mm == pytest.approx((0.2622878766, 0.2622878766))
    dual = open_dicom((us_dicom / "gdcm-US-ALOKA-16.dcm").read_bytes(), FIELDS).facts
    assert image_mode(dual.regions) == "dual"


@pytest.fixture
def ultrasound() -> Dataset:
    """A small native grey still, to be spoilt by the tests."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.6.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.Modality, dataset.PatientID, dataset.StudyInstanceUID = "US", "CANARY^NAME", generate_uid()
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 4, 6, 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = bytes(range(24))
    return dataset


def saved(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def test_monochrome1_is_shown_inverted(ultrasound: Dataset) -> None:
    dark = frames_of(saved(ultrasound))[0]
    ultrasound.PhotometricInterpretation = "MONOCHROME1"
    bright = frames_of(saved(ultrasound))[0]
    assert isinstance(dark, np.ndarray)
    assert isinstance(bright, np.ndarray)
    assert np.array_equal(bright, 255 - dark)


def test_twelve_bits_are_spread_over_eight(ultrasound: Dataset) -> None:
    ultrasound.BitsAllocated, ultrasound.BitsStored, ultrasound.HighBit = 16, 12, 11
    values = np.linspace(0, 4095, 24).astype("<u2")
    ultrasound.PixelData = values.tobytes()
    frame = frames_of(saved(ultrasound))[0]
    assert isinstance(frame, np.ndarray)
    assert np.array_equal(frame.ravel(), np.rint(values * (255 / 4095)))


@pytest.mark.parametrize(
    "attributes",
    [
        {"HighBit": 15},  # of which decoders would take the lower bits
        {"WindowCenter": 200, "WindowWidth": 400, "RescaleIntercept": -1024, "RescaleSlope": 1},
        {"RescaleIntercept": 4095, "RescaleSlope": -1},
    ],
    ids=["high bit", "window of other values", "inverted"],
)
def test_deep_pixels_that_are_not_simply_grey_are_refused(ultrasound: Dataset, attributes: dict[str, object]) -> None:
    ultrasound.BitsAllocated, ultrasound.BitsStored, ultrasound.HighBit = 16, 12, 11
    ultrasound.PixelData = np.linspace(0, 4095, 24).astype("<u2").tobytes()
    for name, value in attributes.items():
        setattr(ultrasound, name, value)
    try:
        (frame,) = frames_of(saved(ultrasound))
    except ExcludedError as error:
        frame = error
    assert isinstance(frame, ExcludedError)
    assert frame.reason == "unsupported_pixels"


@pytest.mark.parametrize(("depth", "stored"), [(4095, 16), (65_535, 12)])
def test_a_stream_of_another_depth_than_its_header_is_refused(ultrasound: Dataset, depth: int, stored: int) -> None:
    """It would be shown at a fraction of its brightness, or white."""
    values = np.linspace(0, depth, 64 * 64).astype(np.uint16).reshape(64, 64)
    stream = encode_array(values, bits_stored=depth.bit_length(), photometric_interpretation=2)
    ultrasound.Rows = ultrasound.Columns = 64
    ultrasound.BitsAllocated, ultrasound.BitsStored, ultrasound.HighBit = 16, stored, stored - 1
    ultrasound.file_meta.TransferSyntaxUID = JPEG2000Lossless
    ultrasound.PixelData = encapsulate([stream])
    ultrasound["PixelData"].VR = "OB"
    (frame,) = frames_of(saved(ultrasound))
    assert isinstance(frame, ExcludedError)
    assert frame.reason == "size_mismatch"


@pytest.mark.parametrize(
    ("tag", "vr", "value"),
    [(0x00100021, "US", b"\1\2\3"), (0x00100024, "LO", b"ISSUER"), (0x00100024, "UN", b"\1\2\3\4")],
)
def test_a_damaged_issuer_costs_the_file(ultrasound: Dataset, tag: int, vr: str, value: bytes) -> None:
    content = saved(ultrasound)
    long = b"\0\0" if vr == "UN" else b""
    length = len(value).to_bytes(4 if vr == "UN" else 2, "little")
    element = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode() + long + length + value
    at = content.index(struct.pack("<HH", 0x0010, 0x0020)) + 8 + len("CANARY^NAME ")
    with pytest.raises(ExcludedError) as caught:
        open_dicom(content[:at] + element + content[at:], FIELDS)
    assert caught.value.reason == "damaged_dicom"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("20240531", date(2024, 5, 31)), ("2024.05.31", date(2024, 5, 31)), ("2024111", None), ("20241301", None)],
)
def test_a_date_is_read_as_it_is_written_and_never_guessed(
    ultrasound: Dataset, text: str, expected: date | None
) -> None:
    with pydicom_warnings.silenced():
        ultrasound.StudyDate = text
        facts = open_dicom(saved(ultrasound), FIELDS).facts
    assert facts.study_date == expected
    assert [error.reason for error in facts.unreadable] == ([] if expected else ["unreadable_study_date"])


def spoil_modality(dataset: Dataset) -> None:
    dataset.Modality = "CT"


def spoil_class(dataset: Dataset) -> None:
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"  # Secondary Capture: often a page of a report


def spoil_pixels(dataset: Dataset) -> None:
    del dataset.PixelData


def spoil_rows(dataset: Dataset) -> None:
    dataset.Rows = 0


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_modality, "not_ultrasound"),
        (spoil_class, "not_ultrasound"),
        (spoil_pixels, "no_pixels"),
        (spoil_rows, "damaged_dicom"),
    ],
)
def test_files_that_are_not_ultrasound_images_are_excluded_with_a_reason(
    ultrasound: Dataset, spoil: object, reason: str
) -> None:
    assert callable(spoil)
    spoil(ultrasound)
    with pytest.raises(ExcludedError) as caught:
        open_dicom(saved(ultrasound), FIELDS)
    assert caught.value.reason == reason


def cuts(size: int) -> Iterator[int]:
    yield from (133, 200, 400, size // 4, size // 2, size - size // 8)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_truncated_file_is_excluded_frame_by_frame_and_never_raises(name: str) -> None:
    path = get_testdata_file(name)
    assert isinstance(path, str)
    content = Path(path).read_bytes()
    reasons: set[str] = set()
    for cut in cuts(len(content)):
        try:
            frames = frames_of(content[:cut])
        except ExcludedError as error:
            reasons.add(error.reason)
            continue
        assert any(isinstance(frame, ExcludedError) for frame in frames), f"cut at {cut} went unnoticed"
    header = {"damaged_dicom", "not_ultrasound", "unsupported_transfer_syntax"}  # what is left of it decides
    assert set() < reasons <= {*header, "no_pixels", "undecodable"}


def test_frames_after_a_damaged_one_are_kept() -> None:
    path = get_testdata_file("examples_ybr_color.dcm")
    assert isinstance(path, str)
    content = bytearray(Path(path).read_bytes())
    starts = [at for at in range(len(content) - 3) if content[at : at + 4] == b"\xff\xd8\xff\xdb"] or [
        at for at in range(len(content) - 2) if content[at : at + 3] == b"\xff\xd8\xff"
    ]
    assert len(starts) == 30
    content[starts[10] : starts[10] + 400] = os.urandom(1) * 400
    frames = frames_of(bytes(content))
    bad = [index for index, frame in enumerate(frames) if isinstance(frame, ExcludedError)]
    assert bad == [10]


def test_no_warning_quotes_a_header(ultrasound: Dataset, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ultrasound.StudyInstanceUID = "CANARY-is-no-uid"
        ultrasound.add_new(0x00100030, "DA", "CANARYDATE")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of what this test writes, too
        content = saved(ultrasound)
    frames_of(content)
    captured = capfd.readouterr()
    assert "CANARY" not in captured.out + captured.err


def test_device_names_are_taken_as_they_were_typed(ultrasound: Dataset) -> None:
    """Ingest compares them with a list; see tests/curation/ingest/test_scanners.py."""
    ultrasound.Manufacturer, ultrasound.ManufacturerModelName = "Vendor Medical Systems", " "
    facts = open_dicom(saved(ultrasound), FIELDS).facts
    assert (facts.manufacturer, facts.model) == ("Vendor Medical Systems", None)
