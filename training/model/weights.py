"""Loads weights from files with various names for tensors, none of which is silently dropped.

Supported are plain CLIPs of OpenAI (TorchScript archives, too) and open_clip; checkpoints of Alpha-CLIP and of
SonoCLIP's release and its trainer, which hold only an image tower with a mask channel; and what this project exports.
A file is used completely or refused: a missing or unexpected tensor, another shape, or a number that is not finite is
an error. Nothing is unpickled but tensors, plain containers and numpy's numbers.
"""

from __future__ import annotations

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import open_clip
import torch
from open_clip.model import convert_to_custom_text_state_dict
from torch import nn

from sono.manifests.errors import UserError, first_line

HUB = "hf-hub:"

Tensors = dict[str, torch.Tensor]

LOGITS = ("logit_scale", "logit_bias")
"""A file may lack these: the recipe's loss says where temperature and bias start."""

_NESTS = ("state_dict", "model")  # of open_clip's trainer and many others; of our own checkpoints
_VISION_NEST = "visual"  # of SonoCLIP's trainer, beside the temperature, the bias and its optimizer
_WRAPPERS = ("module", "_orig_mod")  # DistributedDataParallel and torch.compile, around the model or one tower
_NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size")  # numbers in OpenAI's archives
_TEXT_MARKS = ("token_embedding.weight", "text.")


@dataclass(frozen=True)
class Weights:
    """The tensors of a file, in the names of ``MaskClip.clip``; ``vision_only``: there is no text tower among them.

    ``format`` is ``openai`` for a TorchScript archive, ``alpha`` for Alpha-CLIP's and SonoCLIP's names, else ``plain``.
    """

    tensors: Tensors
    vision_only: bool
    format: Literal["plain", "openai", "alpha"]

    @property
    def quick_gelu(self) -> bool:
        """Whether only models with that activation are stored in this format."""
        return self.format != "plain"


def find_file(backbone: str, weights: str) -> Path:
    """The file meant by ``weights``: itself, a tag of open_clip, or ``hf-hub:owner/name``; downloaded if needed.

    Raises:
        UserError: it is none of these, or cannot be downloaded.
    """
    if Path(weights).is_file():
        return Path(weights)
    if weights.startswith(HUB):
        return _download(weights, lambda: open_clip.download_pretrained_from_hf(weights.removeprefix(HUB)))
    settings = open_clip.get_pretrained_cfg(backbone, weights)
    if not settings:
        tags = open_clip.list_pretrained_tags_by_model(backbone)
        raise UserError(
            f"not a file, a tag of pretrained weights or {HUB}OWNER/NAME",
            where=weights,
            fix=f"tags of {backbone}: {', '.join(tags) or 'none'}",
        )
    return _download(f"the tag {weights!r} of {backbone}", lambda: open_clip.download_pretrained(settings))


def find_beside(backbone: str, weights: str, name: str) -> Path | None:
    """The file called ``name`` in the folder or repository of these weights; None if it has none.

    Raises:
        UserError: the weights cannot be found.
    """
    if weights.startswith(HUB) and not Path(weights).is_file():
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError

        try:
            return Path(huggingface_hub.hf_hub_download(weights.removeprefix(HUB), name))
        except (HfHubHTTPError, OSError, ValueError):  # absent, or unreachable while the weights are in a cache
            return None
    file = find_file(backbone, weights).with_name(name)
    return file if file.is_file() else None


def read_config_beside(backbone: str, weights: str, name: str) -> Mapping[str, Any] | None:
    """A JSON object in the folder or repository of these weights, which says how they were trained; None if absent.

    Raises:
        UserError: the weights cannot be found, or it is not known whether they have such a file, or it is damaged.
    """
    if weights.startswith(HUB) and not Path(weights).is_file():
        import huggingface_hub
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        try:
            file: Path | None = _download(
                weights, lambda: huggingface_hub.hf_hub_download(weights.removeprefix(HUB), name)
            )
        except UserError as error:
            cause = error.__cause__
            if not isinstance(cause, EntryNotFoundError) or isinstance(cause, LocalEntryNotFoundError):
                raise
            file = None
    else:
        file = find_beside(backbone, weights, name)
    if file is None:
        return None
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError("cannot be read", where=str(file), fix="get the weights again, with this file") from error
    return content if isinstance(content, dict) else {}


def read(file: Path, names: Mapping[str, torch.Tensor], stem: str) -> Weights:
    """The tensors of ``file`` in our names.

    Args:
        names: the state of the model that they are for, which tells the names of its text tower.
        stem: name of the mask stem within the image tower.

    Raises:
        UserError: the file is damaged, or holds no tensors by name.
    """
    content = _open(file)
    state = _state(content, file)
    vision_only = not any(name.startswith(_TEXT_MARKS) for name in state)
    if vision_only and not any(name.startswith("visual.") for name in state):
        state = {name if name in LOGITS else f"visual.{name}": tensor for name, tensor in state.items()}
    is_openai, is_alpha = isinstance(content, torch.jit.ScriptModule), "visual.conv1_alpha.weight" in state
    renamed = _rename(state, f"visual.{stem}", file)
    return Weights(_fit_text(renamed, names), vision_only, "alpha" if is_alpha else "openai" if is_openai else "plain")


def load(clip: nn.Module, stem: str, weights: Weights, file: str, *, text: Weights | None, text_file: str = "") -> None:
    """Put ``weights`` into ``clip``, which has a mask stem; if they have no text tower, then that of ``text``.

    A plain CLIP leaves the mask stem as it starts; Alpha-CLIP leaves only the depthwise convolution, which it lacks.

    Raises:
        UserError: a tensor of the model is missing in the files, or a tensor in the files does not belong to the model.
    """
    if weights.vision_only and text is None:
        raise UserError(
            "the file contains only an image tower, and no weights for the text tower are given",
            where=file,
            fix="add --set model.text_weights=FILE, a tag of open_clip or hf-hub:OWNER/NAME",
        )
    if text is not None and not weights.vision_only:
        raise UserError(
            "the file contains its own text tower, but model.text_weights names another",
            where=file,
            fix="leave model.text_weights out",
        )
    state = dict(weights.tensors)
    if text is not None:
        if text.vision_only:
            raise UserError("the file contains no text tower", where=text_file, fix="give another model.text_weights")
        # Temperature and bias of the image tower's file, if it has them, were learned with that tower.
        state = {name: t for name, t in text.tensors.items() if not name.startswith("visual.")} | state
    mask, depthwise = f"visual.{stem}.conv_mask.weight", f"visual.{stem}.dwconv.weight"
    optional = {*LOGITS}
    if mask not in state:
        optional |= set() if depthwise in state else {mask, depthwise}
    elif weights.format == "alpha":
        optional.add(depthwise)
    put(clip, state, f"{file} and {text_file}" if text is not None else file, optional=optional)


@torch.no_grad()
def put(clip: nn.Module, state: Mapping[str, torch.Tensor], where: str, *, optional: set[str] | None = None) -> None:
    """Copy ``state`` into ``clip``: all tensors must match, except that ``state`` may lack those in ``optional``.

    Raises:
        UserError: a tensor is missing, unexpected, of another shape, or not finite; the text names the first and
            counts them.
    """
    expected = clip.state_dict()
    state = {name: _same_rank(tensor, expected.get(name)) for name, tensor in state.items()}
    missing = [name for name in expected if name not in state and name not in (optional or ())]
    unexpected = [name for name in state if name not in expected]
    shapes = [name for name in state if name in expected and state[name].shape != expected[name].shape]
    if missing or unexpected or shapes:
        kinds = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
        counts = ", ".join(f"{len(names)} {kind}" for kind, names in kinds.items())
        kind, first = next((kind, names[0]) for kind, names in kinds.items() if names)
        detail = (
            f" ({list(state[first].shape)} for {list(expected[first].shape)})" if kind == "of another shape" else ""
        )
        raise UserError(
            f"the weights do not fit the model: {first} is {kind}{detail}; of {len(expected)} tensors, {counts}",
            where=where,
            fix="name their backbone with --set model.backbone=NAME, or give other weights",
        )
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{name} contains numbers that are not finite", where=where, fix="give other weights")
    clip.load_state_dict(dict(state), strict=False)  # what may be missing was checked above


def _open(file: Path) -> Any:
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(str(file))
        if _is_archive(file):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # deprecated, and the only reader of such files
                return torch.jit.load(str(file), map_location="cpu")  # type: ignore[no-untyped-call]
        with torch.serialization.safe_globals(_numpy_numbers()):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"cannot read weights: {_reason(error)}",
            where=str(file),
            fix="give a complete state dict (.pt, .pth, .bin or .safetensors)",
        ) from error


def _numpy_numbers() -> list[Any]:
    """What torch must know to read a numpy number: nothing of it runs code or allocates more than the file holds.

    Schedulers that compute with numpy, as those of SonoCLIP, Alpha-CLIP and open_clip, leave such numbers as learning
    rates in the optimizer's part of a checkpoint. Before version 2, numpy called the function otherwise.
    """
    scalar = np.float64(0).__reduce__()[0]
    kinds = [np.dtype(code) for code in "?bhilqBHILQefd"]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return [*((scalar, name) for name in names), np.dtype, *{type(kind) for kind in kinds}]


def _reason(error: Exception) -> str:
    """Why torch did not read a file; its own message advises to unpickle whatever the file contains."""
    found = re.search(r"Unsupported (?:global: GLOBAL|class) ([\w.]+)", str(error))
    if isinstance(error, pickle.UnpicklingError) and found:
        return f"it contains a Python object ({found[1]}), and only tensors and numbers are read"
    return first_line(error)


def _is_archive(file: Path) -> bool:
    """Whether it is a TorchScript archive, the form in which OpenAI published its weights."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any("/code/" in name for name in archive.namelist())


def _state(content: Any, file: Path) -> Tensors:
    """The tensors by name, out of any nesting and without the prefixes of wrappers."""
    if isinstance(content, torch.jit.ScriptModule):
        content = content.state_dict()
    prefix = ""
    state: Tensors = {}
    while isinstance(content, Mapping):
        nest = next((key for key in (*_NESTS, _VISION_NEST) if isinstance(content.get(key), Mapping)), None)
        if nest is None:
            break
        if nest == _VISION_NEST:
            prefix = "visual."
            state = {name: content[name] for name in LOGITS if isinstance(content.get(name), torch.Tensor)}
        content = content[nest]
    tensors = content.items() if isinstance(content, Mapping) else []
    if not tensors:
        raise UserError("not a state dict: it contains no named tensors", where=str(file), fix="give a state dict")
    for name, tensor in tensors:
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise UserError(
                f"not a state dict: {str(name)[:80]!r} is not a tensor",
                where=str(file),
                fix="give a state dict, or a checkpoint that has one under state_dict, model or visual",
            )
        new = prefix + _unwrapped(name).removeprefix(prefix)
        if new in state:
            raise UserError(f"it contains {new} under two names", where=str(file), fix="give other weights")
        state[new] = tensor
    for name in _NO_WEIGHTS:
        state.pop(name, None)
    return state


def _unwrapped(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _rename(state: Tensors, stem: str, file: Path) -> Tensors:
    """Rename tensors of the image tower from the names of plain CLIPs, Alpha-CLIP and SonoCLIP to ours."""
    exact = {
        f"{stem}.weight": f"{stem}.conv_rgb.weight",
        f"{stem}.bias": f"{stem}.conv_rgb.bias",
        "visual.conv1_alpha.weight": f"{stem}.conv_mask.weight",
        "visual.dwconv.weight": f"{stem}.dwconv.weight",
    }
    renamed: Tensors = {}
    for name, tensor in state.items():
        new = exact.get(name, name)
        if new.startswith("visual."):  # both formats split the joint projection's name elsewhere
            new = re.sub(r"\.attn\.in_proj\.(weight|bias)$", r".attn.in_proj_\1", new)
        if new in renamed:
            raise UserError(f"it contains {new} under two names", where=str(file), fix="give other weights")
        renamed[new] = tensor
    return renamed


def _fit_text(state: Tensors, names: Mapping[str, torch.Tensor]) -> Tensors:
    """Rename tensors of the text tower as the model has them: at the top level, or under ``text.``."""
    is_custom = any(name.startswith("text.") for name in names)
    if is_custom and "token_embedding.weight" in state:
        state = convert_to_custom_text_state_dict(state)
    elif not is_custom and any(name.startswith("text.") for name in state):
        state = {name.removeprefix("text."): tensor for name, tensor in state.items()}
    # A constant, which transformers wrote before 4.31.
    return {name: t for name, t in state.items() if not (name.endswith(".position_ids") and name not in names)}


def _same_rank(tensor: torch.Tensor, wanted: torch.Tensor | None) -> torch.Tensor:
    """A single number may have one dimension or none."""
    is_number = wanted is not None and wanted.numel() == tensor.numel() == 1 and max(wanted.ndim, tensor.ndim) <= 1
    return tensor.reshape(wanted.shape) if is_number and wanted is not None else tensor


def _download(what: str, fetch: Any) -> Path:
    try:
        return Path(fetch())
    except Exception as error:
        raise UserError(
            f"{what} cannot be downloaded: {first_line(error)}",
            fix="download it elsewhere and give the file with --weights FILE",
        ) from error
