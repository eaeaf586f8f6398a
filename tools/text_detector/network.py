"""The networks that find text and marks: shapes are written as in `x_BCHW`; a cell is 4 x 4 px."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

VIEWS = 3
"""Of a channel: itself, and its bright and its dark strokes."""

CHANNELS, KINDS = 2 * VIEWS, 2


Network = TypeVar("Network", bound=nn.Module)


class TextNetwork(nn.Module):
    """From what ``network_input`` gives, bytes, to two logits for each cell: of text, and of marks of measurements.

    Strokes are seen at half of the resolution, letters at a quarter, words at an eighth and a sixteenth; what is seen
    there is added to the finer levels again. Convolutions are separable where there are many channels: about 800
    multiplications a pixel.
    """

    def __init__(self, half: int = 16, quarter: int = 32, eighth: int = 48, sixteenth: int = 64) -> None:
        super().__init__()
        self.letters = nn.Sequential(
            *_convolution(CHANNELS, half, 3, 2),
            nn.ReLU(),
            *_convolution(half, quarter, 3, 2),
            nn.ReLU(),
            _Residual(quarter, 3),
        )
        self.words = nn.Sequential(_down(quarter, eighth), _Residual(eighth, 5), _Residual(eighth, 5))
        self.lines = nn.Sequential(
            _down(eighth, sixteenth),
            _Residual(sixteenth, 5),
            _Residual(sixteenth, 5),
            *_convolution(sixteenth, eighth, 1),
        )
        self.enlarge = nn.Upsample(scale_factor=2)
        self.words_in_lines = nn.Sequential(_Residual(eighth, 3), *_convolution(eighth, quarter, 1))
        self.text = nn.Sequential(_Residual(quarter, 3), nn.Conv2d(quarter, KINDS, 1))

    def forward(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        letters = self.letters(image_BCHW)
        words = self.words(letters)
        words = self.words_in_lines(words + self.enlarge(self.lines(words)))
        logits: torch.Tensor = self.text(letters + self.enlarge(words))
        return logits


class MarkNetwork(nn.Module):
    """From windows of what ``network_input`` gives, bytes, to a logit for each cell: that it shows a mark.

    Arms of crosses are one pixel wide, so the first convolution sees every pixel; convolutions are whole up to the
    cells. About 6,500 multiplications a pixel: eight times those of ``TextNetwork``, in few windows.
    """

    def __init__(self, whole: int = 12, half: int = 24, quarter: int = 48, eighth: int = 64) -> None:
        super().__init__()
        self.strokes = nn.Sequential(
            *_convolution(CHANNELS, whole, 3),
            nn.ReLU(),
            *_convolution(whole, half, 3, 2),
            nn.ReLU(),
            _WholeResidual(half),
            *_convolution(half, quarter, 3, 2),
            nn.ReLU(),
            _WholeResidual(quarter),
            _Residual(quarter, 5),
        )
        self.around = nn.Sequential(
            _down(quarter, eighth),
            _Residual(eighth, 5),
            _Residual(eighth, 5),
            *_convolution(eighth, quarter, 1),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
        )
        self.marks = nn.Sequential(_WholeResidual(quarter), nn.Conv2d(quarter, 1, 1))

    def forward(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        strokes = self.strokes(image_BCHW)
        logits: torch.Tensor = self.marks(strokes + self.around(strokes))
        return logits


def without_normalization(network: Network) -> Network:
    """The same function in evaluation mode, with every batch normalization folded into the convolution before it."""
    network.eval()
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential):
            _fold(module)
    return network


def for_grey(network: Network) -> Network:
    """The same function of frames without colour, whose largest and smallest channel are one: of three views, not six.

    ``network`` is one of ``without_normalization``.
    """
    grey = copy.deepcopy(network)
    first = next(module for module in grey.modules() if isinstance(module, nn.Conv2d))
    first.in_channels = VIEWS
    first.weight = nn.Parameter(first.weight[:, :VIEWS] + first.weight[:, VIEWS:])
    return grey


class _Residual(nn.Module):
    """What a separable convolution adds to its input."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.added = nn.Sequential(
            *_convolution(channels, channels, kernel, groups=channels), *_convolution(channels, channels, 1), nn.ReLU()
        )

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x_BCHW + self.added(x_BCHW)
        return out


class _WholeResidual(nn.Module):
    """What a convolution of all channels adds to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.added = nn.Sequential(*_convolution(channels, channels, 3), nn.ReLU())

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x_BCHW + self.added(x_BCHW)
        return out


def _down(channels: int, wider: int) -> nn.Sequential:
    return nn.Sequential(
        *_convolution(channels, channels, 3, 2, groups=channels), *_convolution(channels, wider, 1), nn.ReLU()
    )


def _convolution(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups), nn.BatchNorm2d(out)


def _fold(layers: nn.Sequential) -> None:
    for index, (first, second) in enumerate(zip(list(layers), list(layers)[1:], strict=False)):
        if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
            layers[index] = nn.utils.fusion.fuse_conv_bn_eval(first, second)
            layers[index + 1] = nn.Identity()
