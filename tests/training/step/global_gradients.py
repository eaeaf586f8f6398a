"""A program for several ranks: loss and gradients of one batch that the ranks share, for many ways to compute it.

Usage: global_gradients.py FILE; the first rank writes them there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import open_clip
import torch
from torch.distributed.tensor import DTensor

from sono.training import recipes
from sono.training.model.mask_clip import MaskClip
from sono.training.step.distributed import Ranks, joined
from sono.training.step.global_texts import encode_bank
from sono.training.step.objective import Objective
from sono.training.step.optimizer import build_optimizer
from sono.training.step.parallel import Towers, clip_gradients

BATCH = 12
CAPTIONS = torch.tensor([6, 1, 6, 3, 1, 1, 0, 6, 4, 3, 5, 5])  # numbers in a bank of 8; 2 and 7 are not in the batch
LIMIT = 0.01
SMALL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "layers": 2, "width": 32, "head_width": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 50, "layers": 2, "width": 16, "heads": 2},
}

Found = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Case:
    kind: str
    positives: str
    text_learns: bool
    accumulate: int
    strategy: str = "ddp"


def cases(strategies: tuple[str, ...]) -> Iterator[Case]:
    losses = [("sigmoid", "caption"), ("sigmoid", "diagonal"), ("softmax", "caption")]
    for (kind, positives), text_learns, accumulate, strategy in product(losses, (False, True), (1, 3), strategies):
        yield Case(kind, positives, text_learns, accumulate, strategy)


def make_model(text_learns: bool, **vision: float) -> MaskClip:
    torch.manual_seed(0)
    settings = {**SMALL, "vision_cfg": {**SMALL["vision_cfg"], **vision}}
    model = MaskClip(open_clip.CLIP(**settings, init_logit_scale=1.5, init_logit_bias=-2.0)).double()
    with torch.no_grad():
        model.clip.visual.conv1.conv_mask.weight.normal_()  # at zero it would hide what comes after it
    build_optimizer(
        model.clip, recipes.Optimizer(lr_stem=1, lr_vision=1, lr_text=text_learns, lr_logit=1, weight_decay=0)
    )
    return model


def make_batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Images with masks, and the tokens of all captions of the bank."""
    random = torch.Generator().manual_seed(1)
    x_B4HW = torch.randn(BATCH, 4, 16, 16, generator=random, dtype=torch.float64)
    return x_B4HW, torch.randint(1, 50, (8, 8), generator=random)


def compute(case: Case, ranks: Ranks) -> Found:
    """Loss, every gradient, and the gradients' norm, each as if there were one process."""
    model = make_model(case.text_learns)
    x_B4HW, bank_KL = make_batch()
    bank_KD = None
    if not case.text_learns:
        bank_KD = encode_bank(lambda rows: model.encode_text(bank_KL[list(rows)]), range(8), ranks)
    towers = Towers(model, ranks, case.strategy)
    settings = recipes.Loss(kind=case.kind, positives=case.positives, chunk=2)
    objective = Objective(model, towers, bank_KD, settings, ranks, case.accumulate)
    mine = slice(ranks.rank * BATCH // ranks.size, (ranks.rank + 1) * BATCH // ranks.size)
    ids_V, own_N = CAPTIONS[mine].unique(return_inverse=True)
    loss = objective.add_gradients(x_B4HW[mine], bank_KL[ids_V], ids_V, own_N)
    learn = {name: one for name, one in model.clip.named_parameters() if one.requires_grad}
    found = {name: full(one.grad) for name, one in learn.items()}
    found |= {"loss": loss, "norm": torch.tensor(clip_gradients(list(learn.values()), LIMIT), dtype=torch.float64)}
    clipped = [full(one.grad) for one in learn.values()]
    return found | {"clipped": torch.stack([one.norm() for one in clipped]).norm()}


def full(tensor: torch.Tensor | None) -> torch.Tensor:
    assert tensor is not None
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).clone()


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined() as ranks:
        found = {case: compute(case, ranks) for case in cases(("ddp", "fsdp"))}
        equal = ranks.collect({case: values["loss"].item() for case, values in found.items()})
        assert all(one == equal[0] for one in equal), "the ranks disagree about the loss"
        if ranks.is_first:
            torch.save({tuple(vars(case).values()): values for case, values in found.items()}, Path(sys.argv[1]))
