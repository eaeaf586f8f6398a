"""What is reported of every structure: Dice with its interval, misses, false alarms, temperature and calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .calibration import Booleans, Floats, Reliability, fit_temperature, reliability, sigmoid
from .patient_intervals import Estimate, mean_over_patients
from .validation import Found, confidence

_FOLDS = 5


@dataclass(frozen=True)
class StructureScores:
    """One structure on the validating patients, whom the network was not trained on.

    Attributes:
        training_frames, training_patients: that have it.
        frames, patients: validating ones that have it.
        dice, median: of these, at their own size; a frame in which nothing was found counts as 0.
        missed: in how many of them nothing was found.
        absent, alarms: frames known not to have it, and in how many of these something was found.
        temperature: of the model, from all validating pixels.
        before, after: reliability without a temperature, and with one that was fitted without the patient it is applied
            to; ``after`` is None where there is only one patient.
        ranking: Spearman's correlation of confidence and Dice over frames; None with fewer than three.
        examples, frame_dice, frame_confidence: of every validating frame that has it, by its number.
    """

    structure: str
    training_frames: int
    training_patients: int
    frames: int
    patients: int
    dice: Estimate
    median: float
    missed: int
    absent: int
    alarms: int
    temperature: float
    before: Reliability
    after: Reliability | None
    ranking: float | None
    examples: Sequence[int]
    frame_dice: Sequence[float]
    frame_confidence: Sequence[float]


def score(structure: str, found: Found, training: tuple[int, int]) -> StructureScores:
    """The scores of one structure; ``training`` are the frames and patients that it was learned from."""
    logits, truth = np.concatenate(found.logits), np.concatenate(found.truth)
    patients = np.repeat(np.asarray(found.group), [len(values) for values in found.logits])
    temperature = fit_temperature(logits, truth)
    confidences = [confidence(inside, temperature) for inside in found.inside]
    return StructureScores(
        structure=structure,
        training_frames=training[0],
        training_patients=training[1],
        frames=len(found.dice),
        patients=len(set(found.patient)),
        dice=mean_over_patients(found.dice, found.patient),
        median=float(np.median(found.dice)),
        missed=sum(inside.size == 0 for inside in found.inside),
        absent=found.absent,
        alarms=found.alarms,
        temperature=temperature,
        before=reliability(sigmoid(logits), truth),
        after=_held_out(logits, truth, patients),
        ranking=_spearman(np.asarray(confidences), np.asarray(found.dice)),
        examples=found.example,
        frame_dice=found.dice,
        frame_confidence=confidences,
    )


def score_json(scores: StructureScores) -> Mapping[str, object]:
    """The scores without those of single frames."""
    return {
        "structure": scores.structure,
        "training_frames": scores.training_frames,
        "training_patients": scores.training_patients,
        "frames": scores.frames,
        "patients": scores.patients,
        "dice": scores.dice.value,
        "dice_low": scores.dice.low,
        "dice_high": scores.dice.high,
        "dice_median": scores.median,
        "missed": scores.missed,
        "absent": scores.absent,
        "false_alarms": scores.alarms,
        "temperature": scores.temperature,
        "calibration_error_before": scores.before.error,
        "calibration_error": scores.after.error if scores.after else None,
        "confidence_ranking": scores.ranking,
    }


def _held_out(logits: Floats, truth: Booleans, patients: npt.NDArray[np.str_]) -> Reliability | None:
    """Reliability with temperatures that do not know the patient; patients are cut into at most ``_FOLDS`` parts."""
    names = np.unique(patients)
    if len(names) < 2:
        return None
    shares = np.empty_like(logits)
    for fold in range(min(_FOLDS, len(names))):
        inside = np.isin(patients, names[fold::_FOLDS])
        shares[inside] = sigmoid(logits[inside] / fit_temperature(logits[~inside], truth[~inside]))
    return reliability(shares, truth)


def _spearman(a: Floats, b: Floats) -> float | None:
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: Floats) -> Floats:
    """Equal values share the mean of their places."""
    _, place, number = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(number)
    return np.asarray((last - (number - 1) / 2)[place], dtype=np.float64)
