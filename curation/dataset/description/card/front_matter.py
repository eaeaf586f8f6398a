"""The YAML at the start of a dataset's card: what ``datasets`` and the Hub read of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from sono.curation.dataset.config import PublishSection
from sono.curation.dataset.licences import hub_licence, licence_url
from sono.curation.dataset.shards.configurations import CONFIGURATIONS, Configuration, features_of
from sono.curation.dataset.store import DatasetStore, split_of
from sono.manifests.vocabulary import Vocabulary

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_LARGEST = "1M<n<10M"


def front_matter(
    store: DatasetStore, vocabulary: Vocabulary, section: PublishSection, rows: int, fingerprint: str
) -> str:
    """The metadata as YAML, between its dashes; ``rows`` is the number of frames."""
    import yaml

    present = [each for each in CONFIGURATIONS if store.files(each)]
    content: dict[str, Any] = {"pretty_name": section.title}
    if section.licence:
        content["license"] = hub_licence(section.licence)
        if content["license"] == "other":
            content["license_name"] = section.licence.removeprefix("LicenseRef-").lower()
            content["license_link"] = licence_url(section.licence) or "LICENSE"
    content |= {
        "language": ["en"],
        "size_categories": [next((name for limit, name in _SIZES if rows < limit), _LARGEST)],
        "task_categories": ["zero-shot-image-classification", "image-segmentation", "image-to-text"],
        "tags": ["ultrasound", "fetal", "medical", "image", "parquet", "croissant"],
        "configs": [_config(store, each, fingerprint[:12]) for each in present],
        "dataset_info": [_info(store, each, vocabulary) for each in present],
    }
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    return f"---\n{text}---\n"


def _config(store: DatasetStore, configuration: Configuration, fingerprint: str) -> dict[str, Any]:
    """A configuration; its description has the fingerprint.

    ``datasets`` names its cache after what a card says, and without it would return one build's rows for another's.
    """
    splits = list(dict.fromkeys(split_of(path) for path in store.files(configuration)))
    config: dict[str, Any] = {
        "config_name": configuration.name,
        "description": f"{configuration.says} ({fingerprint})",
        "data_files": [{"split": split, "path": f"{configuration.folder}/{split}-*.parquet"} for split in splits],
    }
    return {**config, "default": True} if configuration.name == "default" else config


def _info(store: DatasetStore, configuration: Configuration, vocabulary: Vocabulary) -> dict[str, Any]:
    """As ``datasets`` writes it; sizes are of the files, and of their columns before compression."""
    sizes = _sizes(store.files(configuration))
    return {
        "config_name": configuration.name,
        "features": features_of(configuration, vocabulary)._to_yaml_list(),
        "splits": [{"name": split, "num_bytes": size, "num_examples": rows} for split, (rows, size) in sizes.items()],
        "download_size": sum(path.stat().st_size for path in store.files(configuration)),
        "dataset_size": sum(size for _, size in sizes.values()),
    }


def _sizes(paths: list[Path]) -> Mapping[str, tuple[int, int]]:
    """By split the number of rows, and their bytes before compression."""
    found: dict[str, tuple[int, int]] = {}
    for path in paths:
        metadata = pq.read_metadata(path)
        size = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
        rows, total = found.get(split_of(path), (0, 0))
        found[split_of(path)] = rows + metadata.num_rows, total + size
    return found
