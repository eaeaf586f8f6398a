"""A fitted segmenter as one file: weights in safetensors, which cannot hold code, and in its header what they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sono.manifests.errors import UserError, import_extra
from sono.manifests.store import write_atomically

from .letterbox import Letterbox, grey
from .network import EXTRA, build_network, network_input
from .settings import Architecture

if TYPE_CHECKING:
    import torch

    from sono.curation.images.pixels import Pixels

    from .letterbox import Floats

FILE = "model.safetensors"
"""The name of the file in the folder that a fit writes."""

_HEADER = "sono_segmenter"
_FIX = "give the folder that sono-curate masks fit wrote, or the model.safetensors in it"


class FittedStructure(BaseModel):
    """What a segmenter knows of one structure: its temperature, and how it did on the validating patients."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    dice: float
    dice_low: float | None
    dice_high: float | None
    calibration_error: float | None


class Description(BaseModel):
    """What a model file says about its weights. ``structures`` are in the order of the network's channels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    encoder: str
    decoder_channels: tuple[Annotated[int, Field(ge=1, le=1024)], ...]
    size_px: int
    structures: Annotated[tuple[FittedStructure, ...], Field(min_length=1, max_length=1024)]
    weights_sha256: str
    settings: dict[str, Any]
    trained_on: dict[str, Any]  # counts
    patients: tuple[str, ...]  # ``patients.patient_digest`` of everyone whose masks it was trained or validated on
    pseudonyms_id: str  # whose pseudonyms these are digests of
    versions: dict[str, str]

    @model_validator(mode="after")
    def _structures_differ(self) -> Description:
        if len({structure.id for structure in self.structures}) != len(self.structures):
            raise ValueError("a structure is listed twice")
        return self

    @property
    def architecture(self) -> Architecture:
        return Architecture(self.encoder, self.decoder_channels, self.size_px)


@dataclass(frozen=True)
class Segmenter:
    """A fitted network, what its file says about it, and the file's SHA-256."""

    network: torch.nn.Module
    description: Description
    sha256: str

    def channel(self, structure: str) -> int | None:
        """Of a structure; None for one that the network was not fitted on."""
        ids = [fitted.id for fitted in self.description.structures]
        return ids.index(structure) if structure in ids else None

    def logits(self, pixels: Pixels) -> Floats:
        """Of every structure, in the network's square; 32-bit floats, [structures, size, size]."""
        box = Letterbox(pixels.shape[0], pixels.shape[1], self.description.size_px)
        only: Floats = square_logits(self.network, box.fit(grey(pixels))[None])[0]
        return only


def square_logits(network: torch.nn.Module, images: Pixels) -> Floats:
    """What a network says of images in its square; [frames, size, size] in, [frames, structures, size, size] out."""
    import torch

    device = next(network.parameters()).device
    with torch.inference_mode():
        logits = network(network_input(torch.from_numpy(images).to(device)))
    values: Floats = logits.float().cpu().numpy()
    return values


def save_segmenter(path: Path, network: torch.nn.Module, description: Mapping[str, Any]) -> Segmenter:
    """Write a network and what ``Description`` has to say about it, except for the digest of its weights."""
    save = import_extra("safetensors.torch", EXTRA).save
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    described = Description(**description, weights_sha256=_weights_sha256(weights))
    content = save(weights, {_HEADER: described.model_dump_json()})

    def write(file: IO[bytes]) -> None:
        file.write(content)

    write_atomically(path, write)
    return Segmenter(network.eval(), described, hashlib.sha256(content).hexdigest())


def load_segmenter(path: Path) -> Segmenter:
    """Read a model file, or the one in a folder that a fit wrote; on a GPU if there is one. No code in it is run.

    Raises:
        UserError: it is missing, is not such a file, is damaged, or does not hold the network that it describes.
    """
    safetensors = import_extra("safetensors", EXTRA)
    load = import_extra("safetensors.torch", EXTRA).load
    import torch

    file = path / FILE if path.is_dir() else path
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise UserError("no fitted model here", where=str(path), fix=_FIX) from None
    try:
        weights: dict[str, torch.Tensor] = load(content)
    except (safetensors.SafetensorError, ValueError, RuntimeError, KeyError, OverflowError) as error:
        # Whatever else it is, a pickle included, is not opened.
        raise UserError("not a safetensors file, or a damaged one", where=str(file), fix=_FIX) from error
    description = _describe(content, file)
    if _weights_sha256(weights) != description.weights_sha256:
        raise UserError("the weights are damaged", where=str(file), fix="copy the file again, or fit again")
    network = build_network(description.architecture, len(description.structures))
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise UserError(
            "the weights are not those of the network that the file describes", where=str(file), fix="fit again"
        ) from error
    network.to("cuda" if torch.cuda.is_available() else "cpu")
    return Segmenter(network.eval(), description, hashlib.sha256(content).hexdigest())


def _describe(content: bytes, file: Path) -> Description:
    """What the header of a safetensors file, which is known to be one, says about a segmenter."""
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length]).get("__metadata__") or {}
    if _HEADER not in metadata:
        raise UserError("weights of another program's model", where=str(file), fix=_FIX)
    try:
        return Description.model_validate_json(metadata[_HEADER])
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"what it says about itself cannot be used: {place}: {first['msg']}", where=str(file), fix="fit again"
        ) from error


def _weights_sha256(weights: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name]
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def architecture_fields(architecture: Architecture) -> dict[str, Any]:
    """An architecture as ``Description`` has it."""
    return asdict(architecture)
