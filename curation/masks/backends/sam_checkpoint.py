"""Checkpoints of segment-anything: read without running anything in them, and rebuilt from the shapes of tensors."""

from __future__ import annotations

import pickle
import pickletools
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sono.manifests.errors import UserError

if TYPE_CHECKING:
    import torch
    from segment_anything.modeling import Sam

Tensors = Mapping[str, "torch.Tensor"]

_NESTED = ("model", "state_dict", "model_state_dict")  # where training scripts keep the weights
_DECODER_HEADS = 8  # of every published model; no tensor has this number in its shape
_BLOCK = re.compile(r"image_encoder\.blocks\.(\d+)\.")

_OTHERS: Mapping[str, str] = {
    "image_encoder.trunk.": "SAM 2",
    "sam_mask_decoder.": "SAM 2",
    "image_encoder.patch_embed.seq.": "MobileSAM",
    "image_encoder.features.": "EdgeSAM",
    "mask_decoder.hf_token": "HQ-SAM",
    "vision_encoder.": "a SAM of the transformers library",
}
"""What the names of some tensors say about the model that they belong to."""


def load_sam(path: Path) -> Sam:
    """The model of a checkpoint: vit_b, vit_l, vit_h, or any other size that the package's own modules can have.

    Raises:
        UserError: the file is damaged, holds code, or is the checkpoint of another model.
    """
    tensors = _read_tensors(path)
    _refuse_others(tensors, path)
    try:
        shapes = _Shapes.of(tensors)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise _refused("not a checkpoint of segment-anything: its tensors have other names or shapes", path) from error
    model = _build(shapes)
    try:
        model.load_state_dict(dict(tensors), strict=True, assign=True)
    except RuntimeError as error:
        raise _refused(f"not a checkpoint of segment-anything: {_difference(model, tensors)}", path) from error
    return model.float().eval()


def _read_tensors(path: Path) -> Tensors:
    import torch

    try:
        with warnings.catch_warnings():  # torch warns of pickles that it then refuses
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError("file not found", where=str(path), fix="check --checkpoint") from None
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error) or _calls_something(path):
            raise UserError(
                "this checkpoint holds Python objects, which could run code, and not weights alone; it was not opened",
                where=str(path),
                fix="save its state dict alone with torch.save, on a machine that may run what is in it",
            ) from error
        raise _damaged(path) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
        raise _damaged(path) from error
    for name in _NESTED:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict) or not content:
        raise _refused("not a checkpoint: it holds no tensors by name", path)
    found = {str(name): value for name, value in content.items()}
    if not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise _refused("not a checkpoint of segment-anything: not everything in it is a tensor", path)
    if all(name.startswith("module.") for name in found):  # saved from DistributedDataParallel
        found = {name.removeprefix("module."): value for name, value in found.items()}
    return found


def _calls_something(path: Path) -> bool:
    """Whether a bare pickle, of a protocol that torch does not write, names something to import."""
    with path.open("rb") as file:
        try:
            return any(operation.name in ("STACK_GLOBAL", "INST") for operation, _, _ in pickletools.genops(file))
        except ValueError:
            return False


def _damaged(path: Path) -> UserError:
    return UserError(
        "cannot be read as a checkpoint; it is truncated, damaged or of another kind",
        where=str(path),
        fix="download it again and compare its size",
    )


def _refused(what: str, path: Path) -> UserError:
    return UserError(
        what,
        where=str(path),
        fix="give a checkpoint of segment-anything (vit_b, vit_l or vit_h), or export another model to ONNX and use "
        "--backend onnx",
    )


def _refuse_others(tensors: Tensors, path: Path) -> None:
    for prefix, model in _OTHERS.items():
        if any(name.startswith(prefix) for name in tensors):
            raise _refused(f"a checkpoint of {model}, which the package segment-anything cannot run", path)


def _difference(model: Sam, tensors: Tensors) -> str:
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    kinds = {
        "lacks": sorted(wanted.keys() - found.keys()),
        "has as well": sorted(found.keys() - wanted.keys()),
        "has in another shape": sorted(name for name in wanted.keys() & found.keys() if wanted[name] != found[name]),
    }
    return "; ".join(f"it {what} {names[0]} ({len(names)} in all)" for what, names in kinds.items() if names)


@dataclass(frozen=True)
class _Shapes:
    """The sizes of a model, in the names of segment_anything/build_sam.py."""

    image_size: int
    patch_size: int
    encoder_embed_dim: int
    encoder_depth: int
    encoder_num_heads: int
    encoder_global_attn_indexes: tuple[int, ...]
    window_size: int
    mlp_ratio: float
    prompt_embed_dim: int
    mask_in_chans: int
    decoder_depth: int
    decoder_mlp_dim: int
    attention_downsample_rate: int
    num_multimask_outputs: int
    iou_head_depth: int
    iou_head_hidden_dim: int

    @classmethod
    def of(cls, tensors: Tensors) -> _Shapes:
        def shape(name: str) -> tuple[int, ...]:
            return tuple(tensors[name].shape)

        def count(prefix: str) -> int:
            return len({name.removeprefix(prefix).partition(".")[0] for name in tensors if name.startswith(prefix)})

        width, _, patch, _ = shape("image_encoder.patch_embed.proj.weight")
        _, grid, _, _ = shape("image_encoder.pos_embed")
        depth = 1 + max(int(found[1]) for name in tensors if (found := _BLOCK.match(name)))
        # Relative positions have 2 n - 1 rows where attention looks at n x n patches.
        seen = [(shape(f"image_encoder.blocks.{block}.attn.rel_pos_h")[0] + 1) // 2 for block in range(depth)]
        windows = {side for side in seen if side != grid}
        embed, downsampled = (
            shape("mask_decoder.iou_token.weight")[1],
            shape("mask_decoder.transformer.layers.0.cross_attn_token_to_image.q_proj.weight")[0],
        )
        return cls(
            image_size=grid * patch,
            patch_size=patch,
            encoder_embed_dim=width,
            encoder_depth=depth,
            encoder_num_heads=width // shape("image_encoder.blocks.0.attn.rel_pos_h")[1],
            encoder_global_attn_indexes=tuple(block for block, side in enumerate(seen) if side == grid),
            window_size=max(windows, default=0),
            mlp_ratio=shape("image_encoder.blocks.0.mlp.lin1.weight")[0] / width,
            prompt_embed_dim=embed,
            mask_in_chans=shape("prompt_encoder.mask_downscaling.3.weight")[0],
            decoder_depth=count("mask_decoder.transformer.layers."),
            decoder_mlp_dim=shape("mask_decoder.transformer.layers.0.mlp.lin1.weight")[0],
            attention_downsample_rate=embed // downsampled,
            num_multimask_outputs=shape("mask_decoder.mask_tokens.weight")[0] - 1,
            iou_head_depth=count("mask_decoder.iou_prediction_head.layers."),
            iou_head_hidden_dim=shape("mask_decoder.iou_prediction_head.layers.0.weight")[0],
        )


def _build(shapes: _Shapes) -> Sam:
    """The model without weights: as ``segment_anything.build_sam`` builds its three."""
    import torch
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    grid = shapes.image_size // shapes.patch_size
    parts: dict[str, Any] = {}
    with torch.device("meta"):  # nothing is drawn at random only to be replaced
        parts["image_encoder"] = ImageEncoderViT(
            depth=shapes.encoder_depth,
            embed_dim=shapes.encoder_embed_dim,
            img_size=shapes.image_size,
            mlp_ratio=shapes.mlp_ratio,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            num_heads=shapes.encoder_num_heads,
            patch_size=shapes.patch_size,
            qkv_bias=True,
            use_rel_pos=True,
            global_attn_indexes=shapes.encoder_global_attn_indexes,
            window_size=shapes.window_size,
            out_chans=shapes.prompt_embed_dim,
        )
        parts["prompt_encoder"] = PromptEncoder(
            embed_dim=shapes.prompt_embed_dim,
            image_embedding_size=(grid, grid),
            input_image_size=(shapes.image_size, shapes.image_size),
            mask_in_chans=shapes.mask_in_chans,
        )
        parts["mask_decoder"] = MaskDecoder(
            num_multimask_outputs=shapes.num_multimask_outputs,
            transformer=TwoWayTransformer(
                depth=shapes.decoder_depth,
                embedding_dim=shapes.prompt_embed_dim,
                mlp_dim=shapes.decoder_mlp_dim,
                num_heads=_DECODER_HEADS,
                attention_downsample_rate=shapes.attention_downsample_rate,
            ),
            transformer_dim=shapes.prompt_embed_dim,
            iou_head_depth=shapes.iou_head_depth,
            iou_head_hidden_dim=shapes.iou_head_hidden_dim,
        )
    return Sam(**parts)
