"""Image files decode to their pixels, and damaged ones are excluded."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sono.curation.images.pixels import (
    ExcludedError,
    bare_png,
    decode_png,
    encode_png,
    pixel_sha256,
    without_equal_channels,
)
from sono.curation.images.raster import read_frames
from sono.curation.images.signatures import image_kind

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
    assert np.array_equal(read_frames(content, kind)[0], color)


def test_jpeg_is_close_to_the_original_pixels(draw: Callable[..., Image]) -> None:
    smooth = cv2.GaussianBlur(draw(1), (0, 0), 4)
    content = cv2.imencode(".jpg", smooth, [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()
    assert np.abs(read_frames(content, "jpeg")[0].astype(int) - smooth).max() <= 4


def test_pages_of_a_tiff_are_frames(draw: Callable[..., Image], tmp_path: object) -> None:
    pages = [draw(seed) for seed in range(3)]
    done, content = cv2.imencodemulti(".tiff", pages)
    assert done
    frames = read_frames(content.tobytes(), "tiff")
    assert len(frames) == 3
    assert all(np.array_equal(frame, page) for frame, page in zip(frames, pages, strict=True))


@pytest.mark.parametrize("extension", [".png", ".jpg", ".bmp", ".tiff"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_a_truncated_file_is_excluded(draw: Callable[..., Image], extension: str, share: float) -> None:
    content = cv2.imencode(extension, draw(1))[1].tobytes()
    kind = image_kind(content)
    assert kind is not None
    with pytest.raises(ExcludedError) as caught:
        read_frames(content[: int(len(content) * share)], kind)
    assert caught.value.reason == "undecodable"


def test_sixteen_bits_and_transparency_are_refused(draw: Callable[..., Image]) -> None:
    deep = cv2.imencode(".png", draw(1).astype(np.uint16) * 257)[1].tobytes()
    clear = np.dstack([draw(1), draw(1), draw(1), np.full((200, 260), 7, np.uint8)])
    for content in (deep, cv2.imencode(".png", clear)[1].tobytes()):
        with pytest.raises(ExcludedError) as caught:
            read_frames(content, "png")
        assert caught.value.reason == "unsupported_pixels"


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
    for pixels in (draw(1), color):
        assert np.array_equal(decode_png(encode_png(pixels)), pixels)
    assert np.array_equal(without_equal_channels(np.dstack([draw(1)] * 3)), draw(1))
    assert without_equal_channels(color) is color


def test_the_pixel_hash_depends_on_values_and_shape_but_not_on_compression() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert pixel_sha256(pixels) == pixel_sha256(np.asfortranarray(pixels))
    assert pixel_sha256(pixels) != pixel_sha256(pixels.reshape(4, 3))
    assert pixel_sha256(pixels) != pixel_sha256(pixels + np.uint8(1))
