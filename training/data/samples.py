"""What a training run draws from the dataset: in which order, which pair of each frame, in what batches.

Nothing here keeps state: the order is a function of (seed, epoch), a sample of (seed, turn, index), a batch of its
step. So a run may stop at any step and resume, with any number of loading processes. A frame's turn says how often all
frames of its dataset were drawn before; unless datasets have weights, that is the epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from sono.manifests.errors import UserError
from sono.training import recipes
from sono.training.model.tokenizer import CaptionTokenizer
from sono.training.model.transforms import PadToSquare, Pixels

from .augment import Augmenter
from .dataset import image_size, naming
from .mixture import Mixture
from .pairs import CaptionBank
from .pixels import DecodedPixels, PixelSource
from .pool import Pool
from .workers import start_worker

_TOKENS_KEPT = 65_536  # captions whose tokens a process remembers, since templated ones repeat


class Origin(NamedTuple):
    """Where a pair comes from: its dataset's name, its frame, and its structure, "" for a whole image."""

    dataset: str
    frame_id: str
    structure: str


@dataclass(frozen=True)
class Sample:
    """One pair: an image [1 or 3, size, size] and its mask [size, size], 8 bit, and the number of its caption."""

    image: Pixels
    mask: Pixels
    caption: int
    origin: Origin


@dataclass(frozen=True)
class Batch:
    """Pairs, with every distinct caption once.

    ``images`` [batch, 3, size, size], or 1 for 3 if all are grey, and ``masks`` [batch, size, size] are 8 bit,
    ``tokens`` [captions, context] are those of the distinct captions, ``captions`` [batch] the row of ``tokens`` that
    belongs to each pair, ``caption_ids`` [captions] the numbers of the distinct captions in the pool's bank.
    ``origins`` [batch] tell where each pair comes from.
    """

    images: torch.Tensor
    masks: torch.Tensor
    tokens: torch.Tensor
    captions: torch.Tensor
    caption_ids: torch.Tensor
    origins: list[Origin]


class Batches(Sampler[list[tuple[int, int]]]):
    """Batches as lists of (turn, index), from step ``first`` up to ``last``.

    Epochs follow one another without a gap, so no sample is lost at the end of an epoch; a batch may hold the end of
    one epoch and the start of the next. Each of ``world_size`` ranks gets its share of every batch.
    """

    def __init__(
        self, mixture: Mixture, batch_size: int, seed: int, *, first: int, last: int, rank: int = 0, world_size: int = 1
    ) -> None:
        assert batch_size % world_size == 0
        self.mixture, self.batch_size, self.seed = mixture, batch_size, seed
        self.first, self.last = first, last
        self.share = batch_size // world_size
        self.rank = rank

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, samples, order = -1, len(self.mixture), np.empty((0, 2), dtype=np.int64)
        for step in range(self.first, self.last):
            batch = []
            start = step * self.batch_size + self.rank * self.share
            for position in range(start, start + self.share):
                if position // samples != epoch:
                    epoch = position // samples
                    order = self.mixture.order(self.seed, epoch)
                turn, index = order[position % samples].tolist()
                batch.append((turn, index))
            yield batch


class Samples(Dataset[Sample | UserError]):
    """The sample of (turn, index): a pair as ``Pairs.draw`` chooses it, changed as ``augment.*`` asks.

    An error in the data is returned, not raised, because a loading process would lose its text.
    """

    def __init__(self, pool: Pool, transform: PadToSquare, recipe: recipes.Recipe) -> None:
        self.pool, self.settings, self.seed, self.transform = pool, recipe.data, recipe.train.seed, transform
        parts = pool.frames.parts
        self.sources: Sequence[PixelSource] = pool.caches or [DecodedPixels(frames, transform) for frames in parts]
        self.augmenter = Augmenter(recipe.augment, pool.frames.planes)
        self._names = [frames.description.identity["name"] for frames in parts]
        assert all(cache.transform.geometry() == transform.geometry() for cache in pool.caches)

    def __getitem__(self, key: tuple[int, int]) -> Sample | UserError:
        turn, index = key
        random = np.random.default_rng([self.seed, turn, index])
        pair = self.pool.pairs.draw(int(self.pool.usable[index]), self.settings, random)
        dataset, row = self.pool.frames.place(pair.row)
        frames = self.pool.frames.parts[dataset]
        try:
            with naming(frames.description):
                region = pair.region if self.settings.masks == "on" else None
                image, mask = self.sources[dataset].pair(row, region)
                if region is None and self.settings.whole_mask == "image":
                    mask = self.transform.image_area(*image_size(frames, row))
        except UserError as error:
            return error
        if self.augmenter.enabled:
            plane = frames.column("plane")[row].as_py()
            may_flip = self.augmenter.may_flip(plane, pair.structure, self.pool.bank.texts[pair.caption])
            image, mask = self.augmenter(image, mask, random, whole=region is None, may_flip=may_flip)
        frame_id = frames.column("frame_id")[row].as_py()
        return Sample(image, mask, pair.caption, Origin(self._names[dataset], frame_id, pair.structure))


class Collate:
    """Joins samples into a batch, or passes on the first error among them."""

    def __init__(self, tokenizer: CaptionTokenizer, bank: CaptionBank) -> None:
        self.tokenizer, self.bank = tokenizer, bank
        self._tokens: dict[int, torch.Tensor] = {}

    def __call__(self, samples: list[Sample | UserError]) -> Batch | UserError:
        pairs: list[Sample] = []
        for sample in samples:
            if isinstance(sample, UserError):
                return sample
            pairs.append(sample)
        distinct = {caption: row for row, caption in enumerate(dict.fromkeys(pair.caption for pair in pairs))}
        return Batch(
            images=_stack_images([pair.image for pair in pairs]),
            masks=torch.from_numpy(np.stack([pair.mask for pair in pairs])),
            tokens=torch.stack([self._tokenise(caption) for caption in distinct]),
            captions=torch.tensor([distinct[pair.caption] for pair in pairs]),
            caption_ids=torch.tensor(list(distinct)),
            origins=[pair.origin for pair in pairs],
        )

    def _tokenise(self, caption: int) -> torch.Tensor:
        if caption not in self._tokens:
            if len(self._tokens) == _TOKENS_KEPT:
                self._tokens.clear()
            self._tokens[caption] = self.tokenizer([self.bank.texts[caption]])[0]
        return self._tokens[caption]


def _stack_images(images: list[Pixels]) -> torch.Tensor:
    """One channel if all are grey, else three."""
    channels = max(len(image) for image in images)
    return torch.from_numpy(np.stack([np.broadcast_to(image, (channels, *image.shape[1:])) for image in images]))


def batches_from(
    first_step: int,
    last_step: int,
    pool: Pool,
    transform: PadToSquare,
    tokenizer: CaptionTokenizer,
    recipe: recipes.Recipe,
    *,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[Batch]:
    """The batches of the steps from ``first_step`` up to ``last_step``, of each the share of ``rank``.

    ``train.batch_size`` is that of all ranks together: which samples a step sees does not depend on their number.

    Raises:
        UserError: a frame's image or mask is at fault; the text names the frame.
    """
    train = recipe.train
    keys = Batches(
        pool.mixture, train.batch_size, train.seed, first=first_step, last=last_step, rank=rank, world_size=world_size
    )
    loader = DataLoader(
        Samples(pool, transform, recipe),
        batch_sampler=keys,
        num_workers=recipe.data.workers,
        collate_fn=Collate(tokenizer, pool.bank),
        worker_init_fn=start_worker,
        pin_memory=torch.cuda.is_available(),
    )
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch
