from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from open_clip import ClipLoss

from sono.training import recipes
from sono.training.step.losses import Captions, contrastive_loss

Tensors = tuple[torch.Tensor, ...]
Kind = Literal["sigmoid", "softmax"]
Positives = Literal["caption", "diagonal"]

REPEATED = [0, 1, 0, 2, 2, 2, 3, 4, 5, 6, 7, 8]
"""The text of each of twelve images, as templates make them: nine distinct ones."""


def inputs(images: int, texts: int, dtype: torch.dtype = torch.float64, width: int = 16) -> Tensors:
    generator = torch.Generator().manual_seed(0)
    image = F.normalize(torch.randn(images, width, generator=generator, dtype=torch.float64), dim=-1).to(dtype)
    text = F.normalize(torch.randn(texts, width, generator=generator, dtype=torch.float64), dim=-1).to(dtype)
    log_t, b = torch.tensor(math.log(10.0), dtype=dtype), torch.tensor(-3.0, dtype=dtype)
    return tuple(tensor.requires_grad_() for tensor in (image, text, log_t, b))


def loss_of(
    tensors: Tensors,
    ids: list[int],
    kind: Kind,
    positives: Positives = "caption",
    chunk: int = 5,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    image, text, log_t, b = tensors
    captions = Captions.of(torch.tensor(ids), len(text))
    settings = recipes.Loss(kind=kind, positives=positives, chunk=chunk, label_smoothing=label_smoothing)
    return contrastive_loss(image, text, captions, log_t, b, settings)


def sigmoid_formula(tensors: Tensors, ids: list[int], positives: Positives) -> torch.Tensor:
    """The formula of the paper, pair by pair."""
    image, text, log_t, b = tensors
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(ids)):
        for j in range(len(ids)):
            z = 1.0 if (i == j if positives == "diagonal" else ids[i] == ids[j]) else -1.0
            total = total + torch.log(1 / (1 + torch.exp(-z * (torch.exp(log_t) * (image[i] @ text[ids[j]]) + b))))
    return -total / len(ids)


def softmax_formula(tensors: Tensors, ids: list[int], positives: Positives) -> torch.Tensor:
    """The formula of the docstring, pair by pair."""
    image, text, log_t, b = tensors
    logits = torch.exp(log_t) * (image @ text[ids].T)
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(ids)):
        right = [p for p in range(len(ids)) if (p == i if positives == "diagonal" else ids[p] == ids[i])]
        for rows in (logits, logits.T):
            shares = torch.exp(rows[i]) / torch.exp(rows[i]).sum()
            total = total - sum(torch.log(shares[p]) for p in right) / len(right)
    return total / (2 * len(ids)) + 0 * b


@pytest.mark.parametrize("chunk", [1, 5, 12, 1000])
@pytest.mark.parametrize("ids", [list(range(12)), REPEATED], ids=["distinct", "repeated"])
@pytest.mark.parametrize("positives", ["caption", "diagonal"])
@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_value_and_every_gradient_equal_the_formula(
    kind: Kind, positives: Positives, ids: list[int], chunk: int
) -> None:
    formula = sigmoid_formula if kind == "sigmoid" else softmax_formula
    ours, theirs = inputs(12, max(ids) + 1), inputs(12, max(ids) + 1)
    loss, expected = 3 * loss_of(ours, ids, kind, positives, chunk), 3 * formula(theirs, ids, positives)
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_single_precision_agrees_with_double(kind: Kind) -> None:
    single, double = inputs(64, 20, torch.float32), inputs(64, 20)
    losses = [loss_of(tensors, [i % 20 for i in range(64)], kind, chunk=10) for tensors in (single, double)]
    for loss in losses:
        loss.backward()
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-6)
    for one, other in zip(single, double, strict=True):
        assert torch.allclose(one.grad.double(), other.grad, rtol=1e-4, atol=1e-6)


def test_equal_captions_are_negatives_only_if_the_diagonal_alone_is_positive() -> None:
    one = F.normalize(torch.ones(3, 4), dim=-1)
    zero = torch.tensor(0.0)
    losses = [
        loss_of((one, one[:2], zero, zero), [0, 1, 0], "sigmoid", positives).item()
        for positives in ("caption", "diagonal")
    ]
    # Every logit is 1. Of nine pairs five are positive by caption, three on the diagonal.
    right, wrong = math.log1p(math.exp(-1)), math.log1p(math.exp(1))
    assert losses == pytest.approx([(5 * right + 4 * wrong) / 3, (3 * right + 6 * wrong) / 3])


def test_without_equal_captions_the_softmax_loss_is_clips_own() -> None:
    tensors = inputs(8, 8)
    clips = ClipLoss()(tensors[0], tensors[1], tensors[2].exp())
    assert loss_of(tensors, list(range(8)), "softmax").item() == pytest.approx(clips.item(), rel=1e-12)


@pytest.mark.parametrize("chunk", [1, 5, 1000])
@pytest.mark.parametrize("ids", [list(range(12)), REPEATED], ids=["distinct", "repeated"])
def test_smoothed_labels_are_torchs_with_every_pair_its_own_class(ids: list[int], chunk: int) -> None:
    """The softmax loss of SonoCLIP's released code, value and every gradient."""
    ours, theirs = inputs(12, max(ids) + 1), inputs(12, max(ids) + 1)
    loss = 3 * loss_of(ours, ids, "softmax", chunk=chunk, label_smoothing=0.1)
    image, text, log_t, _ = theirs
    logits, own = log_t.exp() * image @ text[ids].T, torch.arange(12)
    sides = [F.cross_entropy(rows, own, label_smoothing=0.1) for rows in (logits, logits.T)]
    expected = 3 * (sides[0] + sides[1]) / 2
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    for one, other in zip(ours[:3], theirs[:3], strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-10, atol=1e-14)


def test_a_frozen_text_gets_no_gradient() -> None:
    image, text, log_t, b = inputs(12, 9)
    loss_of((image, text.detach(), log_t, b), REPEATED, "sigmoid").backward()
    expected = inputs(12, 9)
    loss_of(expected, REPEATED, "sigmoid").backward()
    assert text.grad is None
    assert torch.equal(image.grad, expected[0].grad)


def kept_for_backward(kind: Kind, batch: int, chunk: int, width: int = 64) -> int:
    """Bytes that the loss holds on to, each storage once."""
    storages: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    tensors = inputs(batch, batch, torch.float32, width)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss_of(tensors, list(range(batch)), kind, chunk=chunk).backward()
    return sum(storages.values())


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_memory_kept_for_backward_is_small_and_linear_in_the_batch(kind: Kind) -> None:
    kept = [kept_for_backward(kind, batch, chunk=256) for batch in (1024, 2048, 4096)]
    assert 0 < kept[2] <= 2 * 2**20  # one matrix of logits is 64 MiB
    assert kept == [kept[2] // 4, kept[2] // 2, kept[2]]


def test_a_certain_but_wrong_pair_has_a_finite_loss() -> None:
    feature = torch.tensor([[1.0]])
    for kind, cost in (("sigmoid", 500.0), ("softmax", 0.0)):
        tensors = (feature, -feature, torch.tensor(math.log(500.0)), torch.tensor(0.0))
        assert loss_of(tensors, [0], kind).item() == pytest.approx(cost)
    hard = (
        torch.tensor([[1.0], [-1.0]]),
        torch.tensor([[-1.0], [1.0]]),
        torch.tensor(math.log(500.0)),
        torch.tensor(0.0),
    )
    assert loss_of(hard, [0, 1], "softmax").item() == pytest.approx(1000.0)
