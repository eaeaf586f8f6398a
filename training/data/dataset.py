"""The dataset that ``sono-curate build`` writes: a folder, or a repository of the Hub."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from PIL import Image

from sono.manifests import masks
from sono.manifests.dataset_marker import FORMAT, fingerprint_of
from sono.manifests.errors import UserError, did_you_mean
from sono.manifests.filenames import MARKER, dataset_name
from sono.manifests.masks import Mask
from sono.manifests.schemas import DATASET, SPLITS

from .shards import MappedRows, Shard, open_shards

_DAMAGED = (
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    Image.DecompressionBombError,
)  # what Pillow raises, or for None

Row = Mapping[str, Any]
"""One frame by the column names of ``schemas.DATASET``; its image is still encoded."""


@dataclass(frozen=True)
class Description:
    """What ``sono.json`` says about a dataset.

    ``fingerprint`` covers the digest of every shard. ``planes`` maps ids to display names, as ``structures`` does
    unless another program wrote the dataset without them. ``pseudonyms`` tells those of patients from others': the same
    patient has the same one in two datasets if it is equal. ``revision`` is the commit of a Hub dataset and None for a
    folder.
    """

    source: str
    fingerprint: str
    planes: Mapping[str, str]
    shards: Mapping[str, Sequence[Shard]]
    pseudonyms: str
    structures: Mapping[str, str] | None = None
    revision: str | None = None

    def rows(self, split: str) -> int:
        """Number of frames in a split; 0 if it does not exist."""
        return sum(shard.rows for shard in self.shards.get(split, ()))

    @property
    def identity(self) -> dict[str, str]:
        """Which dataset it is, wherever it lies: what results and checkpoints say about it."""
        return {"name": dataset_name(self.source), "fingerprint": self.fingerprint}


@dataclass(frozen=True)
class Frames:
    """A split, memory-mapped. ``row["plane"]`` is a place in ``planes``, the ids of the classes."""

    description: Description
    split: str
    planes: tuple[str, ...]
    rows: MappedRows

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, index: int) -> Row:
        """One frame, decoded from Arrow."""
        return self.rows.row(index)

    def column(self, name: str) -> pa.ChunkedArray:
        """A complete column; reads no other."""
        return self.rows.table.column(name)


def read_description(source: str) -> Description:
    """Read a dataset's ``sono.json``; of a folder, also check that its shards are the ones listed there.

    Raises:
        UserError: the dataset is not found, unfinished, damaged, or of another version.
    """
    if not source.strip():  # Path("") would be the current folder
        raise UserError("the dataset's name is empty", fix="name the folder that sono-curate build wrote")
    folder = Path(source)
    if folder.is_dir():
        description = _parse((folder / MARKER).read_bytes() if (folder / MARKER).is_file() else None, source, None)
        _check_shards(folder, description)
        return description
    if folder.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", source) or source.startswith("."):
        raise UserError("dataset folder not found", where=source, fix="name the folder that sono-curate build wrote")
    return _describe_repository(source)


def open_split(description: Description, split: str) -> Frames:
    """Map a split into memory: exactly the rows that ``description.fingerprint`` stands for.

    The first time, its shards are unpacked into a cache; docs/training.md says where.

    Raises:
        UserError: the split is unknown or empty, a shard is not the one that ``sono.json`` lists, or columns are not
            those that ``sono-curate build`` writes.
    """
    if split not in SPLITS:
        fix = did_you_mean(split, SPLITS) or f"choose one of: {', '.join(SPLITS)}"
        raise UserError(f"unknown split {split!r}", fix=fix)
    if description.rows(split) == 0:
        present = ", ".join(name for name in SPLITS if description.rows(name)) or "none"
        raise UserError(f"the {split} split is empty", where=description.source, fix=f"splits with frames: {present}")
    files = {shard: _file_of(shard, description) for shard in description.shards[split]}
    rows = open_shards(files, description.source, split)
    missing = sorted(set(DATASET.schema.names) - set(rows.schema.names))
    plane = None if missing else datasets.Features.from_arrow_schema(rows.schema)["plane"]
    if missing or not isinstance(plane, datasets.ClassLabel) or not set(plane.names) <= set(description.planes):
        what = f"the column {missing[0]} is missing" if missing else "the planes differ from those of sono.json"
        raise UserError(what, where=description.source, fix="run sono-curate build again")
    if len(rows) != description.rows(split):
        raise UserError(
            f"{len(rows)} rows were read, but sono.json lists {description.rows(split)}",
            where=description.source,
            fix="run sono-curate build again",
        )
    return Frames(description, split, tuple(plane.names), rows)


@contextlib.contextmanager
def naming(description: Description) -> Iterator[None]:
    """Around code that reads frames: an error in one also names the dataset, because a run may read several."""
    try:
        yield
    except UserError as error:
        where = f"{description.source}: {error.where}" if error.where else description.source
        raise UserError(error.what, where=where, fix=error.fix) from error


def decode_image(row: Row) -> Image.Image:
    """The frame's image.

    Raises:
        UserError: it cannot be decoded, or is not 8-bit; the text names the frame.
    """
    try:
        image = Image.open(io.BytesIO(row["image"]["bytes"]))
        image.load()
    except _DAMAGED as error:
        raise UserError(
            "the image cannot be decoded", where=f"frame {row['frame_id']}", fix="run sono-curate build again"
        ) from error
    if image.mode.startswith(("I", "F")):  # 16-bit or float: a conversion would cut off what is above 255
        raise UserError(
            f"the image is not 8-bit (Pillow's mode {image.mode})",
            where=f"frame {row['frame_id']}",
            fix="build the dataset with sono-curate, which converts images as a screen shows them",
        )
    return image


def image_size(frames: Frames, index: int) -> tuple[int, int]:
    """Width and height in px of a frame's image, from its header alone.

    Raises:
        UserError: it cannot be read; the text names the frame.
    """
    try:
        return Image.open(io.BytesIO(frames.column("image")[index]["bytes"].as_py())).size
    except _DAMAGED as error:
        raise UserError(
            "the image cannot be decoded",
            where=f"frame {frames.column('frame_id')[index]}",
            fix="run sono-curate build again",
        ) from error


def decode_mask(row: Row, region: Mapping[str, Any], image: Image.Image) -> Mask:
    """A region's mask, of shape [height, width] of its image.

    Raises:
        UserError: the mask is damaged, or has another size than the image; the text names the frame.
    """
    try:
        return masks.decode(region["mask"], expected_size=(image.height, image.width))
    except UserError as error:
        raise UserError(error.what, where=f"frame {row['frame_id']}", fix=error.fix) from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            "a mask cannot be decoded", where=f"frame {row['frame_id']}", fix="run sono-curate build again"
        ) from error


def _parse(text: bytes | None, source: str, revision: str | None) -> Description:
    if text is None:
        raise UserError(f"not a finished dataset: {MARKER} is missing", where=source, fix="run sono-curate build again")
    try:
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise UserError(
                f"the dataset has format {content['format']}, but this version reads {FORMAT}",
                where=source,
                fix="build it again with this version, or install the version that wrote it",
            )
        shards = {
            split: tuple(Shard(path, **shard) for path, shard in entry["shards"].items())
            for split, entry in content["splits"].items()
        }
        structures = content.get("structures")
        description = Description(
            source,
            content["fingerprint"],
            dict(content["planes"]),
            shards,
            content["pseudonyms"],
            None if structures is None else dict(structures),
            revision,
        )
        is_whole = description.fingerprint == fingerprint_of(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{MARKER} cannot be read", where=source, fix="run sono-curate build again") from error
    if not is_whole:
        raise UserError(
            f"{MARKER} does not have the fingerprint of its own content: it was changed",
            where=source,
            fix="run sono-curate build again",
        )
    return description


def _check_shards(folder: Path, description: Description) -> None:
    """What can be seen without reading the shards; ``open_shards`` reads and verifies them."""
    listed = {shard.path: shard.bytes for shards in description.shards.values() for shard in shards}
    present = {path.relative_to(folder).as_posix() for path in folder.glob("data/*.parquet")}
    odd = sorted(set(listed) ^ present)
    if odd:
        raise UserError(
            f"{odd[0]} is {'missing' if odd[0] in listed else f'not listed in {MARKER}'}",
            where=str(folder),
            fix="run sono-curate build again",
        )
    for name, size in listed.items():
        found = (folder / name).stat().st_size
        if found != size:
            raise UserError(
                f"{name} has {found:,} bytes, but {MARKER} lists {size:,}: it was changed, or damaged",
                where=str(folder),
                fix="run sono-curate build again",
            )


def _file_of(shard: Shard, description: Description) -> Path:
    """Where a shard is; that of a repository is downloaded first."""
    if description.revision is None:
        return Path(description.source) / shard.path
    import huggingface_hub

    try:
        return Path(
            huggingface_hub.hf_hub_download(
                description.source, shard.path, repo_type="dataset", revision=description.revision
            )
        )
    except Exception as error:
        raise UserError(
            f"{shard.path} cannot be downloaded ({type(error).__name__})",
            where=description.source,
            fix="check the network, and for a private dataset the login (hf auth login)",
        ) from error


def _describe_repository(repository: str) -> Description:
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError

    try:
        revision = huggingface_hub.HfApi().dataset_info(repository).sha
        path = huggingface_hub.hf_hub_download(repository, MARKER, repo_type="dataset", revision=revision)
    except EntryNotFoundError:
        return _parse(None, repository, None)
    except Exception as error:
        raise UserError(
            f"neither a folder nor a reachable dataset on the Hub ({type(error).__name__})",
            where=repository,
            fix="check the name, the network, and for a private dataset the login (hf auth login)",
        ) from error
    return _parse(Path(path).read_bytes(), repository, revision)
