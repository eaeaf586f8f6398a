"""The frames that a run trains on, with their captions and, if there is a cache, their pixels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sono.manifests.errors import UserError
from sono.training import recipes
from sono.training.model.tokenizer import CaptionTokenizer, too_long
from sono.training.model.transforms import PadToSquare

from .cache import Cache, open_cache
from .cache_layout import root_of
from .dataset import Frames
from .pairs import CaptionBank, Pairs, read_pairs
from .wordings import CaptionsRead


@dataclass(frozen=True)
class Pool:
    """The frames that a run trains on.

    Frames without a caption are left out. Those without a captioned region always make whole-image pairs. A region of
    which nothing is left at the training size is not drawn. All three are counted. With a ``cache``, pixels come from
    there and not from the dataset.

    Args:
        usable: the rows of frames with a caption.
        captions_read: how the captions that may be drawn are worded.
    """

    frames: Frames
    pairs: Pairs
    usable: npt.NDArray[np.int64]
    without_caption: int
    without_regions: int
    captions_read: CaptionsRead
    cache: Cache | None = None

    def __len__(self) -> int:
        return len(self.usable)

    @property
    def regions_vanished(self) -> int:
        """How many captioned regions have no pixel left at the training size."""
        return self.pairs.vanished

    @property
    def bank(self) -> CaptionBank:
        """Every distinct caption."""
        return self.pairs.bank


def make_pool(
    frames: Frames,
    tokenizer: CaptionTokenizer,
    transform: PadToSquare | None = None,
    *,
    global_fraction: float = 1.0,
) -> Pool:
    """Choose the frames to train on and check every caption's length, before any time is spent on training.

    Args:
        transform: of the model's input, as for ``read_pairs``.
        global_fraction: of the recipe; below 1 there must be regions to draw.

    Raises:
        UserError: no frame has a caption, or none a captioned region though the recipe needs some; or a caption is
            longer than the context, and the text names its frame.
    """
    pairs = read_pairs(frames, transform)
    usable = np.flatnonzero(pairs.caption_F >= 0)
    without_regions = int((np.diff(pairs.bounds_E)[usable] == 0).sum())
    source = frames.description.source
    if not len(usable):
        raise UserError(
            f"no frame of the {frames.split} split has a caption",
            where=source,
            fix="run sono-curate caption and build again",
        )
    if without_regions == len(usable) and global_fraction < 1:
        raise UserError(
            f"no frame of the {frames.split} split has a region with a caption",
            where=source,
            fix="import masks, caption and build again, or train on whole images only: --set data.global_fraction=1",
        )
    for number, text in enumerate(pairs.bank.texts):
        if tokenizer.length(text) > tokenizer.context_length:
            frame_id = frames.row(pairs.row_of_caption(number))["frame_id"]
            raise too_long(tokenizer.length(text), tokenizer.context_length, frame_id)
    captions_read = CaptionsRead.of(frames, pairs, global_fraction=global_fraction)
    return Pool(frames, pairs, usable, len(frames) - len(usable), without_regions, captions_read)


def with_cache(
    pool: Pool, transform: PadToSquare, settings: recipes.Data, notice: Callable[[str], None] = print
) -> Pool:
    """The pool, reading pixels from the cache that ``data.cache`` names; missing parts of it are written first.

    Raises:
        UserError: a frame is at fault, or the cache cannot be written.
    """
    if settings.cache is None:
        return pool
    cache = open_cache(pool.frames, transform, root_of(settings.cache), workers=settings.workers, notice=notice)
    return dataclasses.replace(pool, cache=cache)
