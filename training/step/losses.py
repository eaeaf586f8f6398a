"""The sigmoid and softmax losses over the global batch.

Sigmoid: Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training". Softmax: Radford et al. 2021, "Learning
Transferable Visual Models From Natural Language Supervision".

Captions made from templates repeat within a batch. A text that occurs k times is one column of weight k: N images
against U distinct texts, with the same value and gradients as N against N. Each rank computes the rows of its own
images, ``chunk`` of them at a time, and keeps their gradients instead of anything of the size images x texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from sono.training import recipes

from .distributed import ALONE, Ranks


@dataclass(frozen=True)
class Captions:
    """Which of the batch's U distinct texts belongs to each of this rank's N images, and how often each text occurs.

    ``own_N`` holds rows of the text features, ``counts_U`` numbers of pairs in the entire batch, over all ranks.
    """

    own_N: torch.Tensor
    counts_U: torch.Tensor

    @classmethod
    def of(cls, ids_N: torch.Tensor, texts: int) -> Captions:
        """For a single rank: ``ids_N`` are rows of the ``texts`` text features."""
        return cls(ids_N, torch.bincount(ids_N, minlength=texts))


def contrastive_loss(
    image_ND: torch.Tensor,
    text_UD: torch.Tensor,
    captions: Captions,
    log_t: torch.Tensor,
    b: torch.Tensor,
    settings: recipes.Loss,
    ranks: Ranks = ALONE,
) -> torch.Tensor:
    """The loss of the global batch of B pairs, equal on all ranks, with l = exp(log_t) image . text.

    *sigmoid*: ``-1/B sum_ij log sigmoid(z_ij (l_ij + b))`` over images i and pairs' texts j. ``positives`` says where
    z = 1: ``caption`` wherever the captions are equal, ``diagonal`` only for a pair's own text; -1 elsewhere.

    *softmax*: ``-1/2B sum_i mean_p(i) [log softmax_j(l_ij)[p] + log softmax_j(l_ji)[p]]`` over the pairs p(i) of equal
    captions (Yang et al. 2022, "Unified Contrastive Learning in Image-Text-Label Space"). Equal captions have equal
    features, so this has the same value as CLIP's own loss with the diagonal alone: ``positives`` changes nothing. It
    has no bias. With ``label_smoothing`` e, the target of a choice is 1 - e for its right answers and e for all B pairs
    alike (Szegedy et al. 2016, "Rethinking the Inception Architecture").

    Args:
        image_ND: L2-normalised features of this rank's images.
        text_UD: those of the distinct texts of the global batch, the same on all ranks.
        captions: which text belongs to which image.
        log_t: logarithm of the temperature, a scalar that is learned.
        b: bias, a scalar that is learned.
        settings: kind, positives and chunk of the recipe's loss.
        ranks: all of them call this together.

    Returns:
        A scalar. Its gradients: for ``image_ND`` those of the global loss; for ``log_t`` and ``b`` likewise, already
        summed over ranks; for ``text_UD`` this rank's part, to be summed over ranks.
    """
    assert image_ND.shape[1] == text_UD.shape[1]
    assert len(captions.own_N) == len(image_ND)
    assert len(captions.counts_U) == len(text_UD)
    loss: torch.Tensor = _ContrastiveLoss.apply(image_ND, text_UD, captions, log_t, b, settings, ranks)
    return loss


class _ContrastiveLoss(torch.autograd.Function):
    """Gradients are computed together with the value, so that every matrix of logits lives for one chunk only."""

    @staticmethod
    def forward(
        ctx: Any,
        image_ND: torch.Tensor,
        text_UD: torch.Tensor,
        captions: Captions,
        log_t: torch.Tensor,
        b: torch.Tensor,
        settings: recipes.Loss,
        ranks: Ranks,
    ) -> torch.Tensor:
        t, counts_U = log_t.exp(), captions.counts_U.to(image_ND.dtype)
        kind: _Sigmoid | _Softmax
        if settings.kind == "sigmoid":
            kind = _Sigmoid(b, counts_U, settings.positives == "caption")
        else:
            kind = _Softmax.over_ranks(image_ND, text_UD, captions.own_N, counts_U, t, settings, ranks)
        total = _sum_over_chunks(kind, image_ND, text_UD, captions.own_N, t, settings.chunk, ctx.needs_input_grad[1])
        scale = captions.counts_U.sum().to(image_ND.dtype).reciprocal()
        loss, grad_log_t, grad_b = (ranks.sum(torch.stack([total.loss, total.log_t, total.b])) * scale).unbind()
        ctx.save_for_backward(*(None if grad is None else grad.mul_(scale) for grad in (total.image_ND, total.text_UD)))
        ctx.of_scalars = grad_log_t, grad_b
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        image_ND, text_UD = ctx.saved_tensors
        grad_log_t, grad_b = ctx.of_scalars
        (grad,) = grads
        grad_text_UD = None if text_UD is None else grad * text_UD
        return grad * image_ND, grad_text_UD, None, grad * grad_log_t, grad * grad_b, None, None


class _Sums(NamedTuple):
    """This rank's loss, not yet divided by the batch, and its gradients; ``text_UD`` is None for frozen texts."""

    loss: torch.Tensor
    image_ND: torch.Tensor
    text_UD: torch.Tensor | None
    log_t: torch.Tensor
    b: torch.Tensor


def _sum_over_chunks(
    kind: _Sigmoid | _Softmax,
    image_ND: torch.Tensor,
    text_UD: torch.Tensor,
    own_N: torch.Tensor,
    t: torch.Tensor,
    chunk: int,
    texts_learn: bool,
) -> _Sums:
    loss, grad_log_t, grad_b = kind.constant(), image_ND.new_zeros(()), image_ND.new_zeros(())
    grad_image_ND = torch.empty_like(image_ND)
    grad_text_UD = torch.zeros_like(text_UD) if texts_learn else None
    for start in range(0, len(image_ND), chunk):
        rows = slice(start, start + chunk)
        cosine_CU = image_ND[rows] @ text_UD.T
        chunk_loss, grad_logit_CU = kind.loss_and_gradient(t * cosine_CU, own_N[rows, None], rows)
        loss += chunk_loss
        grad_image_ND[rows] = t * (grad_logit_CU @ text_UD)
        if grad_text_UD is not None:
            grad_text_UD += t * (grad_logit_CU.T @ image_ND[rows])
        grad_log_t += t * (grad_logit_CU * cosine_CU).sum()
        if kind.has_bias:
            grad_b += grad_logit_CU.sum()
    return _Sums(loss, grad_image_ND, grad_text_UD, grad_log_t, grad_b)


class _Sigmoid(NamedTuple):
    """Every pair of image and text is a decision of its own."""

    b: torch.Tensor
    counts_U: torch.Tensor
    equal_captions_are_positive: bool
    has_bias: bool = True

    def constant(self) -> torch.Tensor:
        """The part of the loss that belongs to no chunk."""
        return self.counts_U.new_zeros(())

    def loss_and_gradient(
        self, logit_CU: torch.Tensor, own_C1: torch.Tensor, rows: slice
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of some images' rows, and its gradient for their logits."""
        logit_CU, counts_U = logit_CU + self.b, self.counts_U
        own_logit_C1 = logit_CU.gather(1, own_C1)
        positives_C1 = counts_U[own_C1] if self.equal_captions_are_positive else torch.ones_like(own_logit_C1)
        negatives_CU = counts_U.repeat(len(own_C1), 1).scatter_(1, own_C1, counts_U[own_C1] - positives_C1)
        loss = (positives_C1 * F.logsigmoid(own_logit_C1)).sum() + (negatives_CU * F.logsigmoid(-logit_CU)).sum()
        # d(-log sigmoid(l))/dl = -sigmoid(-l); d(-log sigmoid(-l))/dl = sigmoid(l)
        grad_logit_CU = negatives_CU.mul_(torch.sigmoid(logit_CU))
        own_grad_C1 = grad_logit_CU.gather(1, own_C1) - positives_C1 * torch.sigmoid(-own_logit_C1)
        return -loss, grad_logit_CU.scatter_(1, own_C1, own_grad_C1)


class _Softmax(NamedTuple):
    """Every image chooses among the texts, and every text among the images.

    ``by_image_N`` and ``by_text_U`` are logarithms of both choices' denominators: of each image over all texts, of each
    text over all ranks' images.
    """

    own_N: torch.Tensor
    counts_U: torch.Tensor
    by_image_N: torch.Tensor
    by_text_U: torch.Tensor
    smoothing: float
    has_bias: bool = False

    @classmethod
    def over_ranks(
        cls,
        image_ND: torch.Tensor,
        text_UD: torch.Tensor,
        own_N: torch.Tensor,
        counts_U: torch.Tensor,
        t: torch.Tensor,
        settings: recipes.Loss,
        ranks: Ranks,
    ) -> _Softmax:
        """Compute the denominators, a chunk of images at a time; all ranks call it together."""
        by_image = []
        by_text_U = image_ND.new_full((len(text_UD),), -torch.inf)
        for part_CD in torch.split(image_ND, settings.chunk):
            logit_CU = t * (part_CD @ text_UD.T)
            by_image.append((logit_CU + counts_U.log()).logsumexp(dim=1))
            by_text_U = torch.logaddexp(by_text_U, logit_CU.logsumexp(dim=0))
        largest_U = ranks.max(by_text_U)
        by_text_U = largest_U + ranks.sum((by_text_U - largest_U).exp()).log()
        return cls(own_N, counts_U, torch.cat(by_image), by_text_U, settings.label_smoothing)

    def constant(self) -> torch.Tensor:
        """The part of the loss that belongs to no chunk."""
        return (self.by_image_N + self.by_text_U[self.own_N]).sum() / 2

    def loss_and_gradient(
        self, logit_CU: torch.Tensor, own_C1: torch.Tensor, rows: slice
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of some images' rows, and its gradient for their logits."""
        target = 1 - self.smoothing
        loss = target * logit_CU.gather(1, own_C1).sum()
        shares_CU = (logit_CU - self.by_image_N[rows, None]).exp() + (logit_CU - self.by_text_U).exp()
        grad_logit_CU = shares_CU.mul_(self.counts_U / 2)
        if self.smoothing:
            target_U = self.smoothing * self.counts_U / self.counts_U.sum()
            loss += (logit_CU * target_U).sum()
            grad_logit_CU -= target_U
        return -loss, grad_logit_CU.scatter_(1, own_C1, grad_logit_CU.gather(1, own_C1) - target)
