"""A model's answer for each frame: the classes that fit best, and the probability of the first."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sono.training.arrays import Booleans, Floats, Integers


@dataclass(frozen=True)
class Answers:
    """For every frame the classes with the best scores, best first, [frames, up to 5], and the first one's probability.

    The probability is a softmax over all classes of the cosines times the learned temperature. ``top1`` and ``top5``
    say whether the true class is the first, or among the first five; with five classes or fewer it always is, and
    ``top5`` is None.
    """

    best: Integers
    probability: Floats
    temperature: float
    top1: Booleans
    top5: Booleans | None

    @classmethod
    def of(cls, cosines_NC: torch.Tensor, truth: Integers, temperature: float) -> Answers:
        best = cosines_NC.topk(min(5, cosines_NC.shape[1]), dim=1).indices.numpy()
        probability = (cosines_NC.double() * temperature).softmax(dim=1).amax(dim=1).numpy()
        top5 = (best == truth[:, None]).any(axis=1) if cosines_NC.shape[1] > 5 else None
        return cls(best, probability, temperature, best[:, 0] == truth, top5)
