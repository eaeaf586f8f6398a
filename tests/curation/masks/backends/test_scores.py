"""Scores of candidates: what a model says about its own mask may be anything."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sono.curation.masks.backends.protocol import Candidate, Prompts
from sono.curation.masks.backends.scores import for_json, from_logits, rank


def candidate(predicted_iou: float | None) -> Candidate:
    found = from_logits(np.full((4, 4), 3, np.float32), predicted_iou, Prompts("head"))
    assert found is not None
    return found


@pytest.mark.parametrize("predicted_iou", [float("nan"), float("inf"), -float("inf"), None])
def test_what_is_not_a_number_counts_as_none(predicted_iou: float | None) -> None:
    found = candidate(predicted_iou)
    assert (found.score, found.scores) == (1.0, {"stability": 1.0, "fit": 1.0})
    assert [each.scores.get("predicted_iou") for each in rank([found, candidate(0.5)])] == [0.5, None]


def test_scores_are_numbers_that_json_has() -> None:
    found = for_json({"fit": np.float32(0.123456), "confidence": 1.0, "expected_dice": float("nan")})
    assert json.loads(json.dumps(found, allow_nan=False)) == {"fit": 0.1235, "confidence": 1.0}
