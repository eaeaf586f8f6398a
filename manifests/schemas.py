"""The one place where data is described: an Arrow schema for every table of a workspace, and for the dataset.

Code elsewhere names columns through these schemas. ``SCHEMA_VERSION`` is part of every part's fingerprint: raise it
when a schema changes and everything written before is stale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

SCHEMA_VERSION = 6

VERDICTS = ("accept", "review", "reject")

RLE = pa.struct([pa.field("size", pa.list_(pa.int32())), pa.field("counts", pa.string())])
"""COCO run-length encoding of a mask: ``size`` is [height, width] in px, ``counts`` the runs, by columns."""

BOX = pa.list_(pa.int32(), 4)
"""x, y, width, height in px of the stored image."""

SECTOR = pa.struct(
    [
        pa.field("kind", pa.string()),  # convex, phased, linear, unknown
        pa.field("apex", pa.list_(pa.float32())),  # x, y in px; as the next two null for a rectangle
        pa.field("angles", pa.list_(pa.float32())),  # left, right in degrees from straight down
        pa.field("radii", pa.list_(pa.float32())),  # near, far in px; of a linear sector straight down
        pa.field("box", pa.list_(pa.int32())),  # x, y, width, height in px of the stored image
        pa.field("confidence", pa.float32()),
    ]
)


@dataclass(frozen=True)
class TableSpec:
    """A table's folder name, its key column and its columns."""

    name: str
    key: str
    schema: pa.Schema

    def empty(self) -> pa.Table:
        return self.schema.empty_table()

    def from_rows(self, rows: list[dict[str, object]]) -> pa.Table:
        """Rows as a table of exactly this schema; a misspelt column is an error, a missing one is null."""
        unknown = {name for row in rows for name in row} - set(self.schema.names)
        if unknown:
            raise KeyError(f"not columns of {self.name}: {sorted(unknown)}")
        return pa.Table.from_pylist(rows, schema=self.schema)


def _schema(columns: Mapping[str, pa.DataType], required: tuple[str, ...]) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=name not in required) for name, kind in columns.items()])


FRAMES = TableSpec(
    "frames",
    "frame_id",
    _schema(
        {
            "frame_id": pa.string(),
            "image": pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())]),  # PNG, lossless
            "height": pa.int32(),  # px, of the stored image
            "width": pa.int32(),
            "crop": pa.list_(pa.int32(), 4),  # x, y, width, height in the source's px
            "source_height": pa.int32(),  # px, before cropping: what a mask drawn on the original must measure
            "source_width": pa.int32(),
            "patient_key": pa.string(),
            "patient_center_key": pa.string(),  # by center and number, whoever issued it; null without a number
            "patient_number_key": pa.string(),  # by the number alone: what a record may know of the patient
            "study_key": pa.string(),
            "accession_key": pa.string(),  # null where the header has no accession number
            "study_day": pa.int32(),  # of the study, on the patient's own calendar (``Pseudonymizer.day``)
            "series_key": pa.string(),
            "source_key": pa.string(),  # of the path relative to the ingested folder, without extension
            "name_key": pa.string(),  # of the bare file name, without extension
            "source_digest": pa.string(),  # of the file's bytes; keyed: only the hospital can match a frame to its file
            "frame_index": pa.int32(),  # from 0
            "frame_count": pa.int32(),  # of the source
            "frame_time_ms": pa.float64(),  # since the first frame; null for stills
            "center": pa.string(),
            "manufacturer": pa.string(),
            "model": pa.string(),
            "mode": pa.string(),  # b_mode, color_doppler, m_mode, spectral, dual, volume, unknown
            "mode_source": pa.string(),  # header or pixels
            "plane": pa.string(),
            "plane_source": pa.string(),  # metadata, header, or null
            "pixel_mm_x": pa.float64(),  # mm per px of the stored image
            "pixel_mm_y": pa.float64(),
            "sectors": pa.list_(SECTOR),  # from left to right; the image is black outside of them
            "pixel_digest": pa.string(),  # of the stored pixels with their shape, not of the PNG; keyed
            "grey_histogram": pa.list_(pa.int32(), 256),  # number of pixels of each grey level
            "laplacian_energy": pa.float64(),  # sum over pixels of the squared Laplacian, grey levels squared
            "text_boxes": pa.list_(BOX),  # where burned-in text was painted over
            "mark_boxes": pa.list_(BOX),  # where marks of measurements were
            "edited_fraction": pa.float32(),  # of the sectors' pixels, painted over
            "burned_in_text": pa.string(),  # none, removed, unchecked
            "text_readers": pa.list_(pa.string()),  # what looked for text: detector, rapidocr, tesserocr
            "cleaning_reasons": pa.list_(pa.string()),  # why a person has to look: of cleaning.reasons.REASONS
        },
        required=(
            "frame_id",
            "image",
            "height",
            "width",
            "crop",
            "patient_key",
            "study_key",
            "source_key",
            "source_digest",
            "frame_index",
            "pixel_digest",
            "grey_histogram",
            "laplacian_energy",
            "burned_in_text",
        ),
    ),
)

EXCLUSIONS = TableSpec(
    "exclusions",
    "source_key",
    _schema(
        {
            "source_key": pa.string(),
            "frame_index": pa.int32(),
            "stage": pa.string(),
            "reason": pa.string(),
            "message": pa.string(),
        },
        required=("source_key", "stage", "reason", "message"),
    ),
)

QC = TableSpec(
    "qc",
    "frame_id",
    _schema(
        {
            "frame_id": pa.string(),
            "short_side_px": pa.int32(),
            "mean_intensity": pa.float32(),  # 0..255 grey levels, over lit pixels
            "contrast": pa.float32(),  # standard deviation of grey levels, over lit pixels
            "lit_fraction": pa.float32(),  # share of pixels above the black level
            "saturated_fraction": pa.float32(),  # share of lit pixels at or above the white level
            "sharpness": pa.float32(),  # standard deviation of the Laplacian over lit pixels, grey levels
            "verdict": pa.string(),
            "reasons": pa.list_(pa.string()),
            "duplicate_group": pa.string(),  # the group's first frame_id; null when unique
            "config_sha256": pa.string(),
        },
        required=("frame_id", "verdict", "reasons", "config_sha256"),
    ),
)

PREDICTED_SOURCES = ("sam", "onnx", "grabcut", "model", "flow")
"""Sources of masks that a program made, of the ``source`` of a region; the others are import and manual."""

ACCEPTED_STATUSES = ("accepted", "edited")
"""Statuses of regions that a person, or a rule that a person stated, agreed to: only these are captioned and built."""

REGIONS = TableSpec(
    "regions",
    "region_id",
    _schema(
        {
            "region_id": pa.string(),
            "frame_id": pa.string(),
            "pixel_digest": pa.string(),  # of the frame as it was when the mask was drawn or imported
            "structure": pa.string(),
            "mask": RLE,
            "area_px": pa.int64(),
            "bbox": pa.list_(pa.int32(), 4),  # x, y, width, height in px of the stored image
            "source": pa.string(),  # sam, onnx, grabcut, model, flow, import, manual
            "prompt": pa.string(),  # JSON
            "scores": pa.string(),  # JSON
            "status": pa.string(),  # proposed, accepted, edited, rejected
            "reviewer": pa.string(),
            "updated_at": pa.timestamp("us", tz="UTC"),  # of a person's decision; null where none was made
            "parent_id": pa.string(),  # of a carried mask: the region that it was carried from
            "model_sha256": pa.string(),
        },
        required=("region_id", "frame_id", "pixel_digest", "structure", "mask", "area_px", "bbox", "source", "status"),
    ),
)

MASK_CHECKS = TableSpec(
    "mask_checks",
    "region_id",
    _schema(
        {
            "region_id": pa.string(),
            "problem": pa.string(),  # undecodable; null where there is none
            "specks": pa.int32(),  # parts of less than 2% of the largest
            "speck_px": pa.int64(),
            "holes": pa.int32(),
            "hole_px": pa.int64(),
            "outside_px": pa.int64(),  # of the frame's sectors; null where it has none
            "overlaps": pa.list_(  # with structures that it should not share pixels with
                pa.struct(
                    [
                        pa.field("region_id", pa.string()),
                        pa.field("structure", pa.string()),
                        pa.field("share", pa.float32()),  # of the smaller mask
                    ]
                )
            ),
            "agreement": pa.list_(  # with other masks of the structure and frame, each pair once
                pa.struct([pa.field("region_id", pa.string()), pa.field("iou", pa.float32())])
            ),
        },
        required=("region_id", "overlaps", "agreement"),
    ),
)
"""What was measured of regions that nobody rejected, for the checks."""

BIOMETRY = ("bpd_mm", "hc_mm", "ac_mm", "fl_mm", "crl_mm", "nt_mm", "tcd_mm", "hl_mm")

STATEMENTS = TableSpec(
    "statements",
    "source_key",
    _schema(
        {
            "source_key": pa.string(),  # of the line, resource or document that says it
            "place": pa.string(),  # the same for people: line 7 of records file 1
            "patient_key": pa.string(),  # as in ``pseudonyms.PatientKeys``, as the next two are
            "patient_center_key": pa.string(),
            "patient_number_key": pa.string(),
            "study_key": pa.string(),  # null where the source names no study; then the next two may find it
            "accession_key": pa.string(),
            "study_day": pa.int32(),  # of the examination, on the patient's own calendar
            "study_unknown": pa.bool_(),  # it names an examination in a way that leads nowhere
            "plane": pa.string(),  # null: it holds for the whole study
            "fact": pa.string(),  # one of captioning.statements.FACTS
            "number": pa.float64(),  # of facts that are numbers: mm, days, or days on the patient's own calendar
            "code": pa.string(),  # of the others: a vocabulary id, a code, or a keyed hash
            "field": pa.string(),  # of the source, never a value: column hc_mm, Observation 11984-2
            "rank": pa.int32(),  # 0 where it was coded, 1 where rules found it in prose, 2 where a language model did
        },
        required=(
            *("source_key", "place", "patient_key", "patient_center_key", "patient_number_key"),
            *("study_unknown", "fact", "field", "rank"),
        ),
    ),
)
"""What clinical records say, one fact per row, as stated: nothing is compared or computed yet."""

RECORDS = TableSpec(
    "records",
    "study_key",
    _schema(
        {
            "study_key": pa.string(),
            "patient_key": pa.string(),
            "plane": pa.string(),  # null: the facts hold for the whole study
            "ga_days": pa.int32(),  # at the examination; null where nothing gives it, or where its sources conflict
            "ga_source": pa.string(),  # explicit, edd, lmp, crl, biometry
            "ga_formula": pa.string(),
            "ga_conflict": pa.string(),  # what disagrees, null where nothing does
            **dict.fromkeys(BIOMETRY, pa.float64()),
            "laterality": pa.string(),
            "presentation": pa.string(),
            "findings": pa.list_(pa.string()),
            "structures_seen": pa.list_(pa.string()),
            "identity": pa.list_(pa.string()),  # keyed hashes of the names and identifiers that captions must not say
            "provenance": pa.string(),  # JSON: fact -> field of the record it came from
        },
        required=("study_key", "patient_key", "provenance"),
    ),
)

CAPTIONS = TableSpec(
    "captions",
    "caption_id",
    _schema(
        {
            "caption_id": pa.string(),
            "frame_id": pa.string(),
            "region_id": pa.string(),  # null: the caption is about the whole image
            "text": pa.string(),
            "template": pa.string(),
            "template_sha256": pa.string(),
            "facts": pa.string(),  # JSON: fact -> {value, source}
            "tokens": pa.int32(),  # with start and end, by the tokenizer of the model that will be trained
            "dropped": pa.list_(pa.string()),  # structures left out for length, the least important first
        },
        required=("caption_id", "frame_id", "text", "template", "template_sha256", "facts"),
    ),
)

TABLES: Mapping[str, TableSpec] = {
    spec.name: spec for spec in (FRAMES, EXCLUSIONS, QC, REGIONS, MASK_CHECKS, STATEMENTS, RECORDS, CAPTIONS)
}

_IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])  # Hugging Face's Image

_DATASET_KEYS: Mapping[str, pa.DataType] = {
    "frame_id": pa.string(),  # as the next two and caption_id: derived from the workspace's, see dataset_keys
    "patient_key": pa.string(),
    "study_key": pa.string(),
}
_DATASET_FACTS: Mapping[str, pa.DataType] = {
    "center": pa.string(),
    "manufacturer": pa.string(),  # of the scanner, as is the model: to find scanners on which a model fails
    "model": pa.string(),
    "plane": pa.int64(),  # HF ClassLabel over the vocabulary's plane ids, in its order
    "ga_days": pa.int32(),
}
_DATASET_CAPTION: Mapping[str, pa.DataType] = {
    "caption": pa.string(),
    "caption_id": pa.string(),  # sono-curate trace shows what it was made from
}
_REGION_FACTS: Mapping[str, pa.DataType] = {
    "bbox": pa.list_(pa.int32()),
    "area_px": pa.int64(),
    "source": pa.string(),  # as in ``regions``; manual where a person edited the mask
}
_PIXEL_MM = pa.list_(pa.float64())  # x, y in mm per px

DATASET_REGION = pa.struct({"structure": pa.string(), **_DATASET_CAPTION, "mask": RLE, **_REGION_FACTS})

DATASET = TableSpec(
    "dataset",
    "frame_id",
    _schema(
        {
            "image": _IMAGE,
            **_DATASET_KEYS,
            **_DATASET_FACTS,
            **_DATASET_CAPTION,
            "regions": pa.list_(DATASET_REGION),
            "sectors": pa.list_(SECTOR),
            "pixel_mm": _PIXEL_MM,
        },
        required=(),
    ),
)
"""What ``build`` writes as the configuration ``default``, one row per frame; ``sono-train`` reads it."""

DATASET_REGIONS = TableSpec(
    "regions",
    "caption_id",
    _schema(
        {
            "image": _IMAGE,
            "mask": _IMAGE,  # grey: 255 inside of the structure, 0 elsewhere
            "structure": pa.string(),
            **_DATASET_CAPTION,
            **_REGION_FACTS,
            **_DATASET_KEYS,
            **_DATASET_FACTS,
            "pixel_mm": _PIXEL_MM,
        },
        required=(),
    ),
)
"""The configuration ``regions``: one row per region."""

DATASET_METADATA = TableSpec(
    "metadata",
    "frame_id",
    _schema(
        {
            **_DATASET_KEYS,
            **_DATASET_FACTS,
            **_DATASET_CAPTION,
            "width": pa.int32(),
            "height": pa.int32(),
            "regions": pa.list_(pa.struct({"structure": pa.string(), **_DATASET_CAPTION, **_REGION_FACTS})),
            "sectors": pa.list_(SECTOR),
            "pixel_mm": _PIXEL_MM,
        },
        required=(),
    ),
)
"""The configuration ``metadata``: one row per frame, without its pixels and masks."""

SPLITS = ("train", "validation", "test")
