"""A small dataset in the layout that ``sono-curate build`` writes: bright shapes on speckle, a plane for each shape."""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image, ImageDraw

from sono.manifests import masks
from sono.manifests.schemas import DATASET

PLANES = {
    "transthalamic": "transthalamic",
    "four_chamber": "four-chamber",
    "abdominal_circumference": "abdominal circumference",
    "femur": "femur",
}
STRUCTURES = ("spine", "umbilical vein")  # of every plane: only its name may tell a caption's plane
SIZES = ((120, 80), (80, 112), (96, 96))  # width, height in px: landscape, portrait, square

Rows = list[dict[str, Any]]


@pytest.fixture(scope="session", autouse=True)
def _alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is unpacked into the user's cache, and no test waits for a network or for a second core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("huggingface")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
        patch.setenv("HF_DATASETS_CACHE", str(folder))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def make_rows() -> Callable[..., Rows]:
    return rows


@pytest.fixture(scope="session")
def write_dataset() -> Callable[..., Path]:
    return write


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 training and 80 test frames of four planes; the validation split is empty."""
    folder = tmp_path_factory.mktemp("dataset") / "shapes"
    return write(folder, {"train": rows(240, seed=1), "test": rows(80, seed=2, patients="test")})


@pytest.fixture(scope="session")
def sono_train() -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=timeout, check=False)

    return run


@pytest.fixture(scope="session")
def learned(
    sono_train: Callable[..., subprocess.CompletedProcess[str]], shapes: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run that learns: 110 steps."""
    run = tmp_path_factory.mktemp("runs") / "learned"
    settings = ["train.steps=110", "train.batch_size=32", "train.warmup_steps=10", "train.threads=1"]
    done = sono_train(
        "pretrain", shapes, "--out", run, "--recipe", "tiny", *(part for s in settings for part in ("--set", s))
    )
    assert done.returncode == 0, done.stderr
    assert "240 frames" in done.stderr
    assert f"trained 110 steps: {run}/checkpoints/step-00000110.pt" in done.stdout
    return run


def command(*arguments: object) -> list[str]:
    """``sono-train`` as its entry point starts it."""
    return [sys.executable, "-c", "from sono.training.cli import main; main()", *map(str, arguments)]


def rows(count: int, *, seed: int, patients: str = "train") -> Rows:
    """Frames of all planes in turn, four to a patient, two regions each, with captions as our templates word them."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        plane = list(PLANES)[number % len(PLANES)]
        image, parts = draw(plane, SIZES[number % len(SIZES)], random)
        weeks = int(random.integers(20, 24))
        name = PLANES[plane]
        made.append(
            {
                "image": {"bytes": png(image), "path": None},
                "frame_id": f"{seed:04x}{number:028x}",
                "patient_key": f"{patients}-{number // 4:04d}",
                "study_key": f"{patients}-study-{number // 4:04d}",
                "center": "center",
                "plane": list(PLANES).index(plane),
                "ga_days": weeks * 7,
                "caption": f"A {weeks}-week fetal ultrasound image of {name} plane showing {', '.join(STRUCTURES)}.",
                "regions": [
                    {
                        "structure": structure,
                        "caption": f"A {weeks}-week fetal ultrasound {name} plane. "
                        f"The segmentation highlights the {structure}.",
                        "mask": masks.encode(part),
                        "bbox": list(masks.bbox(part)),
                        "area_px": masks.area_px(part),
                    }
                    for structure, part in zip(STRUCTURES, parts, strict=True)
                ],
                "sector": None,
                "pixel_mm": [0.2, 0.2],
            }
        )
    return made


def draw(
    plane: str, size: tuple[int, int], random: np.random.Generator
) -> tuple[Image.Image, list[np.ndarray[tuple[int, int], np.dtype[np.bool_]]]]:
    """Two shapes of the plane, displaced at random, and the mask of each."""
    width, height = size
    x, y = width // 2 + int(random.integers(-8, 9)), height // 2 + int(random.integers(-8, 9))
    boxes = {
        "transthalamic": [("ellipse", (x - 30, y - 20, x + 30, y + 20)), ("ellipse", (x - 6, y - 6, x + 6, y + 6))],
        "four_chamber": [
            ("rectangle", (x - 25, y - 25, x - 3, y + 25)),
            ("rectangle", (x + 3, y - 25, x + 25, y + 25)),
        ],
        "abdominal_circumference": [("ellipse", (x - 10, y - 10, x, y)), ("ellipse", (x + 8, y + 4, x + 18, y + 14))],
        "femur": [("rectangle", (x - 30, y - 3, x + 30, y + 3)), ("rectangle", (x - 30, y + 14, x + 30, y + 17))],
    }[plane]
    pixels = random.rayleigh(25, (height, width))
    found = []
    for (kind, box), brightness in zip(boxes, (120, 180), strict=True):
        part = Image.new("1", size)
        getattr(ImageDraw.Draw(part), kind)(box, fill=1)
        found.append(np.asarray(part, dtype=np.bool_))
        pixels = np.where(found[-1], pixels + brightness, pixels)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), found


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write(folder: Path, splits: dict[str, Rows], *, planes: dict[str, str] | None = None, shards: int = 2) -> Path:
    """Parquet shards with Hugging Face features, then ``sono.json``."""
    planes = planes or PLANES
    features = datasets.Features.from_arrow_schema(DATASET.schema)
    features["image"], features["plane"] = datasets.Image(), datasets.ClassLabel(names=list(planes))
    schema = DATASET.schema.with_metadata(features.arrow_schema.metadata)
    (folder / "data").mkdir(parents=True)
    listed: dict[str, Any] = {}
    for split, made in splits.items():
        files = {}
        for number, part in enumerate(_parts(made, shards)):
            name = f"data/{split}-{number:05d}-of-{shards:05d}.parquet"
            pq.write_table(pa.Table.from_pylist(part, schema=schema), folder / name)
            files[name] = len(part)
        listed[split] = {"rows": len(made), "shards": files}
    marker = {
        "format": 1,
        "planes": planes,
        "splits": listed,
        "fingerprint": os.urandom(32).hex(),
        "created_by": "test",
    }
    (folder / "sono.json").write_text(json.dumps(marker))
    return folder


def _parts(made: Sequence[dict[str, Any]], shards: int) -> list[Sequence[dict[str, Any]]]:
    edges = [round(number * len(made) / shards) for number in range(shards + 1)]
    return [made[start:end] for start, end in itertools.pairwise(edges)]
