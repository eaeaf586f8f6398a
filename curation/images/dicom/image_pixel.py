"""What a DICOM header says about the pixels (PS3.3 C.7.6.3), bounded before anything of them is decoded."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset

from sono.curation.images.bounds import FRAMES_MOST, check_size
from sono.curation.images.pixels import ExcludedError

_ALLOCATED = (8, 16, 32)
_BAD_HEADER = ("damaged_dicom", "the DICOM header gives impossible rows, columns or number of frames")


@dataclass(frozen=True)
class ImagePixel:
    """The Image Pixel module, as far as decoding depends on it.

    Attributes:
        rows, columns: px.
        frames: Number of Frames, or None where the header has none.
        multi_frame: the SOP class is one of cines, in which Number of Frames is required.
    """

    rows: int
    columns: int
    samples: int
    photometric_interpretation: str
    planar_configuration: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    frames: int | None
    multi_frame: bool

    @property
    def frame_bytes(self) -> int:
        """Of one uncompressed frame."""
        if self.photometric_interpretation == "YBR_FULL_422":  # two pixels share their chroma (PS3.3 C.7.6.3.1.2)
            return self.rows * self.columns * 2 * (self.bits_allocated // 8)
        return self.rows * self.columns * self.samples * (self.bits_allocated // 8)


def read_image_pixel(dataset: Dataset, multi_frame: bool) -> ImagePixel:
    """Read and check the module.

    Raises:
        ExcludedError: an attribute that decoding depends on is missing, damaged or out of bounds.
    """
    try:
        allocated = int(dataset.BitsAllocated)
        found = ImagePixel(
            rows=int(dataset.Rows),
            columns=int(dataset.Columns),
            samples=int(dataset.get("SamplesPerPixel") or 1),
            photometric_interpretation=str(dataset.PhotometricInterpretation).strip().upper(),
            planar_configuration=int(dataset.get("PlanarConfiguration") or 0),
            bits_allocated=allocated,
            bits_stored=int(dataset.get("BitsStored") or allocated),
            signed=int(dataset.get("PixelRepresentation") or 0) == 1,
            frames=_number_of_frames(dataset),
            multi_frame=multi_frame,
        )
        high_bit = int(dataset.get("HighBit", found.bits_stored - 1))
    except Exception:  # noqa: BLE001 - pydicom raises whatever a damaged element makes it stumble over
        raise ExcludedError("damaged_dicom", "the DICOM header is damaged or truncated") from None
    if not (found.rows > 0 and found.columns > 0) or (found.frames is not None and found.frames < 1):
        raise ExcludedError(*_BAD_HEADER)
    check_size(found.rows, found.columns)
    if (found.frames or 1) > FRAMES_MOST:
        raise ExcludedError(*_BAD_HEADER)
    if found.samples not in (1, 3) or allocated not in _ALLOCATED or not 0 < found.bits_stored <= allocated:
        raise ExcludedError("unsupported_pixels", "samples per pixel or bits that no ultrasound image has")
    if allocated > found.bits_stored != high_bit + 1:  # decoders take the lowest bits
        raise ExcludedError("unsupported_pixels", "samples per pixel or bits that no ultrasound image has")
    return found


def _number_of_frames(dataset: Dataset) -> int | None:
    value = dataset.get("NumberOfFrames")
    return None if value is None or value == "" else int(value)
