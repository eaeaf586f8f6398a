"""The frames that a run trains on, with their captions and, if there is a cache, their pixels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from sono.manifests.errors import UserError
from sono.training import recipes
from sono.training.model.tokenizer import CaptionTokenizer, too_long
from sono.training.model.transforms import PadToSquare

from .cache import Cache, open_cache
from .cache_layout import root_of
from .dataset import naming
from .joined import JoinedFrames
from .mixture import Mixture, mix_datasets
from .pairs import CaptionBank, Pairs, read_pairs
from .wordings import CaptionsRead


@dataclass(frozen=True)
class Pool:
    """The frames that a run trains on.

    Frames without a caption are left out. Those without a captioned region always make whole-image pairs. A region of
    which nothing is left at the training size is not drawn. All three are counted. With ``caches``, one for each
    dataset, pixels come from there and not from the datasets.

    Args:
        usable: the rows of frames with a caption; those of the first dataset come first.
        mixture: how many of them each dataset has, and how they are mixed.
        captions_read: how the captions that may be drawn are worded.
    """

    frames: JoinedFrames
    pairs: Pairs
    usable: npt.NDArray[np.int64]
    mixture: Mixture
    captions_read: CaptionsRead
    caches: tuple[Cache, ...] = ()

    def __len__(self) -> int:
        return len(self.usable)

    def usable_of(self, dataset: int) -> npt.NDArray[np.int64]:
        """The rows of one dataset's frames with a caption, counted in that dataset."""
        first = sum(self.mixture.sizes[:dataset])
        return self.usable[first : first + self.mixture.sizes[dataset]] - self.frames.starts[dataset]

    def without_caption(self, dataset: int) -> int:
        """How many frames of a dataset are left out."""
        return len(self.frames.parts[dataset]) - self.mixture.sizes[dataset]

    def without_regions(self, dataset: int) -> int:
        """How many frames of a dataset make whole-image pairs only."""
        rows = self.usable_of(dataset) + self.frames.starts[dataset]
        return int((np.diff(self.pairs.bounds_E)[rows] == 0).sum())

    @property
    def regions_vanished(self) -> int:
        """How many captioned regions have no pixel left at the training size."""
        return self.pairs.vanished

    @property
    def bank(self) -> CaptionBank:
        """Every distinct caption."""
        return self.pairs.bank


def make_pool(
    frames: JoinedFrames,
    tokenizer: CaptionTokenizer,
    transform: PadToSquare | None = None,
    *,
    global_fraction: float = 1.0,
    weights: Mapping[str, Fraction] | None = None,
) -> Pool:
    """Choose the frames to train on and check every caption's length, before any time is spent on training.

    Args:
        transform: of the model's input, as for ``read_pairs``.
        global_fraction: of the recipe; below 1 there must be regions to draw.
        weights: of the datasets, by name, as for ``mix_datasets``.

    Raises:
        UserError: no frame of a dataset has a caption, or none of all a captioned region though the recipe needs some;
            a caption is longer than the context, and the text names its frame; or the weights do not fit the datasets.
    """
    pairs = read_pairs(frames, transform)
    usable, mixture = choose_frames(frames, pairs, weights)
    if global_fraction < 1 and not np.diff(pairs.bounds_E)[usable].any():
        raise UserError(
            f"no frame of the {frames.parts[0].split} split has a region with a caption",
            where=", ".join(part.description.source for part in frames.parts),
            fix="import masks, caption and build again, or train on whole images only: --set data.global_fraction=1",
        )
    _check_lengths(frames, pairs, tokenizer)
    captions_read = CaptionsRead.of(frames, pairs, global_fraction=global_fraction)
    return Pool(frames, pairs, usable, mixture, captions_read)


def choose_frames(
    frames: JoinedFrames, pairs: Pairs, weights: Mapping[str, Fraction] | None
) -> tuple[npt.NDArray[np.int64], Mixture]:
    """The rows of frames with a caption, and how those of the datasets are mixed.

    Raises:
        UserError: a dataset has none, or the weights do not fit the datasets.
    """
    usable = np.flatnonzero(pairs.caption_F >= 0)
    sizes = np.diff(np.searchsorted(usable, frames.starts)).tolist()
    for part, size in zip(frames.parts, sizes, strict=True):
        if not size:
            raise UserError(
                f"no frame of the {part.split} split has a caption",
                where=part.description.source,
                fix="run sono-curate caption and build again",
            )
    return usable, mix_datasets([part.description for part in frames.parts], sizes, weights)


def with_cache(
    pool: Pool, transform: PadToSquare, settings: recipes.Data, notice: Callable[[str], None] = print
) -> Pool:
    """The pool, reading pixels from the caches that ``data.cache`` names; missing parts of them are written first.

    Raises:
        UserError: a frame is at fault, or a cache cannot be written.
    """
    if settings.cache is None:
        return pool
    root, caches = root_of(settings.cache), []
    for frames in pool.frames.parts:
        with naming(frames.description):
            caches.append(open_cache(frames, transform, root, workers=settings.workers, notice=notice))
    return dataclasses.replace(pool, caches=tuple(caches))


def _check_lengths(frames: JoinedFrames, pairs: Pairs, tokenizer: CaptionTokenizer) -> None:
    for number, text in enumerate(pairs.bank.texts):
        if tokenizer.length(text) > tokenizer.context_length:
            dataset, row = frames.place(pairs.row_of_caption(number))
            part = frames.parts[dataset]
            with naming(part.description):
                raise too_long(tokenizer.length(text), tokenizer.context_length, part.row(row)["frame_id"])
