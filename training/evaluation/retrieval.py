"""Retrieval: whether an image, or a region of it, finds its own caption among all captions of the split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from sono.training.arrays import Booleans, Integers
from sono.training.data.visible_regions import count_regions
from sono.training.data.wordings import Kind
from sono.training.features.encoder import Encoder
from sono.training.features.views import FrameViews

from . import metrics
from .bootstrap import Bootstrap
from .notes import about_captions
from .scoring import Measurement, Scoring
from .selection import has_caption, number_patients

RANKS = (1, 5, 10)

_QUERIES_AT_ONCE = 1024
_SHORTER = "shorten the sentences with sono-curate caption --templates, then build again"


def retrieve(scoring: Scoring) -> dict[str, Any]:
    """Recall at 1, 5 and 10 of captions, by images and by regions.

    The captions to choose from are the distinct ones of the split, of images for images and of regions for regions, so
    equal captions count as right answers. ``region_to_text`` is given twice: through the regions' masks, and with the
    same images seen as a whole (``none``), which know the image but not the region.

    With no more than k captions to choose from, recall at k is None: it is always 1.

    What this does not measure: captions that say the same in other words, or differ by a day of age, are wrong answers.

    Returns:
        Under ``image_to_text.none``, ``region_to_text.region`` and ``region_to_text.none`` the recalls with 95 %
        intervals over patients; ``chance`` is what guessing gives. Also written to
        ``RUN/evaluation/<dataset>/<split>-retrieve.json``.

    Raises:
        UserError: the run has no checkpoint, the split cannot be read, it has no captioned frame or only one patient,
            or a caption is longer than the text tower reads.
    """
    measurement = scoring.open()
    frames = measurement.frames
    captioned = has_caption(frames)
    bootstrap = measurement.bootstrap(number_patients(frames, captioned, "has a caption"))
    indices, left_out = np.flatnonzero(captioned), int((~captioned).sum())
    regions_N, vanished_N = (counts[indices] for counts in count_regions(frames, measurement.encoder.transform))
    images, regions = _queries(measurement, indices, regions_N > 0, left_out)
    figures = {
        "n_frames": len(indices),
        "n_patients": bootstrap.patients,
        "frames_without_caption": left_out,
        "frames_without_regions": int((regions_N == 0).sum()),
        "regions_vanished": int(vanished_N.sum()),
        "image_to_text": _recalls(measurement.encoder, images, bootstrap),
        "region_to_text": _recalls(measurement.encoder, regions, bootstrap) if regions.captions else None,
    }
    captions: dict[Kind, Sequence[str]] = {"whole": images.captions, "region": regions.captions}
    return measurement.write("retrieve", figures, about_captions(captions, measurement.encoder.captions_read))


def rank_of(features_QD: torch.Tensor, texts_TD: torch.Tensor, own_Q: torch.Tensor) -> Integers:
    """For every query the rank of its own text among all, from 1; texts with an equal score come before it."""
    ranks = []
    for start in range(0, len(features_QD), _QUERIES_AT_ONCE):
        scores_QT = features_QD[start : start + _QUERIES_AT_ONCE] @ texts_TD.T
        own_Q1 = scores_QT.gather(1, own_Q[start : start + _QUERIES_AT_ONCE, None])
        ranks.append((~(scores_QT < own_Q1)).sum(dim=1))  # counts itself, so the best rank is 1; NaN ranks last
    ranks_Q: Integers = torch.cat(ranks).numpy()
    return ranks_Q


@dataclass(frozen=True)
class _Queries:
    """Captions, the position of the frame that each belongs to, [queries], and by mask features to find them with."""

    captions: Sequence[str]
    owners: Integers
    features: Mapping[str, torch.Tensor]


def _queries(
    measurement: Measurement, indices: Integers, with_regions: Booleans, left_out: int
) -> tuple[_Queries, _Queries]:
    """Images with their captions, and captioned regions with theirs: through their masks, and without.

    Frames without regions are encoded first: they are seen through no other mask.
    """
    encoder, frames = measurement.encoder, measurement.frames
    images, regions = _Collected(), _Collected()
    for part, modes in ((~with_regions, ("none",)), (with_regions, ("none", "region"))):
        positions = np.flatnonzero(part)
        views = FrameViews(frames, indices[positions], modes, encoder.transform)
        done = 0
        for batch in measurement.batches("retrieve", views, left_out):
            here = positions[done : done + len(batch)]
            done += len(batch)
            features_ND = encoder.frame_features(batch, "none")
            images.add([view.captions["none"][0] or "" for view in batch], here, none=features_ND)
            if "region" in modes:
                regions_VD, owners_V = encoder.view_features(batch, "region")
                captions = [caption for view in batch for caption in view.captions["region"]]
                captioned = torch.tensor([bool(caption) for caption in captions])
                owners = owners_V[captioned]
                regions.add(
                    [caption for caption in captions if caption],
                    here[owners.numpy()],
                    region=regions_VD[captioned],
                    none=features_ND[owners],
                )
    return images.queries(), regions.queries()


class _Collected:
    """Queries, batch by batch."""

    def __init__(self) -> None:
        self.captions: list[str] = []
        self.owners: list[Integers] = [np.zeros(0, dtype=np.int64)]
        self.features: dict[str, list[torch.Tensor]] = {}

    def add(self, captions: Sequence[str], owners: Integers, **features: torch.Tensor) -> None:
        self.captions.extend(captions)
        self.owners.append(owners)
        for mask, features_QD in features.items():
            self.features.setdefault(mask, []).append(features_QD)

    def queries(self) -> _Queries:
        features = {mask: torch.cat(parts) for mask, parts in self.features.items()}
        return _Queries(self.captions, np.concatenate(self.owners), features)


def _recalls(encoder: Encoder, queries: _Queries, bootstrap: Bootstrap) -> dict[str, Any]:
    distinct = {caption: number for number, caption in enumerate(dict.fromkeys(queries.captions))}
    own_Q = torch.tensor([distinct[caption] for caption in queries.captions])
    texts_TD = encoder.sentences(list(distinct), _SHORTER)
    ranks = {mask: rank_of(features_QD, texts_TD, own_Q) for mask, features_QD in queries.features.items()}
    of_queries = bootstrap.take(queries.owners)
    recalls: dict[str, Any] = {
        "n_queries": len(queries.captions),
        "n_captions": len(distinct),
        "chance": {f"recall{k}": min(k / len(distinct), 1.0) for k in RANKS},
    }
    for mask, ranks_Q in ranks.items():
        recalls[mask] = {
            f"recall{k}": asdict(metrics.mean(ranks_Q <= k, of_queries)) if k < len(distinct) else None for k in RANKS
        }
    if len(ranks) == 2:
        one_class = np.zeros(len(own_Q), dtype=np.int64)
        through, whole = ranks["region"], ranks["none"]
        recalls["region_minus_none"] = {
            f"recall{k}": asdict(metrics.paired_difference(through <= k, whole <= k, one_class, of_queries))
            if k < len(distinct)
            else None
            for k in RANKS
        }
    return recalls
