"""An ultrasound DICOM file, opened: its facts, and its frames one by one as a screen shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRBigEndian, RLELossless

from sono.curation.images.bounds import check_total
from sono.curation.images.pixels import ExcludedError, Pixels
from sono.manifests import pydicom_warnings

from .decoders import decode, is_supported
from .display import as_displayed
from .file import DicomFile, read_dicom_file
from .header import DicomFacts, frame_times_ms, read_header
from .split_frames import FRAMES_MISSING, FrameBytes, encapsulated, uncompressed


@dataclass(frozen=True)
class DicomImage:
    """``times_ms`` has one value per frame that is there."""

    facts: DicomFacts
    times_ms: Sequence[float | None]
    _dataset: Dataset
    _syntax: UID
    _bytes: FrameBytes

    @property
    def frame_count(self) -> int:
        """Frames that are there, whatever the header counts."""
        return len(self._bytes.frames)

    @property
    def left_out(self) -> Iterator[ExcludedError]:
        """What of the file is lost although its frames stay."""
        yield from self.facts.unreadable
        if self._bytes.missing:
            yield ExcludedError(*FRAMES_MISSING)

    def frames(self) -> Iterator[Pixels | ExcludedError]:
        """The frames in order, each as 8-bit grey or RGB of the whole image, or the reason why there is none."""
        for frame in self._bytes.frames:
            with pydicom_warnings.silenced():
                yield self._frame(frame)

    def _frame(self, frame: bytes) -> Pixels | ExcludedError:
        try:
            values, bits = decode(frame, self.facts.image, self._syntax)
            return as_displayed(values, bits, self._dataset, self.facts.image)
        except ExcludedError as error:
            return error.with_traceback(None)  # which holds the frame


def open_dicom(content: bytes, plane_fields: Sequence[str]) -> DicomImage:
    """Open a file, without decoding anything yet.

    Raises:
        ExcludedError: the file is damaged, not ultrasound, without pixels, or in a syntax that nothing decodes.
    """
    with pydicom_warnings.silenced():
        file = read_dicom_file(content)
        facts = read_header(file.dataset, plane_fields)
        frames = _split(file, facts)
        image = facts.image
        check_total(len(frames.frames) * image.rows * image.columns, len(content))
        times = frame_times_ms(file.dataset, len(frames.frames))
    return DicomImage(facts, times, file.dataset, file.syntax, frames)


def _split(file: DicomFile, facts: DicomFacts) -> FrameBytes:
    if not file.pixels:
        raise ExcludedError("no_pixels", "the DICOM object has no pixel data, or ends before it")
    if not is_supported(file.syntax):
        raise ExcludedError("unsupported_transfer_syntax", "no decoder for the DICOM transfer syntax")
    if file.encapsulated != file.syntax.is_encapsulated:
        raise ExcludedError("damaged_dicom", "the pixel data is not stored as its transfer syntax says")
    if file.encapsulated:
        return encapsulated(file.pixels, facts.image, rle=file.syntax == RLELossless)
    swapped = file.syntax == ExplicitVRBigEndian and file.words and facts.image.bits_allocated == 8
    return uncompressed(_swap_pairs(file.pixels) if swapped else file.pixels, facts.image)


def _swap_pairs(content: bytes) -> bytes:
    """Bytes of 8-bit samples that a big-endian file stores in 16-bit words (PS3.5 8.1.1)."""
    even = content if len(content) % 2 == 0 else content + b"\0"
    swapped = bytearray(even)
    swapped[0::2], swapped[1::2] = even[1::2], even[0::2]
    return bytes(swapped)
