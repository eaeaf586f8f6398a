"""Which candidate becomes the proposal: one that is stable, fits its prompts, and that other prompts lead to, too."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from sono.curation.cleaning.sectors.geometry import iou
from sono.curation.masks.backends.protocol import Backend, Candidate, Embedding, Prompts
from sono.curation.masks.backends.scores import rank
from sono.manifests import masks
from sono.manifests.masks import Mask

_FEWEST_PX = 16
_SPECK = 0.02  # of a mask's pixels: smaller pieces of it are noise


def choose(
    backend: Backend, embedding: Embedding, prompts: Sequence[Prompts], shown: Mask | None
) -> tuple[Candidate, Prompts] | None:
    """The best candidate, with the prompts that it answers; None if there is none worth a look.

    Its ``scores`` have ``agreement`` as well: the mean IoU with the most similar answer to each of the other prompts.

    Args:
        prompts: for the same structure.
        shown: the pixels of the frame that show ultrasound: nothing else is proposed. None if all do.
    """
    answers = [
        [candidate for each in backend.propose(embedding, given) if (candidate := cleaned(each, shown)) is not None]
        for given in prompts
    ]
    rated = []
    for number, (given, candidates) in enumerate(zip(prompts, answers, strict=True)):
        others = [each for other, each in enumerate(answers) if other != number]
        for candidate in candidates:
            agreement = float(np.mean([_nearest(candidate.mask, other) for other in others])) if others else 1.0
            scores = {**candidate.scores, **({"agreement": agreement} if others else {})}
            rated.append((Candidate(candidate.mask, agreement * candidate.score, scores), given))
    if not rated:
        return None
    best = rank(candidate for candidate, _ in rated)[0]
    return next((candidate, given) for candidate, given in rated if candidate is best)


def _nearest(mask: Mask, others: Sequence[Candidate]) -> float:
    return max((iou(mask, other.mask) for other in others), default=0.0)


def cleaned(candidate: Candidate, shown: Mask | None) -> Candidate | None:
    """Within the ultrasound and without specks; None if hardly anything is left."""
    mask = candidate.mask if shown is None else candidate.mask & shown
    x, y, width, height = masks.bbox(mask)
    window = (slice(y, y + height), slice(x, x + width))
    if width == 0:
        return None
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask[window].astype(np.uint8), connectivity=8)
    if count > 2:
        areas = stats[:, cv2.CC_STAT_AREA]
        kept = areas >= _SPECK * areas[1:].sum()
        kept[0] = False
        mask = np.zeros_like(mask)
        mask[window] = kept[labels]
    if np.count_nonzero(mask) < _FEWEST_PX:
        return None
    return Candidate(np.asarray(mask, np.bool_), candidate.score, candidate.scores)
