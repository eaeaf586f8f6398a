"""NIfTI label maps by nibabel, for those who have only that: one file per frame, beside a list of the labels.

NIfTI's first index runs along an image's rows, its second down the columns, as ITK, ITK-SNAP and 3D Slicer have it; a
third one counts frames. An array [height, width] that somebody saved as it is would be a transposed image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sono.curation.images.bounds import check_size, check_total
from sono.curation.masks.reasons import excluded
from sono.manifests.errors import import_extra
from sono.manifests.masks import Mask
from sono.manifests.vocabulary import Vocabulary

from .encodings import labels
from .index_png import label_map, mask_of_value
from .protocol import ExportedFrame, Found, ReadMask, Size, Writer


@dataclass(frozen=True)
class Nifti:
    """``NAME.nii.gz`` or ``NAME.nii``, and ``labels.txt`` of ITK-SNAP or ``labels.json`` beside or above it."""

    structures_from_folders = False
    with_images = False

    def is_beside(self, relative: str) -> bool:
        return labels.is_labels(relative)

    def find(self, path: Path) -> Iterator[Found]:
        shape = _shape(_open(path))
        names = labels.read_labels(path.parent)
        for frame in range(shape[2]):
            yield from labels.found_values(names, frame if shape[2] > 1 else None, f"{frame}/")

    def reader(self, path: Path) -> ReadMask:
        values = _read_values(path)

        def read(place: str, size: Size) -> Mask:
            frame, _, value = place.partition("/")
            return mask_of_value(values[:, :, int(frame)].T, value)

        return read

    def writer(self, folder: Path, vocabulary: Vocabulary, structures: Sequence[str]) -> Writer:
        import_extra("nibabel", "formats")
        return _Writer(folder, labels.write_snap(folder, structures))


def _open(path: Path) -> Any:
    nibabel = import_extra("nibabel", "formats")
    if not path.name.endswith((".nii", ".nii.gz")):
        raise excluded("not_this_format")
    try:
        return nibabel.load(path)
    except OSError:
        raise excluded("unreadable") from None
    except Exception:  # noqa: BLE001 - a damaged file can make nibabel raise anything
        raise excluded("not_this_format") from None


def _shape(image: Any) -> tuple[int, int, int]:
    """Width, height and number of frames."""
    shape = [int(side) for side in image.shape]
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) not in (2, 3):
        raise excluded("not_labels")
    width, height, frames = (*shape, 1)[:3]
    check_size(height, width)
    if frames < 1:
        raise excluded("not_labels")
    return width, height, frames


def _read_values(path: Path) -> npt.NDArray[np.int64]:
    """Shape [width, height, frames]."""
    image = _open(path)
    shape = _shape(image)
    check_total(int(np.prod(shape)), path.stat().st_size)
    try:
        values = np.asarray(image.dataobj).reshape(shape)
    except Exception:  # noqa: BLE001 - a damaged file can make nibabel and zlib raise anything
        raise excluded("malformed_mask") from None
    if values.dtype.kind not in "iufb" or not np.isfinite(values).all() or (values != np.round(values)).any():
        raise excluded("not_labels")
    return values.astype(np.int64)


@dataclass(frozen=True)
class _Writer:
    folder: Path
    values: Mapping[str, int]

    def add(self, frame: ExportedFrame) -> Sequence[Mask]:
        nibabel = import_extra("nibabel", "formats")
        x_mm, y_mm = frame.pixel_mm or (1.0, 1.0)
        # As ITK writes images without a direction: x to the patient's left, y to the back; NIfTI has right and front.
        affine = np.diag([-x_mm, -y_mm, 1.0, 1.0])
        image = nibabel.Nifti1Image(label_map(frame, self.values).astype(np.uint8).T[:, :, None], affine)
        image.header.set_xyzt_units("mm" if frame.pixel_mm else "unknown")
        nibabel.save(image, self.folder / f"{frame.frame_id}.nii.gz")
        return [region.mask for region in frame.regions]

    def close(self) -> None:
        """Nothing is left to do."""
