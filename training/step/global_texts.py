"""The distinct texts of the global batch, on every rank.

A frozen text tower encodes every caption of the split before the first step, so only the captions' numbers travel.
Otherwise each rank encodes the texts of its share, and their features travel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from .distributed import ALONE, Ranks
from .losses import Captions

_AT_ONCE = 256  # fixed, so that the bank's last bits do not depend on the number of ranks


@torch.no_grad()
def encode_bank(
    encode: Callable[[Sequence[str]], torch.Tensor], texts: Sequence[str], ranks: Ranks = ALONE
) -> torch.Tensor:
    """Features of all ``texts``, [texts, dim], on every rank; each rank encodes some of them."""
    starts = list(range(0, len(texts), _AT_ONCE))
    turns = math.ceil(len(starts) / ranks.size)
    own_starts = starts[ranks.rank * turns : (ranks.rank + 1) * turns]
    empty = encode(texts[:1])[:0]  # of a rank without a turn
    return ranks.gather(torch.cat([empty, *(encode(texts[start : start + _AT_ONCE]) for start in own_starts)]))


def look_up(bank_KD: torch.Tensor, ids_N: torch.Tensor, ranks: Ranks = ALONE) -> tuple[torch.Tensor, Captions]:
    """The texts of the global batch from a bank of all texts; ``ids_N`` are the bank's rows of this rank's pairs."""
    ids_U, counts_U = torch.unique(ranks.gather(ids_N), return_counts=True)
    return bank_KD[ids_U], Captions(torch.searchsorted(ids_U, ids_N), counts_U)


def exchange(
    text_VD: torch.Tensor, ids_V: torch.Tensor, own_N: torch.Tensor, ranks: Ranks = ALONE
) -> tuple[torch.Tensor, Captions]:
    """The texts of the global batch from those that each rank encoded, with gradients back to them.

    A text that several ranks encoded is taken from the first of them: it is the same text.

    Args:
        text_VD: features of the distinct texts of this rank's share.
        ids_V: their numbers, which mean the same on all ranks.
        own_N: the row of ``text_VD`` that belongs to each of this rank's pairs.
    """
    gathered_GD: torch.Tensor = _Gather.apply(text_VD, ranks)
    ids_G = ranks.gather(ids_V)
    ids_U, of_G = torch.unique(ids_G, return_inverse=True)
    first_U = torch.full_like(ids_U, len(ids_G)).scatter_reduce_(
        0, of_G, torch.arange(len(ids_G), device=ids_G.device), "amin"
    )
    counts_U = torch.searchsorted(ids_U, ranks.gather(ids_V[own_N])).bincount(minlength=len(ids_U))
    return gathered_GD[first_U], Captions(torch.searchsorted(ids_U, ids_V[own_N]), counts_U)


class _Gather(torch.autograd.Function):
    """All ranks' rows; backward, each rank gets the sum of all ranks' gradients for its own."""

    @staticmethod
    def forward(ctx: Any, part_VD: torch.Tensor, ranks: Ranks) -> torch.Tensor:
        lengths = ranks.lengths(len(part_VD))
        before = sum(lengths[: ranks.rank])
        ctx.own, ctx.ranks = slice(before, before + len(part_VD)), ranks
        return ranks.gather(part_VD) if ranks.size > 1 else part_VD.clone()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return ctx.ranks.sum(grads[0])[ctx.own], None
