"""The model over all ranks: copies of it (DDP) or shards (FSDP2), and gradients that are sums and not means.

The loss is that of the global batch on every rank, so parts of its gradient add up. DDP and FSDP are made for losses of
single ranks and take the mean; both are told not to.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from sono.training.model.mask_clip import MaskClip

from .distributed import Ranks


class Towers(nn.Module):
    """Both towers over all ranks. Temperature and bias stay outside: their gradients come whole from the loss."""

    def __init__(self, model: MaskClip, ranks: Ranks, strategy: Literal["ddp", "fsdp"]) -> None:
        super().__init__()
        self.module: nn.Module = _Features(model)
        scalars = [model.clip.logit_scale, model.clip.logit_bias]
        learns = any(one.requires_grad for one in model.parameters() if all(one is not scalar for scalar in scalars))
        if ranks.size == 1 or not learns:
            return
        wrap = _shard if strategy == "fsdp" else _copy
        self.module = wrap(self.module, scalars, ranks)

    def forward(self, x_B4HW: torch.Tensor, tokens_UL: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """L2-normalised features of images, and of texts where there are any; all ranks call it equally often."""
        features: tuple[torch.Tensor, torch.Tensor | None] = self.module(x_B4HW, tokens_UL)
        return features

    @contextlib.contextmanager
    def pass_of(self, *, last: bool) -> Iterator[None]:
        """Around a forward and backward pass: only the ``last`` of a step sums the gradients over the ranks."""
        if isinstance(self.module, DistributedDataParallel):
            with contextlib.nullcontext() if last else self.module.no_sync():
                yield
            return
        if isinstance(self.module, FSDPModule):
            self.module.set_requires_gradient_sync(last)
        yield


class _Features(nn.Module):
    def __init__(self, model: MaskClip) -> None:
        super().__init__()
        self.model = model

    def forward(self, x_B4HW: torch.Tensor, tokens_UL: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self.model.encode_image(x_B4HW), None if tokens_UL is None else self.model.encode_text(tokens_UL)


def compile_blocks(model: MaskClip, backend: str = "inductor") -> None:
    """``torch.compile`` for every transformer block: once for all blocks alike, and it fits into DDP and FSDP."""
    for block in transformer_blocks(model):
        block.compile(backend=backend)


def transformer_blocks(model: nn.Module) -> list[nn.Module]:
    """The members of every list of two or more alike modules, as open_clip and timm hold their towers' blocks."""
    return [
        block
        for members in model.modules()
        if isinstance(members, (nn.ModuleList, nn.Sequential)) and len(members) > 1
        if len({type(member) for member in members}) == 1 and any(True for _ in members[0].parameters())
        for block in members
        if len(list(block.children())) > 1
    ]


def clip_gradients(parameters: list[nn.Parameter], limit: float) -> float:
    """Scale gradients so that their norm over all parameters and ranks is ``limit`` at most; what it was before."""
    whole = [one for one in parameters if not isinstance(one, DTensor)]
    shards = [one for one in parameters if isinstance(one, DTensor)]
    groups = [group for group in (whole, shards) if group]
    norms = [_full(nn.utils.get_total_norm([one.grad for one in group if one.grad is not None])) for group in groups]
    norm = norms[0] if len(norms) == 1 else torch.stack([one.to(norms[0].device) for one in norms]).norm()
    for group in groups:
        nn.utils.clip_grads_with_norm_(group, limit, norm)
    return float(norm)


def _full(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _copy(module: nn.Module, outside: list[nn.Parameter], ranks: Ranks) -> nn.Module:
    trained = [one.requires_grad for one in outside]
    for one in outside:
        one.requires_grad_(False)  # DDP takes in what learns at this moment
    copies = DistributedDataParallel(
        module,
        device_ids=[ranks.device] if ranks.device.type == "cuda" else None,
        gradient_as_bucket_view=True,
    )
    for one, learns in zip(outside, trained, strict=True):
        one.requires_grad_(learns)
    copies.register_comm_hook(None, _sum)
    return copies


def _sum(state, bucket):  # type: ignore[no-untyped-def] # DDP refuses annotations that are strings
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda done: done.value()[0])


def _shard(module: nn.Module, outside: list[nn.Parameter], ranks: Ranks) -> nn.Module:
    options: dict[str, Any] = {
        "mesh": init_device_mesh(ranks.device.type, (ranks.size,)),
        "ignored_params": set(outside),
    }
    for block in transformer_blocks(module):
        fully_shard(block, **options)
    fully_shard(module, **options)
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)
    return module
