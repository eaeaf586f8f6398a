"""The model over all ranks: copies of it (DDP) or shards (FSDP2), and gradients that are sums and not means.

The loss is that of the global batch on every rank, so parts of its gradient add up. DDP and FSDP are made for a loss
per rank and take the mean; both are told not to.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
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
    """Both towers over all ranks. Temperature and bias stay outside: the loss gives their complete gradients."""

    def __init__(self, model: MaskClip, ranks: Ranks, strategy: Literal["ddp", "fsdp"]) -> None:
        super().__init__()
        self.module: nn.Module = _BothTowers(model)
        scalars = [model.clip.logit_scale, model.clip.logit_bias]
        towers_learn = any(
            parameter.requires_grad
            for parameter in model.parameters()
            if all(parameter is not scalar for scalar in scalars)
        )
        if ranks.size == 1 or not towers_learn:
            return
        wrap = _shard if strategy == "fsdp" else _copy
        self.module = wrap(self.module, scalars, ranks)

    def forward(self, x_B4HW: torch.Tensor, tokens_UL: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """L2-normalised features of images, and of texts if there are any; all ranks call it equally often."""
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


class _BothTowers(nn.Module):
    def __init__(self, model: MaskClip) -> None:
        super().__init__()
        self.model = model

    def forward(self, x_B4HW: torch.Tensor, tokens_UL: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self.model.encode_image(x_B4HW), None if tokens_UL is None else self.model.encode_text(tokens_UL)


def compile_blocks(model: MaskClip, backend: str = "inductor") -> None:
    """``torch.compile`` every transformer block: blocks of a kind compile once, and it works with DDP and FSDP."""
    for block in transformer_blocks(model):
        block.compile(backend=backend)


def transformer_blocks(model: nn.Module) -> list[nn.Module]:
    """The members of every list of two or more modules of one type: so open_clip and timm hold their towers' blocks."""
    return [
        block
        for members in model.modules()
        if isinstance(members, (nn.ModuleList, nn.Sequential)) and len(members) > 1
        if len({type(member) for member in members}) == 1 and any(True for _ in members[0].parameters())
        for block in members
        if len(list(block.children())) > 1
    ]


def clip_gradients(parameters: list[nn.Parameter], limit: float) -> float:
    """Scale gradients to a norm of at most ``limit``, over all parameters and ranks; returns the norm before."""
    complete = [parameter for parameter in parameters if not isinstance(parameter, DTensor)]
    sharded = [parameter for parameter in parameters if isinstance(parameter, DTensor)]
    groups = [group for group in (complete, sharded) if group]
    norms = [_norm_of_gradients(group) for group in groups]
    norm = norms[0] if len(norms) == 1 else torch.stack([norm.to(norms[0].device) for norm in norms]).norm()
    for group in groups:
        nn.utils.clip_grads_with_norm_(group, limit, norm)
    return float(norm)


def _norm_of_gradients(parameters: Sequence[nn.Parameter]) -> torch.Tensor:
    norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def _copy(module: nn.Module, outside: list[nn.Parameter], ranks: Ranks) -> nn.Module:
    learns_before = [scalar.requires_grad for scalar in outside]
    for scalar in outside:
        scalar.requires_grad_(False)  # DDP takes in whatever learns at this moment
    copies = DistributedDataParallel(
        module,
        device_ids=[ranks.device] if ranks.device.type == "cuda" else None,
        gradient_as_bucket_view=True,
    )
    for scalar, learns in zip(outside, learns_before, strict=True):
        scalar.requires_grad_(learns)
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
