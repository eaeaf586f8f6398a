"""Segmentation with a small decoder on the frozen model's dense features: how much of a shape they hold."""

from __future__ import annotations

from typing import Any

from sono.training.evaluation.scoring import Scoring, refuse_fitted_split
from sono.training.evaluation.selection import number_patients

from .average_mask import compare_with_average
from .fitting import EPOCHS, train_decoder
from .scores import overlap_figures, score
from .targets import FOREGROUND, OutlinedFrames, drawn_structures


def segment(scoring: Scoring, *, foreground: bool = False, epochs: int = EPOCHS) -> dict[str, Any]:
    """Outline structures with a decoder that is trained on the newest checkpoint's frozen dense features.

    The decoder is trained on the train split; the epoch with the best Dice on the validation split is kept. The scored
    split is looked at only after that, and decides nothing.

    A structure is scored in the frames that have it outlined: in the others, it may be there without an outline. Masks
    are compared in the image's own pixels. A mask without a pixel, because scaling wiped it out, is not scored but
    counted.

    Args:
        scoring: the run, the dataset, and how to score; the splits ``train`` and ``validation`` are refused. ``seed``
            is also that of the decoder's weights and of the order of frames.
        foreground: take all regions of a frame together as one structure.
        epochs: passes over the train split.

    Returns:
        Dice and intersection over union, means over structures and over planes, with 95 % intervals over patients, and
        those of each; under ``chosen`` what the validation split decided; under ``always_the_average`` what the same
        average mask for every frame scores, and under ``minus_always_the_average`` the paired difference: look at that
        first. Also written to ``RUN/evaluation/<dataset>/<split>-segment.json``.

    Raises:
        UserError: the run has no checkpoint, a split is empty or has no regions, or the scored one is of one patient.
    """
    refuse_fitted_split(scoring, "decoder")
    measurement = scoring.open()
    encoder, frames = measurement.encoder, measurement.frames
    train_frames, validation_frames = (measurement.open_other_split(split) for split in ("train", "validation"))
    structures = (FOREGROUND,) if foreground else drawn_structures(train_frames)
    train = OutlinedFrames(train_frames, structures, encoder.transform, to_train_on=True)
    validation = OutlinedFrames(validation_frames, structures, encoder.transform)
    segmenter, chosen = train_decoder(encoder, train, validation, epochs, scoring.seed, scoring.progress)
    test = OutlinedFrames(frames, structures, encoder.transform)
    bootstrap = measurement.bootstrap(number_patients(frames, test.has_regions, "has regions"))
    scores = score(segmenter, test, scoring.progress)
    figures = {
        "chosen": {**chosen, "on": "validation"},
        "masks_not_trained_on": train.vanished,
        "structures": list(structures),
        "structures_not_trained": [] if foreground else sorted({*drawn_structures(frames)} - {*structures}),
        "n_frames": len(test),
        "n_patients": bootstrap.patients,
        "frames_without_regions": int((~test.has_regions).sum()),
        "n_masks": len(scores.dice_R),
        "masks_not_scored": test.vanished,
        **overlap_figures(scores, test, bootstrap),
        **compare_with_average(segmenter, scores, train, test, bootstrap, scoring.progress),
    }
    return measurement.write("segment", figures)
