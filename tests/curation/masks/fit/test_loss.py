"""What is not known of a frame neither adds to the loss nor moves the network."""

from __future__ import annotations

import pytest
import torch

from sono.curation.masks.fit.data.annotation import ABSENT, PRESENT, UNKNOWN
from sono.curation.masks.fit.loss import segmentation_loss


def logits() -> torch.Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)


def test_unknown_structures_get_no_gradient() -> None:
    known = torch.tensor([[PRESENT, ABSENT, UNKNOWN], [UNKNOWN, PRESENT, ABSENT]])
    values = logits()
    segmentation_loss(values, torch.zeros(2, 3, 8, 8), known).backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    moved = values.grad.abs().sum(dim=(2, 3)) > 0
    assert moved.tolist() == (known != UNKNOWN).tolist()


def test_nothing_known_is_no_loss() -> None:
    loss = segmentation_loss(logits(), torch.zeros(2, 3, 8, 8), torch.full((2, 3), UNKNOWN))
    assert float(loss.detach()) == 0


def test_the_right_answer_costs_nothing_and_the_wrong_one_much() -> None:
    truth = torch.zeros(1, 1, 8, 8)
    truth[..., 2:6, 2:6] = 1
    known = torch.tensor([[PRESENT]])
    right = segmentation_loss((truth - 0.5) * 40, truth, known)
    wrong = segmentation_loss((0.5 - truth) * 40, truth, known)
    assert float(right) == pytest.approx(0, abs=1e-3)
    assert float(wrong) > 5
