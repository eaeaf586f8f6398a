"""The views of a frame that evaluation scores: its image, or a black one, through one mask or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from sono.manifests.errors import UserError
from sono.training.arrays import Integers
from sono.training.data.dataset import Frames, Row, decode_image, decode_mask
from sono.training.data.wordings import Kind
from sono.training.model.transforms import PadToSquare, Pixels

from .predicted_masks import PredictedMasks


@dataclass(frozen=True, kw_only=True)
class Mode:
    """How a frame is seen.

    Args:
        kind: through the mask of a whole image, or through those of its regions, one view each.
        of_donor: the regions are those of a frame of another patient.
        predicted: the regions are those whose masks a program predicted.
        image_blank: the image is black, as padding is.
    """

    kind: Kind
    of_donor: bool = False
    predicted: bool = False
    image_blank: bool = False


MODES: Mapping[str, Mode] = {
    "none": Mode(kind="whole"),
    "region": Mode(kind="region"),
    "predicted": Mode(kind="region", predicted=True),
    "shuffled": Mode(kind="region", of_donor=True),
    "blank": Mode(kind="region", image_blank=True),
}
"""The choices of ``--mask``. The last two are controls: what remains if image and mask are unrelated, and if there is
only a mask."""


_SWEEPS = 10  # two suffice if each patient has a tenth of the frames; fewer patients need more


@dataclass(frozen=True)
class Views:
    """A frame's image, of shape [3, size, size], and by mode the masks to see it through, [views, size, size].

    ``captions`` are the dataset's for each view; None if it has none.
    """

    image: Pixels
    masks: Mapping[str, Pixels]
    captions: Mapping[str, tuple[str | None, ...]]


class FrameViews(Dataset[Views | UserError]):
    """The views of the frames ``indices_N``; ``donors_N`` are positions in it, and so are the keys.

    A region of which no pixel is left at the size of the model's input makes no view, or an empty one with
    ``keep_empty``; every frame has another one. With ``region_seed`` a frame has one view of its regions, drawn with
    that number plus the frame's position.
    An error in the data is returned, not raised, because a loading process would lose its text.
    """

    def __init__(
        self,
        frames: Frames,
        indices_N: Integers,
        modes: Sequence[str],
        transform: PadToSquare,
        *,
        donors_N: Integers | None = None,
        predicted: PredictedMasks | None = None,
        region_seed: int | None = None,
        keep_empty: bool = False,
    ) -> None:
        self.frames, self.indices_N, self.modes, self.transform = frames, indices_N, modes, transform
        self.donors_N, self.predicted, self.region_seed = donors_N, predicted, region_seed
        self.keep_empty = keep_empty

    def __len__(self) -> int:
        return len(self.indices_N)

    def __getitem__(self, position: int) -> Views | UserError:
        masks, captions = {}, {}
        try:
            row, image = self._decode(position)
            for name in self.modes:
                masks[name], captions[name] = self._views(MODES[name], position, row, image)
        except UserError as error:
            return error
        pixels = self.transform.image(image)
        return Views(np.broadcast_to(pixels, (3, *pixels.shape[1:])), masks, captions)

    def _decode(self, position: int) -> tuple[Row, Image.Image]:
        row = self.frames.row(int(self.indices_N[position]))
        return row, decode_image(row)

    def _views(self, mode: Mode, position: int, row: Row, image: Image.Image) -> tuple[Pixels, tuple[str | None, ...]]:
        if mode.kind == "whole":
            return self.transform.all_one()[None], (row["caption"],)
        if mode.of_donor:
            assert self.donors_N is not None
            row, image = self._decode(int(self.donors_N[position]))  # with its image, to check the masks' size
        regions: Sequence[Mapping[str, Any]] = row["regions"]
        if mode.predicted:
            assert self.predicted is not None
            regions = self.predicted.regions(row)
        seen = [(self.transform.mask(decode_mask(row, region, image)), region["caption"]) for region in regions]
        views = [(mask, caption) for mask, caption in seen if self.keep_empty or mask.any()]
        if not views:
            raise UserError(
                "no pixel of its masks is left, although their area_px says otherwise",
                where=f"frame {row['frame_id']}",
                fix="run sono-curate build again",
            )
        if self.region_seed is not None:
            random = np.random.default_rng(self.region_seed + position)
            views = [views[int(random.integers(0, len(views)))]]
        masks, captions = zip(*views, strict=True)
        return np.stack(masks), captions


def choose_donors(patients_N: Integers, seed: int) -> Integers:
    """For every frame another one, never of its own patient, drawn at random.

    A permutation: every frame donates once, so the donors' masks are the frames' own in another order. If one patient
    has more than half of the frames no such permutation exists, and the others' frames donate several times.

    Args:
        patients_N: for every frame a number for its patient, from 0 without gaps; at least two patients.
        seed: of the draw.
    """
    random = np.random.default_rng(seed)
    frames_P = np.bincount(patients_N)
    total, most = len(patients_N), int(frames_P.max())
    assert most < total
    shuffled_N = random.permutation(total)
    owners_N = patients_N[shuffled_N]
    order_N = shuffled_N[np.lexsort((owners_N, -frames_P[owners_N]))]  # patient by patient, the largest first
    # No patient has more than `most` frames in a row, so the frame `most` places before is another patient's. For the
    # largest patient's that place is at the end.
    sources = np.concatenate([np.resize(order_N[max(most, total - most) :], most), order_N[: total - most]])
    donors_N = np.empty(total, dtype=np.int64)
    donors_N[order_N] = sources
    return _mix(donors_N, patients_N, random)


def _mix(donors_N: Integers, patients_N: Integers, random: np.random.Generator) -> Integers:
    """Exchange the donors of two frames, many times, if neither then gets one of its own patient.

    Before, all donors of a patient's frames are of one or two others. Since an exchange is as likely as its reversal,
    every allowed order becomes equally probable.
    """
    donors, patients = donors_N.tolist(), patients_N.tolist()
    for _ in range(_SWEEPS):
        for frame, other in enumerate(random.integers(len(donors), size=len(donors)).tolist()):
            ours, theirs = donors[other], donors[frame]
            if patients[ours] != patients[frame] and patients[theirs] != patients[other]:
                donors[frame], donors[other] = ours, theirs
    return np.array(donors, dtype=np.int64)
