"""What an audit finds and costs on phantoms, and how MIDI-B's own rules score the same workspace by the answer key.

    python benchmarks/audit.py [--exams 8] [--seed 2026]

Draws an archive, ingests it and judges its quality, then audits it in this process on one core. The answer key is the
archive's truth; where it has identifying text on the screen, both readers read the stored pixels. As a control, the
audit's own reading is given the frames with identifying text over the ultrasound as they were before cleaning.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom

sys.path.insert(0, str(Path(__file__).parents[1]))

from sono.curation.audit.checks.cleaned import sector_area
from sono.curation.audit.checks.readable_text import identifies, identity_of, read_text
from sono.curation.audit.run import audit
from sono.curation.audit.sources.header_values import dicom_values
from sono.curation.audit.words.allowed_words import allowed_words
from sono.curation.ingest.run import ingest
from sono.curation.qc.run import qc
from sono.manifests.schemas import FRAMES
from sono.manifests.stages import in_process
from sono.manifests.workspace import Workspace, create
from tests.curation.audit.midi_b import score
from tests.curation.phantom.archive import Phantom, draw_and_read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exams", type=int, default=8)
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options.seed, options.exams)


def measure(folder: Path, seed: int, exams: int) -> None:
    phantom = draw_and_read(folder / "out", seed, exams)
    workspace = create(folder / "workspace", "north")
    centers = sorted((phantom.out / "dicom").iterdir())
    started = time.process_time()
    for center in centers:
        ingest(workspace, [center], center=center.name, engine=in_process)
    ingested = time.process_time() - started
    qc(workspace, engine=in_process)
    started = time.process_time()
    report = audit(workspace, centers, engine=in_process, centers=[center.name for center in centers])
    audited = time.process_time() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    scores = score(workspace, phantom)
    print("| action | passed | empty | failed | MIDI-B: passed of checks | of them empty |")
    print("|---|---:|---:|---:|---:|---:|")
    for action, counts in report.actions.items():
        by_key = scores[action]
        print(
            f"| {action} | {counts.passed:,} | {counts.empty:,} | {counts.failed:,} "
            f"| {by_key.passed:,} of {by_key.checks:,} | {by_key.empty:,} |"
        )
    for file, index, text, box in scores["pixels_hidden"].left:
        print(f"still readable: {text!r} at {box} in {file}, frame {index}")
    print("before cleaning: {} frames with identifying text over the ultrasound; named {}, seen {}".format(
        *control(workspace, phantom)
    ))  # fmt: skip
    rate = f"{1000 * audited / report.frames:.0f} ms a frame (ingest {1000 * ingested / report.frames:.0f})"
    print(f"{report.frames} frames of {report.files} files: {rate}, {memory:.0f} MiB at most")


def control(workspace: Workspace, phantom: Phantom) -> tuple[int, int, int]:
    """Frames with identifying text in the sector; in how many the audit's reading names it, and finds any text."""
    inside = {text["file"] for text in phantom.texts if text["identity"] and text["inside"]}
    allowed = allowed_words(center.name for center in (phantom.out / "dicom").iterdir())
    crops = {(row["source_key"], row["frame_index"]): row for row in workspace.store.read_all(FRAMES).to_pylist()}
    frames = named = seen = 0
    for true in phantom.frames:
        row = crops.get((workspace.keys.source(true["file"].partition("/")[2]), true["frame_index"]))
        if row is None or true["file"] not in inside:
            continue
        x, y, width, height = row["crop"]
        area = sector_area(row["sectors"], height, width)
        original = phantom.pixels(true)[y : y + height, x : x + width]
        text = read_text(np.ascontiguousarray((original.T * area.T).T), ())
        said = identity_of(dicom_values(pydicom.dcmread(phantom.path(true["file"]), stop_before_pixels=True)), allowed)
        frames += 1
        named += identifies(text.readings, said)
        seen += not text.nothing
    return frames, named, seen


if __name__ == "__main__":
    main()
