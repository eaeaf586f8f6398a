"""Header against stream: whatever the header claims, a frame is the picture that was compressed, or it is excluded."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from sono.curation.images.dicom.frames import open_dicom
from sono.curation.images.pixels import ExcludedError
from tests.curation.images.dicom.streams import (
    MULTI,
    SYNTAXES,
    Picture,
    content,
    dicom,
    jpeg,
    jpeg2000,
    lossless,
    picture,
    ycbcr,
)

RGB = picture()
GREY = picture(colour=False)
LABELS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420")
STREAMS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "JPEG with JFIF": ("jpeg", lambda: jpeg(RGB, colour="jfif")),
    "JPEG without a marker": ("jpeg", lambda: jpeg(RGB, colour="bare")),
    "JPEG of RGB with Adobe's marker": ("jpeg", lambda: jpeg(RGB, colour="rgb")),
    "JPEG of RGB by component ids": ("jpeg", lambda: jpeg(RGB, colour="rgb_ids")),
    "JPEG 2000 with a component transform": ("jpeg_2000", lambda: jpeg2000(RGB, transform=True)),
    "JPEG 2000 of RGB": ("jpeg_2000", lambda: jpeg2000(RGB, transform=False)),
    "JPEG 2000 of YCbCr": ("jpeg_2000", lambda: jpeg2000(ycbcr(RGB), transform=False)),
    "RLE of RGB": ("rle", lambda: lossless(RGB, RLELossless)),
    "RLE of YCbCr": ("rle", lambda: lossless(ycbcr(RGB), RLELossless)),
    "JPEG-LS of RGB": ("jpeg_ls", lambda: lossless(RGB, JPEGLSLossless)),
    "JPEG-LS of YCbCr": ("jpeg_ls", lambda: lossless(ycbcr(RGB), JPEGLSLossless)),
    "native RGB": ("native", lambda: RGB.tobytes()),
    "native YCbCr": ("native", lambda: ycbcr(RGB).tobytes()),
}


def cases() -> Iterator[tuple[str, str, int]]:
    for stream, (kind, _) in STREAMS.items():
        for label in LABELS:
            if kind == "native" and label == "YBR_FULL_422":
                continue  # there the label decides how many bytes a pixel has
            yield from ((stream, label, planar) for planar in ((0,) if kind == "native" else (0, 1)))


def frames(data: bytes) -> list[Picture | ExcludedError]:
    return list(open_dicom(data, ()).frames())


@pytest.mark.parametrize(("stream", "label", "planar"), list(cases()))
def test_no_label_changes_the_picture(stream: str, label: str, planar: int) -> None:
    """Photometric Interpretation and Planar Configuration of compressed pixels decide nothing that the stream knows."""
    kind, make = STREAMS[stream]
    (shown,) = frames(content(dicom([make()], SYNTAXES[kind], label=label, PlanarConfiguration=planar)))
    assert isinstance(shown, np.ndarray)
    assert np.abs(shown.astype(int) - RGB).mean() < 1.5  # JPEG at quality 95, and YCbCr rounded to whole numbers


def test_native_planes_follow_the_planar_configuration() -> None:
    planes = np.ascontiguousarray(RGB.transpose(2, 0, 1)).tobytes()
    (shown,) = frames(content(dicom([planes], ExplicitVRLittleEndian, PlanarConfiguration=1)))
    assert np.array_equal(shown, RGB)  # type: ignore[arg-type]


GREY_STREAMS: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: jpeg(GREY),
    "jpeg_2000": lambda: jpeg2000(GREY, transform=False),
    "jpeg_ls": lambda: lossless(GREY, JPEGLSLossless),
    "rle": lambda: lossless(GREY, RLELossless),
    "native": lambda: GREY.tobytes(),
}
WRONG_SIZES = {"half the rows": (30, 80), "half the columns": (60, 40), "swapped": (80, 60), "more rows": (61, 80)}


@pytest.mark.parametrize("size", WRONG_SIZES)
@pytest.mark.parametrize("kind", GREY_STREAMS)
def test_a_header_of_another_size_gives_no_frame(kind: str, size: str) -> None:
    rows, columns = WRONG_SIZES[size]
    if kind in ("native", "rle") and size == "swapped":
        pytest.skip("as many bytes either way, and nothing in the file says which")
    data = dicom([GREY_STREAMS[kind]()], SYNTAXES[kind], rows=rows, columns=columns, samples=1, label="MONOCHROME2")
    try:
        found = frames(content(data))
    except ExcludedError as error:
        found = [error]
    assert [error.reason for error in found if isinstance(error, ExcludedError)] in (["size_mismatch"], ["undecodable"])


def ends(kind: str, stream: bytes) -> Iterator[tuple[str, bytes]]:
    half = len(stream) // 2
    yield "cut", stream[:half]
    yield "zeros in place of the rest", stream[:half] + bytes(len(stream) - half)
    if kind in ("jpeg", "jpeg_2000", "jpeg_ls"):
        yield "closed early", stream[:half] + b"\xff\xd9"
        yield "zeros, then an end", stream[:half] + bytes(len(stream) - half - 2) + b"\xff\xd9"
        yield "no end marker", stream[:-2]
        yield "more after its end", stream + b"\x12\x34\x56\x78"


DAMAGED = [
    (kind, how)
    for kind, make in GREY_STREAMS.items()
    for how, _ in ends(kind, make())
    if not (kind == "native" and how != "cut")  # zeros are pixels there
]


@pytest.mark.parametrize(("kind", "how"), DAMAGED)
def test_a_stream_that_lost_its_end_gives_no_frame(kind: str, how: str) -> None:
    damaged = dict(ends(kind, GREY_STREAMS[kind]()))[how]
    data = content(dicom([damaged], SYNTAXES[kind], samples=1, label="MONOCHROME2"))
    try:
        found = frames(data)
    except ExcludedError as error:
        found = [error]
    assert len(found) == 1
    assert isinstance(found[0], ExcludedError)


CINE = [picture(seed) for seed in range(4)]
CINES: dict[str, list[bytes]] = {
    "jpeg": [jpeg(frame) for frame in CINE],
    "jpeg_2000": [jpeg2000(frame, transform=True) for frame in CINE],
    "rle": [lossless(frame, RLELossless) for frame in CINE],
    "jpeg_ls": [lossless(frame, JPEGLSLossless) for frame in CINE],
}


@pytest.mark.parametrize("counted", [None, 1, 3, 4])
@pytest.mark.parametrize("kind", CINES)
def test_all_frames_of_a_cine_are_there_whatever_the_header_counts(kind: str, counted: int | None) -> None:
    extra = {} if counted is None else {"NumberOfFrames": counted}
    image = open_dicom(content(dicom(CINES[kind], SYNTAXES[kind], sop_class=MULTI, **extra)), ())
    assert image.frame_count == 4
    for shown, drawn in zip(image.frames(), CINE, strict=True):
        assert isinstance(shown, np.ndarray)
        assert np.abs(shown.astype(int) - drawn).mean() < 1.5


@pytest.mark.parametrize("counted", [5, 1000, 100_000])
@pytest.mark.parametrize("kind", CINES)
def test_frames_that_only_the_header_counts_are_one_exclusion(kind: str, counted: int) -> None:
    image = open_dicom(content(dicom(CINES[kind], SYNTAXES[kind], sop_class=MULTI, NumberOfFrames=counted)), ())
    assert len(list(image.frames())) == 4
    assert [error.reason for error in image.left_out] == ["frames_missing"]


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("kind", CINES)
def test_the_complete_frames_of_a_cut_cine_stay(kind: str, share: float) -> None:
    whole = content(dicom(CINES[kind], SYNTAXES[kind], sop_class=MULTI, NumberOfFrames=4))
    start = whole.index(b"\xe0\x7f\x10\x00")
    image = open_dicom(whole[: start + int((len(whole) - start) * share)], ())
    shown = [frame for frame in image.frames() if isinstance(frame, np.ndarray)]
    assert 0 < len(shown) < 4
    assert all(np.abs(frame.astype(int) - CINE[index]).mean() < 1.5 for index, frame in enumerate(shown))
    assert [error.reason for error in image.left_out] == ["frames_missing"]


def test_a_native_cine_without_a_count_has_as_many_frames_as_bytes() -> None:
    data = content(dicom([frame.tobytes() for frame in CINE], ExplicitVRLittleEndian, sop_class=MULTI))
    assert all(np.array_equal(shown, drawn) for shown, drawn in zip(frames(data), CINE, strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("attributes", [{"NumberOfFrames": 1, "sop_class": MULTI}, {"columns": 40, "sop_class": MULTI}])
def test_native_data_that_is_too_long_is_refused(attributes: dict[str, object]) -> None:
    data = content(dicom([frame.tobytes() for frame in CINE], ExplicitVRLittleEndian, **attributes))  # type: ignore[arg-type]
    with pytest.raises(ExcludedError) as caught:
        open_dicom(data, ())
    assert caught.value.reason == "size_mismatch"


def test_offset_tables_are_not_needed_to_find_frames() -> None:
    whole = content(dicom(CINES["jpeg"], JPEGBaseline8Bit, sop_class=MULTI, NumberOfFrames=4))
    start = whole.index(b"\xe0\x7f\x10\x00") + 12
    table = int.from_bytes(whole[start + 4 : start + 8], "little")
    wrong = whole[: start + 8] + bytes(value ^ 0x55 for value in whole[start + 8 : start + 8 + table])
    shown = frames(wrong + whole[start + 8 + table :])
    assert table == 16
    assert all(isinstance(frame, np.ndarray) for frame in shown)
    assert len(shown) == 4


def test_a_frame_in_several_fragments_is_put_together() -> None:
    stream = jpeg(RGB)
    pieces = [stream[:500], stream[500:1200], stream[1200:]]
    (shown,) = frames(content(dicom(pieces, JPEGBaseline8Bit, NumberOfFrames=1)))
    assert isinstance(shown, np.ndarray)


def test_a_jpeg_2000_file_around_a_stream_is_read() -> None:
    """DICOM wants the bare codestream; some writers leave the file format's boxes around it."""
    from openjpeg.utils import encode_array

    boxed = encode_array(RGB, photometric_interpretation=1, codec_format=1)
    (shown,) = frames(content(dicom([boxed], JPEG2000Lossless, label="YBR_RCT")))
    assert np.array_equal(shown, RGB)  # type: ignore[arg-type]
