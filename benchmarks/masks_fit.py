"""What `masks fit` reaches: on real heads by folds of subjects, and on phantoms from one center to the other.

    python benchmarks/masks_fit.py hc18 [--data ../shared/data/hc18] [--fold 0 ...] [--epochs 60] [--size 256]
    python benchmarks/masks_fit.py phantoms [--exams 80] [--seed 2026] [--epochs 60] [--size 256]

hc18: five folds of subjects, fixed by the subjects' numbers. The masks of four folds are imported into a workspace and
fitted with the command's defaults, which set a fifth of the subjects apart for validation; the model then proposes for
the frames of the fifth fold, which it has never seen, and is held against the sonographer's ellipse. Calibration is
that of pixels in and around these masks, with the temperature of the model file.

phantoms: fitted on the true masks of the center north, held against the truth of the center south, structure by
structure; proposals with an IoU of 0.9 or more are those that a person would hardly correct. OUT then holds workspaces
with the true and with the predicted masks, to build datasets from and to compare `sono-train evaluate --mask region`,
`predicted` and `none`.

Times are processor seconds of this process, whatever else the machine does, and of the wall.
"""

from __future__ import annotations

import argparse
import collections
import os
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT / "typings") not in sys.path:
    sys.path.insert(0, str(ROOT / "typings"))

if TYPE_CHECKING:
    from sono.curation.masks.backends.model import FittedModel
    from sono.curation.masks.fit.report.validation import Found
    from sono.curation.masks.fit.settings import FitSettings
    from sono.manifests.workspace import Workspace

FOLDS = 5
CENTERS = ("north", "south")
ALIKE_IOU = 0.9
_COLUMNS = (
    "trained on",
    "tested on",
    "Dice mean",
    "median",
    "lowest",
    "IoU >= 0.9",
    "missed",
    "ECE",
    "confidence",
    "CPU s",
    "wall s",
)
_HEAD = "| {} | " + " | ".join(_COLUMNS) + " |\n|---|" + len(_COLUMNS) * "---:|"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("hc18", "phantoms"))
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "hc18")
    parser.add_argument("--out", type=Path, default=Path("masks_fit"))
    parser.add_argument("--fold", type=int, action="append", help="all five if omitted")
    parser.add_argument("--exams", type=int, default=80)
    parser.add_argument("--seed", type=int, default=2026, help="of the phantoms")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--minutes", type=float)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    (run_hc18 if options.what == "hc18" else run_phantoms)(options)


def run_hc18(options: argparse.Namespace) -> None:
    print(_HEAD.format("fold"))
    base = _workspace(options.out / "base", options.data / "images")
    everything = _copy(base, options.out / "all")
    _import(everything, options.data / "annotations", "_Annotation")
    for fold in options.fold or range(FOLDS):
        fitting = _copy(base, options.out / f"fold{fold}")
        annotations = sorted((options.data / "annotations").glob("*.png"))
        chosen = [path for path in annotations if _fold(path.name) != fold]
        _import(fitting, _links(options.out / f"masks{fold}", chosen), "_Annotation")
        model, figures, spent = _fit(fitting, options.out / f"model{fold}", _settings(options), ())
        held_out = {_frame_id(everything, path.stem.removesuffix("_Annotation")) for path in annotations
                    if _fold(path.name) == fold}  # fmt: skip
        found = _compare(model, everything, held_out)["head"]
        print(_row(fold, figures, found, model, "head", spent), flush=True)


def _fold(name: str) -> int:
    return int(name[:3]) % FOLDS


def _frame_id(workspace: Workspace, name: str) -> str:
    return workspace.keys.frame(workspace.keys.source(f"{name}.png"), 0)


def run_phantoms(options: argparse.Namespace) -> None:
    import numpy as np

    from sono.curation.phantom.run import draw_phantom
    from sono.manifests.stages import in_process

    phantom = options.out / "phantom"
    draw_phantom(phantom, exams=options.exams, seed=options.seed, engine=in_process)
    base = _ingest_phantoms(options.out / "base", phantom)
    truth = _true_masks(phantom, options.out / "truth")
    fitting = _copy(base, options.out / "north")
    _import(fitting, truth / "north", "")
    drawn = _copy(base, options.out / "drawn")
    for center in CENTERS:
        _import(drawn, truth / center, "")
    model, figures, spent = _fit(fitting, options.out / "model", _settings(options), ("north",))
    print(f"fitted: {figures['frames']}, mean Dice {figures['mean_dice']:.3f}; {spent[0]:.0f} CPU s, {spent[1]:.0f} s")
    south = _frames_of(drawn, "south")
    found = _compare(model, drawn, south)
    print(_HEAD.format("structure"))
    for structure, of_structure in sorted(found.items()):
        print(_row(structure, figures, of_structure, model, structure, spent))
    every = [dice for of_structure in found.values() for dice in of_structure.dice]
    print(f"\nover {len(every)} regions of south: mean Dice {np.mean(every):.3f}, median {np.median(every):.3f}, "
          f"IoU at least 0.9 in {_alike(every):.1%}")  # fmt: skip
    predicted = _copy(base, options.out / "predicted")
    _write_predictions(model, predicted, phantom, options.out / "proposed")
    _import(predicted, options.out / "proposed", "", predicted=True)


def _settings(options: argparse.Namespace) -> FitSettings:
    from sono.curation.masks.fit.settings import Architecture, FitSettings

    return FitSettings(Architecture(size_px=options.size), epochs=options.epochs, minutes=options.minutes)


def _workspace(path: Path, images: Path) -> Workspace:
    from sono.curation.ingest.run import ingest
    from sono.curation.qc.run import qc
    from sono.manifests.stages import in_process
    from sono.manifests.workspace import create, open_workspace

    workspace = open_workspace(path) if path.exists() else create(path, "hc18")
    with workspace.writing():
        ingest(workspace, [images], engine=in_process, patient_regex=r"^(\d{3})_", cropped=True)
        qc(workspace, engine=in_process)
    return workspace


def _ingest_phantoms(path: Path, phantom: Path) -> Workspace:
    import subprocess

    from sono.manifests.workspace import open_workspace

    def sono_curate(*words: object) -> None:
        program = "from sono.curation.cli import main; main()"
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "typings")}
        subprocess.run([sys.executable, "-c", program, *map(str, words)], check=True, env=environment,
                       stdout=subprocess.DEVNULL)  # fmt: skip

    if (path / "captions").exists():  # the last of the steps below
        return open_workspace(path)
    if not path.exists():
        sono_curate("init", path)
    for center in CENTERS:
        sono_curate("ingest", path, phantom / "dicom" / center, "--center", center, "--json")
    sono_curate("qc", path, "--json")
    sono_curate("caption", path, "--records", phantom / "records" / "csv", "--json")
    return open_workspace(path)


def _copy(workspace: Workspace, path: Path) -> Workspace:
    """With the same key: frames keep their ids."""
    from sono.manifests.workspace import open_workspace

    if not path.exists():
        shutil.copytree(workspace.path, path)
    return open_workspace(path)


def _true_masks(phantom: Path, out: Path) -> Path:
    """The truth as ``masks import`` reads it: CENTER/STRUCTURE/FILE.png, frames of cines as FILE_fN."""
    import pyarrow.parquet as pq

    from sono.manifests import masks

    counts = collections.Counter(row["file"] for row in pq.read_table(phantom / "truth" / "frames").to_pylist())
    for row in pq.read_table(phantom / "truth" / "regions").to_pylist():
        center, _, rest = row["file"].partition("/")
        _save(out / center / row["structure"], rest, row["frame_index"], counts[row["file"]], masks.decode(row["mask"]))
    return out


def _save(folder: Path, file: str, frame: int, frames: int, mask: Any) -> None:
    import numpy as np
    from PIL import Image

    from sono.manifests.pseudonyms import without_extension

    suffix = f"_f{frame}" if frames > 1 else ""
    path = folder / f"{without_extension(file)}{suffix}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)


def _links(folder: Path, files: Iterable[Path]) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in files:
        (folder / file.name).symlink_to(file.resolve())
    return folder


def _import(workspace: Workspace, folder: Path, suffix: str, *, predicted: bool = False) -> None:
    from sono.curation.masks.run import import_masks
    from sono.manifests.stages import in_process

    structure = "head" if suffix else None
    with workspace.writing():
        import_masks(workspace, folder, structure=structure, mask_format="png", suffix=suffix, predicted=predicted,
                     engine=in_process)  # fmt: skip


def _fit(
    workspace: Workspace, out: Path, settings: FitSettings, centers: Sequence[str]
) -> tuple[FittedModel, dict[str, Any], tuple[float, float]]:
    from sono.curation.masks.backends.model import FittedModel
    from sono.curation.masks.fit.run import Watch, fit_segmenter

    def tell(epoch: Any) -> None:
        print(f"  epoch {epoch.number + 1}: loss {epoch.loss:.3f}, Dice {epoch.dice:.4f}, {epoch.seconds:.0f} s",
              file=sys.stderr, flush=True)  # fmt: skip

    before = time.process_time(), time.monotonic()
    report = fit_segmenter(workspace, out, settings, centers=centers, watch=Watch(epoch=tell))
    spent = time.process_time() - before[0], time.monotonic() - before[1]
    return FittedModel.load(out), dict(report.figures), spent


def _frames_of(workspace: Workspace, center: str) -> set[str]:
    from sono.manifests.schemas import FRAMES

    frames = workspace.store.read_all(FRAMES, ["frame_id", "center"]).to_pylist()
    return {frame["frame_id"] for frame in frames if frame["center"] == center}


def _compare(model: FittedModel, workspace: Workspace, frames: set[str]) -> dict[str, Found]:
    """What the model finds of every structure that it knows, in frames that it was not fitted on."""
    import numpy as np

    from sono.curation.images.stored_png import decode_png
    from sono.curation.masks.fit.data.examples import select_examples
    from sono.curation.masks.fit.letterbox import Letterbox
    from sono.curation.masks.fit.report.validation import Found, add_frame
    from sono.manifests import masks
    from sono.manifests.schemas import FRAMES, REGIONS

    store, found = workspace.store, collections.defaultdict(Found)
    examples = [example for example in select_examples(workspace).examples if example.frame_id in frames]
    for number, example in enumerate(examples):
        (row,) = store.find_rows(Path(example.frame_path), FRAMES, {example.frame_id}, ["image"])
        pixels = decode_png(row["image"]["bytes"])
        logits = model.segmenter.logits(pixels)
        box = Letterbox(*pixels.shape[:2], logits.shape[-1])
        for structure, (region, path) in example.regions.items():
            channel = model.segmenter.channel(structure)
            if channel is None:
                continue
            (drawn,) = store.find_rows(Path(path), REGIONS, {region}, ["mask"])
            add_frame(found[structure], number, example.patient_key, box.unfit(logits[channel]),
                      masks.decode(drawn["mask"]), np.random.default_rng(number))  # fmt: skip
    return found


def _row(
    name: object,
    figures: dict[str, Any],
    found: Found,
    model: FittedModel,
    structure: str,
    spent: tuple[float, float],
) -> str:
    import numpy as np

    from sono.curation.masks.fit.report.calibration import reliability, sigmoid
    from sono.curation.masks.fit.report.validation import confidence

    channel = model.segmenter.channel(structure)
    assert channel is not None
    temperature = model.segmenter.description.structures[channel].temperature
    logits, truth = np.concatenate(found.logits), np.concatenate(found.truth)
    error = reliability(sigmoid(logits / temperature), truth).error
    sure = np.mean([confidence(inside, temperature) for inside in found.inside])
    trained = next(each["training_frames"] for each in figures["structures"] if each["structure"] == structure)
    missed = sum(inside.size == 0 for inside in found.inside)
    return (
        f"| {name} | {trained} | {len(found.dice)} | {np.mean(found.dice):.4f} | {np.median(found.dice):.4f} "
        f"| {min(found.dice):.3f} | {_alike(found.dice):.1%} "
        f"| {missed} | {error:.3f} | {sure:.3f} | {spent[0]:.0f} | {spent[1]:.0f} |"
    )


def _alike(dice: Sequence[float]) -> float:
    """The share with an intersection over union of at least ``ALIKE_IOU``, which follows from the Dice coefficient."""
    return sum(each / (2 - each) >= ALIKE_IOU for each in dice) / len(dice)


def _write_predictions(model: FittedModel, workspace: Workspace, phantom: Path, out: Path) -> None:
    """Proposals for every frame of south, of the structures that the vocabulary lists for its plane."""
    import pyarrow.parquet as pq

    from sono.curation.images.stored_png import decode_png
    from sono.curation.masks.backends.protocol import Prompts
    from sono.manifests.schemas import FRAMES

    names: dict[str, tuple[str, int]] = {}
    truth = pq.read_table(phantom / "truth" / "frames", columns=["file", "frame_index"]).to_pylist()
    counts = collections.Counter(row["file"] for row in truth)
    for row in truth:
        center, _, rest = row["file"].partition("/")
        if center == "south":
            names[workspace.keys.frame(workspace.keys.source(rest), row["frame_index"])] = rest, row["frame_index"]
    shutil.rmtree(out, ignore_errors=True)
    planes = workspace.vocabulary.planes
    for path in workspace.store.paths(FRAMES):
        for row in workspace.store.find_rows(path, FRAMES, names.keys(), ["image", "plane"]):
            embedding = model.embed(decode_png(row["image"]["bytes"]))
            file, index = names[row["frame_id"]]
            for structure in planes[row["plane"]].structures if row["plane"] else ():
                if structure in model.structures:
                    for candidate in model.propose(embedding, Prompts(structure))[:1]:
                        _save(out / structure, file, index, counts[f"south/{file}"], candidate.mask)


if __name__ == "__main__":
    main()
