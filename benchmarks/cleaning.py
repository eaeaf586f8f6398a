"""What cleaning costs in ingest: processor time per frame by transfer syntax, beside decoding, and decoding and PNG.

    python benchmarks/cleaning.py ARCHIVE [--files 200]

ARCHIVE is a folder of DICOM files, such as ``dicom/`` of ``sono-curate phantom``: stills and cines of several scanners
and syntaxes, with sector searches and text reading included as they come. Every file is read four times, in turn, in
one process on one thread: decoded as ingest does it; decoded and stored as PNG; decoded, cleaned, and turned into rows;
decoded by pydicom, with the decoders that it finds.
The detector and the text readers are loaded before, which ingest does once per process (seconds are printed).
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")

import cv2
import numpy as np
import pydicom
from pydicom.pixels import iter_pixels

from sono.curation.cleaning.clean_frames import clean_frames
from sono.curation.cleaning.config import CleaningSection
from sono.curation.cleaning.overlays.text_detector import probabilities
from sono.curation.cleaning.overlays.text_readers import read_again, search
from sono.curation.images.dicom.file import read_dicom_file
from sono.curation.images.dicom.frames import DicomImage, open_dicom
from sono.curation.images.pixels import ExcludedError, Pixels
from sono.curation.images.statistics import pixel_statistics
from sono.curation.images.stored_png import encode_png
from sono.manifests import pydicom_warnings

STEPS = ("decode", "decode and PNG", "ingest", "pydicom")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--files", type=int, default=200)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    started = time.process_time()
    for shape in ((480, 640), (480, 640, 3)):
        probabilities(np.zeros(shape, np.uint8))
    read_again(np.eye(200, dtype=np.uint8), ((10, 10, 160, 40),))
    search(np.zeros((480, 640), np.uint8))
    print(f"readers loaded in {time.process_time() - started:.1f} s")
    files = sorted(path for path in options.archive.rglob("*") if path.is_file())
    step = max(len(files) // options.files, 1)
    seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
    frames: defaultdict[str, int] = defaultdict(int)
    for path in files[::step]:
        measure(path.read_bytes(), seconds, frames)
    report(seconds, frames)


def measure(content: bytes, seconds: defaultdict[tuple[str, str], float], frames: defaultdict[str, int]) -> None:
    try:
        with pydicom_warnings.silenced():
            syntax = read_dicom_file(content).syntax.name
        done = {step: _timed(step, content) for step in STEPS}
    except ExcludedError:
        return
    frames[syntax] += done["decode"][1]
    for step, (taken, _) in done.items():
        seconds[syntax, step] += taken


def _timed(step: str, content: bytes) -> tuple[float, int]:
    started = time.process_time()
    if step == "pydicom":
        with pydicom_warnings.silenced():
            count = _decoded_by_pydicom(content)
    else:
        count = sum(1 for _ in _run(step, open_dicom(content, ("ViewCodeSequence",))))
    return time.process_time() - started, count


def _decoded_by_pydicom(content: bytes) -> int:
    """How many frames pydicom decodes of a file.

    Raises:
        ExcludedError: it cannot decode the file, which is left out of all columns.
    """
    dataset = pydicom.dcmread(io.BytesIO(content), force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    try:
        return sum(1 for _ in iter_pixels(dataset))
    except (AttributeError, ValueError, RuntimeError) as error:
        print("left out, pydicom cannot decode it:", type(error).__name__)
        raise ExcludedError("not_decoded", "pydicom cannot decode it") from error


def _run(step: str, image: DicomImage) -> Iterator[object]:
    if step == "ingest":
        section = CleaningSection()
        for frame in clean_frames(image.frames(), image.facts.regions, section, cine=image.frame_count > 1):
            yield frame if isinstance(frame, ExcludedError) else _stored(frame.pixels)
        return
    for pixels in image.frames():
        yield pixels if isinstance(pixels, ExcludedError) or step == "decode" else encode_png(pixels)


def _stored(pixels: Pixels) -> object:
    return encode_png(pixels), pixel_statistics(pixels)


def report(seconds: defaultdict[tuple[str, str], float], frames: defaultdict[str, int]) -> None:
    heads = ("ms per frame", "frames", "pydicom", "decode", "decode and PNG", "ingest")
    heads += ("its rate, of pydicom's", "of decode", "of decode and PNG")
    print(f"\n| {' | '.join(heads)} |\n|---|{'---:|' * (len(heads) - 1)}")
    for syntax in [*sorted(frames), "all"]:
        of = sorted(frames) if syntax == "all" else [syntax]
        count = sum(frames[name] for name in of)
        decode, png, ingest, by_pydicom = (1000 * sum(seconds[name, step] for name in of) / count for step in STEPS)
        print(f"| {syntax} | {count} | {by_pydicom:.1f} | {decode:.1f} | {png:.1f} | {ingest:.1f} |", end="")
        print(f" {by_pydicom / ingest:.2f} | {decode / ingest:.2f} | {png / ingest:.2f} |")
    print(f"\npeak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
