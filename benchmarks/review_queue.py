"""How well the review queue puts bad masks first, and how fast a queue of a million masks is ordered and read.

    python benchmarks/review_queue.py order [--patients 600] [--seed 2026] [--minutes 4] [--out review_queue]
    python benchmarks/review_queue.py speed [--frames 300000] [--regions 1000000] [--out review_queue]

order: B-mode phantoms, one frame per patient, written into tables as ingest writes them. Half of the patients have
true masks, accepted: they teach GrabCut where structures lie, and a small segmenter what some of them look like. For
the others the product proposes masks, measures and orders them. Kinds of masks, each in a workspace of its own:
  boxes       GrabCut with boxes around the true masks whose sides are moved by up to a tenth, and the segmenter
  places      GrabCut with the places that the accepted masks teach, and the segmenter
  published   GrabCut with the published places, where nothing is accepted
  perturbed   no backend's: true masks that were shifted, eroded, dilated, swapped for another structure or spilled over
              an edge, and as many untouched ones, without scores, so that only anatomy speaks
A mask is bad if its IoU with the truth is below 0.75, or below 0.9. Reviewing is played with the truth: a mask below
0.75 is rejected, one below 0.9 corrected to the truth, the others accepted. The calibrated order is fitted on masks of
patients drawn at random and held against masks of all others; five draws, mean AUROC. "Own prediction" is the Dice that
the segmenter expects of its own mask: predicted IoU and stability need a SAM, of which there are no weights here.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sono.manifests.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]
TAUGHT = 0.5  # of the patients have accepted masks
WORLDS = ("boxes", "places", "published", "perturbed")
BAD = (0.75, 0.9)
REVIEWED = (50, 200, 1000)
DRAWS = 5
PART = 50  # frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("order", "speed", "build", "read"))
    parser.add_argument("--patients", type=int, default=600)
    parser.add_argument("--seed", type=int, default=2026, help="below 100: seeds that settings were chosen on")
    parser.add_argument("--minutes", type=float, default=4, help="that the segmenter is trained")
    parser.add_argument("--frames", type=int, default=300_000)
    parser.add_argument("--regions", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=Path("review_queue"))
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.path.insert(0, str(ROOT))
    options.out.mkdir(parents=True, exist_ok=True)
    runs = {"order": run_order, "speed": run_speed, "build": run_build, "read": run_read}
    runs[options.what](options)


def run_order(options: argparse.Namespace) -> None:
    print(f"Phantoms of seed {options.seed}, {options.patients} patients\n")
    single = ("own prediction", "score", "other prompts", "other masks", "stated order")
    columns = ["masks", "bad: IoU below", "masks", "bad", *single, *(f"{number} reviewed" for number in REVIEWED)]
    print(f"| {' | '.join(columns)} |")
    print("|---|---:|---:|---:|" + "---:|" * (5 + len(REVIEWED)))
    for name, workspace, truth in worlds(options.out, options.patients, options.seed, options.minutes):
        for row in compared(name, workspace, truth):
            print(row, flush=True)


def compared(name: str, workspace: Workspace, truth: Mapping[tuple[str, str], Any]) -> Iterator[str]:
    """The rows of the table for the masks of one workspace."""
    import numpy as np

    signs = proposed_signs(workspace)
    ious = true_ious(workspace, truth, signs.keys["region_id"].to_pylist())
    kinds = {name: np.ones(len(ious), np.bool_)}
    sources = np.array(signs.keys["source"].to_pylist())
    if len(set(sources)) > 1:
        kinds |= {f"{name}, {source}": sources == source for source in sorted(set(sources))}
    orders = all_orders(signs, ious)
    for kind, chosen in kinds.items():
        for threshold in BAD:
            bad = ious < threshold
            cells = [auroc(order, bad, chosen) for order in orders]
            yield (f"| {kind} | {threshold} | {chosen.sum()} | {bad[chosen].mean():.0%} | " + " | ".join(cells) + " |")


def all_orders(signs: Any, ious: npt.NDArray[np.float64]) -> list[list[npt.NDArray[np.float64]]]:
    """Suspicion by each order; of a calibrated one for several draws, NaN where a mask's patient was reviewed."""
    import numpy as np

    from sono.curation.review.queue.features import SIGNS
    from sono.curation.review.queue.order import Reviewed, fit_order, stated_log_odds

    names = list(SIGNS)
    single = [[signs.values[:, names.index(name)]] for name in ("expected_dice", "score", "prompts", "others")]
    orders = [*single, [stated_log_odds(signs.values)]]
    patients = np.array(signs.keys["patient_key"].to_pylist())
    for number in REVIEWED:
        drawn = []
        for draw in range(DRAWS):
            shuffled = np.random.default_rng([draw, 7]).permutation(np.unique(patients))
            seen = np.zeros(len(ious), np.bool_)
            for patient in shuffled:
                if seen.sum() >= number:
                    break
                seen |= patients == patient
            if seen.sum() > 0.8 * len(ious):
                continue
            rows = np.flatnonzero(seen)[:number]
            order = fit_order(Reviewed(subset(signs, rows), ious[rows] < 0.9))
            drawn.append(np.where(seen, np.nan, order.p_bad(signs)))
        orders.append(drawn)
    return orders


def subset(signs: Any, rows: npt.NDArray[np.int64]) -> Any:
    from sono.curation.review.queue.features import Signs

    return Signs(signs.keys.take(rows), signs.values[rows])


def auroc(draws: Sequence[npt.NDArray[np.float64]], bad: npt.NDArray[np.bool_], chosen: npt.NDArray[np.bool_]) -> str:
    """Of masks with the figure; - where less than a tenth have it."""
    import numpy as np
    from sklearn.metrics import roc_auc_score

    found = []
    for values in draws:
        known = chosen & ~np.isnan(values)
        if known.sum() > 0.1 * chosen.sum() and 0 < bad[known].sum() < known.sum():
            found.append(roc_auc_score(bad[known], values[known]))
    return f"{np.mean(found):.3f}" if found else "-"


def proposed_signs(workspace: Workspace) -> Any:
    from sono.curation.review.queue.build import waiting_signs

    return waiting_signs(workspace)


def true_ious(workspace: Workspace, truth: Mapping[tuple[str, str], Any], ids: Sequence[str]) -> Any:
    import numpy as np
    from pycocotools import mask as coco

    from sono.manifests.schemas import REGIONS

    def coded(rle: Any) -> Any:
        return {"size": list(rle["size"]), "counts": rle["counts"].encode()}

    ious = {}
    for row in workspace.store.read_all(REGIONS, ["region_id", "frame_id", "structure", "mask"]).to_pylist():
        true = truth.get((row["frame_id"], row["structure"]))
        ious[row["region_id"]] = (
            0.0 if true is None else float(coco.iou([coded(row["mask"])], [coded(true)], [0])[0, 0])
        )
    return np.array([ious[region_id] for region_id in ids])


# The phantoms.


def worlds(out: Path, patients: int, seed: int, minutes: float) -> Iterator[tuple[str, Workspace, Any]]:
    """The three workspaces with their true masks by frame and structure; drawn once, then kept in ``out``."""
    import shutil

    from sono.curation.masks.backends.registry import BackendChoice
    from sono.curation.masks.checks.run import check_masks
    from sono.manifests.stages import in_process
    from sono.manifests.workspace import open_workspace

    folder = out / f"seed{seed}-{patients}"
    if not (folder / "truth.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        draw(folder, patients, seed)
    truth = {tuple(key.split("/")): rle for key, rle in json.loads((folder / "truth.json").read_text()).items()}
    for name in WORLDS:
        path = folder / name
        if not (path / "mask_checks").exists():
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(folder / "base", path)
            workspace = open_workspace(path)
            started = time.process_time()
            with workspace.writing():
                if name != "published":
                    write_accepted(workspace, truth)
                if name in ("boxes", "places"):
                    if not (folder / "model" / "report.json").exists():
                        fit(workspace, folder / "model", minutes)
                    propose(workspace, BackendChoice("model", checkpoint=folder / "model"))
                if name in ("places", "published"):
                    propose(workspace, BackendChoice("grabcut"))
                if name == "boxes":
                    write_from_boxes(workspace, truth, seed)
                if name == "perturbed":
                    write_perturbed(workspace, truth, seed)
                check_masks(workspace, engine=in_process)
            print(f"{name}: {time.process_time() - started:.0f} CPU s", file=sys.stderr)
        yield name, open_workspace(path), truth


def draw(folder: Path, patients: int, seed: int) -> None:
    """A workspace with frames and verdicts, and the true masks."""
    from sono.curation.phantom.samples import draw_samples
    from sono.curation.qc.run import qc
    from sono.manifests.schemas import FRAMES
    from sono.manifests.stages import in_process
    from sono.manifests.store import PartInfo
    from sono.manifests.workspace import create

    folder.mkdir(parents=True)
    workspace, truth, rows = create(folder / "base", "phantoms"), {}, []
    drawn = draw_samples(patients, seed=seed, modes=("b_mode",), identity_share=0, measured_share=0, varied=False)
    with workspace.writing():
        for number, sample in enumerate(drawn):
            row, true = frame_row(workspace, sample, number)
            rows.append(row)
            truth |= {f"{row['frame_id']}/{structure}": rle for structure, rle in true.items()}
            if len(rows) == PART or number == patients - 1:
                part = f"{number // PART:04d}"
                workspace.store.write(FRAMES, PartInfo(part, "ingest", part, "", len(rows)), FRAMES.from_rows(rows))
                rows = []
        qc(workspace, engine=in_process)
    (folder / "truth.json").write_text(json.dumps(truth))


def frame_row(workspace: Workspace, sample: Any, number: int) -> tuple[dict[str, object], dict[str, Any]]:
    """A row of ``frames``, cropped to the sector as ingest crops it, and the true masks by structure."""
    import numpy as np

    from sono.curation.images.statistics import pixel_statistics
    from sono.curation.images.stored_png import encode_png
    from sono.manifests import masks

    shown = sample.drawn.sector_mask()
    x, y, width, height = masks.bbox(shown)
    window = (slice(y, y + height), slice(x, x + width))
    grey = sample.pixels if sample.pixels.ndim == 2 else sample.pixels[..., 0]
    pixels = np.ascontiguousarray(np.where(shown[window], grey[window], 0).astype(np.uint8))
    true = {name: mask[window] for name, mask in sample.drawn.frames[0].masks.items()}
    statistics, keys = pixel_statistics(pixels), workspace.keys
    row = {
        "frame_id": keys.frame(f"frame {number}", 0),
        "image": {"bytes": encode_png(pixels), "path": None},
        "height": height, "width": width, "crop": [x, y, width, height],
        "source_height": shown.shape[0], "source_width": shown.shape[1],
        "patient_key": f"patient {number:05d}", "study_key": f"study {number:05d}", "source_key": f"frame {number}",
        "source_digest": "", "frame_index": 0, "frame_count": 1, "center": "phantoms", "mode": "b_mode",
        "plane": sample.image.plane,
        "sectors": [sector_row(sector, x, y) for sector in sample.drawn.sectors],
        "pixel_mm_x": sample.drawn.sectors[0].mm_per_px, "pixel_mm_y": sample.drawn.sectors[0].mm_per_px,
        "pixel_digest": keys.pixels(pixels.shape, pixels.data),
        "grey_histogram": statistics.grey_histogram, "laplacian_energy": statistics.laplacian_energy,
        "burned_in_text": "none",
    }  # fmt: skip
    return row, {name: masks.encode(mask) for name, mask in true.items() if np.count_nonzero(mask) >= 40}


def sector_row(drawn: Any, x: int, y: int) -> dict[str, object]:
    """A phantom's sector as cleaning finds it, in a frame that begins at (x, y)."""
    from sono.curation.cleaning.sectors.geometry import Sector

    angles = -drawn.half_angle, drawn.half_angle
    return Sector(drawn.kind, drawn.apex, angles, (drawn.near, drawn.far), drawn.box, 1.0).moved(-x, -y).row()


def is_taught(frame: Mapping[str, Any]) -> bool:
    return int(frame["patient_key"].split()[1]) % round(1 / TAUGHT) == 0


def frames_of(workspace: Workspace) -> list[dict[str, Any]]:
    from sono.manifests.schemas import FRAMES

    columns = ["frame_id", "patient_key", "plane", "pixel_digest", "height", "width", "sectors"]
    return list(workspace.store.read_all(FRAMES, columns).to_pylist())


def write_regions(workspace: Workspace, part: str, rows: list[dict[str, object]]) -> None:
    from sono.manifests.schemas import REGIONS
    from sono.manifests.store import PartInfo

    workspace.store.write(REGIONS, PartInfo(part, part, part, "", len(rows)), REGIONS.from_rows(rows))


def region_row(
    workspace: Workspace, frame: Mapping[str, Any], structure: str, mask: Any, status: str, source: str
) -> dict[str, object]:
    from sono.manifests import masks

    return {
        "region_id": workspace.keys.region(frame["frame_id"], structure, source),
        "frame_id": frame["frame_id"], "pixel_digest": frame["pixel_digest"], "structure": structure,
        "mask": masks.encode(mask), "area_px": masks.area_px(mask), "bbox": list(masks.bbox(mask)),
        "source": source, "status": status,
    }  # fmt: skip


def write_accepted(workspace: Workspace, truth: Mapping[tuple[str, str], Any]) -> None:
    from sono.manifests import masks

    by_frame: dict[str, list[str]] = {}
    for frame_id, structure in truth:
        by_frame.setdefault(frame_id, []).append(structure)
    rows = [
        region_row(workspace, frame, structure, masks.decode(truth[frame["frame_id"], structure]), "accepted", "import")
        for frame in frames_of(workspace)
        if is_taught(frame)
        for structure in by_frame.get(frame["frame_id"], ())
    ]
    write_regions(workspace, "accepted", rows)


def write_from_boxes(workspace: Workspace, truth: Mapping[tuple[str, str], Any], seed: int) -> None:
    """GrabCut's masks for boxes around the true ones whose sides are moved by up to a tenth of their length."""
    import numpy as np

    from sono.curation.cleaning.sectors.geometry import Sector, sector_mask
    from sono.curation.images.stored_png import decode_png
    from sono.curation.masks.backends.grabcut import GrabCutBackend
    from sono.curation.masks.backends.protocol import Prompts
    from sono.curation.masks.propose.choose import choose
    from sono.manifests import masks
    from sono.manifests.schemas import FRAMES

    random, backend, rows = np.random.default_rng([seed, 4]), GrabCutBackend(), []
    wanted: dict[str, dict[str, Any]] = {}
    for (frame_id, structure), rle in truth.items():
        wanted.setdefault(frame_id, {})[structure] = rle
    for frame in frames_of(workspace):
        if is_taught(frame) or frame["frame_id"] not in wanted:
            continue
        (stored,) = (
            row for path in workspace.store.paths(FRAMES)
            for row in workspace.store.find_rows(path, FRAMES, {frame["frame_id"]}, ["image.bytes"])
        )  # fmt: skip
        embedding = backend.embed(decode_png(stored["image"]["bytes"]))
        shown = sector_mask([Sector.from_row(row) for row in frame["sectors"]], *embedding.size)
        for structure, rle in wanted[frame["frame_id"]].items():
            x, y, width, height = masks.bbox(masks.decode(rle))
            left, top, right, bottom = random.uniform(-0.1, 0.1, 4) * (width, height, width, height)
            box = (x + left, y + top, width + right - left, height + bottom - top)
            grown = (box[0] - 0.08 * box[2], box[1] - 0.08 * box[3], 1.16 * box[2], 1.16 * box[3])
            found = choose(backend, embedding, [Prompts(structure, box), Prompts(structure, grown)], shown)
            if found is not None:
                scores = {name: round(value, 4) for name, value in {"score": found[0].score, **found[0].scores}.items()}
                row = region_row(workspace, frame, structure, found[0].mask, "proposed", "grabcut")
                rows.append({**row, "scores": json.dumps(scores)})
    write_regions(workspace, "proposed-grabcut-boxes", rows)


def write_perturbed(workspace: Workspace, truth: Mapping[tuple[str, str], Any], seed: int) -> None:
    """For patients without accepted masks: half of the true masks as they are, half with one fault each."""
    import numpy as np

    from sono.manifests import masks

    random = np.random.default_rng([seed, 3])
    by_frame: dict[str, dict[str, Any]] = {}
    for (frame_id, structure), rle in truth.items():
        by_frame.setdefault(frame_id, {})[structure] = rle
    rows = []
    for frame in frames_of(workspace):
        if is_taught(frame):
            continue
        drawn = {structure: masks.decode(rle) for structure, rle in by_frame.get(frame["frame_id"], {}).items()}
        for structure, mask in drawn.items():
            others = [other for name, other in drawn.items() if name != structure]
            changed = perturbed(mask, others, random) if random.random() < 0.5 else mask
            if changed.any():
                rows.append(region_row(workspace, frame, structure, changed, "proposed", "sam"))
    write_regions(workspace, "perturbed", rows)


def perturbed(mask: Any, others: Sequence[Any], random: np.random.Generator) -> Any:
    import cv2
    import numpy as np

    from sono.manifests.masks import bbox

    x, y, width, height = bbox(mask)
    area, kind = mask.astype(np.uint8), random.choice(["shifted", "eroded", "dilated", "swapped", "spilled"])
    if kind == "swapped" and others:
        return others[int(random.integers(len(others)))]
    if kind in ("eroded", "dilated"):
        side = max(3, int(min(width, height) * random.uniform(0.1, 0.35)))
        disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
        return (cv2.erode if kind == "eroded" else cv2.dilate)(area, disk) > 0
    if kind == "spilled":
        angle, radius = random.uniform(0, 2 * np.pi), max(3, int(max(width, height) * random.uniform(0.2, 0.5)))
        edge = (int(x + width / 2 + width / 2 * np.cos(angle)), int(y + height / 2 + height / 2 * np.sin(angle)))
        return cv2.circle(area.copy(), edge, radius, 1, -1) > 0
    moves = random.uniform(0.1, 0.6, 2) * random.choice([-1, 1], 2) * (width, height)
    moved = cv2.warpAffine(area, np.array([[1, 0, moves[0]], [0, 1, moves[1]]], np.float64), area.shape[::-1])
    return moved > 0


def propose(workspace: Workspace, backend: Any) -> None:
    from sono.curation.masks.propose.run import propose_masks
    from sono.manifests.stages import in_process

    report = propose_masks(workspace, backend, engine=in_process, cache_gb=0)
    print(f"  {backend.name}: {report.run.rows} masks, {report.run.exclusions}", file=sys.stderr)


FITTED = ("head", "heart", "abdomen", "spine", "descending_aorta", "right_ventricle", "left_ventricle", "left_atrium")


def fit(workspace: Workspace, out: Path, minutes: float) -> None:
    """Few patients, structures and minutes, and a small input: as good as a hospital's first one, or worse."""
    from sono.curation.masks.fit.run import fit_segmenter
    from sono.curation.masks.fit.settings import Architecture, FitSettings

    settings = FitSettings(Architecture(size_px=128), epochs=200, minutes=minutes, patience=50, learning_rate=2e-3)
    report = fit_segmenter(workspace, out, settings, structures=FITTED)
    print(f"  segmenter: mean Dice {report.figures['mean_dice']:.3f}, {len(report.figures['history'])} epochs",
          file=sys.stderr)  # fmt: skip


# A million masks.


FRAMES_A_PART = 200  # ingest puts 64 files into a part on average, many of them cines
ACCEPTED_SHARE = 0.1  # of the masks, by people
DECISIONS = 3000  # in the journal


def run_speed(options: argparse.Namespace) -> None:
    """Each figure from a process of its own, which has nothing else in memory."""
    import subprocess

    path = options.out / f"million-{options.frames}-{options.regions}"
    if not (path / "done").exists():
        draw_million(path, options.frames, options.regions)
    for what in ("build", "build", "read"):
        subprocess.run([sys.executable, __file__, what, "--out", str(path)], check=True)


def run_build(options: argparse.Namespace) -> None:
    import resource

    from sono.curation.review.queue.build import build_queue
    from sono.manifests.workspace import open_workspace

    started, spent = time.perf_counter(), time.process_time()
    report = build_queue(open_workspace(options.out))
    wall, cpu = time.perf_counter() - started, time.process_time() - spent
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"| built and ordered | {wall:.1f} s, {cpu:.1f} CPU s | {peak:.2f} GB at most |", flush=True)
    print(f"  {report}", file=sys.stderr)


def run_read(options: argparse.Namespace) -> None:
    import resource

    import numpy as np

    from sono.curation.review.queue.build import queue_path
    from sono.curation.review.queue.queue_file import Queue
    from sono.manifests.workspace import Workspace

    path = queue_path(Workspace(options.out))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = []
    for _ in range(20):
        started = time.perf_counter()
        queue = Queue.open(path)
        times.append(time.perf_counter() - started)
    print(f"| opened | {1e3 * np.median(times):.1f} ms, p95 {1e3 * np.quantile(times, 0.95):.1f} ms "
          f"| file {path.stat().st_size / 1e6:.0f} MB |")  # fmt: skip
    rare = queue.next(None, 1).frames[0].regions[0].structure
    ids = [frame.frame_id for frame in queue.next(None, 400).frames]
    for what, ask in {
        "next 8 frames": lambda cursor, _: queue.next(cursor, 8),
        "next 8 frames with one structure": lambda cursor, _: queue.next(cursor, 8, structure=rare),
        "next 8 frames of one plane": lambda cursor, _: queue.next(cursor, 8, plane="transthalamic"),
        "a frame by its id": lambda _, number: queue.find(ids[number]),
    }.items():
        times, cursor = [], None
        for number in range(400):
            started = time.perf_counter()
            found = ask(cursor, number)
            times.append(time.perf_counter() - started)
            cursor = getattr(found, "cursor", None)
        print(f"| {what} | {1e3 * np.median(times):.2f} ms, p95 {1e3 * np.quantile(times, 0.95):.2f} ms | |")
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
    print(f"| memory while reading | {peak:.0f} MB more | with pages of the file itself |", flush=True)
    decided = {region.region_id for frame in queue.next(None, len(queue) // 2).frames for region in frame.regions}
    started = time.perf_counter()
    queue.next(None, 8, is_open=lambda region_id: region_id not in decided)
    took = 1e3 * (time.perf_counter() - started)
    print(f"| next 8 frames, all of the first half decided since | {took:.0f} ms | {len(decided):,} masks |")


def draw_million(path: Path, frames: int, regions: int) -> None:
    """Tables of the shape that stages write, drawn at random, with real run lengths of phantom masks."""
    import shutil

    import numpy as np

    from sono.manifests.workspace import create

    shutil.rmtree(path, ignore_errors=True)
    started = time.perf_counter()
    workspace = create(path, "million")
    random = np.random.default_rng(0)
    planes = list(workspace.vocabulary.planes.values())
    pool = mask_pool()
    per_frame, rows = regions / frames, FRAMES_A_PART
    written = 0
    for part, first in enumerate(range(0, frames, rows)):
        ids = [random.bytes(16).hex() for _ in range(min(rows, frames - first))]
        chosen = [planes[int(each)] for each in random.integers(0, len(planes), len(ids))]
        write_frames(workspace, f"{part:04d}", ids, chosen, first)
        wanted = round((first + len(ids)) * per_frame) - written
        written += wanted
        write_drawn(workspace, f"{part:04d}", ids, chosen, wanted, pool, random)
    write_journal(workspace)
    (path / "done").touch()
    print(f"drawn in {time.perf_counter() - started:.0f} s", file=sys.stderr)


def mask_pool() -> list[dict[str, Any]]:
    from sono.curation.phantom.samples import draw_samples
    from sono.manifests import masks

    drawn = draw_samples(40, seed=5, modes=("b_mode",), identity_share=0, measured_share=0, varied=False)
    return [
        {"mask": masks.encode(mask), "area_px": masks.area_px(mask), "bbox": list(masks.bbox(mask))}
        for sample in drawn
        for mask in sample.drawn.frames[0].masks.values()
        if mask.any() and list(mask.shape) == [720, 960]
    ]


def write_frames(workspace: Workspace, part: str, ids: Sequence[str], planes: Sequence[Any], first: int) -> None:
    from sono.manifests.schemas import FRAMES, QC
    from sono.manifests.store import PartInfo

    sector = {"kind": "convex", "apex": [480.0, -100.0], "angles": [-35.0, 35.0], "radii": [120.0, 800.0],
              "box": [60, 20, 840, 690], "confidence": 1.0}  # fmt: skip
    frames: list[dict[str, object]] = [
        {
            "frame_id": frame_id, "image": {"bytes": b"0" * 64, "path": None}, "height": 720, "width": 960,
            "crop": [0, 0, 960, 720], "source_height": 720, "source_width": 960,
            "patient_key": f"{(first + number) // 40:032x}", "study_key": f"{(first + number) // 20:032x}",
            "source_key": f"{first + number:032x}", "source_digest": "", "frame_index": 0, "frame_count": 1,
            "center": f"hospital {number % 3}", "plane": plane.id, "pixel_mm_x": 0.2, "pixel_mm_y": 0.2,
            "sectors": [sector], "pixel_digest": f"pixels {frame_id}", "grey_histogram": [0] * 256,
            "laplacian_energy": 0.0, "burned_in_text": "none",
        }
        for number, (frame_id, plane) in enumerate(zip(ids, planes, strict=True))
    ]  # fmt: skip
    verdicts: list[dict[str, object]] = [
        {"frame_id": frame_id, "verdict": "review" if number % 25 == 0 else "accept", "reasons": [],
         "config_sha256": ""} for number, frame_id in enumerate(ids)
    ]  # fmt: skip
    workspace.store.write(FRAMES, PartInfo(part, "ingest", part, "", len(ids)), FRAMES.from_rows(frames))
    workspace.store.write(QC, PartInfo(part, "qc", part, "", len(ids)), QC.from_rows(verdicts))


def write_drawn(
    workspace: Workspace, part: str, ids: Sequence[str], planes: Sequence[Any], wanted: int,
    pool: Sequence[Mapping[str, Any]], random: np.random.Generator,
) -> None:  # fmt: skip
    """Masks of two backends for the same structures, with scores, measures and how far they agree."""
    import datetime

    from sono.manifests.schemas import MASK_CHECKS
    from sono.manifests.store import PartInfo

    rows: list[dict[str, object]] = []
    checks: list[dict[str, object]] = []
    at = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    pair = 0
    while len(rows) < wanted:
        frame, place = pair % len(ids), pair // len(ids)
        structures = planes[frame].structures
        quality, before = float(random.random()), None
        for source in ("grabcut", "model")[: wanted - len(rows)]:
            region_id = random.bytes(16).hex()
            accepted = random.random() < ACCEPTED_SHARE
            scores = {"score": quality, "fit": random.random(), "contrast": 0.5 + random.random() / 2,
                      "agreement": random.random()} if source == "grabcut" else {
                      "score": quality, "confidence": quality, "expected_dice": random.random()}  # fmt: skip
            rows.append({
                "region_id": region_id, "frame_id": ids[frame], "pixel_digest": f"pixels {ids[frame]}",
                "structure": structures[place % len(structures)], **pool[int(random.integers(len(pool)))],
                "source": source, "scores": json.dumps({name: round(value, 4) for name, value in scores.items()}),
                "status": "accepted" if accepted else "proposed", "reviewer": "ada" if accepted else None,
                "updated_at": at if accepted else None,
            })  # fmt: skip
            agreement = [{"region_id": before, "iou": random.random()}] if before else []
            checks.append({"region_id": region_id, "specks": int(random.random() < 0.1), "speck_px": 0, "holes": 0,
                           "hole_px": 0, "outside_px": 0, "overlaps": [], "agreement": agreement})  # fmt: skip
            before = region_id
        pair += 1
    for source in ("grabcut", "model"):
        write_regions(workspace, f"proposed-{source}-{part}", [row for row in rows if row["source"] == source])
    info = PartInfo(part, "masks-check", part, "", len(checks))
    workspace.store.write(MASK_CHECKS, info, MASK_CHECKS.from_rows(checks))


def write_journal(workspace: Workspace) -> None:
    """Decisions on masks that the tables still show as proposed: a third of them rejected."""
    from sono.manifests.journal import Journal
    from sono.manifests.journal_events import NewEvent
    from sono.manifests.journal_file import journal_path
    from sono.manifests.schemas import REGIONS

    journal, left = Journal(journal_path(workspace.path)), DECISIONS
    for path in workspace.store.paths(REGIONS)[:: max(len(workspace.store.paths(REGIONS)) // 50, 1)]:
        for row in workspace.store.read(REGIONS, path.stem.removeprefix("part-")).to_pylist()[: DECISIONS // 40]:
            if row["status"] == "proposed" and left:
                left -= 1
                journal.append(NewEvent(
                    event_id=row["region_id"], reviewer="ada", subject="region", frame_id=row["frame_id"],
                    region_id=row["region_id"], structure=row["structure"], before=row, after=row,
                    action="reject" if json.loads(row["scores"])["score"] < 0.33 else "accept",
                ), expected=None)  # fmt: skip


if __name__ == "__main__":
    main()
