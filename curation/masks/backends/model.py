"""Proposes masks with a segmenter that was fitted to accepted ones; it needs no prompt but a structure's name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sono.curation.images.pixels import Pixels
from sono.curation.masks.fit.letterbox import Letterbox
from sono.curation.masks.fit.model_file import Segmenter, load_segmenter
from sono.curation.masks.fit.report.validation import confidence

from .protocol import Candidate, Embedding, Prompts

_LOGITS = "logits"


@dataclass(frozen=True)
class FittedModel:
    """The backend ``model``. It finds structures alone: boxes, points and earlier masks are ignored."""

    segmenter: Segmenter

    name = "model"

    @classmethod
    def load(cls, checkpoint: Path) -> FittedModel:
        """The backend of the folder or the file that ``masks fit`` wrote.

        Raises:
            UserError: there is no such file, or it cannot be used.
        """
        return cls(load_segmenter(checkpoint))

    @property
    def model_sha256(self) -> str:
        return self.segmenter.sha256

    @property
    def embedding_id(self) -> str:
        return f"model/{self.segmenter.sha256}"

    @property
    def structures(self) -> tuple[str, ...]:
        """What it can find, as ids of the vocabulary."""
        return tuple(structure.id for structure in self.segmenter.description.structures)

    def embed(self, pixels: Pixels) -> Embedding:
        """The network's logits of every structure, which all proposals for the frame share."""
        height, width = pixels.shape[:2]
        return Embedding((height, width), {_LOGITS: self.segmenter.logits(pixels).astype(np.float16)})

    def propose(self, embedding: Embedding, prompts: Prompts) -> Sequence[Candidate]:
        """One candidate: the pixels that are more likely than not in the structure.

        There is none where no pixel is, nor for a structure that is not among ``structures``.

        Its score is the mean calibrated confidence of its pixels. ``expected_dice`` is what Dice would be on average
        if the confidences were right (Borges et al. 2024, soft Dice confidence).
        """
        channel = self.segmenter.channel(prompts.structure)
        if channel is None:
            return []
        box = Letterbox(*embedding.size, self.segmenter.description.size_px)
        logits = box.unfit(embedding.arrays[_LOGITS][channel].astype(np.float32)).astype(np.float64)
        mask = logits > 0
        if not mask.any():
            return []
        temperature = self.segmenter.description.structures[channel].temperature
        score = confidence(logits[mask], temperature)
        everywhere = confidence(logits.reshape(-1), temperature) * mask.size
        number = np.count_nonzero(mask)
        dice = 2 * score * number / (everywhere + number)
        return [Candidate(mask, score, {"confidence": score, "expected_dice": float(dice)})]
