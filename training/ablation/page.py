"""Figure and page of an ablation, from the content of its ``ablation.json``."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sono.manifests.pages import render

from .design import LOSSES, Cell

WIDTH, HEIGHT, LEFT, BOTTOM = 760, 300, 48, 34
"""The figure's size, in its own units."""

SERIES = (
    ("off", "none", "trained and seen without masks", "#8a94a3"),
    ("on", "none", "trained with masks, seen without", "#c98a1b"),
    ("on", "region", "trained and seen with masks", "#2b6cb0"),
)
"""The bars of every loss: masks in training, masks in scoring, label, colour."""


def figure(content: Mapping[str, Any]) -> str:
    """The figure as SVG: a bar is the mean over seeds, a dot one training run."""
    found = {_cell(cell) for cell in content["cells"]}
    losses = [loss for loss in LOSSES if any((cell.kind, cell.positives) == loss for cell in found)]
    groups = [_group(content, losses, number) for number in range(len(losses))]
    top = max(dot for group in groups for bar in group["bars"] for dot in bar["values"])
    limit = max(0.1, min(1.0, -(-top * 1.08 // 0.1) * 0.1))
    ticks = [{"y": _y(0.1 * number, limit), "share": 0.1 * number} for number in range(round(limit / 0.1) + 1)]
    for group in groups:
        for bar in group["bars"]:
            bar["y"], bar["dots"] = _y(bar["mean"], limit), [_y(value, limit) for value in bar["values"]]
    return render(
        __package__,
        "figure.svg.jinja",
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        base=HEIGHT - BOTTOM,
        groups=groups,
        ticks=ticks,
        series=SERIES,
    )


def page(content: Mapping[str, Any]) -> str:
    """The page in HTML, with the figure in it."""
    cells = [{**cell, "label": _cell(cell).label} for cell in content["cells"]]
    return render(__package__, "page.html", content={**content, "cells": cells}, figure=Markup(figure(content)))


def _group(content: Mapping[str, Any], losses: Sequence[tuple[str, str]], number: int) -> dict[str, Any]:
    """One loss: its bars with their values and positions."""
    kind, positives = losses[number]
    pitch = (WIDTH - LEFT) / len(losses)
    slot = pitch / (len(SERIES) + 1)
    start = LEFT + number * pitch + slot / 2
    bars = []
    for number_in_group, (masks, seen, meaning, colour) in enumerate(SERIES):
        cell = Cell(masks=masks, kind=kind, positives=positives)
        values = [run["figures"][seen]["top1"]["value"] for run in content["runs"] if _cell(run) == cell]
        if values:
            title = f"{cell.label}, {meaning}"
            x, width = start + number_in_group * slot, 0.86 * slot
            mean = statistics.fmean(values)
            bars.append({"x": x, "width": width, "mean": mean, "values": values, "title": title, "colour": colour})
    label = Cell(masks="on", kind=kind, positives=positives).label
    return {"label": label, "x": LEFT + (number + 0.5) * pitch, "bars": bars}


def _cell(values: Mapping[str, Any]) -> Cell:
    return Cell(masks=values["masks"], kind=values["kind"], positives=values["positives"])


def _y(share: float, limit: float) -> float:
    return (HEIGHT - BOTTOM) * (1 - share / limit)
