"""How datasets that are trained on together are mixed: how many samples an epoch has of each, and in which order.

An epoch has as many samples as there are frames in all datasets together. Without weights it has every frame once. With
weights, a dataset whose weight is the share p of all weights has the share p of the epoch, to less than one sample. Its
frames come in turns: none comes again before all others of that dataset did, also from one epoch to the next.

Nothing here keeps state: the order of an epoch is a function of (seed, epoch).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from sono.manifests.errors import UserError, did_you_mean
from sono.manifests.filenames import dataset_label

from .dataset import Description

_TURN = 1  # sets the random numbers of a turn apart from those of epochs and samples


@dataclass(frozen=True)
class Mixture:
    """The frames of every dataset, and how many samples of it an epoch has; both add up to the same number."""

    sizes: tuple[int, ...]
    quotas: tuple[int, ...]

    def __len__(self) -> int:
        return sum(self.sizes)

    @property
    def shares(self) -> tuple[float, ...]:
        """The share of every dataset in the samples: the probability that the next one is drawn from it."""
        return tuple(quota / len(self) for quota in self.quotas)

    def order(self, seed: int, epoch: int) -> npt.NDArray[np.int64]:
        """The samples of an epoch in their order, [samples, 2]: each frame's turn, and its number among all frames.

        Frames are numbered from 0, those of the first dataset first.
        """
        drawn = np.concatenate([self._drawn(seed, epoch, dataset) for dataset in range(len(self.sizes))])
        return drawn[np.random.default_rng([seed, epoch]).permutation(len(drawn))]

    def _drawn(self, seed: int, epoch: int, dataset: int) -> npt.NDArray[np.int64]:
        """What an epoch has of a dataset: the next ``quota`` of its turns, which follow one another without a gap."""
        size, quota, before = self.sizes[dataset], self.quotas[dataset], sum(self.sizes[:dataset])
        start, end = epoch * quota, (epoch + 1) * quota
        parts = []
        for turn in range(start // size, -(-end // size)):
            frames = np.random.default_rng([seed, turn, dataset, _TURN]).permutation(size)
            part = frames[max(0, start - turn * size) : end - turn * size]
            part = before + np.sort(part)  # the epoch is shuffled anyway, and a complete turn is then the same in any
            parts.append(np.stack([np.full(len(part), turn), part], axis=1))
        return np.concatenate(parts)


def mix(sizes: Sequence[int], weights: Sequence[Fraction] | None = None) -> Mixture:
    """The mixture of datasets with so many frames.

    What is left over once every share is rounded down goes to those that lost most (Hare's method).

    Args:
        weights: one for each dataset; if omitted, their sizes, so that an epoch has every frame once.
    """
    weights = [Fraction(size) for size in sizes] if weights is None else weights
    exact = [weight / sum(weights) * sum(sizes) for weight in weights]
    quotas = [int(quota) for quota in exact]
    lost = sorted(range(len(exact)), key=lambda dataset: quotas[dataset] - exact[dataset])
    for dataset in lost[: sum(sizes) - sum(quotas)]:
        quotas[dataset] += 1
    return Mixture(tuple(sizes), tuple(quotas))


def mix_datasets(
    descriptions: Sequence[Description], sizes: Sequence[int], by_name: Mapping[str, Fraction] | None
) -> Mixture:
    """The mixture of these datasets by the weights of ``data.weights``, which names every one of them.

    A name is that of the folder or on the Hub; for datasets that share one, it is that of the folder in
    ``RUN/evaluation``.

    Raises:
        UserError: a dataset has no weight, or one too small to ever draw from it; a name fits none or several.
    """
    if by_name is None:
        return mix(sizes)
    identities = [description.identity for description in descriptions]
    weights: dict[int, Fraction] = {}
    for name, weight in by_name.items():
        number = _find(name, identities)
        if number in weights:
            raise UserError(f"data.weights has two weights for {identities[number]['name']}", fix="give it one")
        weights[number] = weight
    missing = [identity["name"] for number, identity in enumerate(identities) if number not in weights]
    if missing:
        raise UserError(
            f"data.weights has no weight for {', '.join(missing)}", fix="give one for every dataset, or for none"
        )
    mixture = mix(sizes, [weights[number] for number in range(len(identities))])
    for identity, quota in zip(identities, mixture.quotas, strict=True):
        if not quota:
            raise UserError(
                f"data.weights: none of the {len(mixture):,} samples of an epoch would be from {identity['name']}",
                fix="give it a larger weight, or leave the dataset out",
            )
    return mixture


def _find(name: str, identities: Sequence[Mapping[str, str]]) -> int:
    """The number of the dataset with this name, or with this name and fingerprint."""
    found = [
        number for number, identity in enumerate(identities) if name in (identity["name"], dataset_label(identity))
    ]
    if len(found) == 1:
        return found[0]
    if found:
        labels = " and ".join(dataset_label(identities[number]) for number in found)
        raise UserError(f"data.weights: {len(found)} datasets are called {name!r}", fix=f"call them {labels}")
    names = [identity["name"] for identity in identities]
    raise UserError(
        f"data.weights: no dataset is called {name!r}", fix=did_you_mean(name, names) or f"name {', '.join(names)}"
    )
