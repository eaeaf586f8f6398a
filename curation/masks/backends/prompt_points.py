"""Prompts as the points that prompt encoders of SAM's family take."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sono.manifests import masks

from .protocol import Box, Prompts

Floats = npt.NDArray[np.float32]

_PADDING, _CORNERS = -1, (2, 3)  # labels of segment_anything/modeling/prompt_encoder.py


def box_of(prompts: Prompts) -> Box | None:
    """The box of the prompts; that of their mask if there is nothing but a mask."""
    if prompts.box is None and not prompts.labels.any() and prompts.mask is not None and prompts.mask.any():
        return masks.bbox(prompts.mask)
    return prompts.box


def box_corners(prompts: Prompts) -> Floats | None:
    """The places of the corner pixels of ``box_of``, shape [2, 2]."""
    box = box_of(prompts)
    if box is None:
        return None
    x, y, width, height = box
    return np.array([[x, y], [x + width - 1, y + height - 1]], np.float32)


def with_corners(prompts: Prompts, *, pad: bool) -> tuple[Floats, Floats]:
    """Points of the frame, shape [n, 2], and their labels, shape [n], with a box as two of them.

    Args:
        pad: in place of a box, add a point that is none, as ``PromptEncoder`` does.
    """
    points, labels, corners = prompts.points, prompts.labels.astype(np.float32), box_corners(prompts)
    if corners is not None:
        return np.concatenate([points, corners]), np.concatenate([labels, np.array(_CORNERS, np.float32)])
    return padded(points, labels, 1) if pad else (points, labels)


def padded(points: Floats, labels: Floats, count: int) -> tuple[Floats, Floats]:
    """With ``count`` more points that are none."""
    return (
        np.concatenate([points, np.zeros((count, 2), np.float32)]),
        np.concatenate([labels, np.full(count, _PADDING, np.float32)]),
    )
