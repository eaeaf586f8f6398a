"""DICOM Segmentation (PS3.3 A.51), one file per frame, written by highdicom; segments are coded with SNOMED CT."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sono.curation.images.bounds import check_size, check_total
from sono.curation.images.pixels import ExcludedError
from sono.curation.masks.reasons import excluded
from sono.manifests import pydicom_warnings
from sono.manifests.errors import import_extra
from sono.manifests.masks import Mask
from sono.manifests.vocabulary import Vocabulary

from .encodings.segment_codes import ANATOMICAL_STRUCTURE, PRIVATE_SCHEME, SNOMED_CT, structures_of_code
from .protocol import ExportedFrame, ExportedRegion, Found, ReadMask, Size, Writer

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_STORAGES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # Segmentation, Label Map Segmentation
_ULTRASOUND_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.6.1"
_PROGRAM = "sono-curate"
_UUID_ROOT = "2.25."  # PS3.5 B.2: a UUID, here a pseudonym of 128 bits, as a decimal number


@dataclass(frozen=True)
class DicomSeg:
    """``NAME.dcm``, whose segments may overlap; of binary and label map segmentations, not of fractional ones."""

    structures_from_folders = False
    with_images = False

    def is_beside(self, relative: str) -> bool:
        return False

    def find(self, path: Path) -> Iterator[Found]:
        with pydicom_warnings.silenced():  # its values are parsed when they are asked for
            header = _read(path, stop_before_pixels=True)
            try:
                found = list(_segments(header))
            except ExcludedError:
                raise
            except Exception:  # noqa: BLE001 - a damaged element can make pydicom raise anything
                raise excluded("not_this_format") from None
        yield from found

    def reader(self, path: Path) -> ReadMask:
        with pydicom_warnings.silenced():
            pixels = _pixels(path)

        def read(place: str, size: Size) -> Mask:
            value, _, frames = place.partition(":")
            masks = [pixels[int(frame)] == int(value) for frame in frames.split(",")]
            return np.asarray(np.logical_or.reduce(masks), dtype=np.bool_)

        return read

    def writer(self, folder: Path, vocabulary: Vocabulary, structures: Sequence[str]) -> Writer:
        import_extra("highdicom", "formats")
        return _Writer(folder, vocabulary)


def _read(path: Path, *, stop_before_pixels: bool) -> Dataset:
    import pydicom

    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=stop_before_pixels)
        storage = str(dataset.SOPClassUID)
    except OSError:
        raise excluded("unreadable") from None
    except Exception:  # noqa: BLE001 - a damaged file can make pydicom raise anything
        raise excluded("not_this_format") from None
    if storage not in _STORAGES:
        raise excluded("not_this_format")
    return dataset


def _segments(header: Dataset) -> Iterator[Found]:
    """Every segment of every source frame, with the numbers of the segmentation's frames that show it."""
    kind = str(header.SegmentationType)
    if kind not in ("BINARY", "LABELMAP"):
        raise excluded("not_labels")
    names = {int(segment.SegmentNumber): _names(segment) for segment in header.SegmentSequence}
    placed: dict[tuple[int, int | None], list[int]] = {}
    sources: set[str] = set()
    for number, frame in enumerate(header.PerFrameFunctionalGroupsSequence):
        uid, index = _source(frame, header)
        sources.add(uid)
        shown = [_segment_number(frame, header)] if kind == "BINARY" else [segment for segment in names if segment]
        for segment in shown:
            placed.setdefault((segment, index), []).append(number)
    image = _own_frame_id(header, sources)
    # Of a file that is about several images, one name cannot tell which frame lies on which.
    problem = "no_frame" if len(sources) > 1 else None
    for (segment, index), frames in placed.items():
        labels, otherwise = names[segment]
        value = 1 if kind == "BINARY" else segment
        place = f"{value}:{','.join(map(str, frames))}"
        yield Found(image, labels, place, None if image else index, True, problem, otherwise)


def _names(segment: Dataset) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a segment is called, and what its codes say."""
    label = str(segment.get("SegmentLabel", ""))
    types = segment.get("SegmentedPropertyTypeCodeSequence") or []
    codes = [(str(code.get("CodingSchemeDesignator", "")), _code_value(code)) for code in types]
    known = [name for scheme, value in codes for name in structures_of_code(scheme, value)]
    meanings = [str(code.get("CodeMeaning", "")) for code in types]
    return (label,), tuple(known or meanings)


def _code_value(code: Dataset) -> str:
    return str(code.get("CodeValue") or code.get("LongCodeValue") or "")


def _segment_number(frame: Dataset, header: Dataset) -> int:
    groups = frame if "SegmentIdentificationSequence" in frame else header.SharedFunctionalGroupsSequence[0]
    return int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def _source(frame: Dataset, header: Dataset) -> tuple[str, int | None]:
    """The UID of the image that a frame of the segmentation is about, and which frame of it, counted from 0."""
    groups = frame if "DerivationImageSequence" in frame else header.SharedFunctionalGroupsSequence[0]
    derivations = groups.get("DerivationImageSequence") or []
    images = derivations[0].SourceImageSequence if derivations else header.get("SourceImageSequence") or []
    if len(images) != 1:
        raise excluded("not_this_format")
    number = images[0].get("ReferencedFrameNumber")
    if number is None:
        return str(images[0].ReferencedSOPInstanceUID), None
    return str(images[0].ReferencedSOPInstanceUID), int(number) - 1


def _own_frame_id(header: Dataset, sources: set[str]) -> str | None:
    """The frame that a file of our own is about."""
    if header.get("ManufacturerModelName") != _PROGRAM or len(sources) != 1:
        return None
    return f"{int(next(iter(sources)).removeprefix(_UUID_ROOT)):032x}"


def _pixels(path: Path) -> npt.NDArray[np.uint8]:
    """Shape [frames, height, width]."""
    dataset = _read(path, stop_before_pixels=False)
    try:
        frames, height, width = int(dataset.get("NumberOfFrames", 1)), int(dataset.Rows), int(dataset.Columns)
        check_size(height, width)
        check_total(frames * height * width, path.stat().st_size)
        pixels = np.asarray(dataset.pixel_array)
    except ExcludedError:
        raise
    except Exception:  # noqa: BLE001 - as above
        raise excluded("malformed_mask") from None
    return pixels.reshape(frames, height, width)


@dataclass(frozen=True)
class _Writer:
    folder: Path
    vocabulary: Vocabulary

    def add(self, frame: ExportedFrame) -> Sequence[Mask]:
        from highdicom.seg import Segmentation, SegmentationTypeValues

        pixels = np.stack([region.mask for region in frame.regions], axis=-1)[None].astype(np.uint8)
        descriptions = [_description(number, region, self.vocabulary) for number, region in enumerate(frame.regions, 1)]
        segmentation = Segmentation(
            [_source_image(frame)],
            pixels,
            SegmentationTypeValues.BINARY,
            descriptions,
            series_instance_uid=_uid(frame.frame_id, "series"),
            series_number=1,
            sop_instance_uid=_uid(frame.frame_id, "segmentation"),
            instance_number=1,
            manufacturer=_PROGRAM,
            manufacturer_model_name=_PROGRAM,
            software_versions=version(_PROGRAM),
            device_serial_number="0",
            omit_empty_frames=False,
        )
        segmentation.save_as(self.folder / f"{frame.frame_id}.dcm")
        return [region.mask for region in frame.regions]

    def close(self) -> None:
        """Nothing is left to do."""


def _source_image(frame: ExportedFrame) -> Dataset:
    """The header of the segmented image, in pseudonyms: nothing else is known of a patient here."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = _ULTRASOUND_IMAGE_STORAGE
    image.SOPInstanceUID = f"{_UUID_ROOT}{int(frame.frame_id, 16)}"
    image.StudyInstanceUID = f"{_UUID_ROOT}{int(frame.study_key, 16)}"
    image.SeriesInstanceUID = _uid(frame.study_key, "frames")
    image.Modality = "US"
    image.Rows, image.Columns = frame.height, frame.width
    image.InstanceNumber = image.SeriesNumber = 1
    for name in ("PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber"):
        setattr(image, name, "")
    image.PatientID, image.StudyID, image.ReferringPhysicianName = "", "", ""
    return image


def _uid(key: str, kind: str) -> str:
    from uuid import UUID, uuid5

    return f"{_UUID_ROOT}{uuid5(UUID(key), kind).int}"


def _description(number: int, region: ExportedRegion, vocabulary: Vocabulary) -> Any:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
    from highdicom.sr import CodedConcept
    from pydicom.sr.codedict import codes

    private = (region.structure, vocabulary.structures[region.structure].name)
    code, meaning = SNOMED_CT.get(region.structure, private)
    scheme = "SCT" if region.structure in SNOMED_CT else PRIVATE_SCHEME
    algorithm = AlgorithmIdentificationSequence("proposal", codes.DCM.ArtificialIntelligence, version(_PROGRAM))
    return SegmentDescription(
        number,
        region.structure,
        CodedConcept(ANATOMICAL_STRUCTURE[0], "SCT", ANATOMICAL_STRUCTURE[1]),
        CodedConcept(code, scheme, meaning),
        SegmentAlgorithmTypeValues.AUTOMATIC if region.by_program else SegmentAlgorithmTypeValues.MANUAL,
        algorithm_identification=algorithm if region.by_program else None,
    )
