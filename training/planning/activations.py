"""Memory of a forward and a backward pass, traced on tensors without memory.

Everything runs in torch's ``FakeTensorMode``: shapes and types are real, values and memory are not, so a laptop traces
a model of any size. The uncompiled model with fused attention is traced; ``torch.compile`` keeps less.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sono.training import recipes
from sono.training.model.build import build_model
from sono.training.model.mask_clip import MaskClip
from sono.training.step.optimizer import freeze


@dataclass(frozen=True)
class PassMemory:
    """Bytes of one forward and backward pass, without weights and optimizer states.

    ``saved`` is what the forward pass keeps for the backward (activations, and autocast's copies of the weights);
    ``peak`` is the most alive at once: input, activations, temporary tensors, and the gradients that exist by then.
    """

    saved: int
    peak: int


def trace_image_tower(recipe: recipes.Recipe, images: int, *, on_cuda: bool = True) -> PassMemory:
    """Trace the image tower of a recipe for ``images`` at a time, frozen and recomputed as the recipe says.

    ``on_cuda``: with what CUDA's autocast does differently from the CPU's.
    """
    return _trace(
        recipe, on_cuda, lambda model: model.encode_image(torch.empty(images, 4, model.image_size, model.image_size))
    )


def trace_text_tower(recipe: recipes.Recipe, captions: int, *, on_cuda: bool = True) -> PassMemory:
    """Trace the text tower of a recipe for ``captions`` at a time; all zero if it is frozen."""
    if not recipe.optimizer.lr_text:
        return PassMemory(saved=0, peak=0)
    return _trace(
        recipe,
        on_cuda,
        lambda model: model.encode_text(torch.zeros(captions, model.context_length, dtype=torch.long)),
    )


def _trace(recipe: recipes.Recipe, on_cuda: bool, encode: Callable[[MaskClip], torch.Tensor]) -> PassMemory:
    is_bf16 = recipe.train.precision == "bf16"
    with FakeTensorMode():
        model = _fake_model(recipe)
        if on_cuda and is_bf16:
            _compute_norms_as_on_cuda(model)
        saved = SavedTensors(model)
        with LiveTensors() as live:
            with saved.counted(), torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
                features_BD = encode(model)
            if features_BD.requires_grad:
                features_BD.float().sum().backward()  # type: ignore[no-untyped-call]
    return PassMemory(saved=saved.bytes, peak=live.peak)


def _fake_model(recipe: recipes.Recipe) -> MaskClip:
    model = build_model(recipe.model, recipe.loss)
    freeze(model.clip, recipe.optimizer)
    return model.train()


def _compute_norms_as_on_cuda(model: MaskClip) -> None:
    """CUDA's autocast computes norms in fp32 and keeps that copy of their input; the CPU's, traced here, does not."""
    for norm in model.modules():
        if isinstance(norm, nn.LayerNorm):
            in_fp32 = _in_fp32(norm.forward, casts_back=type(norm) is not nn.LayerNorm)
            norm.forward = in_fp32  # type: ignore[method-assign,assignment]


def _in_fp32(
    forward: Callable[[torch.Tensor], torch.Tensor], casts_back: bool
) -> Callable[[torch.Tensor], torch.Tensor]:
    def wrapped(x: torch.Tensor) -> torch.Tensor:
        y = forward(x.float())
        return y.to(x.dtype) if casts_back else y  # as open_clip's own norms do

    return wrapped


class SavedTensors:
    """Counts the bytes that autograd keeps for the backward pass: each storage once, and no parameters."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.bytes = 0
        self._storages = _Storages()
        for parameter in model.parameters():
            self._storages.add(parameter.untyped_storage())

    def counted(self) -> torch.autograd.graph.saved_tensors_hooks:
        """A context in which saved tensors are counted."""
        return torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor:
        if self._storages.add(tensor.untyped_storage()):
            self.bytes += tensor.untyped_storage().nbytes()
        return tensor


class LiveTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all storages that are allocated inside it and still alive, and the most there ever were."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._storages = _Storages(self._forget)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {tensor.untyped_storage()._cdata for tensor in _tensors((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):  # an output that shares the storage of an input takes no new memory
            storage = tensor.untyped_storage()
            if storage._cdata not in given and self._storages.add(storage):
                self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        return result

    def _forget(self, size: int) -> None:
        self.now -= size


class _Storages:
    """The storages seen so far that are still alive. None is kept alive: that would change what is counted."""

    def __init__(self, forgotten: Callable[[int], None] = lambda size: None) -> None:
        self._references: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self._forgotten = forgotten

    def add(self, storage: torch.UntypedStorage) -> bool:
        """Remember a storage; returns whether it is new."""
        key, size = storage._cdata, storage.nbytes()
        if key in self._references:
            return False

        def forget(_: weakref.ref[torch.UntypedStorage]) -> None:
            del self._references[key]
            self._forgotten(size)

        self._references[key] = weakref.ref(storage, forget)
        return True


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
