"""Mutated image files and records against ingest's readers: nothing may crash, hang, swell, or pass where damage shows.

    python benchmarks/fuzz.py OUT [--images 10000] [--records 2000] [--seed 0] [--workers 2] [--samples FOLDER]

Every file is a function of (seed, number), so a finding can be looked at again: ``--only NUMBER`` writes that file and
says what became of it. Results go to OUT/*.jsonl as they come; the same command resumes where it stopped.

What counts as a finding:

- an exception that is no exclusion (an internal error to the user),
- more than 10 s of wall time, or more than 1 GiB of memory in the process that read it,
- a frame accepted although its file shows damage to somebody else: its stream has no end, its length is wrong, or an
  independent decoder (Pillow with truncated images refused, libpng and libjpeg through OpenCV's messages) complains.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

SECONDS_MOST, MIB_MOST = 10.0, 1024
BATCH = 50


def main() -> None:
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    samples = _samples(options.samples)
    print(f"{len(samples)} samples", file=sys.stderr)
    jobs = [("image", number) for number in range(options.images)]
    jobs += [("record", number) for number in range(options.records)]
    if options.only is not None:
        kind, number = options.only.split(":")
        content, name = mutated(samples[kind], options.seed, int(number))
        (options.out / name).write_bytes(content)
        print(json.dumps(_judge(kind, content, name), indent=2))
        return
    results = options.out / f"seed-{options.seed}.jsonl"
    done = {tuple(json.loads(line)["job"]) for line in results.read_text().splitlines()} if results.exists() else set()
    left = [job for job in jobs if job not in done]
    batches = [left[start : start + BATCH] for start in range(0, len(left), BATCH)]
    context = multiprocessing.get_context("spawn")
    pool = context.Pool(options.workers, _start, (samples, options.seed), maxtasksperchild=20)
    with pool, results.open("a") as file:
        for count, found in enumerate(pool.imap_unordered(_run, batches), 1):
            file.writelines(json.dumps(row) + "\n" for row in found)
            file.flush()
            print(f"\r{count * BATCH:,} of {len(left):,}", end="", file=sys.stderr)
    _report(results)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--records", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--samples", type=Path, help="a folder with more image files to mutate")
    parser.add_argument("--only", metavar="KIND:NUMBER")
    return parser.parse_args()


def _report(results: Path) -> None:
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    findings = [row for row in rows if row["finding"]]
    print()
    for kind in ("image", "record"):
        of_kind = [row for row in rows if row["job"][0] == kind]
        ends = Counter(row["end"] for row in of_kind)
        print(f"{kind}s: {len(of_kind):,}; " + ", ".join(f"{count:,} {end}" for end, count in ends.most_common()))
    if rows:
        print(f"slowest {max(row['seconds'] for row in rows):.2f} s, largest {max(row['mib'] for row in rows):,} MiB")
    print(f"{len(findings)} findings")
    for row in findings[:50]:
        print(f"  {row['job'][0]}:{row['job'][1]}  {row['finding']}")


# Samples and their mutations


def _samples(folder: Path | None) -> dict[str, list[tuple[str, bytes]]]:
    """Valid files: drawn pictures in every format and syntax, pydicom's ultrasound, a phantom's records."""
    images = [*_drawn(), *_dicom()]
    if folder is not None:
        images += [(path.suffix or ".dcm", path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file()]
    return {"image": images, "record": list(_records())}


def _drawn() -> Iterator[tuple[str, bytes]]:
    import cv2
    from PIL import Image

    random = np.random.default_rng(1)
    grey = cv2.GaussianBlur(random.rayleigh(60, (160, 200)).clip(0, 255).astype(np.uint8), (0, 0), 1)
    color = np.dstack([grey, np.roll(grey, 3, 0), grey])
    for pixels in (grey, color):
        for suffix, options in (
            (".png", {}),
            (".bmp", {}),
            (".jpg", {"quality": 90}),
            (".jpg", {"quality": 60, "progressive": True}),
            (".tif", {}),
            (".tif", {"compression": "tiff_lzw"}),
            (".tif", {"compression": "tiff_adobe_deflate"}),
            (".tif", {"compression": "jpeg"}),
        ):
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(
                buffer, {".jpg": "JPEG", ".tif": "TIFF"}.get(suffix, suffix[1:].upper()), **options
            )
            yield suffix, buffer.getvalue()
    pages = [Image.fromarray(np.roll(grey, shift, 0)) for shift in range(5)]
    buffer = io.BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    yield ".tif", buffer.getvalue()


def _dicom() -> Iterator[tuple[str, bytes]]:
    from pydicom.data import get_testdata_file

    from tests.curation.images.dicom.streams import (
        MULTI,
        SYNTAXES,
        content,
        dicom,
        jpeg,
        jpeg2000,
        lossless,
        picture,
    )

    frames = [picture(seed) for seed in range(3)]
    make: dict[str, Callable[[Any], bytes]] = {
        "jpeg": jpeg,
        "jpeg_2000": lambda pixels: jpeg2000(pixels, transform=True),
        "rle": lambda pixels: lossless(pixels, SYNTAXES["rle"]),
        "jpeg_ls": lambda pixels: lossless(pixels, SYNTAXES["jpeg_ls"]),
        "native": lambda pixels: pixels.tobytes(),
    }
    for kind, encode in make.items():
        yield ".dcm", content(dicom([encode(frames[0])], SYNTAXES[kind]))
        cine = dicom([encode(frame) for frame in frames], SYNTAXES[kind], sop_class=MULTI, NumberOfFrames=3)
        yield ".dcm", content(cine)
    for name in ("examples_ybr_color.dcm", "examples_rgb_color.dcm", "examples_palette.dcm", "examples_jpeg2k.dcm"):
        path = get_testdata_file(name)
        assert isinstance(path, str)
        yield ".dcm", Path(path).read_bytes()


def _records() -> Iterator[tuple[str, bytes]]:
    from sono.curation.phantom.run import draw_phantom
    from sono.manifests.stages import in_process

    with tempfile.TemporaryDirectory() as folder:
        draw_phantom(Path(folder) / "p", exams=4, seed=1, engine=in_process)
        for path in sorted((Path(folder) / "p" / "records").rglob("*")):
            if path.is_file():
                yield path.suffix or ".dcm", path.read_bytes()


def mutated(samples: list[tuple[str, bytes]], seed: int, number: int) -> tuple[bytes, str]:
    """One file, by its number: a sample with one to three mutations."""
    random = np.random.default_rng([seed, number])
    suffix, content = samples[int(random.integers(len(samples)))]
    _, other = samples[int(random.integers(len(samples)))]
    for _ in range(int(random.integers(1, 4))):
        content = _MUTATIONS[int(random.integers(len(_MUTATIONS)))](random, content, other)
    return content, f"{number}{suffix}"


def _place(random: np.random.Generator, content: bytes) -> int:
    """Anywhere, but half of the time in the first 2 KiB, where headers are."""
    most = min(len(content), 2048) if random.random() < 0.5 else len(content)
    return int(random.integers(max(most, 1)))


def _cut(random: np.random.Generator, content: bytes, other: bytes) -> bytes:
    return content[: _place(random, content)]


def _zero_tail(random: np.random.Generator, content: bytes, other: bytes) -> bytes:
    at = _place(random, content)
    return content[:at] + bytes(len(content) - at)


def _flip(random: np.random.Generator, content: bytes, other: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(int(random.integers(1, 12))):
        if changed:
            changed[_place(random, content)] = int(random.integers(256))
    return bytes(changed)


def _delete(random: np.random.Generator, content: bytes, other: bytes) -> bytes:
    at = _place(random, content)
    return content[:at] + content[at + int(random.integers(1, 64)) :]


def _insert(random: np.random.Generator, content: bytes, other: bytes) -> bytes:
    at = _place(random, content)
    return content[:at] + random.bytes(int(random.integers(1, 64))) + content[at:]


def _large_number(random: np.random.Generator, content: bytes, other: bytes) -> bytes:
    at = _place(random, content)
    value = random.choice(
        [b"\xff\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\0\0", b"99999999"]
    )
    return content[:at] + bytes(value) + content[at + len(value) :]


def _splice(random: np.random.Generator, content: bytes, other: bytes) -> bytes:
    return content[: _place(random, content)] + other[_place(random, other) :]


def _append(random: np.random.Generator, content: bytes, other: bytes) -> bytes:
    return content + (other if random.random() < 0.3 else random.bytes(int(random.integers(1, 200))))


_MUTATIONS = (_cut, _zero_tail, _flip, _flip, _delete, _insert, _large_number, _splice, _append)


# Reading them


def _start(samples: dict[str, list[tuple[str, bytes]]], seed: int) -> None:
    global _shared
    _shared = samples, seed
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders print what they think of these files


_shared: tuple[dict[str, list[tuple[str, bytes]]], int]


def _run(jobs: list[tuple[str, int]]) -> list[dict[str, Any]]:
    samples, seed = _shared
    return [{"job": job, **_judge(job[0], *mutated(samples[job[0]], seed, job[1]))} for job in jobs]


def _judge(kind: str, content: bytes, name: str) -> dict[str, Any]:
    start = time.monotonic()
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(int(SECONDS_MOST) + 1)
    finding = ""
    try:
        end = _read_image(content) if kind == "image" else _read_record(content, Path(name).suffix)
        if end.startswith("accepted: "):
            finding, end = end, "accepted"
    except _TooLongError:
        end, finding = "hang", f"more than {SECONDS_MOST:.0f} s"
    except Exception as error:  # noqa: BLE001 - what is looked for
        place = traceback.extract_tb(error.__traceback__)[-1]
        end = "internal error"
        finding = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
    finally:
        signal.alarm(0)
    seconds = time.monotonic() - start
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    if mib > MIB_MOST and not finding:
        finding = f"the process has {mib} MiB"
    return {"end": end, "finding": finding, "seconds": round(seconds, 3), "mib": mib}


class _TooLongError(BaseException):
    pass


def _too_long(signum: int, frame: object) -> None:
    raise _TooLongError


def _read_image(content: bytes) -> str:
    from sono.curation.images import raster
    from sono.curation.images.dicom.frames import open_dicom
    from sono.curation.images.pixels import ExcludedError
    from sono.curation.images.signatures import image_kind

    kind = image_kind(content)
    if kind is None:
        return "not an image"
    try:
        if kind == "dicom":
            image = open_dicom(content, ("SeriesDescription", "ViewCodeSequence"))
            accepted = [frame for frame in image.frames() if not isinstance(frame, ExcludedError)]
            list(image.left_out)
            return "accepted" if accepted else "excluded"
        list(raster.read_frames(content, kind))
    except ExcludedError:
        return "excluded"
    complaint = _complaint(content, kind)
    return f"accepted: {complaint}" if complaint else "accepted"


def _complaint(content: bytes, kind: str) -> str | None:
    """What somebody else says against an accepted file."""
    from PIL import Image

    if kind == "jpeg" and content.rstrip(b"\0")[-2:] != b"\xff\xd9":
        return "a JPEG without its end"
    if kind == "png" and b"IEND" not in content[-64:]:
        return "a PNG without its end"
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    except Exception as error:  # noqa: BLE001 - any complaint counts
        return f"Pillow: {type(error).__name__}"
    return None


def _read_record(content: bytes, suffix: str) -> str:
    """The statements that a file gives, as ``caption`` reads them."""
    from sono.captioning.facts.statements import Reading
    from sono.captioning.readers.files import find_records
    from sono.captioning.readers.mapping import load_mapping
    from sono.captioning.readers.stage import read_statements
    from sono.manifests import vocabulary
    from sono.manifests.errors import UserError
    from sono.manifests.pseudonyms import Pseudonymizer
    from sono.manifests.stages import in_process
    from sono.manifests.store import TableStore

    keys = Pseudonymizer(bytes(32))
    reading = Reading(keys, vocabulary.load())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / f"record{suffix}"
        file.write_bytes(content)
        store = TableStore(folder / "workspace")
        try:
            report = read_statements(
                find_records([file], keys),
                reading,
                load_mapping(None),
                store,
                config={},
                engine=in_process,
                progress=lambda _: None,
            )
        except UserError:
            return "refused in one line"
    return "read" if report.rows else "excluded"


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # samples are drawn by the tests' own encoders
    main()
