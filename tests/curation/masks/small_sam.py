"""A small SAM of segment-anything's own modules, saved and exported as people save and export the large ones."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from segment_anything.utils.onnx import SamOnnxModel
from torch import nn

SIDE, WIDTH, PATCH = 128, 32, 16


def small_sam(seed: int = 0) -> Sam:
    """Random, with logits that are as large as a trained model's."""
    torch.manual_seed(seed)
    grid = (SIDE // PATCH, SIDE // PATCH)
    sam = Sam(
        image_encoder=ImageEncoderViT(
            depth=2,
            embed_dim=WIDTH,
            img_size=SIDE,
            mlp_ratio=2,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            num_heads=2,
            patch_size=PATCH,
            qkv_bias=True,
            use_rel_pos=True,
            global_attn_indexes=(1,),
            window_size=3,
            out_chans=WIDTH,
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=WIDTH, image_embedding_size=grid, input_image_size=(SIDE, SIDE), mask_in_chans=16
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=WIDTH, mlp_dim=64, num_heads=8),
            transformer_dim=WIDTH,
            iou_head_depth=3,
            iou_head_hidden_dim=32,
        ),
    )
    with torch.no_grad():
        for head in sam.mask_decoder.output_hypernetworks_mlps:
            head.layers[-1].weight *= 40
            head.layers[-1].bias *= 40
    return sam.eval()


def save_checkpoint(sam: Sam, path: Path) -> Path:
    torch.save(sam.state_dict(), path)
    return path


def export_sam(sam: Sam, folder: Path, *, single_mask: bool = False) -> tuple[Path, Path]:
    """Encoder and decoder, as scripts/export_onnx_model.py of segment-anything exports the decoder."""
    encoder = export(
        sam.image_encoder, {"image": torch.rand(1, 3, SIDE, SIDE)}, ["embeddings"], folder / "encoder.onnx"
    )
    decoder = export(
        SamOnnxModel(sam, return_single_mask=single_mask),
        {**decoder_inputs(), "orig_im_size": torch.tensor([150.0, 225.0])},
        ["masks", "iou_predictions", "low_res_masks"],
        folder / ("single.onnx" if single_mask else "decoder.onnx"),
    )
    return encoder, decoder


def decoder_inputs() -> dict[str, torch.Tensor]:
    grid = SIDE // PATCH
    return {
        "image_embeddings": torch.rand(1, WIDTH, grid, grid),
        "point_coords": torch.rand(1, 5, 2) * SIDE,
        "point_labels": torch.tensor([[0.0, 1.0, 2.0, 3.0, -1.0]]),
        "mask_input": torch.rand(1, 1, 4 * grid, 4 * grid),
        "has_mask_input": torch.ones(1),
    }


def export(
    model: nn.Module,
    inputs: Mapping[str, torch.Tensor],
    outputs: Sequence[str],
    path: Path,
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
) -> Path:
    """The model as an ONNX file; the number of points may vary."""
    points = {name: {inputs[name].ndim - 2: "num_points"} for name in inputs if name.endswith("point_coords")}
    points |= {name: {inputs[name].ndim - 1: "num_points"} for name in inputs if name.endswith("point_labels")}
    with warnings.catch_warnings(), _without_onnx():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(),
            tuple(inputs.values()),
            path,
            opset_version=17,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={**points, **(dynamic or {})},
            dynamo=False,
        )
    return path


@contextlib.contextmanager
def _without_onnx() -> Iterator[None]:
    """The exporter imports the package onnx only to add functions written in onnxscript; these models have none."""
    name = "torch.onnx._internal.torchscript_exporter.onnx_proto_utils._add_onnxscript_fn"

    def unchanged(content: bytes, _opsets: Any) -> bytes:
        return content

    with mock.patch(name, unchanged):
        yield
