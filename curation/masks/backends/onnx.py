"""Models of SAM's family exported to ONNX, as an encoder and a decoder, by onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from sono.curation.images.pixels import Pixels
from sono.manifests.errors import UserError, first_line

from .encoder_input import PREPROCESSING, Placement, encoder_input
from .files import model_sha256
from .onnx_layouts import DecoderLayout, EncoderLayout, read_decoder, read_encoder
from .prompt_points import padded, with_corners
from .protocol import Candidate, Embedding, Prompts
from .scores import from_logits, rank

Floats = npt.NDArray[np.float32]

_PATCH = 16  # px of the model's square per cell of the embedding, in those models whose encoders take any size
_UNUSED_SIZE = (8, 8)
_LOADING = (errors.Fail, errors.InvalidProtobuf, errors.InvalidGraph, errors.InvalidArgument, errors.NotImplemented,
            errors.NoSuchFile, errors.NoModel, errors.RuntimeException)  # fmt: skip


@dataclass(frozen=True)
class OnnxFiles:
    """The two files of a model."""

    encoder: Path
    decoder: Path


class OnnxBackend:
    """Candidates are all masks that the decoder gives, one or several.

    Args:
        preprocessing: of ``encoder_input.CHOICES``; exports of MedSAM look like those of SAM.
        threads: of one call; 0 for as many as there are processors.

    Raises:
        UserError: a file cannot be loaded, its layout is not known, or the two do not belong together.
    """

    name = "onnx"

    def __init__(self, files: OnnxFiles, preprocessing: str = "sam", *, threads: int = 0) -> None:
        encoder_sha256 = model_sha256(files.encoder)
        self.model_sha256 = model_sha256(files.encoder, files.decoder)
        self._encoder, self._decoder = _session(files.encoder, threads), _session(files.decoder, threads)
        self._image = read_encoder(self._encoder, files.encoder, preprocessing)
        self._prompts = read_decoder(self._decoder, files.decoder)
        self._where = str(files.decoder)
        self.embedding_id = f"{encoder_sha256}/{self._image.preprocessing}"
        self._side = _side(self._image, self._prompts, files, self._encoder)

    def embed(self, pixels: Pixels) -> Embedding:
        """The outputs of the encoder as float16, whether they go through a cache or not."""
        if self._image.preprocessing == "efficientsam":  # scaled and normalised inside the model
            rgb = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
            image: Floats = np.ascontiguousarray(rgb.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
        else:
            image = encoder_input(pixels, self._side, PREPROCESSING[self._image.preprocessing])
            image = image.transpose(1, 2, 0) if self._image.preprocessing == "inside" else image[None]
        found = self._encoder.run(list(self._image.outputs), {self._image.image: image})
        arrays = dict(zip(self._prompts.embeddings, (array.astype(np.float16) for array in found), strict=True))
        return Embedding((pixels.shape[0], pixels.shape[1]), arrays)

    def propose(self, embedding: Embedding, prompts: Prompts) -> Sequence[Candidate]:
        """The masks that the prompts may mean, the best first.

        Raises:
            UserError: the decoder takes fewer points, or answers otherwise than its outputs promise.
        """
        if not prompts.has_place:
            return []
        logits, scores = self._decode(embedding, prompts)
        placement = self._placement(embedding.size)
        found = (
            from_logits(placement.out_of(np.ascontiguousarray(each)), float(score), prompts)
            for each, score in zip(logits, scores, strict=True)
        )
        return rank(candidate for candidate in found if candidate is not None)

    def _decode(self, embedding: Embedding, prompts: Prompts) -> tuple[Floats, Floats]:
        """Logits, shape [n, height, width], and predicted IoU, shape [n]."""
        layout = self._prompts
        inputs: dict[str, npt.NDArray[Any]] = {
            name: np.asarray(embedding.arrays[name], np.float32) for name in layout.embeddings
        }
        inputs |= self._points(embedding.size, prompts)
        if layout.mask_side is not None:
            mask = np.zeros((1, 1, layout.mask_side, layout.mask_side), np.float32)
            if prompts.mask is not None:
                mask[0, 0] = self._placement(embedding.size).mask_into(prompts.mask, layout.mask_side)
            inputs |= {"mask_input": mask, "has_mask_input": np.array([prompts.mask is not None], np.float32)}
        if layout.takes_size:
            kind = {node.name: node.type for node in self._decoder.get_inputs()}["orig_im_size"]
            types = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
            # SAM's exports also scale masks to this size, wrongly for frames of another shape than that of the export.
            # Nobody looks at these masks, so they are small.
            size = _UNUSED_SIZE if layout.kind == "sam" else embedding.size
            inputs["orig_im_size"] = np.array(size, types.get(kind, np.float32))
        try:
            logits, scores = self._decoder.run([layout.masks, layout.scores], inputs)
        except _LOADING as error:
            raise UserError(f"this decoder fails: {first_line(error)}", where=self._where) from error
        logits, scores = logits.reshape(-1, *logits.shape[-2:]), scores.reshape(-1)
        if len(logits) != len(scores):
            raise UserError(
                f"this decoder gives {len(logits)} masks and {len(scores)} scores for them",
                where=self._where,
                fix="export it again, with several masks",
            )
        return logits, scores

    def _points(self, size: tuple[int, int], prompts: Prompts) -> dict[str, Floats]:
        """The prompts' points and labels as the decoder takes them."""
        layout = self._prompts
        # SAM 2's and EfficientSAM's decoders add points that are none themselves.
        points, labels = with_corners(prompts, pad=layout.kind in ("sam", "edgesam"))
        if layout.kind != "efficientsam":  # which scales them itself
            points = self._placement(size).into(points)
        if layout.most_points is not None:
            if len(labels) > layout.most_points:
                raise UserError(
                    f"this decoder takes {layout.most_points} points, and there are {len(labels)} (a box is two)",
                    where=self._where,
                    fix="export it with a variable number of points, or give fewer",
                )
            points, labels = padded(points, labels, layout.most_points - len(labels))
        if layout.kind == "efficientsam":
            return {layout.points: points[None, None], layout.labels: labels[None, None]}
        return {layout.points: points[None], layout.labels: labels[None]}

    def _placement(self, size: tuple[int, int]) -> Placement:
        stretched = self._image.preprocessing == "efficientsam" or PREPROCESSING[self._image.preprocessing].stretched
        return Placement(self._side, size, stretched)


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    available = onnxruntime.get_available_providers()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that wait for each other must not keep processors busy that others need: beside other work, an answer took
    # twice as long.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # its complaints about a file come as an exception, too
    try:
        return onnxruntime.InferenceSession(
            str(path),
            options,
            providers=[name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available],
        )
    except _LOADING as error:
        raise UserError(
            f"cannot be read as an ONNX model; it is truncated, damaged or of another kind ({first_line(error)})",
            where=str(path),
            fix="export or download it again",
        ) from error


def _side(image: EncoderLayout, prompts: DecoderLayout, files: OnnxFiles, encoder: onnxruntime.InferenceSession) -> int:
    """The side of the model's square in px.

    Raises:
        UserError: encoder and decoder do not belong together.
    """
    kinds = {"sam2": ("sam2",), "efficientsam": ("efficientsam",)}
    if prompts.kind not in kinds.get(image.preprocessing, ("sam", "edgesam")):
        raise UserError(
            f"this decoder is one of {prompts.kind}, and the encoder one of {image.preprocessing}",
            where=str(files.decoder),
            fix="give the encoder and the decoder of one model",
        )
    shapes = {node.name: node.shape for node in encoder.get_outputs()}
    given = shapes[image.outputs[0]][-1]
    if prompts.grid is not None and isinstance(given, int) and given != prompts.grid:
        raise UserError(
            f"this decoder takes embeddings of {prompts.grid} x {prompts.grid}, the encoder gives {given} x {given}",
            where=str(files.decoder),
            fix="give the encoder and the decoder of one model",
        )
    side = image.side or (prompts.grid and prompts.grid * _PATCH)
    if side is None:
        raise UserError("neither file says how large the model's images are", where=str(files.decoder))
    return side
