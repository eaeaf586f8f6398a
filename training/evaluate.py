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
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from sono.manifests.errors import UserError
from sono.manifests.store import write_atomically

from . import checkpoints, data, metrics, recipes
from .captions import CaptionTokenizer
from .metrics import Integers
from .model import MaskClip, restore_model
from .samples import leave_signals_to_parent
from .transforms import PadToSquare, Pixels

TEMPLATES = (
    "A fetal ultrasound image of {plane} plane.",
    "A fetal ultrasound {plane} plane.",
)
"""Sentences for a plane's display name, worded as captions begin, the same for every mask.

They name no structure: structures give the plane away.
"""

FOLDER = "evaluation"
RESAMPLES = 1000

_FRAMES_AT_ONCE, _VIEWS_AT_ONCE = 32, 128


def _whole(row: data.Row, image: Image.Image, transform: PadToSquare) -> list[Pixels]:
    return [transform.all_one()]


def _regions(row: data.Row, image: Image.Image, transform: PadToSquare) -> list[Pixels]:
    return [transform.mask(data.decode_mask(row, region, image)) for region in row["regions"]]


MASKS: Mapping[str, Callable[[data.Row, Image.Image, PadToSquare], list[Pixels]]] = {"none": _whole, "region": _regions}
"""From a frame to the masks through which it is seen; its features are the average over them."""


def evaluate(
    run: Path,
    dataset: str,
    *,
    masks: Sequence[str] = ("none",),
    split: str = "test",
    resamples: int = RESAMPLES,
    seed: int = 0,
    notice: Callable[[str], None] = print,
) -> dict[str, dict[str, Any]]:
    """Score the newest checkpoint of ``run`` on a split of ``dataset``, seen through each of ``masks``.

    Mean per-class top-1 and top-5 accuracy over the planes present, with 95 % intervals over patients. All masks are
    scored on the same frames: where ``region`` is among them, those with regions; the others are counted.

    What this does not measure: anything but which plane a frame shows. And ``region`` looks through true masks, which
    nobody has at a scanner, and whose shape alone may give the plane away.

    Returns:
        Results by mask. They are also written to ``RUN/evaluation/<split>-<mask>.json``, or where there are several
        to ``<split>-both.json``.

    Raises:
        UserError: there is no checkpoint, no such split or no frame to score, or a mask does not fit its image.
    """
    assert masks
    assert set(masks) <= set(MASKS), masks
    loaded = checkpoints.latest(run, notice)
    if loaded is None:
        raise UserError("there is no checkpoint", where=str(run), fix="name the folder of a run that was trained")
    frames = data.open_split(data.describe(dataset), split)
    chosen = _choose(frames, "region" in masks)
    scorer = _Scorer.load(loaded.content, frames)
    results = {
        mask: {
            "mask": mask,
            "split": split,
            "checkpoint": {"file": loaded.file.name, "sha256": loaded.sha256, "step": loaded.content["step"]},
            "dataset": {"source": dataset, "fingerprint": frames.description.fingerprint},
            **chosen.counts(),
            **_figures(scorer.scores(chosen.indices, mask), chosen, frames.planes, resamples, seed),
            "bootstrap": {"over": "patients", "resamples": resamples, "seed": seed},
            "prompts": list(TEMPLATES),
        }
        for mask in masks
    }
    name, content = (masks[0], results[masks[0]]) if len(results) == 1 else ("both", results)
    text = json.dumps(content, indent=2).encode()
    write_atomically(run / FOLDER / f"{split}-{name}.json", lambda file: file.write(text))
    return results


@dataclass(frozen=True)
class _Chosen:
    """The frames that are scored: their rows in the split, their planes and patients, and how many are left out."""

    indices: Integers
    truth: Integers
    patients: Integers
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


def _choose(frames: data.Frames, only_with_regions: bool) -> _Chosen:
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
    patients = frames.column("patient_key").filter(chosen)
    if patients.null_count:
        raise UserError(
            f"{patients.null_count} frames have no patient_key, and intervals are over patients",
            where=frames.description.source,
            fix="run sono-curate build again",
        )
    return _Chosen(
        indices=np.flatnonzero(chosen),
        truth=plane[chosen].astype(np.int64),
        patients=np.unique(patients.to_pylist(), return_inverse=True)[1],
        only_with_regions=only_with_regions,
        without_plane=int((~has_plane).sum()),
        without_regions=int((has_plane & (regions == 0)).sum()),
    )


@dataclass(frozen=True)
class _Scorer:
    """A checkpoint's model with the features of the planes' sentences."""

    model: MaskClip
    transform: PadToSquare
    frames: data.Frames
    planes: torch.Tensor  # features [planes, dim]
    workers: int
    device: torch.device

    @classmethod
    def load(cls, content: Mapping[str, Any], frames: data.Frames) -> _Scorer:
        recipe = recipes.from_flat(content["recipe"])
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = restore_model(recipe.model.backbone, content["model"]).to(device).eval()
        names = [frames.description.planes[plane] for plane in frames.planes]
        planes_CD = _encode_planes(model, names, device)
        transform = PadToSquare.from_dict(content["transform"])
        return cls(model, transform, frames, planes_CD, recipe.data.workers, device)

    @torch.inference_mode()
    def scores(self, indices: Integers, mask: str) -> torch.Tensor:
        """Cosines of shape [frames, planes], up to each frame's own factor."""
        loader = DataLoader(
            _Views(self.frames, indices, mask, self.transform),
            batch_size=_FRAMES_AT_ONCE,
            num_workers=self.workers,
            collate_fn=list,
            worker_init_fn=leave_signals_to_parent,
        )
        features = [self._features(list(_checked(batch))) for batch in loader]
        return (torch.cat(features) @ self.planes.T).cpu()

    def _features(self, frames: list[tuple[Pixels, Pixels]]) -> torch.Tensor:
        """For every frame the average over its views of their L2-normalised features, of shape [frames, dim]."""
        images = torch.from_numpy(np.stack([image for image, _ in frames])).to(self.device)
        masks_VHW = torch.from_numpy(np.concatenate([masks for _, masks in frames])).to(self.device)
        counts = torch.tensor([len(masks) for _, masks in frames], device=self.device)
        owners_V = torch.arange(len(frames), device=self.device).repeat_interleave(counts)
        views = zip(torch.split(owners_V, _VIEWS_AT_ONCE), torch.split(masks_VHW, _VIEWS_AT_ONCE), strict=True)
        features_VD = torch.cat(
            [self.model.encode_image(self.transform.normalise(images[owners], masks)) for owners, masks in views]
        )
        sums = features_VD.new_zeros(len(frames), features_VD.shape[1]).index_add_(0, owners_V, features_VD)
        return sums / counts[:, None]


class _Views(Dataset[tuple[Pixels, Pixels] | UserError]):
    """A frame's image [3, size, size] and the masks [views, size, size] through which it is seen."""

    def __init__(self, frames: data.Frames, indices: Integers, mask: str, transform: PadToSquare) -> None:
        self.frames, self.indices, self.mask, self.transform = frames, indices, mask, transform

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[Pixels, Pixels] | UserError:
        row = self.frames.row(int(self.indices[position]))
        try:
            image = data.decode_image(row)
            masks = MASKS[self.mask](row, image, self.transform)
        except UserError as error:  # returned, not raised: see Samples
            return error
        return self.transform.image(image), np.stack(masks)


def _checked(batch: list[tuple[Pixels, Pixels] | UserError]) -> Iterator[tuple[Pixels, Pixels]]:
    for views in batch:
        if isinstance(views, UserError):
            raise views
        yield views


@torch.inference_mode()
def _encode_planes(model: MaskClip, names: Sequence[str], device: torch.device) -> torch.Tensor:
    """For every plane the average over the sentences' features, L2-normalised, of shape [planes, dim]."""
    tokenizer = CaptionTokenizer(model.context_length)
    features = [
        model.encode_text(tokenizer([template.format(plane=name) for template in TEMPLATES]).to(device)).mean(dim=0)
        for name in names
    ]
    return F.normalize(torch.stack(features), dim=-1)


def _figures(
    scores_NC: torch.Tensor, chosen: _Chosen, planes: Sequence[str], resamples: int, seed: int
) -> dict[str, Any]:
    best = scores_NC.topk(min(5, len(planes)), dim=1).indices.numpy()
    top1 = best[:, 0] == chosen.truth
    top5 = (best == chosen.truth[:, None]).any(axis=1)
    per_plane = {
        planes[plane]: {
            "n_frames": int((chosen.truth == plane).sum()),
            "top1": float(top1[chosen.truth == plane].mean()),
            "top5": float(top5[chosen.truth == plane].mean()),
        }
        for plane in np.unique(chosen.truth)
    }
    counts = metrics.confusion(chosen.truth, best[:, 0], len(planes))
    return {
        "top1": asdict(metrics.mean_per_class(top1, chosen.truth, chosen.patients, resamples, seed)),
        "top5": asdict(metrics.mean_per_class(top5, chosen.truth, chosen.patients, resamples, seed)),
        "planes_present": len(per_plane),
        "planes": len(planes),
        "per_plane": per_plane,
        "confusion": {"true_by_predicted": list(planes), "counts": counts.tolist()},
    }
