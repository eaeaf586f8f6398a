"""What a dataset states about itself: sono.json, provenance.json and the licence on its card, which have to agree."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sono.curation.dataset.config import PublishSection
from sono.curation.dataset.licences import hub_licence
from sono.curation.dataset.shards.configurations import DEFAULT, METADATA, Configuration
from sono.manifests.dataset_marker import FORMAT, fingerprint_of
from sono.manifests.errors import UserError
from sono.manifests.filenames import MARKER
from sono.manifests.publishable import CARD, card_metadata
from sono.manifests.pulled import Pulled
from sono.manifests.schemas import SPLITS

from .source import OTHER_COPY, Source

_PROVENANCE = "provenance.json"


@dataclass(frozen=True)
class Described:
    """A dataset's files of ``default`` and ``metadata``, by shard, and everything else as ``Pulled`` has it.

    Attributes:
        planes: the ids of its planes.
        structures: the ids of its structures.
    """

    pulled: Pulled
    planes: tuple[str, ...]
    structures: tuple[str, ...]
    shards: tuple[ShardFiles, ...]


@dataclass(frozen=True)
class ShardFiles:
    """The files of a shard; ``rows`` are frames."""

    split: str
    data: str
    metadata: str
    data_sha256: str
    metadata_sha256: str
    rows: int


def read_described(source: Source) -> Described:
    """Read what a dataset states.

    Raises:
        UserError: another version wrote it, it is no dataset, or what it states contradicts itself.
    """
    content = source.get(MARKER).read_bytes()
    marker = _json(content, source, MARKER)
    if "splits" not in marker or "pseudonyms" not in marker:
        raise UserError(
            f"{MARKER} is not that of a dataset", where=source.place, fix="name a dataset, not a model or a checkpoint"
        )
    if marker.get("format") != FORMAT:
        raise UserError(
            f"another version of sono-curate built it (format {marker.get('format')}, this one has {FORMAT})",
            where=source.place,
            fix="pull it with that version, or ask for a revision that this one built",
        )
    try:
        return _described(source, marker, hashlib.sha256(content).hexdigest())
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{MARKER} is damaged", where=source.place, fix=OTHER_COPY) from error


def _described(source: Source, marker: Mapping[str, Any], marker_sha256: str) -> Described:
    if marker["fingerprint"] != fingerprint_of(marker):
        raise ValueError("the fingerprint is not of this content")
    published = _published(source)
    pulled = Pulled(
        repository=source.repository,
        commit=source.commit,
        private=source.private,
        gated=source.gated,
        fingerprint=str(marker["fingerprint"]),
        pseudonyms=str(marker["pseudonyms"]),
        marker_sha256=marker_sha256,
        tables={path: str(shard["sha256"]) for _, path, shard in _listed(marker, DEFAULT)},
        licence=_licence(source, published),
        citation=published.citation,
        ga_days=published.ga_days,
        pixel_mm=published.pixel_mm,
        text=marker.get("text_in_pixels"),
        audit=stated_audit(marker.get("audit")),
        split_plan=marker["split_plan"],
    )
    return Described(pulled, tuple(marker["planes"]), tuple(marker["structures"]), tuple(_shards(marker)))


def _listed(marker: Mapping[str, Any], configuration: Configuration) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Split, path and description of a configuration's files."""
    splits = marker["splits"] if configuration is DEFAULT else marker["configurations"][configuration.name]
    found = [
        (split, path, shard) for split in SPLITS if split in splits for path, shard in splits[split]["shards"].items()
    ]
    if not all(re.fullmatch(rf"{configuration.folder}/{split}-\d+\.parquet", path) for split, path, _ in found):
        raise ValueError("a shard has no name of build's")  # which must not lead out of the folder
    return found


def _shards(marker: Mapping[str, Any]) -> list[ShardFiles]:
    metadata = {path.rpartition("/")[2]: (path, shard) for _, path, shard in _listed(marker, METADATA)}
    shards = []
    for split, path, shard in _listed(marker, DEFAULT):
        beside, described = metadata[path.rpartition("/")[2]]
        if described["rows"] != shard["rows"]:
            raise ValueError("files of two configurations contradict each other")
        shards.append(
            ShardFiles(split, path, beside, str(shard["sha256"]), str(described["sha256"]), int(shard["rows"]))
        )
    if not shards:
        raise ValueError("no frames")
    return shards


def stated_audit(stated: object) -> Mapping[str, Any] | None:
    """What is stated of an audit, if it can be understood."""
    if not isinstance(stated, Mapping) or not isinstance(stated.get("passed"), bool):
        return None
    counts = {name: stated.get(name) for name in ("files", "frames")}
    return {"passed": stated["passed"], **counts} if all(isinstance(each, int) for each in counts.values()) else None


def _published(source: Source) -> PublishSection:
    """``[publish]`` of the configuration that it was built with; defaults where it does not say."""
    if not source.has(_PROVENANCE):
        return PublishSection()
    content = _json(source.get(_PROVENANCE).read_bytes(), source, _PROVENANCE)
    try:
        return PublishSection.model_validate(content["configuration"]["publish"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{_PROVENANCE} is damaged", where=source.place, fix=OTHER_COPY) from error


def _licence(source: Source, published: PublishSection) -> str:
    """The licence that both the card and the provenance name.

    Raises:
        UserError: they name different ones.
    """
    stated = published.licence
    on_card = ""
    if source.has(CARD):
        on_card = str(card_metadata(source.get(CARD).parent).get("license") or "")
    if (hub_licence(stated) if stated else "") != on_card:
        raise UserError(
            f"its card names the licence {on_card or 'none'!r}, and {_PROVENANCE} {stated or 'none'!r}",
            where=source.place,
            fix="ask whoever published it which one holds",
        )
    return stated


def _json(content: bytes, source: Source, name: str) -> Mapping[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{name} is damaged", where=source.place, fix=OTHER_COPY)
    return found
