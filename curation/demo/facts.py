"""What the demo's page shows, read from the files that its commands wrote."""

from __future__ import annotations

import base64
import csv
import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import cv2
import numpy as np

from sono.curation.images.pixels import Pixels, decode_png
from sono.curation.phantom.truth import TRUE_DUPLICATES, TRUE_FAULTS
from sono.manifests import masks
from sono.manifests.filenames import MARKER, RUN_LOG, evaluation_file
from sono.manifests.query import query
from sono.manifests.schemas import CAPTIONS, EXCLUSIONS, FRAMES, QC, REGIONS, TableSpec
from sono.manifests.store import TableStore
from sono.manifests.workspace import Workspace, open_workspace

from .plan import HOLDOUT, Layout, Plan, commands

MASKS = ("none", "region", "shuffled", "blank")

EXAMPLE_PLANES = (
    "transthalamic",
    "transcerebellar",
    "four_chamber",
    "abdominal_circumference",
    "sideface",
    "femur",
)

_EXAMPLE_WIDTH_PX = 460

_COLORS = (
    "#ffb000",
    "#26c6da",
    "#ff5c8a",
    "#8bd450",
    "#b388ff",
    "#ff8a50",
    "#f2f26b",
    "#7fb2ff",
    "#e05cff",
    "#4de0a8",
    "#ffffff",
)


@dataclass(frozen=True)
class Step:
    """A bar of the funnel: how much is left, and what was left out on the way to it, by reason."""

    name: str
    count: int
    left_out: Mapping[str, int]


@dataclass(frozen=True)
class Example:
    """A frame with the outlines of its structures: (colour, name, caption) of each."""

    plane: str
    center: str
    image: str  # base64 JPEG
    caption: str
    regions: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Fault:
    """What was put in, how often, and what became of it."""

    name: str
    meaning: str
    count: int
    outcome: Mapping[str, int]


@dataclass(frozen=True)
class Facts:
    """All that the page and the table on the terminal say."""

    exams: int
    funnel: Sequence[Step]
    splits: Mapping[str, int]
    examples: Sequence[Example]
    faults: Sequence[Fault]
    losses: Sequence[Sequence[tuple[int, float]]]  # of each run: step, loss
    results: Sequence[Mapping[str, Any]]  # of each run, as sono-train evaluate writes them
    commands: Sequence[str]

    def top(self, mask: str, name: str) -> list[Mapping[str, float]]:
        """``top1`` or ``top5`` of a mask: value, low and high of every run."""
        return [result["masks"][mask][name] for result in self.results]

    @property
    def gains(self) -> list[Mapping[str, float]]:
        """Top-1 of region minus none, of every run."""
        return [result["minus_none"]["region"]["top1"] for result in self.results]

    @property
    def clearly_better(self) -> bool:
        """No interval of the gain, of any run, reaches zero."""
        return all(gain["low"] > 0 for gain in self.gains)


def gather(layout: Layout, plan: Plan) -> Facts:
    """Read everything from the files that the steps wrote."""
    workspace = open_workspace(layout.workspace)
    description = json.loads((layout.dataset / MARKER).read_text())
    return Facts(
        exams=plan.exams,
        funnel=_funnel(layout, workspace.store, description),
        splits={name: int(split["rows"]) for name, split in description["splits"].items()},
        examples=list(_examples(workspace)),
        faults=_faults(layout, workspace),
        losses=[_losses(layout.run(seed) / RUN_LOG) for seed in range(plan.runs)],
        results=[json.loads(evaluation_file(layout.run(seed), "test-all").read_text()) for seed in range(plan.runs)],
        commands=[shlex.join(step) for step in commands(layout, plan)],
    )


def table(facts: Facts) -> Iterator[str]:
    """A few lines for the terminal."""
    for step in facts.funnel:
        yield f"{step.name:<34}{step.count:>8,}"
    first = facts.results[0]
    yield ""
    yield (
        f"planes told apart on the held-out center {HOLDOUT}: {first['n_frames']:,} frames of "
        f"{first['n_patients']} patients, {first['planes_present']} planes, {len(facts.results)} runs"
    )
    yield f"{'mask':<10}{'top-1':>8}{'of the runs':>20}{'top-5':>10}"
    for mask in MASKS:
        values = [result["value"] for result in facts.top(mask, "top1")]
        five = mean(result["value"] for result in facts.top(mask, "top5"))
        yield f"{mask:<10}{mean(values):>8.1%}{f'{min(values):.1%} - {max(values):.1%}':>20}{five:>10.1%}"
    for number, gain in enumerate(facts.gains):
        interval = f"({100 * gain['low']:+.1f} to {100 * gain['high']:+.1f})"
        yield f"region - none, run {number}: {100 * gain['value']:+.1f} points {interval}"
    yield f"mask guidance helps {'clearly' if facts.clearly_better else 'NOT clearly'}: see what the controls say"


def _funnel(layout: Layout, store: TableStore, description: Mapping[str, Any]) -> list[Step]:
    files = sum(1 for path in (layout.phantoms / "dicom").rglob("*") if path.is_file())
    excluded = _count(store, EXCLUSIONS, "reason", "stage = 'ingest'")
    verdicts = _count(store, QC, "verdict", "true")
    reasons = _count(store, QC, "array_to_string(reasons, ', ')", "verdict <> 'accept'")
    left_out = description["left_out"]
    return [
        Step("files in the archive", files, {}),
        Step("frames read", sum(verdicts.values()), excluded),
        Step("frames accepted", verdicts.get("accept", 0), reasons),
        Step("frames in the dataset", sum(int(split["rows"]) for split in description["splits"].values()), left_out),
    ]


def _count(store: TableStore, table: TableSpec, key: str, where: str) -> dict[str, int]:
    if not store.paths(table):
        return {}
    rows = query(
        f"SELECT {key} AS name, count(*) AS n FROM read_parquet($paths) WHERE {where} "
        "GROUP BY ALL ORDER BY n DESC, name",
        _paths(store, table),
    ).to_pylist()
    return {row["name"]: row["n"] for row in rows}


def _paths(store: TableStore, table: TableSpec) -> dict[str, object]:
    return {"paths": [str(path) for path in store.paths(table)]}


def _examples(workspace: Workspace) -> Iterator[Example]:
    """One frame of each plane, of the two centers in turn: the one with the most structures."""
    store = workspace.store
    for number, plane in enumerate(EXAMPLE_PLANES):
        found = query(
            "WITH counted AS (SELECT frame_id, count(*) AS n FROM read_parquet($regions) GROUP BY frame_id) "
            "SELECT frame_id, frames.image.bytes AS png, frames.center, frames.height, frames.width, "
            "captions.text AS caption FROM read_parquet($frames) frames JOIN counted USING (frame_id) "
            "JOIN (SELECT frame_id, text FROM read_parquet($captions) WHERE region_id IS NULL) captions "
            "USING (frame_id) WHERE plane = $plane AND mode = 'b_mode' AND pixel_mm_x IS NOT NULL "
            "ORDER BY (center = $center) DESC, n DESC, frame_id LIMIT 1",
            {
                "frames": [str(path) for path in store.paths(FRAMES)],
                "regions": [str(path) for path in store.paths(REGIONS)],
                "captions": [str(path) for path in store.paths(CAPTIONS)],
                "plane": plane,
                "center": ("north", "south")[number % 2],
            },
        ).to_pylist()
        if found:
            yield _example(workspace, plane, found[0])


def _example(workspace: Workspace, plane: str, frame: Mapping[str, Any]) -> Example:
    store = workspace.store
    regions = query(
        "SELECT regions.structure, regions.mask, captions.text FROM read_parquet($regions) regions "
        "JOIN read_parquet($captions) captions USING (region_id) WHERE regions.frame_id = $frame ORDER BY area_px DESC",
        {
            "regions": [str(path) for path in store.paths(REGIONS)],
            "captions": [str(path) for path in store.paths(CAPTIONS)],
            "frame": frame["frame_id"],
        },
    ).to_pylist()
    pixels = decode_png(frame["png"])
    scale = _EXAMPLE_WIDTH_PX / pixels.shape[1]
    rgb = _resized(pixels, scale)
    listed = []
    for number, region in enumerate(regions):
        color = _COLORS[number % len(_COLORS)]
        mask = masks.decode(region["mask"], (frame["height"], frame["width"]))
        small = cv2.resize(mask.astype(np.uint8), rgb.shape[1::-1], interpolation=cv2.INTER_AREA)
        outlines, _ = cv2.findContours(small, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(rgb, outlines, -1, _rgb(color), 1, cv2.LINE_AA)
        listed.append((color, workspace.vocabulary.structures[region["structure"]].name, region["text"]))
    jpeg = cv2.imencode(".jpg", rgb[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
    return Example(plane, frame["center"], base64.b64encode(jpeg).decode(), frame["caption"], listed)


def _resized(pixels: Pixels, scale: float) -> Pixels:
    rgb = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
    size = (round(rgb.shape[1] * scale), round(rgb.shape[0] * scale))
    return np.ascontiguousarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA))


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def _faults(layout: Layout, workspace: Workspace) -> list[Fault]:
    """What was put in on purpose, followed through the workspace by hashing the files' names once more."""
    truth = TableStore(layout.phantoms / "truth")
    ends = _ends(workspace.store)
    outcomes: dict[tuple[str, str], Counter[str]] = {}
    for row in truth.read_all(TRUE_FAULTS).to_pylist():
        if row["file"] is None:
            outcome = ends.of_study(workspace.keys.study(row["study_uid"]))
        else:
            outcome = ends.of_source(_source_key(workspace, row["file"]))
        outcomes.setdefault((row["fault"], row["meaning"]), Counter())[outcome] += 1
    for row in truth.read_all(TRUE_DUPLICATES).to_pylist():
        both = [ends.of_source(_source_key(workspace, file)) for file in (row["file"], row["original"])]
        kept = both.count(_IN_DATASET)
        name = f"{row['kind']}_duplicate"
        outcomes.setdefault((name, _DUPLICATES[row["kind"]]), Counter())[_KEPT[kept]] += 1
    return [
        Fault(name, meaning, counts.total(), dict(counts.most_common()))
        for (name, meaning), counts in sorted(outcomes.items())
    ]


_IN_DATASET = "in the dataset"
_KEPT = ("both left out", "one of the two in the dataset", "both in the dataset")

_DUPLICATES = {
    "exact": "the same pixels in a second file",
    "near": "the same view saved again with another gain; nothing looks for these yet",
}


def _source_key(workspace: Workspace, file: str) -> str:
    return workspace.keys.source(file.partition("/")[2])  # each center's folder was ingested by itself


@dataclass(frozen=True)
class _Ends:
    """What became of files and of studies' frames, in words, by their pseudonyms."""

    by_source: Mapping[str, str]
    by_study: Mapping[str, Counter[str]]

    def of_source(self, key: str) -> str:
        return self.by_source.get(key, "not read")

    def of_study(self, key: str) -> str:
        """Of most of its frames."""
        counts = self.by_study.get(key)
        return counts.most_common(1)[0][0] if counts else "not read"


def _ends(store: TableStore) -> _Ends:
    rows = query(
        "SELECT source_key, study_key, CASE WHEN verdict <> 'accept' THEN 'qc: ' || array_to_string(reasons, ', ') "
        f"WHEN captions.frame_id IS NULL THEN 'no caption' ELSE '{_IN_DATASET}' END AS ending "
        "FROM read_parquet($frames) frames JOIN read_parquet($qc) qc USING (frame_id) LEFT JOIN "
        "(SELECT frame_id FROM read_parquet($captions) WHERE region_id IS NULL) captions USING (frame_id) "
        "ORDER BY source_key, frame_index DESC",
        {name: [str(path) for path in store.paths(table)] for name, table in _JOINED.items()},
    ).to_pylist()
    by_study: dict[str, Counter[str]] = {}
    for row in rows:
        by_study.setdefault(row["study_key"], Counter())[row["ending"]] += 1
    by_source = {row["source_key"]: row["ending"] for row in rows}
    if store.paths(EXCLUSIONS):
        excluded = query(
            "SELECT source_key, reason FROM read_parquet($paths) WHERE stage = 'ingest'", _paths(store, EXCLUSIONS)
        )
        by_source |= {row["source_key"]: f"ingest: {row['reason']}" for row in excluded.to_pylist()}
    return _Ends(by_source, by_study)


_JOINED = {"frames": FRAMES, "qc": QC, "captions": CAPTIONS}


def _losses(path: Path) -> list[tuple[int, float]]:
    with path.open(newline="") as file:
        return [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(file)]
