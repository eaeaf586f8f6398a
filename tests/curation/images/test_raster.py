"""Image files decode to their pixels, and damaged ones are excluded."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sono.curation.images.pixels import ExcludedError, without_equal_channels
from sono.curation.images.raster import count_frames, read_frames
from sono.curation.images.signatures import image_kind
from sono.curation.images.stored_png import bare_png, decode_png, encode_mask, encode_png

Image = npt.NDArray[np.uint8]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def chunks(png: bytes) -> list[bytes]:
    kinds, at = [], 8
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        kinds.append(png[at + 4 : at + 8])
        at += 12 + length
    return kinds


@pytest.fixture
def color(draw: Callable[..., Image]) -> Image:
    return np.stack([draw(1), draw(2), draw(3)], axis=-1)


@pytest.mark.parametrize("extension", [".png", ".bmp", ".tiff"])
def test_lossless_files_give_their_pixels_as_rgb(color: Image, extension: str) -> None:
    content = cv2.imencode(extension, cv2.cvtColor(color, cv2.COLOR_RGB2BGR))[1].tobytes()
    kind = image_kind(content)
    assert kind is not None
    assert np.array_equal(next(read_frames(content, kind)), color)


def test_jpeg_is_close_to_the_original_pixels(draw: Callable[..., Image]) -> None:
    smooth = cv2.GaussianBlur(draw(1), (0, 0), 4)
    content = cv2.imencode(".jpg", smooth, [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()
    assert np.abs(next(read_frames(content, "jpeg")).astype(int) - smooth).max() <= 4


def test_pages_of_a_tiff_are_frames(draw: Callable[..., Image], tmp_path: object) -> None:
    pages = [draw(seed) for seed in range(3)]
    done, content = cv2.imencodemulti(".tiff", pages)
    assert done
    frames = list(read_frames(content.tobytes(), "tiff"))
    assert count_frames(content.tobytes(), "tiff") == 3
    assert len(frames) == 3
    assert all(np.array_equal(frame, page) for frame, page in zip(frames, pages, strict=True))


@pytest.mark.parametrize("extension", [".png", ".jpg", ".bmp", ".tiff"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_a_truncated_file_is_excluded(draw: Callable[..., Image], extension: str, share: float) -> None:
    content = cv2.imencode(extension, draw(1))[1].tobytes()
    kind = image_kind(content)
    assert kind is not None
    with pytest.raises(ExcludedError) as caught:
        list(read_frames(content[: int(len(content) * share)], kind))
    assert caught.value.reason == "undecodable"


def test_sixteen_bits_and_transparency_are_refused(draw: Callable[..., Image]) -> None:
    deep = cv2.imencode(".png", draw(1).astype(np.uint16) * 257)[1].tobytes()
    clear = np.dstack([draw(1), draw(1), draw(1), np.full((200, 260), 7, np.uint8)])
    for content in (deep, cv2.imencode(".png", clear)[1].tobytes()):
        with pytest.raises(ExcludedError) as caught:
            list(read_frames(content, "png"))
        assert caught.value.reason == "unsupported_pixels"


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (40, 60)])
@pytest.mark.parametrize("lies", [np.ascontiguousarray, np.asfortranarray])
def test_a_mask_is_the_same_png_as_its_pixels(
    shape: tuple[int, int], lies: Callable[[npt.NDArray[np.bool_]], npt.NDArray[np.bool_]]
) -> None:
    mask = np.random.default_rng(0).random(shape) < 0.5
    png = encode_mask(lies(mask))
    assert png == encode_png(mask.astype(np.uint8) * np.uint8(255))
    assert np.array_equal(decode_png(png) == 255, mask)


def test_only_the_pixel_chunks_of_a_png_are_kept(draw: Callable[..., Image]) -> None:
    pixels = draw(1)
    plain = cv2.imencode(".png", pixels)[1].tobytes()
    named = (
        plain[:33] + chunk(b"tEXt", b"Author\0CANARY") + chunk(b"tIME", b"\x07\xe6\1\1\0\0\0") + plain[33:] + b"CANARY"
    )
    bare = bare_png(named, pixels)
    assert bare is not None
    assert b"CANARY" not in bare
    assert set(chunks(bare)) == {b"IHDR", b"IDAT", b"IEND"}
    assert np.array_equal(decode_png(bare), pixels)


def test_a_png_that_needs_other_chunks_is_encoded_again(draw: Callable[..., Image], color: Image) -> None:
    grey_as_color = cv2.imencode(".png", np.dstack([draw(1)] * 3))[1].tobytes()
    assert bare_png(grey_as_color, without_equal_channels(np.dstack([draw(1)] * 3))) is None
    deep = cv2.imencode(".png", draw(1).astype(np.uint16))[1].tobytes()
    assert bare_png(deep, draw(1)) is None
    plain = cv2.imencode(".png", draw(1))[1].tobytes()
    assert bare_png(plain[:33] + chunk(b"gAMA", b"\0\0\xb1\x8f") + plain[33:], draw(1)) is None
    spoilt = bytearray(plain)
    spoilt[60] ^= 1
    assert bare_png(bytes(spoilt), draw(1)) is None


def test_encoding_is_lossless_and_grey_in_three_channels_becomes_grey(draw: Callable[..., Image], color: Image) -> None:
    for pixels in (draw(1), color, color[:, :1], draw(1)[:1], draw(1)[:1, :1], draw(1)[::2, ::3]):
        png = encode_png(pixels)
        assert np.array_equal(decode_png(png), pixels)
        assert chunks(png) == [b"IHDR", b"IDAT", b"IEND"]
        assert bare_png(png, pixels) == png  # whose checksums are right
    assert np.array_equal(without_equal_channels(np.dstack([draw(1)] * 3)), draw(1))
    assert without_equal_channels(color) is color


def png_of(rows: bytes, height: int = 20, width: int = 30, tail: bytes = b"") -> bytes:
    """A grey PNG that says it has ``height`` rows, around any bytes; all its checksums are right."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows) + tail) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


ROWS = (b"\0" + bytes(range(30))) * 20


@pytest.mark.parametrize(
    "content",
    {
        "rows missing": png_of(ROWS[: 31 * 12]),
        "rows left over": png_of(ROWS + ROWS[:31]),
        "bytes after the rows": png_of(ROWS, tail=b"more"),
        "bytes after the end": png_of(ROWS) + b"more",
        "no end chunk": png_of(ROWS)[:-12],
        "damaged rows": png_of(ROWS)[:50] + b"x" + png_of(ROWS)[51:],
        "wrong checksum": png_of(ROWS)[:-16] + b"good" + png_of(ROWS)[-12:],
    }.items(),
    ids=lambda case: case[0],
)
def test_a_png_of_another_length_than_its_header_is_excluded(content: tuple[str, bytes]) -> None:
    with pytest.raises(ExcludedError) as caught:
        next(read_frames(content[1], "png"))
    assert caught.value.reason == "undecodable"


@pytest.mark.parametrize("place", [b"IDAT", b"IEND"])
def test_a_png_with_something_hidden_behind_its_rows_is_excluded(place: bytes) -> None:
    whole = png_of(ROWS)
    hidden = chunk(place, b"YAMAMOTO^AIKO 19900101")
    content = whole[:-12] + hidden + (whole[-12:] if place == b"IDAT" else b"")
    assert np.array_equal(decode_png(content), decode_png(whole))  # OpenCV reads over it
    with pytest.raises(ExcludedError) as caught:
        next(read_frames(content, "png"))
    assert caught.value.reason == "undecodable"


@pytest.mark.parametrize("samples", [1, 3])
def test_sixteen_bits_of_a_tiff_are_refused_whatever_its_colours(samples: int) -> None:
    pixels = np.full((40, 50, samples), 4000, np.uint16)
    content = cv2.imencode(".tiff", pixels)[1].tobytes()
    with pytest.raises(ExcludedError) as caught:
        next(read_frames(content, "tiff"))
    assert caught.value.reason == "unsupported_pixels"


def test_what_is_left_out_is_not_held_in_memory() -> None:
    """An error holds the frames of the functions it went through, and those their pixels."""
    damaged, seen = png_of(ROWS[: 31 * 12]), []
    for _ in range(3):
        with pytest.raises(ExcludedError) as caught:
            next(read_frames(damaged, "png"))
        seen.append(caught.value)
    assert len(set(map(id, seen))) == 3


def test_a_whole_png_and_an_interlaced_one_are_read() -> None:
    assert next(read_frames(png_of(ROWS), "png")).shape == (20, 30)
    from PIL import Image as Pillow

    pixels = np.arange(17 * 23, dtype=np.uint8).reshape(17, 23)
    passes = [pixels[top::down, left::across] for left, top, across, down in ADAM7]
    rows = b"".join(b"\0" + row.tobytes() for part in passes if part.size for row in part)
    header = struct.pack(">IIBBBBB", 23, 17, 8, 0, 0, 0, 1)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert np.array_equal(np.asarray(Pillow.open(io.BytesIO(content))), pixels)
    assert np.array_equal(next(read_frames(content, "png")), pixels)


ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


@pytest.mark.parametrize("kind", ["png", "bmp", "tiff", "jpeg"])
def test_a_small_file_that_claims_to_be_enormous_costs_nothing(kind: str) -> None:
    """30,000 x 30,000 px would be 0.9 GB; the size is refused before anything is decoded."""
    if kind == "png":
        content = png_of(ROWS, height=30_000, width=30_000)
    elif kind == "jpeg":
        small = cv2.imencode(".jpg", np.zeros((16, 16), np.uint8))[1].tobytes()
        at = small.index(b"\xff\xc0")
        content = small[: at + 5] + struct.pack(">HH", 30_000, 30_000) + small[at + 9 :]
    elif kind == "bmp":
        small = cv2.imencode(".bmp", np.zeros((16, 16), np.uint8))[1].tobytes()
        content = small[:18] + struct.pack("<ii", 30_000, 30_000) + small[26:]
    else:
        small = cv2.imencode(".tiff", np.zeros((16, 16), np.uint8))[1].tobytes()
        content = small.replace(
            b"\x00\x01\x03\x00\x01\x00\x00\x00\x10\x00", b"\x00\x01\x03\x00\x01\x00\x00\x00\x30\x75"
        )
        content = content.replace(
            b"\x01\x01\x03\x00\x01\x00\x00\x00\x10\x00", b"\x01\x01\x03\x00\x01\x00\x00\x00\x30\x75"
        )
        assert content != small
    with pytest.raises(ExcludedError) as caught:
        next(read_frames(content, kind))
    assert caught.value.reason == "too_large"
