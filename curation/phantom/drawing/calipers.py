"""Marks of a measurement: crosses at the ends of a distance, the line between them, dots along an outline."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from .screen import Color, Screen
from .sector import Floats


@dataclass(frozen=True)
class CaliperStyle:
    """How a scanner draws calipers.

    Attributes:
        shape: of the ends: ``plus`` or ``x``.
        arm: from the middle of an end to its tip, in px; ``width`` of its lines.
        line: between the ends: ``dots``, ``dashes``, ``solid`` or ``none``.
        gap: from dot to dot or dash to dash, in px.
        dot: side of a dot of an outline, in px.
    """

    color: Color
    shape: str = "plus"
    arm: int = 6
    width: int = 1
    line: str = "dots"
    gap: int = 8
    dot: int = 2


def draw_caliper(screen: Screen, points: Floats, style: CaliperStyle) -> None:
    """Draw a measured distance between two points, [2, 2] in px of the screen."""
    for end in points:
        _draw_end(screen, end, style)
    _draw_line(screen, points, style)


def draw_outline(screen: Screen, outline: Floats, style: CaliperStyle) -> None:
    """Draw dots along a measured outline, [points, 2] in px of the screen."""
    screen.dots(outline, style.color, style.dot)
    screen.mark("outline", outline)


def evenly_spaced(outline: Floats, gap: float) -> Floats:
    """Points along a closed outline, ``gap`` px apart."""
    closed = np.concatenate([outline, outline[:1]])
    travelled = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    places = np.arange(0, travelled[-1], gap)
    return np.stack([np.interp(places, travelled, closed[:, side]) for side in (0, 1)], axis=1)


def principal_extremes(points: Floats, *, across: bool) -> Floats:
    """Ends of the points' long principal axis, or of the width halfway along it: shape [2, 2]."""
    middle = points.mean(axis=0)
    x, y = (points - middle).T
    angle = 0.5 * math.atan2(2 * float(np.mean(x * y)), float(np.mean(x * x) - np.mean(y * y)))
    axis = np.array([math.cos(angle), math.sin(angle)])
    along = (points - middle) @ axis
    if across:  # so that a bowed shape does not measure wider
        off = np.abs(along)
        near = off < 0.1 * off.max()
        points = points[near if near.any() else np.argsort(off, kind="stable")[:2]]  # of a coarse outline, the nearest
        middle, axis = points.mean(axis=0), np.array([-axis[1], axis[0]])
        along = (points - middle) @ axis
    return np.stack([middle + along.min() * axis, middle + along.max() * axis])


def _draw_end(screen: Screen, end: Floats, style: CaliperStyle) -> None:
    reach = style.arm if style.shape == "plus" else 0.7 * style.arm
    arms = [(1.0, 0.0), (0.0, 1.0)] if style.shape == "plus" else [(1.0, 1.0), (1.0, -1.0)]
    for arm in arms:
        tip = reach * np.array(arm)
        screen.line(np.stack([end - tip, end + tip]), style.color, style.width)
    screen.mark("cross", np.stack([end - reach, end + reach]))


def _draw_line(screen: Screen, points: Floats, style: CaliperStyle) -> None:
    if style.line == "none":
        return
    steps = max(int(np.hypot(*(points[1] - points[0])) / style.gap), 2)
    places = np.linspace(points[0], points[1], steps)
    if style.line == "dots":
        screen.dots(places, style.color, max(style.width, 1))
    elif style.line == "solid":
        screen.line(points, style.color, style.width)
    else:
        for start, end in itertools.pairwise(places):
            screen.line(np.stack([start, start + 0.5 * (end - start)]), style.color, style.width)
    screen.mark("caliper_line", points)
