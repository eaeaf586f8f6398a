"""The flow from an archive to an evaluated model, with the library functions that the commands call.

    python examples/flow.py OUT                          draws a phantom archive: nobody in it exists
    python examples/flow.py OUT --archive phantoms       takes one that `sono-curate phantom phantoms` drew

Every step resumes where it stopped and does only what is new, so you can interrupt the script and run it again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sono.captioning.captions.run import caption_workspace
from sono.curation.dataset.run import build
from sono.curation.engines.local import LocalEngine, default_workers
from sono.curation.ingest.run import ingest
from sono.curation.masks.run import import_masks
from sono.curation.phantom.run import draw_phantom
from sono.curation.qc.run import qc
from sono.manifests.splits import SplitPlan
from sono.manifests.workspace import create, open_workspace
from sono.training import recipes
from sono.training.evaluation.scoring import Scoring
from sono.training.evaluation.zero_shot.run import evaluate
from sono.training.pretraining.run import pretrain

CENTERS = ("north", "south")
HELD_OUT = "south"  # scored on a hospital that the model never saw, because that is what a user would face


def curate(archive: Path, out: Path, engine: LocalEngine) -> Path:
    """From an archive to a dataset. The tables in the workspace are the only thing that steps hand to each other."""
    folder = out / "workspace"
    workspace = open_workspace(folder) if folder.exists() else create(folder, "phantoms")
    with workspace.writing():  # one writer at a time; readers need not wait
        # Centers one by one: paths are relative to the folder given, and masks are matched to images by them.
        for center in CENTERS:
            [report] = ingest(workspace, [archive / "dicom" / center], center=center, engine=engine)
            print(f"{center}: {report.files} files, {report.run.rows} frames; left out {dict(report.run.exclusions)}")
        qc(workspace, engine=engine)
        for center in CENTERS:
            regions = import_masks(workspace, archive / "truth" / "masks" / center, mask_format="png", engine=engine)
            print(f"{center}: {regions.rows} regions")
        captions = caption_workspace(workspace, [archive / "records" / "csv"], templates="paper", engine=engine)
        print(f"captions: {captions.global_captions} of frames, {captions.region_captions} of regions")
        built = build(
            workspace,
            out / "dataset",
            plan=SplitPlan(holdout_center=HELD_OUT),
            max_side_px=128,  # twice what the recipe tiny looks at; the masks are scaled with the images
            engine=engine,
        )
    print(f"dataset: {dict(built.splits)} frames; left out {dict(built.left_out)}")
    return out / "dataset"


def train(dataset: Path, run: Path, steps: int) -> dict[str, Any]:
    """From a dataset to figures. A few hundred steps from scratch show that the parts fit, and make no useful model."""
    recipe = recipes.override(
        recipes.find("tiny"), [f"train.steps={steps}", f"train.warmup_steps={max(1, steps // 8)}"]
    )
    outcome = pretrain([str(dataset)], run, recipe, resume=True)
    print(f"trained {outcome.step} steps: {outcome.checkpoint}")
    # Both masks in one call, so that they are scored on the same frames and their difference is paired.
    return evaluate(Scoring(run, str(dataset), split="test"), masks=("none", "region"))


def print_figures(result: dict[str, Any]) -> None:
    """Top-1 accuracy per mask, and their difference, each with its 95 % interval over patients."""
    print(f"{result['n_frames']} frames of {result['n_patients']} patients of {HELD_OUT}")
    for mask, figures in result["masks"].items():
        print(f"  {mask:<8}top-1 {_percent(figures['top1'])}")
    # One model with masks and without: what masks add to training takes a second model, see `sono-train ablation`.
    # And what the masks give away by themselves needs no model at all.
    print(f"  region - none {_percent(result['minus_none']['region']['top1'])} (one model, not two trainings)")
    print(f"  leak    top-1 {_percent(result['leak']['top1'])}: the masks alone, with no image and no model")


def _percent(share: dict[str, float]) -> str:
    return f"{share['value']:.1%} ({share['low']:.1%} to {share['high']:.1%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", metavar="OUT", type=Path, help="folder for the workspace, the dataset and the run")
    parser.add_argument("--archive", metavar="DIR", type=Path, help="a phantom archive; if omitted, one is drawn")
    parser.add_argument("--exams", metavar="N", type=int, default=40, help="examinations to draw")
    parser.add_argument("--steps", metavar="N", type=int, default=300, help="training steps")
    arguments = parser.parse_args()
    engine = LocalEngine(default_workers())
    archive = arguments.archive or arguments.out / "phantoms"
    if arguments.archive is None:
        draw_phantom(archive, exams=arguments.exams, seed=0, engine=engine)
    dataset = curate(archive, arguments.out, engine)
    print_figures(train(dataset, arguments.out / "run", arguments.steps))


if __name__ == "__main__":  # the engine's worker processes import this file
    main()
