"""What a training run draws from the dataset: in which order, which pair of each frame, in what batches.

Nothing here keeps a state: the order is a function of (seed, epoch), a sample of (seed, epoch, index), a batch of its
step. So a run may stop at any step and go on, with any number of loading processes.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from sono.manifests.errors import UserError

from . import recipes
from .captions import CaptionTokenizer, too_long
from .data import Frames, captioned_regions, decode_image, decode_mask, find_caption, has_caption, region_counts
from .transforms import PadToSquare, Pixels


@dataclass(frozen=True)
class Sample:
    """One pair: an image [3, size, size] and its mask [size, size], 8 bit, and the caption that fits both."""

    image: Pixels
    mask: Pixels
    caption: str


@dataclass(frozen=True)
class Batch:
    """Pairs, with every distinct caption once.

    ``images`` [batch, 3, size, size] and ``masks`` [batch, size, size] are 8 bit, ``tokens`` [captions, context] those
    of the distinct captions, ``captions`` [batch] the row of ``tokens`` that belongs to each pair.
    """

    images: torch.Tensor
    masks: torch.Tensor
    tokens: torch.Tensor
    captions: torch.Tensor


@dataclass(frozen=True)
class Pool:
    """The frames that a run trains on.

    Frames without a caption are left out. Those without a captioned region always make whole-image pairs. Both are
    counted here.
    """

    frames: Frames
    usable: npt.NDArray[np.int64]
    without_caption: int
    without_regions: int

    def __len__(self) -> int:
        return len(self.usable)


def make_pool(frames: Frames, tokenizer: CaptionTokenizer) -> Pool:
    """Choose the frames to train on and check every caption's length, before any time is spent on training.

    Raises:
        UserError: no frame has a caption, or a caption is longer than the context; the text names the frame.
    """
    captioned = has_caption(frames)
    usable = np.flatnonzero(captioned)
    if not len(usable):
        raise UserError(
            f"no frame of the {frames.split} split has a caption",
            where=frames.description.source,
            fix="run sono-curate caption and build again",
        )
    found = find_caption(frames, lambda caption: tokenizer.length(caption) > tokenizer.context_length)
    if found:
        caption, frame_id = found
        raise too_long(tokenizer.length(caption), tokenizer.context_length, frame_id)
    without_regions = int((region_counts(frames)[usable] == 0).sum())
    return Pool(frames, usable, int((~captioned).sum()), without_regions)


def order(samples: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """The order of an epoch: a permutation of ``samples`` indices, a function of (seed, epoch) alone."""
    return np.random.default_rng([seed, epoch]).permutation(samples)


class Batches(Sampler[list[tuple[int, int]]]):
    """Batches as lists of (epoch, index), from step ``first`` up to ``last``.

    The epochs follow one another without a gap, so no frame is lost at an epoch's end and none is drawn twice before
    all others were; a batch may hold the end of one epoch and the start of the next. Each of ``world_size`` ranks gets
    its share of every batch.
    """

    def __init__(
        self, samples: int, batch_size: int, seed: int, *, first: int, last: int, rank: int = 0, world_size: int = 1
    ) -> None:
        assert batch_size % world_size == 0
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self.first, self.last = first, last
        self.share = batch_size // world_size
        self.rank = rank

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, indices = -1, np.empty(0, dtype=np.int64)
        for step in range(self.first, self.last):
            batch = []
            start = step * self.batch_size + self.rank * self.share
            for position in range(start, start + self.share):
                if position // self.samples != epoch:
                    epoch = position // self.samples
                    indices = order(self.samples, self.seed, epoch)
                batch.append((epoch, int(indices[position % self.samples])))
            yield batch


class Samples(Dataset[Sample | UserError]):
    """The sample of (epoch, index): a whole-image pair with probability ``global_fraction``, else one of the regions.

    An error in the data is returned, not raised, because it would lose its text on the way from a loading process.
    """

    def __init__(self, pool: Pool, transform: PadToSquare, settings: recipes.Data, seed: int) -> None:
        self.pool, self.transform, self.settings, self.seed = pool, transform, settings, seed

    def __getitem__(self, key: tuple[int, int]) -> Sample | UserError:
        epoch, index = key
        random = np.random.default_rng([self.seed, epoch, index])
        row = self.pool.frames.row(int(self.pool.usable[index]))
        try:
            image = decode_image(row)
            regions = captioned_regions(row)
            if not regions or random.random() < self.settings.global_fraction:
                return Sample(self.transform.image(image), self.transform.all_one(), row["caption"])
            region = regions[int(random.integers(len(regions)))]
            mask = decode_mask(row, region, image)
            return Sample(self.transform.image(image), self.transform.mask(mask), region["caption"])
        except UserError as error:
            return error


class Collate:
    """Makes a batch of samples, or passes on the first error among them."""

    def __init__(self, tokenizer: CaptionTokenizer) -> None:
        self.tokenizer = tokenizer

    def __call__(self, samples: list[Sample | UserError]) -> Batch | UserError:
        pairs: list[Sample] = []
        for sample in samples:
            if isinstance(sample, UserError):
                return sample
            pairs.append(sample)
        distinct = {caption: number for number, caption in enumerate(dict.fromkeys(pair.caption for pair in pairs))}
        return Batch(
            images=torch.from_numpy(np.stack([pair.image for pair in pairs])),
            masks=torch.from_numpy(np.stack([pair.mask for pair in pairs])),
            tokens=self.tokenizer(list(distinct)),
            captions=torch.tensor([distinct[pair.caption] for pair in pairs]),
        )


def batches_from(
    step: int, total_steps: int, pool: Pool, transform: PadToSquare, tokenizer: CaptionTokenizer, recipe: recipes.Recipe
) -> Iterator[Batch]:
    """The batches of the steps ``step`` to ``total_steps``.

    Raises:
        UserError: a frame's image or mask is at fault; the text names the frame.
    """
    train = recipe.train
    loader = DataLoader(
        Samples(pool, transform, recipe.data, train.seed),
        batch_sampler=Batches(len(pool), train.batch_size, train.seed, first=step, last=total_steps),
        num_workers=recipe.data.workers,
        collate_fn=Collate(tokenizer),
        worker_init_fn=leave_signals_to_parent,
        pin_memory=torch.cuda.is_available(),
    )
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch


def leave_signals_to_parent(worker: int) -> None:
    """Ctrl-C and a scheduler's SIGTERM reach the whole process group: a loading process must outlive the last save.

    It ends when the parent says so, or is gone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
