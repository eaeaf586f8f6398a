"""The training pairs of one or several splits as numbers: captions, each frame's regions, and the choice among them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sono.training import recipes
from sono.training.model.transforms import PadToSquare

from .joined import JoinedFrames
from .visible_regions import are_visible

Numbers = npt.NDArray[np.int32]


class CaptionBank:
    """Every distinct caption once, sorted: its number is the same in every process and every run."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts: tuple[str, ...] = tuple(sorted(set(texts)))

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Pair:
    """One drawn pair: the frame's row, the region's place in that row (None for the whole image), caption, structure.

    ``caption`` is a number in the bank; ``structure`` is "" for a whole image.
    """

    row: int
    region: int | None
    caption: int
    structure: str


@dataclass(frozen=True)
class Pairs:
    """Captions and captioned regions of all F frames, some 30 bytes per frame.

    Args:
        bank: the captions.
        structures: ids of the regions' structures; "" for a region without one.
        caption_F: for every frame the number of its caption in the bank, -1 if it has none.
        bounds_E: the captioned regions of frame f are those from ``bounds_E[f]`` up to ``bounds_E[f + 1]``.
        place_R: for every captioned region its place in its frame's row.
        caption_R: the number of its caption.
        structure_R: the number of its structure.
        vanished: how many captioned regions are left out, because nothing of their masks is left.
    """

    bank: CaptionBank
    structures: tuple[str, ...]
    caption_F: Numbers
    bounds_E: npt.NDArray[np.int64]
    place_R: Numbers
    caption_R: Numbers
    structure_R: Numbers
    vanished: int = 0

    def draw(self, row: int, settings: recipes.Data, random: np.random.Generator) -> Pair:
        """The whole image with probability ``data.global_fraction``, else a region as ``data.region_sampling`` says.

        A frame without captioned regions always makes a whole-image pair.
        """
        first, end = int(self.bounds_E[row]), int(self.bounds_E[row + 1])
        if first == end or random.random() < settings.global_fraction:
            return Pair(row, None, int(self.caption_F[row]), "")
        chosen = first + self._choose(self.structure_R[first:end], settings.region_sampling, random)
        structure = self.structures[self.structure_R[chosen]]
        return Pair(row, int(self.place_R[chosen]), int(self.caption_R[chosen]), structure)

    def row_of_caption(self, caption: int) -> int:
        """The first frame with this caption, of its own or of one of its regions."""
        frames = np.flatnonzero(self.caption_F == caption)
        if len(frames):
            return int(frames[0])
        region = np.flatnonzero(self.caption_R == caption)[0]
        return int(np.searchsorted(self.bounds_E, region, side="right")) - 1

    @cached_property
    def _rarity_by_structure(self) -> npt.NDArray[np.float64]:
        """The inverse of how often each structure occurs among all captioned regions."""
        return 1 / np.maximum(np.bincount(self.structure_R, minlength=len(self.structures)), 1)

    def _choose(self, structures_r: Numbers, sampling: str, random: np.random.Generator) -> int:
        if sampling == "structure":
            present = np.unique(structures_r)
            places = np.flatnonzero(structures_r == present[random.integers(len(present))])
            return int(places[random.integers(len(places))])
        if sampling == "inverse_frequency":
            edges = np.cumsum(self._rarity_by_structure[structures_r])
            return min(int(np.searchsorted(edges, random.random() * edges[-1], side="right")), len(edges) - 1)
        return int(random.integers(len(structures_r)))


def read_pairs(frames: JoinedFrames, transform: PadToSquare | None = None) -> Pairs:
    """Read captions and structures, column by column and chunk by chunk, and no image.

    Args:
        transform: of the model's input; if omitted, only regions whose masks are empty at any size are left out.
    """
    captions, structures = _Numbering(), _Numbering(empty_is_a_name=True)
    of_frames = [captions.of(chunk) for chunk in frames.column("caption").chunks]
    of_regions = [_regions(lists, captions, structures, transform) for lists in frames.column("regions").chunks]
    counts_F, place_R, caption_R, structure_R, vanished = (
        np.concatenate(parts) for parts in zip(*of_regions, strict=True)
    )
    bank = CaptionBank(captions.numbers)
    ranks = np.full(len(bank) + 1, -1, dtype=np.int32)  # from the order of reading to the bank's; the last is -1
    for rank, text in enumerate(bank.texts):
        ranks[captions.numbers[text]] = rank
    return Pairs(
        bank=bank,
        structures=tuple(structures.numbers),
        caption_F=ranks[np.concatenate(of_frames)],
        bounds_E=np.concatenate([[0], np.cumsum(counts_F)]),
        place_R=place_R.astype(np.int32),
        caption_R=ranks[caption_R],
        structure_R=structure_R,
        vanished=int(vanished.sum()),
    )


class _Numbering:
    """Numbers texts in the order of first occurrence; null is -1, and so is the empty text if it is not a name."""

    def __init__(self, *, empty_is_a_name: bool = False) -> None:
        self.numbers: dict[str, int] = {}
        self.empty_is_a_name = empty_is_a_name

    def of(self, texts: pa.Array) -> Numbers:
        encoded = (pc.fill_null(texts, "") if self.empty_is_a_name else texts).dictionary_encode()
        numbers = [
            self.numbers.setdefault(text, len(self.numbers)) if text or self.empty_is_a_name else -1
            for text in encoded.dictionary.to_pylist()
        ]
        indices = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
        found: Numbers = np.array([*numbers, -1], dtype=np.int32)[indices]  # null is -1, which picks the last
        return found


def _regions(
    lists: pa.Array, captions: _Numbering, structures: _Numbering, transform: PadToSquare | None
) -> tuple[npt.NDArray[np.int64], Numbers, Numbers, Numbers, npt.NDArray[np.int64]]:
    """How many captioned regions each frame of a chunk has; their places, captions and structures; and the vanished.

    Vanished regions have no part in the other four.
    """
    members = pc.list_flatten(lists)
    parents = pc.list_parent_indices(lists).to_numpy()
    places = np.arange(len(parents)) - np.searchsorted(parents, parents)
    caption = captions.of(pc.struct_field(members, "caption"))
    structure = structures.of(pc.struct_field(members, "structure"))
    captioned, visible = caption >= 0, are_visible(lists, transform)
    kept = captioned & visible
    counts = np.bincount(parents[kept], minlength=len(lists))
    return counts, places[kept], caption[kept], structure[kept], np.array([(captioned & ~visible).sum()])
