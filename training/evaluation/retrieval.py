"""Retrieval: whether an image, or a region of it, finds its own caption among all captions of the split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sono.training.arrays import Integers
from sono.training.data.dataset import Frames, open_split, read_description
from sono.training.features.encoder import Encoder, Report
from sono.training.features.views import FrameViews

from . import metrics
from .metrics import RESAMPLES, Draws
from .results import describe, write_result
from .selection import count_regions, has_caption, number_patients

RANKS = (1, 5, 10)

_AT_ONCE = 1024
_SHORTER = "shorten the sentences with sono-curate caption --templates, then build again"


def retrieve(
    run: Path,
    dataset: str,
    *,
    split: str = "test",
    resamples: int = RESAMPLES,
    seed: int = 0,
    notice: Callable[[str], None] = print,
    progress: Report = lambda _: None,
) -> dict[str, Any]:
    """Recall at 1, 5 and 10 of captions, by images and by regions.

    The captions to choose from are the distinct ones of the split, of whole images for images and of regions for
    regions, so equal captions count as right answers. ``region_to_text`` is given twice: through the regions' masks,
    and with the same images seen whole (``none``), which knows the image and not the region.

    What this does not measure: captions that say the same in other words, or differ by a day of age, are wrong answers.

    Returns:
        Under ``image_to_text.none``, ``region_to_text.region`` and ``region_to_text.none`` the recalls with 95 %
        intervals over patients; ``chance`` is what guessing gives. Also written to
        ``RUN/evaluation/<split>-retrieve.json``.

    Raises:
        UserError: there is no checkpoint, no such split, no captioned frame, only one patient, or a caption is longer
            than the text tower reads.
    """
    encoder = Encoder.load(run, notice)
    frames = open_split(read_description(dataset), split)
    captioned = has_caption(frames)
    patients = number_patients(frames, captioned, "has a caption")
    indices = np.flatnonzero(captioned)
    images, regions = _embed(encoder, frames, indices, int((~captioned).sum()), progress)
    result = {
        **describe(encoder, frames, resamples, seed),
        "n_frames": len(indices),
        "n_patients": int(patients.max()) + 1,
        "frames_without_caption": int((~captioned).sum()),
        "frames_without_regions": int((count_regions(frames)[indices] == 0).sum()),
        "image_to_text": _recalls(encoder, images, patients, resamples, seed),
        "region_to_text": _recalls(encoder, regions, patients, resamples, seed) if regions.captions else None,
    }
    write_result(run, f"{split}-retrieve", result)
    return result


@dataclass(frozen=True)
class _Queries:
    """Captions, the number of the frame that each is of, [queries], and by mask features to find them with."""

    captions: Sequence[str]
    owners: Integers
    features: Mapping[str, torch.Tensor]


def _embed(
    encoder: Encoder, frames: Frames, indices: Integers, left_out: int, progress: Report
) -> tuple[_Queries, _Queries]:
    """Images with their captions, and captioned regions with theirs: through their masks, and without."""
    with_regions = count_regions(frames)[indices] > 0
    whole: list[torch.Tensor] = []
    seen: dict[str, list[torch.Tensor]] = {"region": [], "none": []}
    captions: tuple[list[str], list[str]] = ([], [])
    owners: list[int] = []
    for part, modes in ((~with_regions, ("none",)), (with_regions, ("none", "region"))):
        places = np.flatnonzero(part)
        views = FrameViews(frames, indices[places], modes, encoder.transform)
        done = 0
        for batch in encoder.batches("retrieve", views, left_out, progress):
            features_ND = encoder.frame_features(batch, "none")
            whole.append(features_ND)
            captions[0].extend(view.captions["none"][0] or "" for view in batch)
            if "region" in modes:
                regions_VD, owners_V = encoder.view_features(batch, "region")
                named = [caption for view in batch for caption in view.captions["region"]]
                kept = torch.tensor([bool(caption) for caption in named])
                captions[1].extend(caption for caption in named if caption)
                seen["region"].append(regions_VD[kept])
                seen["none"].append(features_ND[owners_V[kept]])
                owners.extend(places[done + owners_V[kept].numpy()].tolist())
            done += len(batch)
    order = np.concatenate([np.flatnonzero(~with_regions), np.flatnonzero(with_regions)])
    return (
        _Queries(captions[0], order, {"none": torch.cat(whole)}),
        _Queries(captions[1], np.array(owners, dtype=np.int64), {k: torch.cat(v) for k, v in seen.items() if v}),
    )


def _recalls(encoder: Encoder, queries: _Queries, patients: Integers, resamples: int, seed: int) -> dict[str, Any]:
    distinct = {caption: number for number, caption in enumerate(dict.fromkeys(queries.captions))}
    wanted = torch.tensor([distinct[caption] for caption in queries.captions])
    texts_TD = encoder.sentences(list(distinct), _SHORTER)
    draws = Draws(np.unique(patients[queries.owners], return_inverse=True)[1], resamples, seed)
    ranks = {mask: rank_of(features_QD, texts_TD, wanted) for mask, features_QD in queries.features.items()}
    found: dict[str, Any] = {
        "n_queries": len(queries.captions),
        "n_captions": len(distinct),
        "chance": {f"recall{k}": min(k / len(distinct), 1.0) for k in RANKS},
    }
    for mask, ranks_Q in ranks.items():
        found[mask] = {f"recall{k}": asdict(metrics.mean(ranks_Q <= k, draws)) for k in RANKS}
    if len(ranks) == 2:
        same = np.zeros(len(wanted), dtype=np.int64)
        found["region_minus_none"] = {
            f"recall{k}": asdict(metrics.paired_difference(ranks["region"] <= k, ranks["none"] <= k, same, draws))
            for k in RANKS
        }
    return found


def rank_of(features_QD: torch.Tensor, texts_TD: torch.Tensor, wanted_Q: torch.Tensor) -> Integers:
    """For every query the place of its text among all, from 1; texts with an equal score stand before it."""
    ranks = []
    for start in range(0, len(features_QD), _AT_ONCE):
        scores_QT = features_QD[start : start + _AT_ONCE] @ texts_TD.T
        own_Q1 = scores_QT.gather(1, wanted_Q[start : start + _AT_ONCE, None])
        ranks.append((~(scores_QT < own_Q1)).sum(dim=1))  # itself included, so the best is 1; no number stands last
    found: Integers = torch.cat(ranks).numpy()
    return found
