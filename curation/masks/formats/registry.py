"""The formats that masks are imported from and exported to: one file each in this room, listed here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .protocol import Format

FORMATS: Mapping[str, str] = {
    "png": "filled areas, a folder per structure",
    "outline": "closed lines, which are filled",
    "index-png": "label maps with labels.json",
    "coco": "COCO JSON; exported as run lengths",
    "coco-polygon": "the same, exported as polygons",
    "via": "VGG Image Annotator, JSON or CSV; exported as JSON",
    "via-csv": "the same, exported as CSV",
    "labelme": "LabelMe JSON",
    "cvat": "CVAT XML for images",
    "dicom-seg": "DICOM Segmentation",
    "nifti": "NIfTI label maps with labels.txt",
    "release": "the paper's layout, with images and captions",
}
"""Names as ``--format`` takes them, and what they are."""


def mask_format(name: str) -> Format:
    """The format of that name, one of ``FORMATS``."""
    # Here, because listing the formats must not load OpenCV.
    from . import coco, cvat, dicom_seg, index_png, labelme, nifti, outline, png, release, via

    formats: Mapping[str, Format] = {
        "png": png.PngFolders(),
        "outline": outline.Outlines(),
        "index-png": index_png.IndexPng(),
        "coco": coco.Coco(),
        "coco-polygon": coco.Coco(as_polygons=True),
        "via": via.Via(),
        "via-csv": via.Via(as_csv=True),
        "labelme": labelme.LabelMe(),
        "cvat": cvat.Cvat(),
        "dicom-seg": dicom_seg.DicomSeg(),
        "nifti": nifti.Nifti(),
        "release": release.Release(),
    }
    return formats[name]
