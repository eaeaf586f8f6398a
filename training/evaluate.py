"""Zero-shot recognition of the plane: a frame's features against those of sentences that name the planes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from sono.manifests.errors import UserError
from sono.manifests.stages import Progress
from sono.manifests.store import write_atomically

from . import checkpoints, data, metrics, recipes
from .captions import CaptionTokenizer
from .metrics import Booleans, Integers
from .model import MaskClip, restore_model
from .samples import leave_signals_to_parent
from .transforms import PadToSquare
from .views import MODES, FrameViews, Kind, Views, choose_donors

WEEKS = range(12, 41, 4)
PROMPTS: Mapping[Kind, tuple[str, ...]] = {
    "whole": tuple(f"A {weeks}-week fetal ultrasound image of {{plane}} plane." for weeks in WEEKS),
    "region": tuple(f"A {weeks}-week fetal ultrasound {{plane}} plane." for weeks in WEEKS),
}
"""Sentences for a plane's display name, by kind of view, worded as our captions of that kind begin.

Every caption holds an age, and the plane's features are the average over ages. They name no structure: structures give
the plane away.
"""

MASK_SETS: Mapping[str, tuple[str, ...]] = {"both": ("none", "region"), "all": tuple(MODES)}
"""Names for several masks together, in ``--mask`` and in the names of result files."""

FOLDER = "evaluation"
RESAMPLES = 1000

_FRAMES_AT_ONCE, _VIEWS_AT_ONCE = 32, 128


def evaluate(
    run: Path,
    dataset: str,
    *,
    masks: Sequence[str] = ("none",),
    split: str = "test",
    resamples: int = RESAMPLES,
    seed: int = 0,
    notice: Callable[[str], None] = print,
    progress: Callable[[Progress], None] = lambda _: None,
) -> dict[str, Any]:
    """Score the newest checkpoint of ``run`` on a split of ``dataset``, seen through each of ``masks``.

    Mean per-class top-1 and top-5 accuracy over the planes present, with 95 % intervals over patients. All masks are
    scored on the same frames: where any but ``none`` is among them, those with regions; the others are counted.

    What this does not measure: anything but which plane a frame shows. And ``region`` looks through true masks, which
    nobody has at a scanner; docs/training.md says how far the controls ``shuffled`` and ``blank`` tell what they add.

    Args:
        run: folder of the training run.
        dataset: folder of a finished build, or a dataset on the Hub.
        masks: names out of ``MODES``, in any order.
        split: of the dataset.
        resamples: how many times patients are drawn for an interval.
        seed: of these draws, and of the choice of other frames' masks.
        notice: told of damaged checkpoints.
        progress: told after every batch; its parts are batches, its exclusions the frames left out.

    Returns:
        What all masks have in common; under ``masks`` the figures of each; under ``minus_none``, where ``none`` is
        among them, the paired differences of the others. Also written to ``RUN/evaluation/<split>-<mask>.json``; of
        several masks the name is that of the set in ``MASK_SETS``.

    Raises:
        UserError: there is no checkpoint, no such split, no frame to score or no other patient to take masks from, or
            a mask does not fit its image.
    """
    assert masks
    assert set(masks) <= set(MODES), masks
    names = tuple(name for name in MODES if name in masks)
    loaded = checkpoints.latest(run, notice)
    if loaded is None:
        raise UserError("there is no checkpoint", where=str(run), fix="name the folder of a run that was trained")
    frames = data.open_split(data.describe(dataset), split)
    chosen = _choose(frames, names, seed)
    scores = _Scorer.load(loaded.content, frames).scores(chosen, names, progress)
    hits = {name: _Hits.of(scores_NC, chosen.truth) for name, scores_NC in scores.items()}
    bootstrap = _Bootstrap(chosen, resamples, seed)
    result = {
        "split": split,
        "checkpoint": {"file": loaded.file.name, "sha256": loaded.sha256, "step": loaded.content["step"]},
        "dataset": {"source": dataset, "fingerprint": frames.description.fingerprint},
        **chosen.counts(),
        "planes_present": len(np.unique(chosen.truth)),
        "planes": len(frames.planes),
        "bootstrap": {"over": "patients", "resamples": resamples, "seed": seed},
        "masks": {name: _figures(name, hits[name], bootstrap, frames.planes) for name in names},
        "minus_none": {
            name: bootstrap.differences(hits[name], hits["none"]) for name in names if name != "none" and "none" in hits
        },
    }
    text = json.dumps(result, indent=2).encode()
    write_atomically(result_file(run, split, names), lambda file: file.write(text))
    return result


def result_file(run: Path, split: str, masks: Sequence[str]) -> Path:
    """Where the result for these masks, in the order of ``MODES``, is written."""
    known = [name for name, together in MASK_SETS.items() if together == tuple(masks)]
    return run / FOLDER / f"{split}-{known[0] if known else '-'.join(masks)}.json"


@dataclass(frozen=True)
class _Chosen:
    """The frames that are scored: their rows in the split, their planes and patients, and how many are left out.

    ``donors`` are for each the position of the frame whose masks it is seen through when shuffled, where that is asked.
    """

    indices: Integers
    truth: Integers
    patients: Integers
    donors: Integers | None
    seed: int  # of the donors
    only_with_regions: bool
    without_plane: int
    without_regions: int

    def counts(self) -> dict[str, Any]:
        return {
            "frames": "with regions" if self.only_with_regions else "all",
            "n_frames": len(self.indices),
            "n_patients": len(set(self.patients.tolist())),
            "frames_without_plane": self.without_plane,
            "frames_without_regions": self.without_regions,
        }

    @property
    def left_out(self) -> int:
        return self.without_plane + (self.without_regions if self.only_with_regions else 0)


def _choose(frames: data.Frames, masks: Sequence[str], seed: int) -> _Chosen:
    only_with_regions = any(MODES[name].kind == "region" for name in masks)
    plane = frames.column("plane").to_numpy(zero_copy_only=False).astype(np.float64)  # null becomes NaN
    regions = pc.fill_null(pc.list_value_length(frames.column("regions")), 0).to_numpy()
    has_plane = ~np.isnan(plane)
    chosen = has_plane & (regions > 0) if only_with_regions else has_plane
    if not chosen.any():
        raise UserError(
            f"no frame of the {frames.split} split has a plane" + (" and regions" if only_with_regions else ""),
            where=frames.description.source,
            fix="score another split" + (", or --mask none" if only_with_regions else ""),
        )
    patients = _number_patients(frames, chosen)
    return _Chosen(
        indices=np.flatnonzero(chosen),
        truth=plane[chosen].astype(np.int64),
        patients=patients,
        donors=_donors(frames, patients, seed) if any(MODES[name].of_donor for name in masks) else None,
        seed=seed,
        only_with_regions=only_with_regions,
        without_plane=int((~has_plane).sum()),
        without_regions=int((has_plane & (regions == 0)).sum()),
    )


def _number_patients(frames: data.Frames, chosen: Booleans) -> Integers:
    patients = frames.column("patient_key").filter(chosen)
    if patients.null_count:
        raise UserError(
            f"{patients.null_count} frames have no patient_key, and intervals are over patients",
            where=frames.description.source,
            fix="run sono-curate build again",
        )
    return np.unique(patients.to_pylist(), return_inverse=True)[1]


def _donors(frames: data.Frames, patients: Integers, seed: int) -> Integers:
    if patients.max() == 0:
        raise UserError(
            f"all frames with regions in the {frames.split} split are of one patient, "
            "and shuffled masks are those of another",
            where=frames.description.source,
            fix="score another split, or --mask none, region, blank or both",
        )
    return choose_donors(patients, seed)


@dataclass(frozen=True)
class _Scorer:
    """A checkpoint's model."""

    model: MaskClip
    transform: PadToSquare
    frames: data.Frames
    workers: int
    device: torch.device

    @classmethod
    def load(cls, content: Mapping[str, Any], frames: data.Frames) -> _Scorer:
        recipe = recipes.from_flat(content["recipe"])
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = restore_model(recipe.model.backbone, content["model"]).to(device).eval()
        return cls(model, PadToSquare.from_dict(content["transform"]), frames, recipe.data.workers, device)

    @torch.inference_mode()
    def scores(
        self, chosen: _Chosen, masks: Sequence[str], progress: Callable[[Progress], None]
    ) -> dict[str, torch.Tensor]:
        """By mask the cosines of shape [frames, planes], up to each frame's own factor; an image is decoded once."""
        planes = {kind: self._planes(kind) for kind in {MODES[name].kind for name in masks}}
        loader = DataLoader(
            FrameViews(self.frames, chosen.indices, chosen.donors, masks, self.transform),
            batch_size=_FRAMES_AT_ONCE,
            num_workers=self.workers,
            collate_fn=list,
            worker_init_fn=leave_signals_to_parent,
        )
        scores: dict[str, list[torch.Tensor]] = {name: [] for name in masks}
        done = 0
        for number, batch in enumerate(loader, start=1):
            views = list(_checked(batch))
            for name in masks:
                scores[name].append((self._features(views, name) @ planes[MODES[name].kind].T).cpu())
            done += len(views)
            progress(Progress("evaluate", len(loader), number, done, chosen.left_out))
        return {name: torch.cat(parts) for name, parts in scores.items()}

    def _planes(self, kind: Kind) -> torch.Tensor:
        """For every plane the average over the sentences' features, L2-normalised, of shape [planes, dim]."""
        tokenizer = CaptionTokenizer(self.model.context_length)
        names = [self.frames.description.planes[plane] for plane in self.frames.planes]
        features = [
            self.model.encode_text(
                tokenizer([prompt.format(plane=name) for prompt in PROMPTS[kind]]).to(self.device)
            ).mean(dim=0)
            for name in names
        ]
        return F.normalize(torch.stack(features), dim=-1)

    def _features(self, frames: Sequence[Views], mask: str) -> torch.Tensor:
        """For every frame the average over its views of their L2-normalised features, of shape [frames, dim]."""
        images = torch.from_numpy(np.stack([views.image for views in frames])).to(self.device)
        if MODES[mask].image_blank:
            images = torch.zeros_like(images)
        masks_VHW = torch.from_numpy(np.concatenate([views.masks[mask] for views in frames])).to(self.device)
        counts = torch.tensor([len(views.masks[mask]) for views in frames], device=self.device)
        owners_V = torch.arange(len(frames), device=self.device).repeat_interleave(counts)
        parts = zip(torch.split(owners_V, _VIEWS_AT_ONCE), torch.split(masks_VHW, _VIEWS_AT_ONCE), strict=True)
        features_VD = torch.cat(
            [self.model.encode_image(self.transform.normalise(images[owners], masks)) for owners, masks in parts]
        )
        sums = features_VD.new_zeros(len(frames), features_VD.shape[1]).index_add_(0, owners_V, features_VD)
        return sums / counts[:, None]


def _checked(batch: list[Views | UserError]) -> Iterator[Views]:
    for views in batch:
        if isinstance(views, UserError):
            raise views
        yield views


@dataclass(frozen=True)
class _Hits:
    """For every frame the plane with the best score, and whether the true one is that, or among the best five."""

    best: Integers
    top1: Booleans
    top5: Booleans

    @classmethod
    def of(cls, scores_NC: torch.Tensor, truth: Integers) -> _Hits:
        best = scores_NC.topk(min(5, scores_NC.shape[1]), dim=1).indices.numpy()
        return cls(best[:, 0], best[:, 0] == truth, (best == truth[:, None]).any(axis=1))


@dataclass(frozen=True)
class _Bootstrap:
    """Intervals over the patients of the chosen frames, from the same draws for all of them."""

    chosen: _Chosen
    resamples: int
    seed: int

    def accuracies(self, hits: _Hits) -> dict[str, Any]:
        drawn = (self.chosen.truth, self.chosen.patients, self.resamples, self.seed)
        return {
            "top1": asdict(metrics.mean_per_class(hits.top1, *drawn)),
            "top5": asdict(metrics.mean_per_class(hits.top5, *drawn)),
        }

    def differences(self, hits: _Hits, reference: _Hits) -> dict[str, Any]:
        drawn = (self.chosen.truth, self.chosen.patients, self.resamples, self.seed)
        return {
            "top1": asdict(metrics.paired_difference(hits.top1, reference.top1, *drawn)),
            "top5": asdict(metrics.paired_difference(hits.top5, reference.top5, *drawn)),
        }


def _figures(mask: str, hits: _Hits, bootstrap: _Bootstrap, planes: Sequence[str]) -> dict[str, Any]:
    chosen = bootstrap.chosen
    per_plane = {
        planes[plane]: {
            "n_frames": int((chosen.truth == plane).sum()),
            "top1": float(hits.top1[chosen.truth == plane].mean()),
            "top5": float(hits.top5[chosen.truth == plane].mean()),
        }
        for plane in np.unique(chosen.truth)
    }
    counts = metrics.confusion(chosen.truth, hits.best, len(planes))
    return {
        **bootstrap.accuracies(hits),
        "per_plane": per_plane,
        "confusion": {"true_by_predicted": list(planes), "counts": counts.tolist()},
        "prompts": list(PROMPTS[MODES[mask].kind]),
        **({"donors": _describe_donors(chosen)} if MODES[mask].of_donor else {}),
    }


def _describe_donors(chosen: _Chosen) -> dict[str, Any]:
    """A mask of a frame of the same plane is not wholly foreign: the share tells how often that happened."""
    assert chosen.donors is not None
    return {"seed": chosen.seed, "same_plane": float((chosen.truth == chosen.truth[chosen.donors]).mean())}
