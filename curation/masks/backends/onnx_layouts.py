"""The layouts of exported models of SAM's family, recognised by the names and shapes of their inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sono.manifests.errors import UserError

from .encoder_input import CHOICES

if TYPE_CHECKING:
    import onnxruntime

_IMAGES = ("image", "images", "input_image", "input", "x")
_KNOWN = (
    "SAM, MobileSAM, EdgeSAM, EfficientSAM, MedSAM and SAM 2 image predictors, exported as an encoder and a decoder"
)


@dataclass(frozen=True)
class Tensor:
    """An input or output; sides that may vary are None."""

    name: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class EncoderLayout:
    """How an encoder takes a frame.

    Attributes:
        side: of the model's square, in px; None where the decoder has to say it.
        preprocessing: of ``encoder_input.PREPROCESSING``, or ``efficientsam``: the frame in its own size, 0 to 1.
        outputs: the embedding's arrays, by the encoder's names.
    """

    image: str
    side: int | None
    preprocessing: str
    outputs: Sequence[str]


@dataclass(frozen=True)
class DecoderLayout:
    """How a decoder takes an embedding and prompts, and what it answers.

    Attributes:
        kind: sam, edgesam, efficientsam or sam2.
        embeddings: its inputs that come from the encoder, in the order of ``EncoderLayout.outputs``.
        points, labels: its inputs for prompts.
        most_points: how many points it takes; None if any number.
        masks, scores: its outputs.
        mask_side: of the square of a mask as a prompt, in px; None if it takes none.
        grid: the side of the embedding.
    """

    kind: str
    embeddings: Sequence[str]
    points: str
    labels: str
    most_points: int | None
    masks: str
    scores: str
    mask_side: int | None
    grid: int | None
    takes_size: bool


def read_encoder(session: onnxruntime.InferenceSession, path: Path, preprocessing: str) -> EncoderLayout:
    """The layout of an encoder.

    Args:
        preprocessing: of ``encoder_input.CHOICES``: what the user says of models that look like SAM.

    Raises:
        UserError: the layout is not known.
    """
    inputs, outputs = _tensors(session.get_inputs()), _tensors(session.get_outputs())
    if preprocessing not in CHOICES:
        raise UserError(f"--preprocessing {preprocessing} is not one of {', '.join(CHOICES)}")
    if len(inputs) == 1:
        (image,) = inputs.values()
        names, side = list(outputs), image.shape[-1] if image.shape else None
        found = None
        if image.name == "batched_images" and names == ["image_embeddings"]:
            found = EncoderLayout(image.name, None, "efficientsam", names)
        elif image.name in _IMAGES and image.shape[-1:] == (3,) and len(image.shape) == 3 and len(names) == 1:
            found = EncoderLayout(image.name, None, "inside", names)
        elif image.name in _IMAGES and image.shape[1:] == (3, side, side) and side is not None:
            features = ["image_embed", "high_res_feats_0", "high_res_feats_1"]
            if sorted(names) == sorted(features):
                found = EncoderLayout(image.name, side, "sam2", features)
            elif len(names) == 1:
                return EncoderLayout(image.name, side, preprocessing, names)
        if found is not None and preprocessing != "sam":
            raise UserError(
                f"this encoder prepares its images as {found.preprocessing}, not as {preprocessing}",
                where=str(path),
                fix="leave out --preprocessing",
            )
        if found is not None:
            return found
    raise _unknown("encoder", inputs, outputs, path)


def read_decoder(session: onnxruntime.InferenceSession, path: Path) -> DecoderLayout:
    """The layout of a decoder.

    Raises:
        UserError: the layout is not known.
    """
    inputs, outputs = _tensors(session.get_inputs()), _tensors(session.get_outputs())
    for kind, (embeddings, points, others, masks, scores) in _DECODERS.items():
        required = {*embeddings, points, points.replace("coords", "labels"), *others}
        extra = {"orig_im_size"} if kind == "sam2" else set()
        if required <= set(inputs) <= required | extra and {masks, scores} <= set(outputs):
            shape, features = inputs[points].shape, inputs[embeddings[0]].shape
            mask = inputs.get("mask_input")
            if shape[-1:] != (2,) or len(features) != 4:
                break
            return DecoderLayout(
                kind=kind,
                embeddings=embeddings,
                points=points,
                labels=points.replace("coords", "labels"),
                most_points=shape[-2],
                masks=masks,
                scores=scores,
                mask_side=mask.shape[-1] if mask else None,
                grid=features[-1],
                takes_size="orig_im_size" in inputs,
            )
    raise _unknown("decoder", inputs, outputs, path)


_Names = tuple[tuple[str, ...], str, tuple[str, ...], str, str]

_DECODERS: Mapping[str, _Names] = {
    # segment_anything/utils/onnx.py; its `masks` are cropped to the frame that it was exported with, so not those
    "sam": (
        ("image_embeddings",),
        "point_coords",
        ("mask_input", "has_mask_input", "orig_im_size"),
        "low_res_masks",
        "iou_predictions",
    ),
    # chongzhou96/EdgeSAM, scripts/export_onnx_model.py
    "edgesam": (("image_embeddings",), "point_coords", (), "masks", "scores"),
    # yformer/EfficientSAM, export_to_onnx.py
    "efficientsam": (
        ("image_embeddings",),
        "batched_point_coords",
        ("orig_im_size",),
        "output_masks",
        "iou_predictions",
    ),
    # vietanhdev/samexporter, export_sam2.py
    "sam2": (
        ("image_embed", "high_res_feats_0", "high_res_feats_1"),
        "point_coords",
        ("mask_input", "has_mask_input"),
        "masks",
        "iou_predictions",
    ),
}
"""By kind: inputs from the encoder, points, other inputs, masks and their scores."""


def _tensors(nodes: Sequence[onnxruntime.NodeArg]) -> dict[str, Tensor]:
    return {
        node.name: Tensor(node.name, tuple(side if isinstance(side, int) else None for side in node.shape))
        for node in nodes
    }


def _unknown(what: str, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor], path: Path) -> UserError:
    return UserError(
        f"not a known layout of {'an' if what == 'encoder' else 'a'} {what}: inputs {_described(inputs)}; "
        f"outputs {_described(outputs)}",
        where=str(path),
        fix=f"known are {_KNOWN}; is --checkpoint the encoder and --decoder the decoder?",
    )


def _described(tensors: Mapping[str, Tensor]) -> str:
    shown = list(tensors.values())[:8]
    texts = [
        f"{each.name[:40]} [{', '.join('?' if side is None else str(side) for side in each.shape)}]" for each in shown
    ]
    return ", ".join(texts) + (f" and {len(tensors) - len(shown)} more" if len(tensors) > len(shown) else "")
