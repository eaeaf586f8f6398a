"""Drawing as a stage: from the numbers of a few examinations to the truth about their frames."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pyarrow as pa

from sono.manifests import vocabulary
from sono.manifests.schemas import TableSpec
from sono.manifests.stages import Part, StageOutput

from .exams import plan_exam
from .truth import TRUE_FRAMES
from .writer import STAGE_NAME, ExamWriter

EXAMS_PER_PART = 4

_LIBRARIES = ("numpy", "opencv-python-headless", "pillow", "pydicom")
"""A part drawn with other versions of these is drawn again: its bytes may differ."""


def plan_parts(exams: int) -> list[Part]:
    """Parts of a few examinations each, by their numbers."""
    parts = []
    for start in range(0, exams, EXAMS_PER_PART):
        numbers = list(range(start, min(start + EXAMS_PER_PART, exams)))
        parts.append(Part(f"{start:06d}", json.dumps(numbers), functools.partial(_number_table, numbers)))
    return parts


def _number_table(numbers: list[int]) -> pa.Table:
    return pa.table({"source_key": [str(number) for number in numbers], "exam": pa.array(numbers, pa.int32())})


@dataclass(frozen=True)
class PhantomStage:
    """From numbers of examinations to their files.

    Its table is the truth about their frames, which is written last and so marks a part as done.
    """

    out: str
    seed: int

    name = STAGE_NAME
    version = 2

    @property
    def output(self) -> TableSpec:
        return TRUE_FRAMES

    def config(self) -> Mapping[str, object]:
        return {"seed": self.seed, "libraries": {name: metadata.version(name) for name in _LIBRARIES}}

    def __call__(self, part: pa.Table) -> StageOutput:
        planes = vocabulary.load()
        writer = ExamWriter(Path(self.out), planes)
        numbers = part.column("exam").to_pylist()
        for number in numbers:
            writer.write(plan_exam(self.seed, number, planes))
        writer.finish(f"{numbers[0]:06d}")
        return StageOutput(TRUE_FRAMES.from_rows(writer.truth["frames"]), [])
