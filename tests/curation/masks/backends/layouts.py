"""One small SAM in the layouts of SAM's family: inputs and outputs as the projects' own exporters name them."""

from __future__ import annotations

from pathlib import Path

import torch
from segment_anything.modeling import Sam
from segment_anything.utils.onnx import SamOnnxModel
from torch import nn

from tests.curation.masks.small_sam import PATCH, SIDE, WIDTH, decoder_inputs, export

GRID = SIDE // PATCH


class EdgeDecoder(nn.Module):
    """As edge_sam/utils/coreml.py."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.inner = SamOnnxModel(sam, return_single_mask=False)

    def forward(self, image_embeddings: torch.Tensor, coords: torch.Tensor, labels: torch.Tensor) -> object:
        model = self.inner.model
        dense = model.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        masks, scores = model.mask_decoder.predict_masks(
            image_embeddings, model.prompt_encoder.get_dense_pe(), self.inner._embed_points(coords, labels), dense
        )
        return scores, masks


class StretchedDecoder(EdgeDecoder):
    """As SAM 2's by samexporter: adds a point that is none, clamps, and has features of a higher resolution."""

    def forward(  # type: ignore[override]
        self, embed: torch.Tensor, first: torch.Tensor, second: torch.Tensor, coords: torch.Tensor,
        labels: torch.Tensor, mask: torch.Tensor, has_mask: torch.Tensor,
    ) -> object:  # fmt: skip
        coords = torch.cat([coords, torch.zeros(1, 1, 2)], dim=1)
        labels = torch.cat([labels, -torch.ones(1, 1)], dim=1)
        model = self.inner.model
        masks, scores = model.mask_decoder.predict_masks(
            embed, model.prompt_encoder.get_dense_pe(), self.inner._embed_points(coords, labels),
            self.inner._embed_masks(mask, has_mask),
        )  # fmt: skip
        masks = masks + 0 * (first.mean() + second.mean())
        return torch.clamp(masks[:, 1:], -32, 32), scores[:, 1:]


class StretchedEncoder(nn.Module):
    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.encoder = sam.image_encoder

    def forward(self, image: torch.Tensor) -> object:
        found = self.encoder(image)
        return found.repeat_interleave(4, 2)[:, :4], found.repeat_interleave(2, 2)[:, :8], found


class EfficientEncoder(StretchedEncoder):
    """As efficient_sam.py: any size, values from 0 to 1."""

    def forward(self, image: torch.Tensor) -> object:
        image = nn.functional.interpolate(image, (SIDE, SIDE), mode="bilinear")
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        return self.encoder((image - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))


class EfficientDecoder(EdgeDecoder):
    """As onnx_models.py: scales points and masks itself, and fills up to six points."""

    def forward(  # type: ignore[override]
        self, embed: torch.Tensor, coords: torch.Tensor, labels: torch.Tensor, size: torch.Tensor
    ) -> object:
        scaled = torch.stack([coords[..., 0] * SIDE / size[1], coords[..., 1] * SIDE / size[0]], dim=-1)[0]
        scaled = torch.cat([scaled, -torch.ones(1, 1, 2)], dim=1)
        scores, masks = super().forward(embed, scaled, torch.cat([labels[0], -torch.ones(1, 1)], dim=1))
        masks = nn.functional.interpolate(masks, (size[0], size[1]), mode="bilinear")
        return masks[None, :, 1:].reshape(1, 1, 3, size[0], size[1]), scores[None, :, 1:]


class InsideEncoder(StretchedEncoder):
    """As samexporter's with --use-preprocess: [height, width, 3], 0 to 255."""

    def forward(self, image: torch.Tensor) -> object:
        mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
        image = ((image - mean) / std).permute(2, 0, 1)
        height, width = image.shape[-2:]
        return self.encoder(nn.functional.pad(image, (0, SIDE - width, 0, SIDE - height))[None])


def export_edge(sam: Sam, folder: Path) -> None:
    inputs = {name: decoder_inputs()[name] for name in ("image_embeddings", "point_coords", "point_labels")}
    export(EdgeDecoder(sam), inputs, ["scores", "masks"], folder / "edge.onnx")


def export_inside(sam: Sam, folder: Path) -> None:
    axes = {"input_image": {0: "image_height", 1: "image_width"}}
    image = {"input_image": torch.rand(SIDE, SIDE - 20, 3)}
    export(InsideEncoder(sam), image, ["image_embeddings"], folder / "inside.onnx", axes)


def export_sam2(sam: Sam, folder: Path) -> None:
    names = ["high_res_feats_0", "high_res_feats_1", "image_embed"]
    export(StretchedEncoder(sam), {"image": torch.rand(1, 3, SIDE, SIDE)}, names, folder / "sam2-e.onnx")
    given = decoder_inputs()
    inputs = {
        "image_embed": given.pop("image_embeddings"),
        "high_res_feats_0": torch.rand(1, 4, 4 * GRID, GRID),
        "high_res_feats_1": torch.rand(1, 8, 2 * GRID, GRID),
        **given,
    }
    export(StretchedDecoder(sam), inputs, ["masks", "iou_predictions"], folder / "sam2-d.onnx")


def export_efficient(sam: Sam, folder: Path) -> None:
    axes = {"batched_images": {2: "height", 3: "width"}}
    image = {"batched_images": torch.rand(1, 3, 100, 140)}
    inputs = {
        "image_embeddings": torch.rand(1, WIDTH, GRID, GRID),
        "batched_point_coords": torch.rand(1, 1, 2, 2) * 90,
        "batched_point_labels": torch.ones(1, 1, 2),
        "orig_im_size": torch.tensor([100, 140]),
    }
    export(EfficientEncoder(sam), image, ["image_embeddings"], folder / "efficient-e.onnx", axes)
    export(EfficientDecoder(sam), inputs, ["output_masks", "iou_predictions"], folder / "efficient-d.onnx")
