"""Color Doppler: flow painted over the echoes."""

from __future__ import annotations

import numpy as np

from sono.curation.phantom.scenes.shapes import Shape

from .outlines import outline_mask
from .panels import Panel
from .screen import Screen
from .sector import Box, Bytes, Pose, Sector

_FRAME_COLOR = (240, 240, 240)


def paint_doppler(screen: Screen, panel: Panel, pose: Pose, grey: Bytes, random: np.random.Generator) -> Box:
    """Paint flow towards the probe red and away from it blue, within the returned box around the vessels."""
    flows = [shape for shape in panel.scene.shapes if shape.flow is not None]
    left, top, width, height = panel.sector.box
    around = flows or panel.scene.shapes  # without a visible vessel, colour is on and shows nothing
    points = np.concatenate([pose.px(shape.outline) for shape in around])
    x0, y0 = np.maximum(points.min(axis=0) - 12, 0).astype(int)
    x1, y1 = np.minimum(points.max(axis=0) + 12, [width - 1, height - 1]).astype(int)
    rgb = screen.tinted(grey)
    if rgb.ndim == 2:
        rgb = np.repeat(grey[:, :, None], 3, axis=2)
    noise = random.random((height // 4 + 1, width // 4 + 1))
    noise = np.repeat(np.repeat(noise, 4, axis=0), 4, axis=1)[:height, :width]
    for shape in flows:
        mask = outline_mask([shape.outline], pose, panel.sector) & (noise > 0.12)
        mask[:y0], mask[y1:], mask[:, :x0], mask[:, x1:] = False, False, False, False
        speed = _towards_probe(shape, panel.sector, pose)
        level = np.clip(90 + 150 * abs(speed) * (0.6 + 0.5 * noise[mask]), 0, 255)
        rgb[mask] = 0
        rgb[mask, 0 if speed > 0 else 2] = np.rint(level).astype(np.uint8)
        rgb[mask, 1] = np.rint(np.clip(level - 140, 0, 255)).astype(np.uint8)
    screen.paste(rgb, panel.sector.box, panel.sector.inside())
    box = (left + int(x0), top + int(y0), int(x1 - x0) + 1, int(y1 - y0) + 1)
    screen.frame(box, _FRAME_COLOR)
    screen.mark("flow_frame", np.array([[box[0] + 1, box[1] + 1], [box[0] + box[2] - 2, box[1] + box[3] - 2]]))
    return box


def _towards_probe(shape: Shape, sector: Sector, pose: Pose) -> float:
    """Speed of the flow along the beam through its middle, positive towards the probe."""
    assert shape.flow is not None
    tip = np.array([[0.0, 0.0], shape.flow])
    ends = pose.px(tip)
    direction = (ends[1] - ends[0]) / pose.px_per_mm
    middle = pose.px(shape.outline).mean(axis=0)
    beam = middle - np.array([sector.apex[0] - sector.box[0], sector.apex[1] - sector.box[1]])
    if sector.parallel:
        beam = np.array([0.0, 1.0])
    speed = -float(direction @ beam) / float(np.hypot(beam[0], beam[1]))
    return speed if abs(speed) > 0.15 else 0.15
