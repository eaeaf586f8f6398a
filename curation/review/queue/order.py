"""How likely each mask is bad: a stated order before anything has been reviewed, then what reviewing has taught.

A mask is bad if a person rejects it, or has to correct it so far that the IoU of before and after is below 0.9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sono.manifests.errors import import_extra

from .features import SIGNS, Signs

EXTRA = "review"

Floats = npt.NDArray[np.float64]

PRIOR: Mapping[str, tuple[float, float]] = {
    "score": (0.3, 1.0),
    "stability": (0.1, 4.0),
    "fit": (0.3, 2.0),
    "prompts": (0.25, 3.0),
    "others": (0.3, 3.0),
    "confidence": (0.1, 3.0),
    "expected_dice": (0.2, 3.0),
    "area": (1.0, 0.4),
    "relative_area": (1.0, 0.2),
    "place": (1.2, 0.3),
    "aspect": (1.0, 0.2),
    "fill": (1.0, 0.3),
    "specks": (0.0, 0.5),
    "holes": (0.0, 0.3),
    "outside": (0.0, 3.0),
    "overlap": (0.1, 2.0),
    "not_in_plane": (0.0, 2.0),
    "empty": (0.0, 6.0),
}
"""Sign -> the value at which it says nothing, and how much a unit beyond it adds to the log odds.

Chosen on phantoms of seeds below 100 and rounded: benchmarks/review_queue.py. A sign that is not known adds nothing.
What a model predicts of its own IoU is not among them: on ultrasound it put bad masks before good ones.
"""

_PRIOR_ODDS = -0.5  # log odds of a mask of which every sign says nothing

FEWEST_REVIEWED, FEWEST_OF_A_KIND = 30, 8
"""Below that many reviewed masks, or good or bad ones among them, the stated order stays."""

_STRENGTH = 0.05  # inverse of the penalty on squared coefficients: one reviewed mask moves little, thousands decide
_PRIOR_SCALE = 5.0  # the stated order itself is trusted: its coefficient is penalised that much less, squared
_FOLDS = 5
_AT_ONCE = 50_000  # masks


@dataclass(frozen=True)
class Reviewed:
    """Masks as they were before a person decided, and what the decision says of them; ``bad``: shape [masks]."""

    signs: Signs
    bad: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Order:
    """Gives probabilities; from ``fit_order``.

    Attributes:
        reviewed: masks that it learned from; 0 where the stated order stays.
        auroc_stated, auroc_calibrated: for bad masks among the reviewed ones, cross-validated by patient; None where
            there are too few.
    """

    reviewed: int
    auroc_stated: float | None
    auroc_calibrated: float | None
    _model: _Model | None = None

    def p_bad(self, signs: Signs) -> npt.NDArray[np.float32]:
        """Of every mask, shape [masks]."""
        if self._model is not None:
            return self._model.p_bad(signs).astype(np.float32)
        return _sigmoid(stated_log_odds(signs.values)).astype(np.float32)


def stated_log_odds(values: npt.NDArray[np.float32]) -> Floats:
    """Of being bad, by ``PRIOR``; shape [masks] from [masks, signs]."""
    odds = np.full(values.shape[0], _PRIOR_ODDS)
    for column, name in enumerate(SIGNS):
        if name in PRIOR:
            neutral, weight = PRIOR[name]
            odds += weight * np.nan_to_num(values[:, column] - neutral, nan=0.0)
    return odds


def fit_order(reviewed: Reviewed) -> Order:
    """The stated order, calibrated on reviewed masks unless there are too few or it does worse on other patients.

    A logistic regression on the log odds of the stated order, the signs (what is not known as an indicator), and the
    structures and sources of the masks. Its penalty makes few reviewed masks change little.

    Raises:
        UserError: scikit-learn is not installed.
    """
    number, bad = len(reviewed.bad), int(reviewed.bad.sum())
    if number < FEWEST_REVIEWED or min(bad, number - bad) < FEWEST_OF_A_KIND:
        return Order(0, None, None)
    stated, calibrated = _cross_validated(reviewed)
    if stated is not None and calibrated is not None and calibrated < stated:
        return Order(0, stated, calibrated)
    return Order(number, stated, calibrated, _Model.fit(reviewed))


@dataclass(frozen=True)
class _Model:
    """A fitted regression; ``by_name`` are what single structures, and sources of one, add to the log odds."""

    coefficients: Floats
    intercept: float
    by_name: Mapping[str, float]

    @classmethod
    def fit(cls, reviewed: Reviewed) -> _Model:
        linear_model = import_extra("sklearn.linear_model", EXTRA)
        general = _columns(reviewed.signs.values)
        names, member = _named(reviewed.signs)
        fitted = linear_model.LogisticRegression(C=_STRENGTH, max_iter=1000)
        fitted.fit(np.hstack([general, member]), reviewed.bad)
        weights = fitted.coef_[0]
        by_name = dict(zip(names, weights[general.shape[1] :].tolist(), strict=True))
        return cls(weights[: general.shape[1]], float(fitted.intercept_[0]), by_name)

    def p_bad(self, signs: Signs) -> Floats:
        odds = np.full(len(signs), self.intercept)
        for start in range(0, len(signs), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            odds[some] += _columns(signs.values[some]) @ self.coefficients
        for codes, names in _labels(signs):
            odds += np.array([self.by_name.get(name, 0.0) for name in names])[codes]
        return _sigmoid(odds)


def _columns(values: npt.NDArray[np.float32]) -> Floats:
    """What the regression sees of signs, all of a similar size: [masks, columns]."""
    known = ~np.isnan(values)
    centered = np.where(known, values - _NEUTRAL, 0.0) / _SCALE
    stated = stated_log_odds(values) * _PRIOR_SCALE
    return np.hstack([stated[:, None], centered, ~known])


_NEUTRAL = np.array([PRIOR.get(name, (0.3, 0.0))[0] for name in SIGNS])
_SCALE = np.array([2.0 if name in ("area", "relative_area", "place", "aspect", "fill") else 0.3 for name in SIGNS])


def _labels(signs: Signs) -> list[tuple[npt.NDArray[np.int64], Sequence[str]]]:
    """The masks' structures, and their sources with structures, as codes into names."""
    structures, sources = (signs.keys[name].combine_chunks().dictionary_encode() for name in ("structure", "source"))
    structure_names, source_names = structures.dictionary.to_pylist(), sources.dictionary.to_pylist()
    first, second = (np.asarray(each.indices, np.int64) for each in (structures, sources))
    pairs = [f"{structure} by {source}" for structure in structure_names for source in source_names]
    return [(first, structure_names), (first * max(len(source_names), 1) + second, pairs)]


def _named(signs: Signs) -> tuple[list[str], Floats]:
    """The names that any of the masks has, and which has which: [masks, names]."""
    names: list[str] = []
    members = []
    for codes, all_names in _labels(signs):
        for code in np.unique(codes):
            names.append(all_names[code])
            members.append(codes == code)
    return names, np.array(members, np.float64).T


def _cross_validated(reviewed: Reviewed) -> tuple[float | None, float | None]:
    """AUROC of the stated order and of the calibrated one, on patients that the latter has not seen."""
    selection = import_extra("sklearn.model_selection", EXTRA)
    metrics = import_extra("sklearn.metrics", EXTRA)
    patients = reviewed.signs.keys["patient_key"].to_pylist()
    folds = min(_FOLDS, len(set(patients)))
    if folds < 2:
        return None, None
    odds = np.full(len(reviewed.bad), np.nan)
    for seen, unseen in selection.GroupKFold(folds).split(odds, groups=patients):
        if len(set(reviewed.bad[seen].tolist())) == 2:
            odds[unseen] = _Model.fit(_subset(reviewed, seen)).p_bad(_subset(reviewed, unseen).signs)
    judged = ~np.isnan(odds)
    if len(set(reviewed.bad[judged].tolist())) < 2:
        return None, None
    stated = stated_log_odds(reviewed.signs.values)
    found = (metrics.roc_auc_score(reviewed.bad[judged], each[judged]) for each in (stated, odds))
    first, second = (round(float(value), 4) for value in found)
    return first, second


def _subset(reviewed: Reviewed, rows: npt.NDArray[np.int64]) -> Reviewed:
    signs = Signs(reviewed.signs.keys.take(rows), reviewed.signs.values[rows])
    return Reviewed(signs, reviewed.bad[rows])


def _sigmoid(odds: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-np.clip(odds, -30, 30)))
