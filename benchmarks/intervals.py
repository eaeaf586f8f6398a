"""How often 95 % intervals over patients contain the true figure: those of sono-train, and the usual bootstrap.

Prints a Markdown table. Every replicate draws patients, their frames of eight planes, and which of them two methods get
right; the true mean per-class accuracies, and their difference, are known. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sono.training.arrays import Floats, Integers
from sono.training.evaluation.bootstrap import RESAMPLES, Bootstrap, Estimate
from sono.training.evaluation.metrics import mean_per_class, paired_difference

PATIENTS = (5, 10, 20, 40, 60)
PLANES = 8
SHARES = {"balanced": np.full(PLANES, 1.0), "rare": 0.55 ** np.arange(PLANES)}
"""How often the planes occur, relative to each other: all alike, or the rarest in one frame of 150."""
ACCURACY = {"65 %": np.linspace(1.6, -0.6, PLANES), "90 %": np.linspace(3.6, 1.4, PLANES)}
"""Log odds of a right answer by plane, the rarest plane last; by about what accuracy that is on average."""
GAIN = 0.5
"""By how much the second method's log odds are better."""
SD_PATIENT, SD_PLANE, SD_METHOD = 0.7, 0.7, 0.5
"""Of the log odds: between patients, between planes of a patient, and between methods on a plane of a patient."""


@dataclass(frozen=True)
class Draw:
    """Frames of a number of patients: the patient and the plane of each, and whether each method is right."""

    patients_N: Integers
    planes_N: Integers
    first_N: Floats
    second_N: Floats


@dataclass
class Tally:
    """How often intervals contained the truth, lay above it, or did not exist; and the sum of their widths."""

    contained: int = 0
    above: int = 0
    none: int = 0
    width: float = 0.0

    def add(self, low: float | None, high: float | None, truth: float) -> None:
        if low is None or high is None:
            self.none += 1
            return
        self.contained += low <= truth <= high
        self.above += truth < low
        self.width += high - low

    def cells(self, replicates: int) -> list[str]:
        given = max(replicates - self.none, 1)
        return [f"{100 * self.contained / given:.1f}", f"{100 * self.above / given:.1f}", f"{self.width / given:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    print("| figure | accuracy | planes | patients | usual: covers | above | width | ours: covers | above | width |")
    print("|---|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for level in ACCURACY:
        for planes in SHARES:
            for patients in PATIENTS:
                for line in _rows(level, planes, patients, options.replicates, options.seed):
                    print(line, flush=True)


def _rows(level: str, planes: str, patients: int, replicates: int, seed: int) -> Iterator[str]:
    """A row for the first method's accuracy, and one for the difference between the methods."""
    random = np.random.default_rng([seed, patients, len(planes), len(level)])
    accuracy_C, better_C = _true_accuracy(ACCURACY[level]), _true_accuracy(ACCURACY[level] + GAIN)
    tallies = {figure: (Tally(), Tally()) for figure in ("top-1", "difference")}
    for number in range(replicates):
        draw = _draw(ACCURACY[level], SHARES[planes], patients, random)
        present = np.unique(draw.planes_N)
        bootstrap = Bootstrap(draw.patients_N, RESAMPLES, number)
        difference_N = draw.second_N - draw.first_N
        usual, ours = tallies["top-1"]
        truth = float(accuracy_C[present].mean())
        usual.add(*usual_interval(draw.first_N, draw.planes_N, bootstrap), truth)
        _add(ours, mean_per_class(draw.first_N, draw.planes_N, bootstrap), truth)
        usual, ours = tallies["difference"]
        truth = float((better_C - accuracy_C)[present].mean())
        usual.add(*usual_interval(difference_N, draw.planes_N, bootstrap), truth)
        _add(ours, paired_difference(draw.second_N, draw.first_N, draw.planes_N, bootstrap), truth)
    for figure, (usual, ours) in tallies.items():
        cells = [figure, level, planes, str(patients), *usual.cells(replicates), *ours.cells(replicates)]
        yield f"| {' | '.join(cells)} |" + (f" {ours.none} without an interval" if ours.none else "")


def _add(tally: Tally, estimate: Estimate, truth: float) -> None:
    tally.add(estimate.low, estimate.high, truth)


def usual_interval(values_N: Floats, planes_N: Integers, bootstrap: Bootstrap) -> tuple[float, float]:
    """The percentile bootstrap: patients drawn with replacement, and the mean over the planes that a draw holds."""
    random, patients = np.random.default_rng(bootstrap.seed), bootstrap.patients
    parts_P2C = bootstrap.by_patient(planes_N, values_N, np.ones(len(planes_N)))
    counts_RP = random.multinomial(patients, np.full(patients, 1 / patients), bootstrap.resamples)
    sums_R2C = np.tensordot(counts_RP.astype(np.float64), parts_P2C, axes=1)
    with np.errstate(invalid="ignore"):
        draws_R = np.nanmean(sums_R2C[:, 0] / sums_R2C[:, 1], axis=1)
    low, high = np.percentile(draws_R, [2.5, 97.5])
    return float(low), float(high)


def _draw(odds_C: Floats, shares_C: Floats, patients: int, random: np.random.Generator) -> Draw:
    """Two and more images of a patient, eight on average, each frozen in one to three frames."""
    images_PC = random.multinomial(2 + random.poisson(6, patients), shares_C / shares_C.sum())
    frames_PC = images_PC * random.integers(1, 4, images_PC.shape)
    odds_PC = odds_C + SD_PATIENT * random.standard_normal((patients, 1))
    odds_PC = odds_PC + SD_PLANE * random.standard_normal(frames_PC.shape)
    patients_N, planes_N = (np.repeat(places.ravel(), frames_PC.ravel()) for places in np.indices(frames_PC.shape))
    hits = []
    for gain in (0.0, GAIN):
        chance_PC = _share(odds_PC + gain + SD_METHOD * random.standard_normal(frames_PC.shape))
        hits.append((random.random(len(patients_N)) < chance_PC[patients_N, planes_N]).astype(np.float64))
    return Draw(np.unique(patients_N, return_inverse=True)[1], planes_N, *hits)


def _true_accuracy(odds_C: Floats) -> Floats:
    """The mean over all patients there could be, by Gauss-Hermite quadrature."""
    nodes_Q, weights_Q = np.polynomial.hermite_e.hermegauss(61)
    spread = np.sqrt(SD_PATIENT**2 + SD_PLANE**2 + SD_METHOD**2)
    accuracy_C: Floats = _share(odds_C[:, None] + spread * nodes_Q) @ weights_Q / weights_Q.sum()
    return accuracy_C


def _share(odds: Floats) -> Floats:
    share: Floats = 1 / (1 + np.exp(-odds))
    return share


if __name__ == "__main__":
    main()
