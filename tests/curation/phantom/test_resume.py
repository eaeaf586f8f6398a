"""An archive has the same bytes however it was drawn: at once, interrupted, extended, on another processor."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sono.curation.engines.local import LocalEngine
from sono.curation.phantom import writer
from sono.curation.phantom.drawing.frames import DrawnImage
from sono.curation.phantom.exams import Exam
from sono.curation.phantom.image_plans import ImagePlan
from sono.curation.phantom.run import draw_phantom
from sono.manifests.errors import UserError
from sono.manifests.stages import in_process
from tests.curation.phantom.archive import SEED, Phantom, every_file


def test_a_killed_resumed_and_extended_archive_has_the_same_bytes(
    phantom_archive: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    write = writer.ExamWriter._write_image

    def killed(writer: Any, exam: Exam, image: ImagePlan, drawn: DrawnImage, file: str) -> None:
        if (exam.index, image.name) == (4, "IM0004"):
            raise KeyboardInterrupt
        write(writer, exam, image, drawn, file)

    monkeypatch.setattr(writer.ExamWriter, "_write_image", killed)
    with pytest.raises(KeyboardInterrupt):
        draw_phantom(out, exams=5, seed=SEED, engine=in_process)
    monkeypatch.undo()
    before = file_hashes(out)
    assert files_of_exams(before, phantom_archive.exams[4:5]), "killed in the middle of a part"
    partial = next(path for path in every_file(out, "dicom")).with_name(".tmp-0123")
    partial.write_bytes(b"half a file")

    assert draw_phantom(out, exams=5, seed=SEED, engine=in_process).up_to_date == 1
    complete, resumed = file_hashes(phantom_archive.out), file_hashes(out)
    assert not partial.exists(), "what a killed process left behind is removed"
    assert before.items() <= resumed.items()
    five = files_of_exams(complete, phantom_archive.exams[:5])
    assert files_of_exams(resumed, phantom_archive.exams) == five
    assert len(five) > 100

    report = draw_phantom(out, exams=8, seed=SEED, engine=LocalEngine(2))
    assert (report.computed, report.up_to_date) == (1, 1)
    longer = file_hashes(out)
    assert five.items() <= longer.items()
    rest = files_of_exams(complete, phantom_archive.exams[8:])
    last_parts = ("part-000008", "part-000012", "exams-000008", "exams-000012")
    assert longer == {
        name: value
        for name, value in complete.items()
        if name not in rest and not any(word in name for word in last_parts)
    }
    assert json.loads((out / "phantom.json").read_text())["exams"] == 8


def test_another_seed_draws_another_archive(phantom_archive: Phantom, other_archive: Phantom) -> None:
    assert not set(file_hashes(other_archive.out).values()) & set(file_hashes(phantom_archive.out).values())


@pytest.mark.slow
def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    draw_phantom(out, exams=1, seed=3, engine=in_process)
    before = file_hashes(out)
    for change in ({"exams": 2, "seed": 4}, {"exams": 0, "seed": 3}):
        with pytest.raises(UserError) as caught:
            draw_phantom(out, engine=in_process, **change)
        assert caught.value.fix
    described = json.loads((out / "phantom.json").read_text())
    (out / "phantom.json").write_text(json.dumps({**described, "exams": 2}))
    with pytest.raises(UserError, match="contains a phantom of 2 exams, seed 3") as caught:
        draw_phantom(out, exams=1, seed=3, engine=in_process)
    assert caught.value.fix
    assert file_hashes(out) == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("a thesis")
    with pytest.raises(UserError, match="not empty") as caught:
        draw_phantom(tmp_path / "other", exams=1, seed=3, engine=in_process)
    assert caught.value.fix
    assert [path.name for path in every_file(tmp_path / "other")] == ["thesis.txt"]


def file_hashes(out: Path) -> dict[str, str]:
    """Hashes of all files except the description, which says how many examinations were asked for."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in every_file(out)
        if path.name != "phantom.json"
    }


def files_of_exams(files: dict[str, str], exams: Sequence[Exam]) -> dict[str, str]:
    """The files of these examinations alone: images, masks, and records in files of their own."""
    folders = [exam.folder.partition("/")[2] for exam in exams]
    records = [f"exam-{exam.index:06d}." for exam in exams]
    return {name: value for name, value in files.items() if any(part in name for part in (*folders, *records))}


HASH = """
import hashlib
from sono.curation.phantom.exams import plan_exam
from sono.curation.phantom.drawing.frames import draw_image
from sono.manifests import vocabulary

exam = plan_exam(11, 0, vocabulary.load())
total = hashlib.sha256()
for image in exam.images[:8]:
    for frame in draw_image(exam, image).frames:
        total.update(frame.pixels.tobytes())
        for structure, mask in sorted(frame.masks.items()):
            total.update(structure.encode() + mask.tobytes())
print(total.hexdigest())
"""


@pytest.mark.slow
def test_a_processor_with_fewer_instructions_draws_the_same_bytes() -> None:
    # The libraries take other code paths, and the last bits differ.
    found = np.show_config(mode="dicts")["SIMD Extensions"]["found"]
    older = {
        "NPY_DISABLE_CPU_FEATURES": " ".join(found),
        "OPENCV_CPU_DISABLE": "SSE4.1,SSE4.2,AVX,AVX2,FMA3,FP16",
        "OPENBLAS_CORETYPE": "Nehalem",
    }
    hashes = [
        subprocess.run([sys.executable, "-c", HASH], env=os.environ | extra, capture_output=True, text=True, check=True)
        for extra in ({}, older)
    ]
    assert hashes[0].stdout == hashes[1].stdout != ""
