"""Fits a segmenter to accepted masks: from a workspace's tables to a model file and a page that says how good it is."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sono.manifests.errors import UserError, import_extra
from sono.manifests.fingerprints import part_digest
from sono.manifests.outputs import refuse_foreign, refuse_inside_dataset
from sono.manifests.store import exclusive, make_private, write_atomically
from sono.manifests.workspace import Workspace

from .data.annotation import PRESENT, annotate
from .data.examples import Example, Selection, select_examples
from .data.patients import PatientSplit, patient_digest, split_patients
from .data.prepared import Prepared, prepare, prepared_identity
from .model_file import FILE, architecture_fields, load_segmenter, save_segmenter
from .network import EXTRA
from .report.page import write_page
from .report.scores import StructureScores, score, score_json
from .report.validation import find_structures
from .settings import FitSettings
from .trainer import Epoch, train

_PREPARED, _PROGRESS, _PAGE, _FIGURES, _LOCK = "prepared", "progress.pt", "report.html", "report.json", ".lock"


@dataclass(frozen=True)
class FitReport:
    """What a fit wrote and found: ``report.json`` holds the same."""

    model: str
    model_sha256: str
    page: str
    figures: Mapping[str, Any]
    up_to_date: bool


@dataclass(frozen=True)
class Watch:
    """Called while a fit runs: with the frames prepared and their number, and with every epoch."""

    prepared: Callable[[int, int], None] = lambda done, total: None
    epoch: Callable[[Epoch], None] = lambda epoch: None


def fit_segmenter(
    workspace: Workspace,
    out: Path,
    settings: FitSettings,
    *,
    structures: Collection[str] = (),
    centers: Collection[str] = (),
    watch: Watch = Watch(),
) -> FitReport:
    """Fit a segmenter and write ``model.safetensors``, ``report.html`` and ``report.json`` into the folder ``out``.

    An interrupted fit resumes after its last epoch; a finished one of the same masks and settings is up to date. A fit
    of other masks or settings is left as it is, finished or not.

    Args:
        structures: names of the structures to learn; all that have masks, if empty.
        centers: those whose frames to learn from; all, if empty.

    Raises:
        UserError: there is too little to learn from, or ``out`` holds something else, such as another fit.
    """
    import_extra("segmentation_models_pytorch", EXTRA)
    wanted = {workspace.vocabulary.require_structure(name) for name in structures}
    selection, split = _validated(select_examples(workspace, wanted, centers), settings)
    identity = _identity(workspace, selection, split, settings)
    refuse_inside_dataset(out)
    refuse_foreign(out, {FILE, _PREPARED, _PROGRESS, _PAGE, _FIGURES, _LOCK}, "a fit")
    make_private(out)
    with exclusive(out, str(out)):
        report = _finished(out, identity)
        if report is None:
            _refuse_other_progress(out, identity)
            report = _fit(workspace, out, selection, split, settings, identity, watch)
        shutil.rmtree(out / _PREPARED, ignore_errors=True)
        (out / _PROGRESS).unlink(missing_ok=True)
    return report


def _validated(selection: Selection, settings: FitSettings) -> tuple[Selection, PatientSplit]:
    """The selection without structures that cannot be validated, nor frames that then have none; and its split."""
    examples, lost = list(selection.examples), 0
    while True:
        split = split_patients(examples, settings.validation, settings.seed)
        kept = set(split.structures)
        losing = sum(structure not in kept for example in examples for structure in example.regions)
        if not losing:
            break
        lost += losing
        examples = [_only(example, kept) for example in examples if kept & example.regions.keys()]
        if not examples:
            raise UserError("no structure is outlined in two patients", fix="outline structures in more patients")
    left_out = {**selection.left_out, "too_few_patients": lost} if lost else selection.left_out
    return Selection(examples, dict(sorted(left_out.items()))), split


def _only(example: Example, structures: Collection[str]) -> Example:
    regions = {name: region for name, region in example.regions.items() if name in structures}
    return dataclasses.replace(example, regions=regions)


def _identity(workspace: Workspace, selection: Selection, split: PatientSplit, settings: FitSettings) -> str:
    """Changes with anything that decides the model: frames, masks, patients, settings and the structures' planes.

    It does not change with the place of the workspace, nor with how that was written.
    """
    vocabulary = workspace.vocabulary
    parts = {Path(example.frame_path) for example in selection.examples}
    parts |= {Path(path) for example in selection.examples for _, path in example.regions.values()}
    content = [
        [[example.frame_id, example.plane, group, sorted(example.doubtful),
          sorted((name, region, Path(path).name) for name, (region, path) in example.regions.items())]
         for example, group in zip(selection.examples, split.group_of, strict=True)],
        sorted((path.parent.name, path.name, part_digest(path)) for path in parts),
        settings.as_json(),
        {name: plane.structures for name, plane in vocabulary.planes.items()},
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()


def _finished(out: Path, identity: str) -> FitReport | None:
    """The report of a fit that is complete; None if there is none yet.

    Raises:
        UserError: it is a fit of other masks or with other settings, or its model is damaged or missing.
    """
    try:
        figures = json.loads((out / _FIGURES).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        figures = {}
    if not isinstance(figures, dict) or figures.get("identity") != identity:
        raise UserError(
            "this folder holds a model of other masks, or one fitted with other settings",
            where=str(out),
            fix="name a new folder",
        )
    sha256 = load_segmenter(out).sha256
    if figures.get("model_sha256") != sha256:
        raise UserError(
            f"{FILE} is not the model that {_FIGURES} is about", where=str(out), fix="name a new folder, and fit again"
        )
    return FitReport(str(out / FILE), sha256, str(out / _PAGE), figures, up_to_date=True)


def _refuse_other_progress(out: Path, identity: str) -> None:
    """Refuse to replace the epochs of an interrupted fit of other masks, or with other settings.

    Raises:
        UserError: ``out`` holds such a fit.
    """
    if (out / _PROGRESS).exists() and prepared_identity(out / _PREPARED) not in (None, identity):
        raise UserError(
            "this folder holds an interrupted fit of other masks, or with other settings",
            where=str(out),
            fix="name a new folder, or delete this one",
        )


def _fit(
    workspace: Workspace,
    out: Path,
    selection: Selection,
    split: PatientSplit,
    settings: FitSettings,
    identity: str,
    watch: Watch,
) -> FitReport:
    examples, structures = selection.examples, split.structures
    known = annotate(examples, structures, workspace.vocabulary)
    size_px = settings.architecture.size_px
    prepared = prepare(workspace.store, examples, structures, known, size_px, out / _PREPARED, identity, watch.prepared)
    validating = [number for number in range(len(examples)) if split.validates(number)]
    training = [number for number in range(len(examples)) if not split.validates(number)]
    network, epochs = train(prepared, training, validating, settings, out / _PROGRESS, identity, watch.epoch)
    found = find_structures(
        workspace.store, network, prepared, examples, validating, split.group_of, structures, settings.seed
    )
    scores = [
        score(name, of_structure, _learned_from(prepared, column, training, split))
        for column, (name, of_structure) in enumerate(zip(structures, found, strict=True))
    ]
    figures = _figures(selection, split, training, validating, scores, epochs, identity, settings)
    segmenter = save_segmenter(out / FILE, network, _description(workspace, examples, scores, figures, settings))
    write_page(out / _PAGE, workspace, segmenter, examples, scores, figures)
    figures = {**figures, "model_sha256": segmenter.sha256}
    text = json.dumps(figures, indent=2)
    write_atomically(out / _FIGURES, lambda file: file.write(text.encode()))  # last: the fit is then complete
    return FitReport(str(out / FILE), segmenter.sha256, str(out / _PAGE), figures, up_to_date=False)


def _learned_from(prepared: Prepared, column: int, training: Sequence[int], split: PatientSplit) -> tuple[int, int]:
    having = [number for number in training if prepared.known[number, column] == PRESENT]
    return len(having), len({split.group_of[number] for number in having})


def _figures(
    selection: Selection,
    split: PatientSplit,
    training: Sequence[int],
    validating: Sequence[int],
    scores: Sequence[StructureScores],
    epochs: Sequence[Epoch],
    identity: str,
    settings: FitSettings,
) -> dict[str, Any]:
    groups = {side: len({split.group_of[number] for number in side_of}) for side, side_of in
              (("training", training), ("validation", validating))}  # fmt: skip
    best = max(epochs, key=lambda epoch: epoch.dice)
    return {
        "identity": identity,
        "frames": {"training": len(training), "validation": len(validating)},
        "patients": groups,
        "regions": sum(len(example.regions) for example in selection.examples),
        "left_out": dict(selection.left_out),
        "mean_dice": sum(each.dice.value for each in scores) / len(scores),
        "structures": [score_json(each) for each in scores],
        "epochs": len(epochs),
        "best_epoch": best.number + 1,
        "seconds": sum(epoch.seconds for epoch in epochs),
        "history": [[epoch.loss, epoch.dice] for epoch in epochs],
        "settings": settings.as_json(),
    }


def _description(
    workspace: Workspace,
    examples: Sequence[Example],
    scores: Sequence[StructureScores],
    figures: Mapping[str, Any],
    settings: FitSettings,
) -> dict[str, Any]:
    libraries = ("torch", "segmentation-models-pytorch", "timm", "sono-curate")
    return {
        **architecture_fields(settings.architecture),
        "structures": [
            {
                "id": each.structure,
                "temperature": each.temperature,
                "dice": each.dice.value,
                "dice_low": each.dice.low,
                "dice_high": each.dice.high,
                "calibration_error": each.after.error if each.after else None,
            }
            for each in scores
        ],
        "settings": dict(settings.as_json()),
        "trained_on": {key: figures[key] for key in ("frames", "patients", "regions", "epochs", "best_epoch")},
        "patients": sorted({patient_digest(example.patient_key) for example in examples}),
        "pseudonyms_id": workspace.pseudonyms_id,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in libraries}},
    }
