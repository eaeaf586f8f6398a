"""Zero-shot recognition of the plane: a frame's features against those of sentences that name the planes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from sono.manifests.filenames import dataset_label
from sono.training.data.wordings import Kind
from sono.training.evaluation.answers import Answers
from sono.training.evaluation.breakdown import Groups
from sono.training.evaluation.notes import about_classes, about_planes
from sono.training.evaluation.prompts import choose_wordings, plane_features, prompts
from sono.training.evaluation.scoring import Measurement, Scoring
from sono.training.evaluation.selection import Classes, Selection, count_sources, each_plane, select_frames
from sono.training.features.views import MODES, FrameViews
from sono.training.model.transforms import CropToSquare

from .figures import differences, leak_figures, recognition_figures
from .leak import Leak, measure_leak
from .page import write_page
from .protocol import OURS, Protocol

MASK_SETS: Mapping[str, tuple[str, ...]] = {
    "both": ("none", "region"),
    "predicted": ("none", "region", "predicted"),
    "all": ("none", "region", "shuffled", "blank"),
}
"""Names for several masks together, in ``--mask`` and in the names of result files."""


def evaluate(
    scoring: Scoring,
    *,
    masks: Sequence[str] = ("none",),
    predicted: str | None = None,
    classes: Classes | None = None,
    protocol: Protocol = OURS,
) -> dict[str, Any]:
    """Recognise the plane of every frame of the split, seen through each of ``masks``.

    Mean per-class top-1 and top-5 accuracy and F1 over the planes present, with 95 % intervals over patients; the same
    by center, scanner and trimester; calibration. All masks are scored on the same frames, those that have what every
    one of the masks needs; the others are counted.

    What this does not measure: anything but which plane a frame shows. ``region`` looks through true masks, which
    nobody has at a scanner, and ``region`` minus ``none`` compares one model with itself: it is not a gain over
    training without masks. What the masks alone give away is measured beside it, as the leak; docs/evaluation.md says
    how far the controls ``shuffled`` and ``blank`` tell more.

    Args:
        scoring: the run, the dataset, and how to score.
        masks: keys of ``MODES``, in any order.
        predicted: a dataset that holds predicted masks of the same frames; if omitted, the scored dataset must.
        classes: planes that count as one class; if omitted, each plane is its own.
        protocol: a publication's way of showing frames and naming planes.

    Returns:
        What all masks have in common; under ``masks`` the figures of each; under ``leak`` those of the masks alone, if
        a mask is one of the dataset's regions; under ``minus_none``, if ``none`` is among them, the paired differences
        of the others. Also written to ``RUN/evaluation/<dataset>/<split>-<mask>.json`` (for several masks the name of
        their set, and with ``predicted`` also the second dataset's), and as a page beside it.

    Raises:
        UserError: the run has no checkpoint, the split cannot be read, there is no frame to score or only one patient,
            or a mask does not fit its image.
    """
    assert masks
    assert set(masks) <= set(MODES), masks
    modes = tuple(mode for mode in MODES if mode in masks)
    measurement = scoring.open()
    frames = measurement.frames
    classes = classes or each_plane(frames)
    transform = measurement.encoder.transform
    selection = select_frames(frames, modes, classes, transform, predicted_dataset=predicted, seed=scoring.seed)
    if protocol.only_present:
        classes = {name: classes[name] for name in (selection.names[number] for number in np.unique(selection.truth))}
        selection = select_frames(frames, modes, classes, transform, predicted_dataset=predicted, seed=scoring.seed)
    kinds = dict.fromkeys(MODES[mode].kind for mode in modes)
    wordings = choose_wordings(measurement.encoder, frames, kinds, protocol.sentence)
    sentences = {kind: prompts(chosen) for kind, chosen in wordings.of.items()}
    leak = measure_leak(measurement, selection, classes) if selection.only_with_regions else None
    planes = {kind: plane_features(measurement.encoder, frames, classes, texts) for kind, texts in sentences.items()}
    answers = _answer(measurement, selection, planes, modes, protocol)
    notes = {
        **about_classes(selection.truth, selection.names, top5=True),
        **about_planes(selection.truth, classes, wordings.read),
        **wordings.notes,
    }
    figures = {"wording": wordings.source, **_figures(measurement, selection, sentences, answers, leak)}
    name = result_name({"dataset": frames.description.identity, **figures})
    result = measurement.write(name, figures, notes)
    write_page(scoring.run, scoring.file_name(name), result, frames, selection, answers)
    return result


def result_name(result: Mapping[str, Any]) -> str:
    """What the files of a result are called after the split: its masks, and a second dataset that they come from."""
    name = mask_set(tuple(result["masks"]))
    predicted = result.get("predicted_dataset", result["dataset"])
    return name if predicted == result["dataset"] else f"{name}-from-{dataset_label(predicted)}"


def mask_set(modes: Sequence[str]) -> str:
    """The name of these masks together, for files; ``modes`` in the order of ``MODES``."""
    named = [name for name, together in MASK_SETS.items() if together == tuple(modes)]
    return named[0] if named else "-".join(modes)


def _answer(
    measurement: Measurement,
    selection: Selection,
    planes: Mapping[Kind, torch.Tensor],
    modes: Sequence[str],
    protocol: Protocol,
) -> dict[str, Answers]:
    """The answers by mask; an image is decoded once for all of them."""
    encoder = measurement.encoder
    views = FrameViews(
        measurement.frames,
        selection.indices,
        modes,
        CropToSquare.like(encoder.transform) if protocol.crop else encoder.transform,
        donors_N=selection.donors,
        predicted=selection.predicted,
        region_seed=protocol.region_seed,
        keep_empty=protocol.crop,  # of a structure at the edge the crop may leave nothing, which the protocol shows
    )
    cosines: dict[str, list[torch.Tensor]] = {mode: [] for mode in modes}
    for batch in measurement.batches("evaluate", views, selection.left_out):
        for mode in modes:
            cosines[mode].append(encoder.frame_features(batch, mode) @ planes[MODES[mode].kind].T)
    return {mode: Answers.of(torch.cat(parts), selection.truth, encoder.temperature) for mode, parts in cosines.items()}


def _figures(
    measurement: Measurement,
    selection: Selection,
    sentences: Mapping[Kind, Sequence[str]],
    answers: Mapping[str, Answers],
    leak: Leak | None,
) -> dict[str, Any]:
    bootstrap = measurement.bootstrap(selection.patients)
    groups = Groups.find(measurement.frames, selection.indices)
    truth_N, classes = selection.truth, selection.names
    return {
        **selection.counts(),
        "planes_present": len(np.unique(truth_N)),
        "planes": len(classes),
        "chance": {"top1": 1 / len(classes), "top5": 5 / len(classes) if len(classes) > 5 else None},
        "masks": {
            mode: {
                **recognition_figures(answers[mode], truth_N, classes, bootstrap, groups),
                **_provenance(mode, measurement, selection, sentences[MODES[mode].kind]),
            }
            for mode in answers
        },
        "leak": leak_figures(leak, truth_N, classes, bootstrap, groups) if leak else None,
        **differences(answers, leak.answers if leak else None, truth_N, bootstrap),
    }


def _provenance(mode: str, measurement: Measurement, selection: Selection, sentences: Sequence[str]) -> dict[str, Any]:
    """Which sentences and masks the figures of a mask come from."""
    provenance: dict[str, Any] = {"prompts": list(sentences)}
    if sources := count_sources(measurement.frames, selection, mode, measurement.encoder.transform):
        provenance["sources"] = sources
    if MODES[mode].of_donor:
        assert selection.donors is not None
        # A mask from a frame of the same plane is not entirely foreign: the share tells how often that happened.
        same = float((selection.truth == selection.truth[selection.donors]).mean())
        provenance["donors"] = {"seed": selection.seed, "same_plane": same}
    return provenance
