"""M-mode: one beam's echoes over time."""

from __future__ import annotations

import math

import numpy as np

from .screen import Layout, Screen
from .sector import Box, Bytes, Sector

SWEEP_S = 4.0
"""Time that the trace covers."""

_HEART_HZ = 2.4

_TRACE_STARTS = {"below": 0.64, "beside": 0.52}
"""As shares of the layout's area: what lies before has the sector."""


def draw_trace(screen: Screen, layout: Layout, sector: Sector, grey: Bytes, random: np.random.Generator) -> Box:
    """Draw the echoes of the middle beam over time, moving with the heart, and return their box."""
    x, y, width, height = layout.area
    start = _TRACE_STARTS[layout.trace]
    if layout.trace == "beside":
        box = (x + int(start * width), y, width - int(start * width), sector.box[1] + sector.box[3] - y)
    else:
        box = (x, y + int(start * height), width, height - int(start * height))
    line = grey[:, min(int(sector.apex[0]) - sector.box[0], grey.shape[1] - 1)].astype(np.float64)
    time = np.arange(box[2]) / box[2] * SWEEP_S
    depth = np.linspace(0, 1, box[3])[:, None]
    beat = 0.025 * np.sin(2 * math.pi * _HEART_HZ * time)[None, :] * np.exp(-(((depth - 0.5) / 0.22) ** 2))
    rows = np.clip((depth + beat) * (len(line) - 1), 0, len(line) - 1).astype(np.int64)
    trace = np.clip(line[rows] * random.uniform(0.75, 1.25, (box[3], box[2])), 0, 255)
    screen.paste(np.rint(trace).astype(np.uint8), box)
    return box
