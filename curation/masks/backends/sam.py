"""SAM by the package ``segment-anything``, with any of its checkpoints; on a GPU if there is one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sono.curation.images.pixels import Pixels
from sono.manifests.errors import UserError, import_extra

from .encoder_input import CHOICES, PREPROCESSING, Placement, encoder_input
from .files import model_sha256
from .prompt_points import box_corners
from .protocol import Candidate, Embedding, Prompts
from .scores import from_logits, rank


class SamBackend:
    """Candidates are all masks of the decoder: the one for clear prompts, and the three for ambiguous ones.

    Args:
        preprocessing: of ``encoder_input.CHOICES``; MedSAM's checkpoints have the shapes of vit_b.

    Raises:
        UserError: the package is missing, or the file is not such a checkpoint.
    """

    name = "sam"

    def __init__(self, checkpoint: Path, preprocessing: str = "sam") -> None:
        torch = import_extra("torch", "sam")
        import_extra("torchvision", "sam")  # which the package imports
        import_extra("segment_anything", "sam")
        from .sam_checkpoint import load_sam

        if preprocessing not in CHOICES:
            raise UserError(f"--preprocessing {preprocessing} is not one of {', '.join(CHOICES)}")
        self.model_sha256 = model_sha256(checkpoint)
        self.embedding_id = f"{self.model_sha256}/{preprocessing}"
        self._preprocessing = PREPROCESSING[preprocessing]
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = load_sam(checkpoint).to(self._device)
        with torch.inference_mode():
            self._positions = self._model.prompt_encoder.get_dense_pe()

    def embed(self, pixels: Pixels) -> Embedding:
        """The features of the encoder as float16, whether they go through a cache or not."""
        import torch

        image = encoder_input(pixels, self._model.image_encoder.img_size, self._preprocessing)
        with torch.inference_mode():
            features = self._model.image_encoder(torch.from_numpy(image)[None].to(self._device))
        return Embedding((pixels.shape[0], pixels.shape[1]), {"features": features.half().cpu().numpy()})

    def propose(self, embedding: Embedding, prompts: Prompts) -> Sequence[Candidate]:
        """The masks that the prompts may mean, the best first."""
        if not prompts.has_place:
            return []
        import torch

        side = self._model.image_encoder.img_size
        placement = Placement(side, embedding.size, self._preprocessing.stretched)
        with torch.inference_mode():
            features = torch.from_numpy(np.asarray(embedding.arrays["features"], np.float32)).to(self._device)
            sparse, dense = self._encode(prompts, placement)
            logits, predicted_iou = self._model.mask_decoder.predict_masks(features, self._positions, sparse, dense)
        found = (
            from_logits(placement.out_of(each), float(score), prompts, self._model.mask_threshold)
            for each, score in zip(logits[0].float().cpu().numpy(), predicted_iou[0].float().cpu().numpy(), strict=True)
        )
        return rank(candidate for candidate in found if candidate is not None)

    def _encode(self, prompts: Prompts, placement: Placement) -> Any:
        """The prompts as the decoder's sparse and dense embeddings."""
        import torch

        def batch(values: npt.NDArray[Any]) -> torch.Tensor:
            return torch.from_numpy(values)[None].to(self._device)

        encoder = self._model.prompt_encoder
        corners = box_corners(prompts)
        return encoder(
            points=(batch(placement.into(prompts.points)), batch(prompts.labels)) if len(prompts.labels) else None,
            boxes=batch(placement.into(corners).reshape(4)) if corners is not None else None,
            masks=batch(placement.mask_into(prompts.mask, encoder.mask_input_size[0])[None])
            if prompts.mask is not None
            else None,
        )
