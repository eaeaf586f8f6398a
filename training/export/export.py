"""A trained model in formats that other programs load without this project."""

from __future__ import annotations

import json
import re
import shutil
import uuid
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from sono.manifests.errors import UserError
from sono.manifests.outputs import refuse_inside_dataset
from sono.training import recipes
from sono.training.data import patients
from sono.training.data.patients import TrainedPatients
from sono.training.model import portable
from sono.training.model.backbones import backbone_settings
from sono.training.model.mask_clip import MaskClip
from sono.training.model.portable import mask_stem
from sono.training.model.transforms import PadToSquare
from sono.training.pretraining import checkpoints
from sono.training.pretraining.failures import writing

from . import model_card

INPUT_RULES = "mask_input.json"
VISION_FILE, BASE_FILE = "sonoclip_vision.pth", "clip_base.pt"

_SONO_VISION = {"image_size", "patch_size", "layers", "width", "head_width"}
_SONO_TEXT = {"context_length", "vocab_size", "layers", "width", "heads"}


@dataclass(frozen=True)
class Trained:
    """A run's newest checkpoint; ``settings`` are the backbone's in open_clip's terms, without local paths."""

    run: Path
    model: MaskClip
    transform: PadToSquare
    meta: Mapping[str, Any]
    settings: dict[str, Any]

    @property
    def recipe(self) -> recipes.Recipe:
        """The settings it was trained with."""
        return recipes.from_flat(self.meta["recipe"])


def export(run: Path, out: Path, kind: str, *, notice: Callable[[str], None] = print) -> list[str]:
    """Write the newest checkpoint of ``run`` into the new folder ``out``, completely or not at all.

    Args:
        kind: one of ``FORMATS``.
        notice: is told about damaged checkpoints.

    Returns:
        The names of the files written.

    Raises:
        UserError: the run has no checkpoint, ``out`` is not empty, lies in a dataset or cannot be written, or the
            backbone does not fit the format.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError("the folder is not empty", where=str(out), fix="name a new folder for the export")
    refuse_inside_dataset(out)
    model, transform, meta = checkpoints.load_model(run, notice)
    assert model.backbone is not None
    trained = Trained(run, model.eval(), transform, meta, _settings_without_paths(model.backbone))
    staging = out.absolute().with_name(f".tmp-{out.name}-{uuid.uuid4().hex}")
    try:
        with writing(out):
            staging.mkdir(parents=True)
            FORMATS[kind](trained, staging)
            _write_json(staging / patients.FILE, TrainedPatients.from_meta(meta).to_json())
            if out.exists():
                out.rmdir()
            staging.rename(out)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return sorted(path.name for path in out.iterdir())


def write_open_clip(trained: Trained, folder: Path) -> None:
    """open_clip's configuration and weights, and the two source files that add the mask."""
    transform = trained.transform
    _write_json(
        folder / mask_stem.CONFIG,
        {
            "model_cfg": trained.settings,
            "preprocess_cfg": {
                "size": [transform.size, transform.size],
                "mode": "RGB",
                "mean": list(transform.mean),
                "std": list(transform.std),
                "interpolation": "bicubic",
                "resize_mode": "longest",
                "fill_color": 0,
            },
        },
    )
    _save_tensors(trained.model.clip, folder / mask_stem.WEIGHTS)
    _write_json(folder / INPUT_RULES, transform.to_dict())
    trained.model.tokenizer.save(folder)
    _copy_sources(folder, "mask_stem", "mask_input")
    _write_card(trained, folder, "open_clip")


def write_sonoclip(trained: Trained, folder: Path) -> None:
    """The paper's format: an image tower, and a CLIP from which its code takes the text tower and the sizes.

    Raises:
        UserError: that code would compute something different with these weights.
    """
    differs = _differs_from_sonoclip(trained)
    if differs:
        raise UserError(
            f"the paper's code cannot run {trained.model.backbone}: {differs}",
            fix="export it with --format open_clip or --format transformers",
        )
    state = {name: tensor.detach().cpu().clone() for name, tensor in trained.model.clip.state_dict().items()}
    vision = {
        _sonoclip_name(name.removeprefix("visual.")): tensor
        for name, tensor in state.items()
        if name.startswith("visual.")
    }
    torch.save(vision, folder / VISION_FILE)
    stem = {"visual.conv1.conv_mask.weight", "visual.conv1.dwconv.weight"}
    base = {
        name.replace("conv1.conv_rgb", "conv1"): tensor
        for name, tensor in state.items()
        if name not in stem and name != "logit_bias"
    }
    numbers = {
        "input_resolution": trained.transform.size,
        "context_length": trained.model.context_length,
        "vocab_size": len(base["token_embedding.weight"]),
    }
    _save_archive(base, numbers, folder / BASE_FILE)
    _write_card(trained, folder, "sonoclip")


def write_transformers(trained: Trained, folder: Path) -> None:
    """A repository for the Hub: model and processor as code, weights, a model card."""
    transform, auto = trained.transform, {"AutoProcessor": "processing_sono_clip.SonoClipProcessor"}
    auto_model = {
        "AutoConfig": "configuration_sono_clip.SonoClipConfig",
        "AutoModel": "modeling_sono_clip.SonoClipModel",
    }
    _write_json(
        folder / "config.json",
        {
            "architectures": ["SonoClipModel"],
            "model_type": "sono_clip",
            "auto_map": {**auto_model, **auto},
            "open_clip": trained.settings,
            "mask_mean": transform.mask_mean,
            "mask_std": transform.mask_std,
            "dtype": "float32",
        },
    )
    _write_json(
        folder / "processor_config.json",
        {
            "processor_class": "SonoClipProcessor",
            "auto_map": auto,
            **transform.to_dict(),
            "text_cfg": {**trained.settings["text_cfg"], "context_length": trained.model.context_length},
        },
    )
    _save_tensors(trained.model.clip, folder / "model.safetensors", prefix="clip.")
    trained.model.tokenizer.save(folder)
    sources = ("configuration_sono_clip", "modeling_sono_clip", "processing_sono_clip")
    _copy_sources(folder, *sources, "mask_stem", "mask_input", "text_tokens")
    _write_card(trained, folder, "transformers")


FORMATS: Mapping[str, Callable[[Trained, Path], None]] = {
    "open_clip": write_open_clip,
    "sonoclip": write_sonoclip,
    "transformers": write_transformers,
}


def _settings_without_paths(backbone: str) -> dict[str, Any]:
    """A tokenizer's files are exported, too; a text tower's configuration cannot be."""
    settings = backbone_settings(backbone)
    text = settings["text_cfg"]
    if Path(text.get("hf_model_name", "")).is_absolute():
        raise UserError(
            f"the configuration of {backbone}'s text tower is a folder on this machine",
            fix="set its hf_model_name to a model on the Hub",
        )
    if Path(text.get("hf_tokenizer_name", "")).is_absolute():
        text["hf_tokenizer_name"] = "."
    return settings


def _differs_from_sonoclip(trained: Trained) -> str | None:
    """Why the paper's code, OpenAI's with a mask, would not compute what ours does; None if it would."""
    vision, text, transform = trained.settings["vision_cfg"], trained.settings["text_cfg"], trained.transform
    special = sorted({*vision} - _SONO_VISION) + sorted({*text} - _SONO_TEXT)
    if trained.settings.get("custom_text") or special:
        return f"it is not a plain CLIP ({special[0] if special else 'custom_text'})"
    if not trained.settings.get("quick_gelu"):
        return "its activation is GELU, and the paper's is QuickGELU"
    if vision.get("head_width", 64) != 64 or text["width"] != 64 * text["heads"]:
        return "its attention heads are not 64 wide"
    if transform != PadToSquare(size=transform.size):
        return "it normalises images differently"
    return None


def _sonoclip_name(name: str) -> str:
    renamed = {
        "conv1.conv_rgb.weight": "conv1.weight",
        "conv1.conv_mask.weight": "conv1_alpha.weight",
        "conv1.dwconv.weight": "dwconv.weight",
    }
    return renamed.get(name) or re.sub(r"\.attn\.in_proj_(weight|bias)$", r".attn.in_proj.\1", name)


def _save_tensors(clip: nn.Module, path: Path, prefix: str = "") -> None:
    tensors = {
        f"{prefix}{name}": tensor.detach().cpu().contiguous().clone() for name, tensor in clip.state_dict().items()
    }
    save_file(tensors, str(path), metadata={"format": "pt"})


def _save_archive(state: Mapping[str, torch.Tensor], numbers: Mapping[str, int], path: Path) -> None:
    """A TorchScript archive of tensors by name, as OpenAI's are: the only file that its loader and the paper's read.

    Both try ``torch.jit.load`` first, and then read a state dict from where that stopped, at the end of the file.
    """
    root = nn.Module()
    for name, tensor in state.items():
        *parents, leaf = name.split(".")
        module = root
        for parent in parents:
            if parent not in module._modules:
                module.add_module(parent, nn.Module())
            module = module.get_submodule(parent)
        module.register_parameter(leaf, nn.Parameter(tensor, requires_grad=False))
    for name, number in numbers.items():
        root.register_buffer(name, torch.tensor(number))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # deprecated, and the format that those loaders ask for
        torch.jit.save(torch.jit.script(root), str(path))


def _copy_sources(folder: Path, *modules: str) -> None:
    for module in modules:
        shutil.copyfile(Path(portable.__path__[0]) / f"{module}.py", folder / f"{module}.py")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _write_card(trained: Trained, folder: Path, kind: str) -> None:
    logit_bias = float(trained.model.clip.logit_bias.detach())
    text = model_card.render(trained.run, trained.meta, kind, trained.transform, logit_bias=logit_bias)
    (folder / "README.md").write_text(text, encoding="utf-8")
