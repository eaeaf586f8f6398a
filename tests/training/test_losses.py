from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from open_clip import ClipLoss

from sono.training.losses import pair_ids, sigmoid_loss, softmax_loss

Tensors = tuple[torch.Tensor, ...]


def inputs(images: int, texts: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    image = F.normalize(torch.randn(images, 16, generator=generator, dtype=torch.float64), dim=-1).to(dtype)
    text = F.normalize(torch.randn(texts, 16, generator=generator, dtype=torch.float64), dim=-1).to(dtype)
    log_t, b = torch.tensor(math.log(10.0), dtype=dtype), torch.tensor(-3.0, dtype=dtype)
    return tuple(tensor.requires_grad_() for tensor in (image, text, log_t, b))


def reference(tensors: Tensors, same: list[list[bool]]) -> torch.Tensor:
    """The formula of the paper, pair by pair."""
    image, text, log_t, b = tensors
    total = torch.zeros((), dtype=torch.float64)
    for i, x in enumerate(image):
        for j, y in enumerate(text):
            z = 1.0 if same[i][j] else -1.0
            total = total + torch.log(1 / (1 + torch.exp(-z * (torch.exp(log_t) * (x @ y) + b))))
    return -total / len(image)


@pytest.mark.parametrize("chunk", [1, 5, 12, 1000])
@pytest.mark.parametrize("captions", [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [0, 1, 0, 2, 2, 2, 3, 4, 5, 6, 7, 8]])
def test_value_and_every_gradient_equal_the_formula(chunk: int, captions: list[int]) -> None:
    ours, theirs = inputs(12, 12), inputs(12, 12)
    ids = torch.tensor(captions)
    loss = 3 * sigmoid_loss(*ours[:2], ids, ids, *ours[2:], chunk=chunk)
    expected = 3 * reference(theirs, [[a == b for b in captions] for a in captions])
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-10, atol=1e-14)


def test_single_precision_agrees_with_the_formula() -> None:
    single, double = inputs(64, 64, torch.float32), inputs(64, 64)
    ids = torch.arange(64) % 20
    losses = [sigmoid_loss(*tensors[:2], ids, ids, *tensors[2:], chunk=10) for tensors in (single, double)]
    for loss in losses:
        loss.backward()
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-6)
    for one, other in zip(single, double, strict=True):
        assert torch.allclose(one.grad.double(), other.grad, rtol=1e-4, atol=1e-6)


def test_the_mean_over_ranks_is_the_loss_of_the_batch_and_so_are_the_gradients() -> None:
    whole, shared = inputs(8, 8), inputs(8, 8)
    ids = torch.tensor([0, 1, 2, 0, 3, 4, 1, 5])
    sigmoid_loss(*whole[:2], ids, ids, *whole[2:]).backward()
    image, text, log_t, b = shared
    ranks = [sigmoid_loss(image[rows], text, ids[rows], ids, log_t, b) for rows in (slice(0, 4), slice(4, 8))]
    (sum(ranks) / 2).backward()
    for one, other in zip(whole, shared, strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-10, atol=1e-14)


def test_equal_captions_are_positives_unless_only_the_diagonal_is() -> None:
    captions = torch.tensor([4, 7, 4])
    assert pair_ids(captions, "caption").tolist() == [4, 7, 4]
    assert pair_ids(captions, "diagonal").tolist() == [0, 1, 2]
    image = F.normalize(torch.ones(3, 4), dim=-1)
    text = image[[0, 1, 0]]
    zero = torch.tensor(0.0)
    losses = [
        sigmoid_loss(image, text, pair_ids(captions, kind), pair_ids(captions, kind), zero, zero).item()
        for kind in ("caption", "diagonal")
    ]
    # Every logit is 1. Of nine pairs five are positive by caption, three on the diagonal.
    right, wrong = math.log1p(math.exp(-1)), math.log1p(math.exp(1))
    assert losses == pytest.approx([(5 * right + 4 * wrong) / 3, (3 * right + 6 * wrong) / 3])


def kept_for_backward(batch: int) -> int:
    """Bytes that the loss holds on to, each storage once."""
    storages: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    image, text, log_t, b = inputs(batch, batch, torch.float32)
    ids = torch.arange(batch)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        sigmoid_loss(image, text, ids, ids, log_t, b, chunk=64).backward()
    return sum(storages.values())


def test_what_is_kept_for_backward_is_linear_in_the_batch() -> None:
    small, large = kept_for_backward(256), kept_for_backward(2048)
    assert small > 0
    assert large <= 8.1 * small
    assert large < 2048 * 2048  # a quarter of one matrix of logits


def test_a_certain_and_wrong_pair_costs_its_logit_and_no_infinity() -> None:
    feature = torch.tensor([[1.0]])
    loss = sigmoid_loss(feature, -feature, *torch.zeros(2, 1), torch.tensor(math.log(500.0)), torch.tensor(0.0))
    assert loss.item() == pytest.approx(500.0)


def softmax_reference(image: torch.Tensor, text: torch.Tensor, log_t: torch.Tensor, ids: list[int]) -> torch.Tensor:
    """The formula of the docstring, pair by pair."""
    logits = torch.exp(log_t) * (image @ text.T)
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(ids)):
        positives = [p for p in range(len(ids)) if ids[p] == ids[i]]
        for rows in (logits, logits.T):
            shares = torch.exp(rows[i]) / torch.exp(rows[i]).sum()
            total = total - sum(torch.log(shares[p]) for p in positives) / len(positives)
    return total / (2 * len(ids))


@pytest.mark.parametrize("ids", [[0, 1, 2, 3, 4, 5], [0, 1, 0, 2, 2, 2]])
def test_the_softmax_loss_and_its_gradients_equal_the_formula(ids: list[int]) -> None:
    ours, theirs = inputs(6, 6)[:3], inputs(6, 6)[:3]
    loss, expected = softmax_loss(ours[0], ours[1], torch.tensor(ids), ours[2]), softmax_reference(*theirs, ids)
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-10, atol=1e-14)


def test_without_equal_captions_the_softmax_loss_is_clips_own() -> None:
    image, text, log_t, _ = inputs(8, 8)
    clips = ClipLoss()(image, text, log_t.exp())
    assert softmax_loss(image, text, torch.arange(8), log_t).item() == pytest.approx(clips.item(), rel=1e-12)
