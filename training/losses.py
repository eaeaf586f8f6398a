"""The losses: sigmoid (Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training", algorithm 1) and softmax."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F


def sigmoid_loss(
    image_ND: torch.Tensor,
    text_MD: torch.Tensor,
    image_ids_N: torch.Tensor,
    text_ids_M: torch.Tensor,
    log_t: torch.Tensor,
    b: torch.Tensor,
    *,
    chunk: int = 1024,
) -> torch.Tensor:
    """Every image against every text, as independent yes-or-no questions.

    ``-1/N sum_ij log sigmoid(z_ij (exp(log_t) image_i . text_j + b))``, z = 1 where the ids agree and -1 elsewhere.
    Ids say what is positive: those of the captions make equal captions positive, a running number only the diagonal.
    ``chunk`` images are computed at a time and again in the backward pass, so what is kept for it grows with N + M,
    not with N x M. The images may be one rank's share of a batch whose texts are all here: the mean of the ranks'
    losses is then the loss of the batch.

    Args:
        image_ND: L2-normalised features of N images.
        text_MD: L2-normalised features of M texts.
        image_ids_N: integers.
        text_ids_M: integers.
        log_t: logarithm of the temperature, a scalar that is learned.
        b: bias, a scalar that is learned.
        chunk: number of images computed at a time.

    Returns:
        A scalar; gradients flow to both features, ``log_t`` and ``b``.
    """
    assert image_ND.shape[1] == text_MD.shape[1]
    assert len(image_ids_N) == len(image_ND)
    assert len(text_ids_M) == len(text_MD)
    loss: torch.Tensor = _SigmoidLoss.apply(image_ND, text_MD, image_ids_N, text_ids_M, log_t, b, chunk)
    return loss


def softmax_loss(
    image_ND: torch.Tensor,
    text_ND: torch.Tensor,
    ids_N: torch.Tensor,
    log_t: torch.Tensor,
) -> torch.Tensor:
    """Which text of the batch belongs to an image, and which image to a text: CLIP's loss, with several right answers.

    ``-1/2N sum_i mean_p(i) [log softmax_j(l_ij)[p] + log softmax_j(l_ji)[p]]``, l = exp(log_t) image . text, over the
    pairs p(i) of the same id. Where all ids differ it is CLIP's own (Radford et al. 2021); with positives by label that
    of Yang et al. 2022, "Unified Contrastive Learning in Image-Text-Label Space".

    Args:
        image_ND: L2-normalised features of N images.
        text_ND: those of the text of each.
        ids_N: integers; pairs of the same id are positive.
        log_t: logarithm of the temperature, a scalar that is learned.
    """
    assert image_ND.shape == text_ND.shape
    assert len(ids_N) == len(image_ND)
    logits_NN = log_t.exp() * (image_ND @ text_ND.T)
    positive_NN = (ids_N[:, None] == ids_N[None, :]).to(logits_NN.dtype)
    target_NN = positive_NN / positive_NN.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits_NN, target_NN) + F.cross_entropy(logits_NN.T, target_NN)) / 2


def pair_ids(captions_B: torch.Tensor, positives: str) -> torch.Tensor:
    """Ids of a batch's pairs, of shape [batch]: ``caption`` keeps the captions' own, ``diagonal`` numbers the pairs."""
    return captions_B if positives == "caption" else torch.arange(len(captions_B), device=captions_B.device)


class _SigmoidLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        image_ND: torch.Tensor,
        text_MD: torch.Tensor,
        image_ids_N: torch.Tensor,
        text_ids_M: torch.Tensor,
        log_t: torch.Tensor,
        b: torch.Tensor,
        chunk: int,
    ) -> torch.Tensor:
        ctx.save_for_backward(image_ND, text_MD, image_ids_N, text_ids_M, log_t, b)
        ctx.chunk = chunk
        total = image_ND.new_zeros(())
        for start in range(0, len(image_ND), chunk):
            rows = slice(start, start + chunk)
            sign_CM = _signs(image_ids_N[rows], text_ids_M, image_ND)
            total -= F.logsigmoid(sign_CM * (log_t.exp() * (image_ND[rows] @ text_MD.T) + b)).sum()
        return total / len(image_ND)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        image_ND, text_MD, image_ids_N, text_ids_M, log_t, b = ctx.saved_tensors
        t = log_t.exp()
        scale = grads[0] / len(image_ND)
        grad_image_ND, grad_text_MD = torch.empty_like(image_ND), torch.zeros_like(text_MD)
        grad_log_t, grad_b = torch.zeros_like(log_t), torch.zeros_like(b)
        for start in range(0, len(image_ND), ctx.chunk):
            rows = slice(start, start + ctx.chunk)
            sign_CM = _signs(image_ids_N[rows], text_ids_M, image_ND)
            cosine_CM = image_ND[rows] @ text_MD.T
            # d(-log sigmoid(z l))/dl = -z sigmoid(-z l)
            grad_logit_CM = -scale * sign_CM * torch.sigmoid(-sign_CM * (t * cosine_CM + b))
            grad_image_ND[rows] = t * (grad_logit_CM @ text_MD)
            grad_text_MD += t * (grad_logit_CM.T @ image_ND[rows])
            grad_log_t += t * (grad_logit_CM * cosine_CM).sum()
            grad_b += grad_logit_CM.sum()
        return grad_image_ND, grad_text_MD, None, None, grad_log_t, grad_b, None


def _signs(image_ids_C: torch.Tensor, text_ids_M: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """1 for positive pairs and -1 for the others, of shape [images, texts]."""
    return (image_ids_C[:, None] == text_ids_M[None, :]).to(like.dtype) * 2 - 1
