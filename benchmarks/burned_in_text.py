"""Text and marks of measurements within the ultrasound: what is found, what is removed, what can still be read.

    python -m benchmarks.burned_in_text [--frames 600] [--seed 2026] [--hc18 FOLDER] [--proof]

Draws phantoms of all modes, two fifths with identity and two fifths with measurements over the ultrasound, and cleans
them within their true sectors. A string counts as found if the detector marks at least half of its box, and as gone if
95 % of the pixels that it changed were edited; strings that changed pixels by less than 18 levels on average are
counted apart as well. Then strings of scripts and in fonts that the detector was not trained on are written over clean
phantoms, and over the images of HC18 (``--hc18``) of subjects that it was not trained on; and it is counted how many of
these frames it flags without any string. ``--proof`` also lets both readers look at every frame (a second each). Times
are processor time on one thread.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")

import numpy as np

from sono.curation.cleaning.overlays.burned_in_text import clean_text
from sono.curation.cleaning.overlays.calipers import remove_calipers
from sono.curation.cleaning.overlays.find import find_overlays
from sono.curation.cleaning.overlays.text_readers import search
from sono.curation.cleaning.required import require_readers
from sono.curation.images.pixels import Mask, Pixels
from sono.curation.phantom.drawing.screen import IDENTITY, MEASUREMENT_MARKS
from sono.curation.phantom.samples import MODES, Sample, draw_sample, draw_samples
from sono.manifests.vocabulary import load
from tools.text_detector.backgrounds import HC18, read_grey
from tools.text_detector.fonts import HELD_OUT
from tools.text_detector.lettering import write_string
from tools.text_detector.strings import UNSEEN_SCRIPTS, cyrillic, greek, latin, number

FOUND, GONE, SHORTEST = 0.5, 0.95, 3
HARDLY_VISIBLE = 18
HC18_WITH_TEXT = ("024_HC", "236_HC", "283_HC", "299_HC", "299_2HC", "519_HC")
"""Show the length of a cine below the sector, or a note over it."""
ALLOWED = ("b_mode", "dual", "color_doppler")
Random = np.random.Generator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--hc18", type=Path)
    parser.add_argument("--proof", action="store_true")
    options = parser.parse_args()
    if options.proof:
        require_readers()
    phantoms(options.frames, options.seed, proof=options.proof)
    strings_not_trained_on(options.frames, options.seed, options.hc18)


def phantoms(frames: int, seed: int, *, proof: bool) -> None:
    found: Counter[tuple[str, str]] = Counter()
    seconds: list[tuple[float, float]] = []
    for index, sample in enumerate(draw_samples(frames, seed=seed, identity_share=0.4, measured_share=0.4)):
        inside = sample.drawn.sector_mask()
        if not np.any(inside):
            continue
        started = time.process_time()
        overlays = find_overlays(sample.pixels, inside)
        detected = time.process_time()
        text = clean_text(sample.pixels, inside, search_too=proof)
        cleaned = time.process_time()
        calipers = remove_calipers(text.pixels, inside, text.overlays)
        seconds.append((detected - started, time.process_time() - cleaned))
        assert np.array_equal(
            calipers.pixels[~(text.edited | calipers.edited)], sample.pixels[~(text.edited | calipers.edited)]
        )
        change = changed_by_drawing(sample, seed, index)
        count_strings(found, sample, change * inside, overlays.text, text.edited | calipers.edited)
        count_marks(found, sample, change * inside, text.edited | calipers.edited, calipers.found)
        found["frames", text.status] += 1
        for reason in (*text.reasons, *calipers.reasons):
            found["review", reason] += 1
        if proof:
            count_readings(found, sample, inside, calipers.pixels)
    report(f"phantoms, seed {seed}", found)
    detection, rest = np.array(seconds).T * 1000
    late = np.percentile(detection, 95)
    print(f"ms: detection {np.median(detection):.1f} (95 %: {late:.1f}), calipers after it {rest.mean():.2f}")


def count_readings(found: Counter[tuple[str, str]], sample: Sample, inside: Mask, cleaned: Pixels) -> None:
    """Which strings rapidocr reads before and after cleaning, identity or others, and what it reads where none is."""
    lines = [line for line in sample.drawn.texts if line.inside and len(line.text) >= SHORTEST]
    for when, pixels in ("before", sample.pixels), ("after", cleaned):
        shown = np.where(inside if pixels.ndim == 2 else inside[..., None], pixels, 0).astype(np.uint8)
        readings = search(shown)
        for line in lines:
            part = f"{'identity' if line.kind in IDENTITY else 'other text'}, read by rapidocr"
            found[part, "all"] += when == "before"
            found[part, when] += any(overlap(reading.box, line.box) for reading in readings)
        elsewhere = sum(not any(overlap(reading.box, line.box) for line in lines) for reading in readings)
        found["read by rapidocr where no string is", when] += elsewhere


def overlap(one: Sequence[int], other: Sequence[int]) -> bool:
    return all(one[side] < other[side] + other[side + 2] and other[side] < one[side] + one[side + 2] for side in (0, 1))


def changed_by_drawing(sample: Sample, seed: int, index: int) -> Pixels:
    """By how many levels text and measurements changed each pixel: the same frame is drawn without them."""
    bare = draw_sample(seed, index, MODES[index % len(MODES)], load(), (0.0, 0.0)).pixels
    one, other = (np.atleast_3d(pixels).astype(np.int16) for pixels in (sample.pixels, bare))
    return np.abs(one - other).max(axis=2).astype(np.uint8)


def count_strings(found: Counter[tuple[str, str]], sample: Sample, change: Pixels, text: Mask, edited: Mask) -> None:
    inside = sample.drawn.sector_mask()
    written = [line for line in sample.drawn.texts if line.inside and share(inside, line.box) > 0.5]
    for line in written:
        window = window_of(line.box)
        ink = change[window] > 0
        if not np.any(ink):  # a setting or a ruler's number, on the bare frame, too
            ink = inside[window]
        if len(line.text) < SHORTEST:
            parts = ["number beside a caliper or a tick"]
        else:
            parts = ["string", f"{line.script}", line.kind, "upright" if line.angle else "across"]
            parts += [f"string, {', '.join(ALLOWED)}"] if sample.mode in ALLOWED else []
            parts += ["hardly visible string"] if 0 < change[window][ink].mean() < HARDLY_VISIBLE else []
        for part in parts:
            found[part, "all"] += 1
            found[part, "found"] += share(text, line.box, within=inside) >= FOUND
            found[part, "gone"] += edited[window][ink].mean() >= GONE
    if not [line for line in sample.drawn.texts if line.inside]:
        kinds = ["frame without text", f"frame without text, {sample.mode}"]
        kinds += [f"frame without text, {', '.join(ALLOWED)}"] if sample.mode in ALLOWED else []
        for kind in kinds:
            found[kind, "all"] += 1
            found[kind, "flagged"] += bool(np.any(text))


def count_marks(found: Counter[tuple[str, str]], sample: Sample, change: Pixels, edited: Mask, flagged: bool) -> None:
    """Frames with marks: found as such, or gone because all of their ink was removed, be it as text."""
    marks = [mark for mark in sample.drawn.marks if mark.inside and mark.kind in MEASUREMENT_MARKS]
    ink = np.zeros(change.shape, np.bool_)
    for mark in marks:
        ink[window_of(mark.box)] = True
    ink &= change > 0
    for line in sample.drawn.texts:
        ink[window_of(line.box)] = False
    kinds = ["calipers" if marks else "frame without calipers"]
    kinds += [f"{kinds[0]}, {sample.mode}", f"{kinds[0]}, {', '.join(ALLOWED)}"][: 1 + (sample.mode in ALLOWED)]
    for kind in kinds:
        found[kind, "all"] += 1
        found[kind, "found" if marks else "flagged"] += flagged
        if marks:
            gone = float(np.mean(edited[ink])) if np.any(ink) else 1.0
            found[kind, "found or half gone"] += flagged or gone >= FOUND
            found[kind, "gone"] += gone >= GONE


def strings_not_trained_on(frames: int, seed: int, hc18: Path | None) -> None:
    """Fonts held out, with trained scripts; trained fonts, with scripts held out; both over clean frames."""
    sources: dict[str, Callable[[], Iterator[tuple[Pixels, Mask]]]] = {
        "phantoms": lambda: clean_phantoms(frames // 3, seed)
    }
    if hc18:
        sources["HC18"] = lambda: hc18_frames(hc18)
    for name, images in sources.items():
        random = np.random.default_rng(seed)
        found: Counter[tuple[str, str]] = Counter()
        for pixels, inside in images():
            overlays = find_overlays(pixels, inside)
            found["frame without text", "all"] += 1
            found["frame without text", "flagged"] += bool(np.any(overlays.text))
            found["frame without calipers", "all"] += 1
            found["frame without calipers", "flagged"] += bool(np.any(overlays.marks))
            for script, font, text in unseen_strings(random):
                write_and_find(found, pixels, inside, script, font, text, random)
        report(f"{name}: strings not trained on", found)
    if hc18:
        seen = [find_overlays(image, np.ones(image.shape, np.bool_)).text.any() for image in texts_in(hc18)]
        print(f"HC18: {sum(seen)} of {len(seen)} images that show text are flagged")


def unseen_strings(random: Random) -> Iterator[tuple[str, str, str]]:
    for script, draw in (("latin", latin), ("number", number), ("cyrillic", cyrillic), ("greek", greek)):
        font = (
            HELD_OUT[int(random.integers(len(HELD_OUT)))]
            if script in ("cyrillic", "greek") or random.random() < 0.7
            else "pillow"
        )
        yield script, font, draw(random)
    for script, draw in UNSEEN_SCRIPTS.items():
        yield script, "truetype/dejavu/DejaVuSans.ttf", draw(random)


def write_and_find(
    found: Counter[tuple[str, str]], pixels: Pixels, inside: Mask, script: str, font: str, text: str, random: Random
) -> None:
    colored = np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels.copy()
    size = int(random.integers(11, 23))
    written = write_string(colored, text, font, size, random)
    if written is None or share(inside, written.box) < 1:
        return
    grey = random.random() < 0.5
    colored = (
        np.repeat(np.dot(colored, [0.299, 0.587, 0.114]).astype(np.uint8)[..., None], 3, axis=2) if grey else colored
    )
    seen = "" if written.visible else "hardly visible, "
    overlays = find_overlays(colored, inside)
    for part in (f"{seen}string", f"{seen}{script}", *([] if seen else [f"font {Path(font).stem}"])):
        found[part, "all"] += 1
        found[part, "found"] += share(overlays.text, written.box) >= FOUND


def clean_phantoms(count: int, seed: int) -> Iterator[tuple[Pixels, Mask]]:
    for sample in draw_samples(count, seed=seed, modes=ALLOWED, identity_share=0.0, measured_share=0.0):
        if not any(line.inside for line in sample.drawn.texts):  # a ruler's numbers may reach into a neighbouring panel
            yield sample.pixels, sample.drawn.sector_mask()


def hc18_frames(folder: Path) -> Iterator[tuple[Pixels, Mask]]:
    """Images without text of subjects that were not trained on; the whole image is looked at."""
    trained = {name[:3] for name in HC18}
    for path in sorted(folder.glob("*_*HC.png")):
        if path.name[:3] not in trained and path.stem not in HC18_WITH_TEXT:
            pixels = read_grey(path)
            yield pixels, np.ones(pixels.shape, np.bool_)


def texts_in(folder: Path) -> list[Pixels]:
    return [read_grey(folder / f"{name}.png") for name in HC18_WITH_TEXT]


def share(mask: Mask, box: Sequence[int], within: Mask | None = None) -> float:
    """Of the box, or of its part ``within``, that is set in ``mask``."""
    window = window_of(box)
    part = mask[window] if within is None else mask[window][within[window]]
    return float(part.mean()) if part.size else 0.0


def window_of(box: Sequence[int]) -> tuple[slice, slice]:
    x, y, width, height = box
    return np.s_[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)]


def report(title: str, found: Counter[tuple[str, str]]) -> None:
    print(f"\n{title}")
    for kind in sorted({kind for kind, _ in found}):
        values = {what: count for (name, what), count in found.items() if name == kind}
        total = values.pop("all", 0)
        shares = ", ".join(
            f"{what} {count} ({count / total:.2%})" if total else f"{what} {count}"
            for what, count in sorted(values.items())
        )
        print(f"  {kind:42} {total or '':>6}  {shares}")


if __name__ == "__main__":
    main()
