"""The exact gradient of a large batch in little memory (Gao et al. 2021).

"Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup": first the features of all micro-batches, then
the loss's gradient for the features, then each micro-batch's forward pass once more, with that gradient sent back
through it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from .parallel import Towers

_Features = tuple[torch.Tensor, torch.Tensor | None]


def loss_and_gradients(
    towers: Towers,
    x_N4HW: torch.Tensor,
    tokens_VL: torch.Tensor | None,
    loss: Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor],
    *,
    accumulate: int = 1,
    seed: Callable[[int], object] = lambda number: None,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> torch.Tensor:
    """The loss of the global batch; its gradients are added to those of the parameters.

    Args:
        x_N4HW: this rank's images with their masks.
        tokens_VL: its texts, or None if the text tower is frozen.
        loss: of the features of both, in the parameters' precision.
        accumulate: number of micro-batches, at most that of images.
        seed: called with the micro-batch's number before each of its forward passes, so that both draw the same.
        autocast: a context for forward passes.
    """
    parts = _cut_into_parts(x_N4HW, tokens_VL, accumulate)

    def forward(number: int) -> _Features:
        seed(number)
        with autocast():
            return parts[number].features(towers)

    if accumulate == 1:
        with towers.pass_of(last=True):
            features = forward(0)
            value, gradients = _at_features(features, loss)
            _backward(features, gradients)
        return value
    features = features_of(towers, x_N4HW, tokens_VL, accumulate=accumulate, seed=seed, autocast=autocast)
    value, gradients = _at_features(features, loss)
    for number, part in enumerate(parts):
        with towers.pass_of(last=number == accumulate - 1):
            _backward(forward(number), part.share_of(gradients))
    return value


@torch.no_grad()
def features_of(
    towers: Towers,
    x_N4HW: torch.Tensor,
    tokens_VL: torch.Tensor | None,
    *,
    accumulate: int,
    seed: Callable[[int], object] = lambda number: None,
    autocast: Callable[[], AbstractContextManager[object]],
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The features of images and texts as ``loss_and_gradients`` computes them, without gradients."""
    found = []
    for number, part in enumerate(_cut_into_parts(x_N4HW, tokens_VL, accumulate)):
        seed(number)
        with autocast():
            found.append(part.features(towers))
    return _concatenated(found)


@dataclass(frozen=True)
class _MicroBatch:
    """Some of this rank's images and texts. Under FSDP all ranks pass through a tower together, so each needs a text.

    A rank with fewer texts than micro-batches encodes its first one again and drops the result.
    """

    x_B4HW: torch.Tensor
    tokens_WL: torch.Tensor | None
    images: slice
    texts: slice

    @classmethod
    def of(cls, number: int, count: int, x_N4HW: torch.Tensor, tokens_VL: torch.Tensor | None) -> _MicroBatch:
        images = _cut(len(x_N4HW), number, count)
        if tokens_VL is None:
            return cls(x_N4HW[images], None, images, slice(0, 0))
        texts = _cut(len(tokens_VL), number, count)
        return cls(x_N4HW[images], tokens_VL[texts] if texts.stop > texts.start else tokens_VL[:1], images, texts)

    def features(self, towers: Towers) -> _Features:
        """The features of this micro-batch, without a text that is encoded only to take part."""
        image_BD, text_WD = towers(self.x_B4HW, self.tokens_WL)
        return image_BD, None if text_WD is None else text_WD[: self.texts.stop - self.texts.start]

    def share_of(self, gradients: _Features) -> _Features:
        """This micro-batch's rows."""
        image_ND, text_VD = gradients
        return image_ND[self.images], None if text_VD is None else text_VD[self.texts]


def _cut_into_parts(x_N4HW: torch.Tensor, tokens_VL: torch.Tensor | None, count: int) -> list[_MicroBatch]:
    assert 1 <= count <= len(x_N4HW)
    return [_MicroBatch.of(number, count, x_N4HW, tokens_VL) for number in range(count)]


def _cut(length: int, number: int, count: int) -> slice:
    return slice(length * number // count, length * (number + 1) // count)


def _concatenated(features: Sequence[_Features]) -> _Features:
    texts = [text_WD for _, text_WD in features if text_WD is not None]
    return torch.cat([image_BD for image_BD, _ in features]), torch.cat(texts) if texts else None


def _at_features(
    features: _Features, loss: Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]
) -> tuple[torch.Tensor, _Features]:
    """The loss and its gradients for the features; those of temperature and bias go straight to the parameters."""
    image_ND, text_VD = (None if feature is None else feature.detach().requires_grad_() for feature in features)
    assert image_ND is not None
    value = loss(image_ND, text_VD)
    value.backward()  # type: ignore[no-untyped-call]
    assert image_ND.grad is not None
    return value.detach(), (image_ND.grad, None if text_VD is None else text_VD.grad)


def _backward(features: _Features, gradients: _Features) -> None:
    """Send gradients back through whichever tower learns."""
    pairs = [
        (feature, gradient)
        for feature, gradient in zip(features, gradients, strict=True)
        if feature is not None and feature.requires_grad
    ]
    if pairs:
        torch.autograd.backward([feature for feature, _ in pairs], [gradient for _, gradient in pairs])
