"""How often each dataset is drawn from, counted in the drawn sequence itself."""

from __future__ import annotations

import itertools
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from sono.manifests.errors import UserError
from sono.training.data.dataset import Description
from sono.training.data.mixture import Mixture, mix, mix_datasets
from sono.training.data.samples import Batches

WEIGHTED = mix([70, 30], [Fraction(1), Fraction(3)])  # a quarter of the samples for 70 % of the frames


def drawn(mixture: Mixture, epochs: int, seed: int = 0) -> list[tuple[int, int]]:
    orders = [mixture.order(seed, epoch).tolist() for epoch in range(epochs)]
    return [(turn, index) for turn, index in itertools.chain(*orders)]


def described(name: str, fingerprint: str) -> Description:
    return Description(name, fingerprint * 64, {}, {}, "key")


def test_without_weights_an_epoch_has_every_frame_of_all_datasets_once() -> None:
    mixture = mix([70, 30])
    assert mixture.shares == (0.7, 0.3)
    for epoch in range(3):
        order = mixture.order(5, epoch)
        assert sorted(order[:, 1].tolist()) == list(range(100))
        assert set(order[:, 0].tolist()) == {epoch}


def test_a_single_dataset_is_drawn_as_it_was_before_there_could_be_several() -> None:
    """Runs of earlier versions resume: their order was this permutation."""
    for seed, epoch in ((0, 0), (0, 3), (7, 1)):
        expected = np.random.default_rng([seed, epoch]).permutation(240)
        for mixture in (mix([240]), mix([240], [Fraction("0.3")])):
            assert mixture.order(seed, epoch).tolist() == [[epoch, index] for index in expected.tolist()]


def test_every_epoch_has_the_share_of_each_dataset_that_its_weight_says() -> None:
    assert WEIGHTED.quotas == (25, 75)
    for epoch in range(5):
        indices = WEIGHTED.order(0, epoch)[:, 1]
        assert (int((indices < 70).sum()), int((indices >= 70).sum())) == (25, 75)


def test_the_next_sample_is_of_a_dataset_with_the_probability_of_its_share() -> None:
    """At every place of an epoch, over many seeds: 400 draws, whose standard deviation is 2.2 points."""
    firsts = np.array([WEIGHTED.order(seed, 0)[[0, 50, 99], 1] >= 70 for seed in range(400)])
    assert firsts.mean(axis=0) == pytest.approx(0.75, abs=0.075)


def test_a_frame_comes_again_only_after_all_others_of_its_dataset() -> None:
    """Within an epoch and over its end, for a dataset drawn more often than it has frames, and for one less often."""
    counts = Counter(index for _, index in drawn(WEIGHTED, 14))
    assert {counts[index] for index in range(70)} == {14 * 25 // 70}
    assert {counts[index] for index in range(70, 100)} == {14 * 75 // 30}
    for epochs in (1, 2, 5):
        counts = Counter(index for _, index in drawn(WEIGHTED, epochs))
        for frames in (range(70), range(70, 100)):
            times = [counts[index] for index in frames]
            assert max(times) - min(times) <= 1


def test_no_two_samples_have_the_same_turn_and_frame() -> None:
    """A sample is a function of both: a frame that comes again is cut and worded anew."""
    keys = drawn(WEIGHTED, 5)
    assert len(set(keys)) == len(keys)


def test_which_frames_a_small_share_has_differs_between_epochs_and_seeds() -> None:
    mixture = mix([70, 30], [Fraction(1), Fraction(9)])
    picked = [frozenset(i for i in mixture.order(seed, epoch)[:, 1].tolist() if i < 70) for seed, epoch in
              itertools.product(range(3), range(2))]  # fmt: skip
    assert len(set(picked)) == 6


@pytest.mark.parametrize("mixture", [mix([70, 30]), WEIGHTED])
def test_batches_do_not_depend_on_ranks_or_where_a_run_stopped(mixture: Mixture) -> None:
    whole = list(Batches(mixture, 8, seed=3, first=0, last=40))
    assert list(Batches(mixture, 8, seed=3, first=29, last=40)) == whole[29:]
    shares = [list(Batches(mixture, 8, seed=3, first=0, last=40, rank=rank, world_size=4)) for rank in range(4)]
    assert [list(itertools.chain(*parts)) for parts in zip(*shares, strict=True)] == whole


@pytest.mark.parametrize(
    ("sizes", "weights"),
    [((7, 11, 13), ("1", "1", "1")), ((1000, 10), ("0.1", "0.2")), ((5, 5, 5, 5), ("3", "1", "0.5", "7"))],
)
def test_quotas_fill_an_epoch_and_are_off_by_less_than_one_sample(
    sizes: tuple[int, ...], weights: tuple[str, ...]
) -> None:
    exact = [Fraction(weight) / sum(map(Fraction, weights)) * sum(sizes) for weight in weights]
    quotas = mix(sizes, [Fraction(weight) for weight in weights]).quotas
    assert sum(quotas) == sum(sizes)
    assert all(abs(quota - share) < 1 for quota, share in zip(quotas, exact, strict=True))


def test_weights_find_their_datasets_by_name_or_by_name_and_fingerprint() -> None:
    hospitals = [described("hospital/north", "a"), described("hospital/south", "b")]
    weights = {"hospital/south": Fraction(3), "hospital/north": Fraction(1)}
    assert mix_datasets(hospitals, [50, 50], weights).quotas == (25, 75)
    same = [described("dataset", "a"), described("dataset", "b")]
    labelled = {"dataset-bbbbbbbbbbbb": Fraction(3), "dataset-aaaaaaaaaaaa": Fraction(1)}
    assert mix_datasets(same, [50, 50], labelled).quotas == (25, 75)
    with pytest.raises(UserError, match=r"2 datasets are called 'dataset'; call them dataset-a{12} and dataset-b{12}"):
        mix_datasets(same, [50, 50], {"dataset": Fraction(3)})


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"north": 1}, "data.weights has no weight for south; give one for every dataset, or for none"),
        ({"north": 1, "suoth": 1}, "data.weights: no dataset is called 'suoth'; did you mean 'south'?"),
        ({"north": 1, "south": 1, "east": 1}, "data.weights: no dataset is called 'east'; name north, south"),
        ({"north": 1, "north-aaaaaaaaaaaa": 1}, "data.weights has two weights for north; give it one"),
        ({"north": 10**6, "south": 1}, "data.weights: none of the 100 samples of an epoch would be from south"),
    ],
)
def test_weights_that_do_not_fit_the_datasets_are_refused(weights: dict[str, int], message: str) -> None:
    hospitals = [described("north", "a"), described("south", "b")]
    with pytest.raises(UserError) as raised:
        mix_datasets(hospitals, [50, 50], {name: Fraction(weight) for name, weight in weights.items()})
    assert message in str(raised.value)
