"""The stated order, and what reviewed masks make of it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from sono.curation.review.queue.features import SIGNS, Signs
from sono.curation.review.queue.order import PRIOR, Order, Reviewed, fit_order, stated_log_odds

NAMES = list(SIGNS)
STATED = Order(0, None, None)


def signs(count: int, *, patients: int | None = None, structures: int = 1, **columns: npt.ArrayLike) -> Signs:
    """Masks of which only these signs are known."""
    values = np.full((count, len(SIGNS)), np.nan, np.float32)
    for name, column in columns.items():
        values[:, NAMES.index(name)] = column
    keys = {
        "region_id": [str(number) for number in range(count)],
        "structure": [f"structure {number % structures}" for number in range(count)],
        "source": ["grabcut"] * count,
        "patient_key": [str(number % (patients or count)) for number in range(count)],
    }
    return Signs(pa.table(keys), values)


@pytest.mark.parametrize("name", list(PRIOR))
def test_every_stated_sign_makes_a_mask_more_suspicious(name: str) -> None:
    low, high = STATED.p_bad(signs(2, **{name: [0.0, 1.0]}))
    assert low < high


def test_what_a_model_says_of_its_own_iou_is_not_believed_before_people_confirm_it() -> None:
    low, high = STATED.p_bad(signs(2, predicted_iou=[0.0, 1.0]))
    assert low == high


def test_a_mask_of_which_nothing_is_known_stands_between_good_and_bad_ones() -> None:
    good, unknown, bad = STATED.p_bad(signs(3, score=[0.05, np.nan, 0.9], others=[0.02, np.nan, 0.9]))
    assert good < unknown < bad


def test_probabilities_are_finite_for_any_signs() -> None:
    random = np.random.default_rng(0)
    found = signs(200, **{name: random.choice([np.nan, 0, 0.5, 1], 200) for name in NAMES})
    bad = random.random(200) < 0.5
    for order in (STATED, fit_order(Reviewed(found, bad))):
        p_bad = order.p_bad(found)
        assert p_bad.dtype == np.float32
        assert np.isfinite(p_bad).all()
        assert ((p_bad > 0) & (p_bad < 1)).all()


def drawn(seed: int, count: int) -> tuple[Signs, npt.NDArray[np.bool_]]:
    """The model's own IoU is right here, while scores mislead; of two structures, one is mostly bad."""
    random = np.random.default_rng(seed)
    structure = np.arange(count) % 2
    odds = random.normal(0, 1, count) + 1.5 * structure - 0.75
    bad = odds + random.logistic(0, 0.5, count) > 0
    own = 1 / (1 + np.exp(-odds + 1.5 * structure))
    return signs(count, structures=2, predicted_iou=own, score=random.random(count)), bad


def test_reviewed_masks_teach_which_signs_and_which_structures_to_distrust() -> None:
    unseen, truth = drawn(1, 3000)
    figures = [roc_auc_score(truth, stated_log_odds(unseen.values))]
    for count in (100, 1000):
        order = fit_order(Reviewed(*drawn(2, count)))
        assert order.reviewed == count
        figures.append(roc_auc_score(truth, order.p_bad(unseen)))
    assert figures[0] < 0.55
    assert figures[1] > 0.75
    assert figures[2] > 0.85


def test_probabilities_are_calibrated_after_many_reviewed_masks() -> None:
    unseen, truth = drawn(1, 4000)
    p_bad = fit_order(Reviewed(*drawn(2, 2000))).p_bad(unseen)
    for low in (0.0, 0.25, 0.5, 0.75):
        chosen = (p_bad >= low) & (p_bad < low + 0.25)
        assert truth[chosen].mean() == pytest.approx(p_bad[chosen].mean(), abs=0.08)


def test_few_masks_or_few_of_a_kind_teach_nothing() -> None:
    found, bad = drawn(3, 200)
    assert fit_order(Reviewed(*drawn(3, 20))).reviewed == 0
    assert fit_order(Reviewed(found, np.zeros(200, np.bool_))).reviewed == 0
    assert fit_order(Reviewed(found, np.arange(200) < 5)).reviewed == 0
    assert bad.any()


def test_the_stated_order_stays_where_what_was_learned_does_worse_on_other_patients() -> None:
    random = np.random.default_rng(4)
    bad = random.random(60) < 0.5
    order = fit_order(Reviewed(signs(60, score=np.where(bad, 0.8, 0.2) + random.normal(0, 0.01, 60)), bad))
    assert order.auroc_stated == 1
    found = signs(60, patients=4, contrast=random.random(60), aspect=6 * random.random(60))
    noise = fit_order(Reviewed(found, random.random(60) < 0.5))
    assert noise.auroc_stated is not None
    assert noise.auroc_calibrated is not None
    assert (noise.reviewed == 0) == (noise.auroc_calibrated < noise.auroc_stated)


def test_masks_of_one_patient_cannot_be_validated() -> None:
    order = fit_order(Reviewed(signs(60, patients=1, score=np.linspace(0, 1, 60)), np.arange(60) > 30))
    assert (order.auroc_stated, order.auroc_calibrated) == (None, None)
