"""The configurations of a dataset: frames with everything, one row per region, and frames without pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sono.manifests.schemas import DATASET, DATASET_METADATA, DATASET_REGIONS, TableSpec
from sono.manifests.vocabulary import Vocabulary

if TYPE_CHECKING:
    from datasets import Features


@dataclass(frozen=True)
class Configuration:
    """A configuration that ``datasets.load_dataset`` takes by name; its files are in ``folder``."""

    name: str
    folder: str
    table: TableSpec
    images: tuple[str, ...]
    says: str


DEFAULT = Configuration(
    "default", "data", DATASET, ("image",), "one row per frame, with its image, captions and all of its regions"
)
REGIONS = Configuration(
    "regions", "regions", DATASET_REGIONS, ("image", "mask"), "one row per region, with the frame's image and the mask"
)
METADATA = Configuration("metadata", "metadata", DATASET_METADATA, (), "one row per frame, without pixels and masks")

CONFIGURATIONS = (DEFAULT, REGIONS, METADATA)

_FRAME_COLUMNS = [name for name in DATASET_REGIONS.schema.names if name in METADATA.table.schema.names]


def listed_name(configuration: Configuration, path: Path) -> str:
    """The name under which the marker lists a file of a configuration."""
    return f"{configuration.folder}/{path.name}"


def features_of(configuration: Configuration, vocabulary: Vocabulary) -> Features:
    """The features as ``datasets`` has them: images are Images, and ``plane`` is a ClassLabel."""
    from datasets import ClassLabel, Features, Image

    features = Features.from_arrow_schema(configuration.table.schema)
    for name in configuration.images:
        features[name] = Image()
    features["plane"] = ClassLabel(names=list(vocabulary.plane_ids))
    return features


def schema_metadata(vocabulary: Vocabulary) -> dict[str, bytes]:
    """By configuration the features as ``datasets`` keeps them in a Parquet file's schema."""
    return {each.name: features_of(each, vocabulary).arrow_schema.metadata[b"huggingface"] for each in CONFIGURATIONS}


def region_rows(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of ``regions`` for one of ``rows.dataset_rows``, whose regions lose their ``pixels``."""
    from sono.curation.images.stored_png import encode_mask

    frame = {name: row[name] for name in _FRAME_COLUMNS}
    rows = []
    for region in row["regions"]:
        mask = {"bytes": encode_mask(region.pop("pixels")), "path": None}
        rows.append({**frame, **region, "mask": mask})
    return rows
