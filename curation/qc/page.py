"""The page that shows what quality control found: counts, histograms with their thresholds, and examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sono.manifests import pages
from sono.manifests.exclusions import count_exclusions
from sono.manifests.query import query
from sono.manifests.schemas import FRAMES, QC, VERDICTS
from sono.manifests.store import TableStore, write_atomically
from sono.manifests.thumbnails import THUMBNAIL_PX, thumbnail
from sono.manifests.workspace import Workspace

from .stage import REASONS, QcSection

_EXAMPLES = 12  # per reason, and of accepted frames
_BINS = 40


@dataclass(frozen=True)
class Histogram:
    """One metric: stacked bars by verdict, and thresholds; heights and positions are percentages of the plot."""

    title: str
    unit: str
    low: str
    high: str
    bars: Sequence[Sequence[tuple[str, float, float]]]  # per bin: verdict, bottom, height
    thresholds: Sequence[tuple[float, str]]  # position, label


@dataclass(frozen=True)
class Thumbnail:
    """One example frame."""

    frame_id: str
    verdict: str
    reasons: str
    png: str  # base64


def write_qc_report(workspace: Workspace) -> Path:
    """Write ``reports/qc.html`` from the tables as they are.

    Returns:
        The page's path.
    """
    store, section = workspace.store, workspace.section("qc", QcSection)
    metrics = store.read_all(QC, ["verdict", *_METRICS])
    verdicts = metrics["verdict"].to_pylist()
    page = pages.render(
        __package__,
        "page.html",
        center=workspace.center,
        total=len(verdicts),
        verdicts=[(verdict, verdicts.count(verdict)) for verdict in VERDICTS],
        reasons=[(reason, REASONS.get(reason, "decided"), count) for reason, count in count_reasons(store).items()],
        exclusions=count_exclusions(store),
        histograms=_histograms(metrics, section),
        examples=_examples(store),
        thumbnail_px=THUMBNAIL_PX,
    )
    path = workspace.reports / "qc.html"
    write_atomically(path, lambda file: file.write(page.encode()))
    return path


def count_reasons(store: TableStore) -> dict[str, int]:
    """How many frames have each reason, in the order of ``REASONS``, then those that people gave; some have several."""
    found = Counter(reason for reasons in store.read_all(QC, ["reasons"])["reasons"].to_pylist() for reason in reasons)
    return {reason: found[reason] for reason in (*REASONS, *sorted(found.keys() - REASONS)) if reason in found}


_METRICS: Mapping[str, tuple[str, str]] = {
    "mean_intensity": ("Mean intensity of lit pixels", "grey level"),
    "contrast": ("Contrast of lit pixels", "grey levels, standard deviation"),
    "lit_fraction": ("Lit share of the frame", "fraction"),
    "saturated_fraction": ("Saturated share of lit pixels", "fraction"),
    "sharpness": ("Sharpness", "grey levels, RMS of the Laplacian"),
    "short_side_px": ("Short side", "px"),
}
_THRESHOLDS: Mapping[str, Sequence[str]] = {
    "mean_intensity": ("min_mean_intensity", "max_mean_intensity"),
    "contrast": ("min_contrast",),
    "lit_fraction": ("min_lit_fraction",),
    "saturated_fraction": ("max_saturated_fraction",),
    "sharpness": ("min_sharpness",),
    "short_side_px": ("min_short_side_px",),
}


def _histograms(metrics: pa.Table, section: QcSection) -> list[Histogram]:
    verdicts = np.asarray(metrics["verdict"].to_pylist())
    histograms = []
    for name, (title, unit) in _METRICS.items():
        values = np.asarray(metrics[name].to_pylist(), np.float64)  # to_numpy() would load pandas
        limits = [float(getattr(section, key)) for key in _THRESHOLDS[name]]
        histograms.append(_histogram(title, unit, values, verdicts, limits))
    return histograms


def _histogram(
    title: str, unit: str, values: npt.NDArray[np.float64], verdicts: npt.NDArray[np.str_], limits: Sequence[float]
) -> Histogram:
    finite = np.isfinite(values)
    low = min([0.0, *values[finite]])
    high = max([*limits, *values[finite]]) * 1.02 or 1.0
    counts = np.stack(
        [np.histogram(values[finite & (verdicts == verdict)], bins=_BINS, range=(low, high))[0] for verdict in VERDICTS]
    )
    heights = counts * (100.0 / max(int(counts.sum(axis=0).max()), 1))
    bottoms = np.vstack([np.zeros(_BINS), np.cumsum(heights, axis=0)[:-1]])
    bars = [
        [(verdict, float(bottoms[row, bin_]), float(heights[row, bin_])) for row, verdict in enumerate(VERDICTS)]
        for bin_ in range(_BINS)
    ]
    thresholds = [((limit - low) / (high - low) * 100, f"{limit:g}") for limit in limits]
    return Histogram(title, unit, f"{low:g}", f"{high:.3g}", bars, thresholds)


def _examples(store: TableStore) -> list[tuple[str, list[Thumbnail]]]:
    """Groups of examples: one per reason, then accepted frames. The frames with the lowest keys are chosen."""
    chosen = query(
        """
        WITH named AS (
            SELECT frame_id, verdict, array_to_string(reasons, ', ') AS reasons,
                   unnest(CASE WHEN len(reasons) = 0 THEN ['accepted'] ELSE reasons END) AS "group"
            FROM read_parquet($qc)
        ), ranked AS (
            SELECT *, row_number() OVER (PARTITION BY "group" ORDER BY frame_id) AS place FROM named
        )
        SELECT ranked.*, f.filename AS path FROM ranked
        JOIN read_parquet($frames, filename = true) f USING (frame_id) WHERE place <= $examples
        ORDER BY "group" = 'accepted', "group", place
        """,
        {
            "qc": [str(path) for path in store.paths(QC)],
            "frames": [str(path) for path in store.paths(FRAMES)],
            "examples": _EXAMPLES,
        },
    ).to_pylist()
    if not chosen:
        return []
    images = query(
        "SELECT frame_id, image.bytes AS png FROM read_parquet($paths) WHERE frame_id IN (SELECT unnest($ids))",
        {"paths": sorted({row["path"] for row in chosen}), "ids": sorted({row["frame_id"] for row in chosen})},
    ).to_pylist()
    pngs = {row["frame_id"]: row["png"] for row in images}
    groups: dict[str, list[Thumbnail]] = {}
    for row in chosen:
        example = Thumbnail(row["frame_id"], row["verdict"], row["reasons"], thumbnail(pngs[row["frame_id"]]))
        groups.setdefault(row["group"], []).append(example)
    return list(groups.items())
