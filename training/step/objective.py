"""The loss of one step over the global batch and the gradient of every parameter, from each rank's share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from sono.training import recipes
from sono.training.model.mask_clip import MaskClip

from .distributed import Ranks
from .feature_cache import features_of, loss_and_gradients
from .global_texts import exchange, look_up
from .losses import Captions, contrastive_loss
from .parallel import Towers


@dataclass(frozen=True)
class Objective:
    """The contrastive loss of a model's features.

    Args:
        model: the one whose towers ``towers`` holds, and whose temperature and bias are learned.
        bank_KD: features of all captions by their number if the text tower is frozen, else None.
        accumulate: number of micro-batches in which a share is computed.
        autocast: a context for forward passes.
    """

    model: MaskClip
    towers: Towers
    bank_KD: torch.Tensor | None
    settings: recipes.Loss
    ranks: Ranks
    accumulate: int = 1
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext

    def add_gradients(
        self,
        x_N4HW: torch.Tensor,
        tokens_VL: torch.Tensor,
        ids_V: torch.Tensor,
        own_N: torch.Tensor,
        seed: Callable[[int], object] = lambda number: None,
    ) -> torch.Tensor:
        """The loss of the global batch, equal on all ranks; every parameter's ``grad`` becomes that of this loss.

        Under FSDP a rank has its shard of each gradient. All ranks call this together, with shares of the batch.

        Args:
            x_N4HW: images with masks.
            tokens_VL: of the distinct captions.
            ids_V: the captions' numbers, which mean the same on all ranks.
            own_N: the row of ``tokens_VL`` that belongs to each image.
            seed: see ``loss_and_gradients``.
        """
        bank_KD = self.bank_KD

        def loss(image_ND: torch.Tensor, text_VD: torch.Tensor | None) -> torch.Tensor:
            if text_VD is None:
                assert bank_KD is not None
                return self._compare(image_ND, *look_up(bank_KD, ids_V[own_N], self.ranks))
            return self._compare(image_ND, *exchange(text_VD, ids_V, own_N, self.ranks))

        return loss_and_gradients(
            self.towers,
            x_N4HW,
            None if bank_KD is not None else tokens_VL,
            loss,
            accumulate=self.accumulate,
            seed=seed,
            autocast=self.autocast,
        )

    @torch.no_grad()
    def loss(
        self, x_N4HW: torch.Tensor, tokens_VL: torch.Tensor, ids_V: torch.Tensor, own_N: torch.Tensor
    ) -> torch.Tensor:
        """The loss of the global batch, without gradients; its captions need not be in the bank.

        The arguments are those of ``add_gradients``, and all ranks call this together, too.
        """
        image_ND, text_VD = features_of(
            self.towers, x_N4HW, tokens_VL, accumulate=self.accumulate, autocast=self.autocast
        )
        assert text_VD is not None
        return self._compare(image_ND, *exchange(text_VD, ids_V, own_N, self.ranks))

    def _compare(self, image_ND: torch.Tensor, text_UD: torch.Tensor, captions: Captions) -> torch.Tensor:
        clip = self.model.clip
        return contrastive_loss(
            image_ND, text_UD, captions, clip.logit_scale, clip.logit_bias, self.settings, self.ranks
        )
