"""A trained model in use: features of frames seen through masks, and of sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from sono.manifests.errors import UserError
from sono.manifests.stages import Progress
from sono.training import recipes
from sono.training.data.patients import TrainedPatients
from sono.training.data.wordings import CaptionsRead
from sono.training.data.workers import start_worker
from sono.training.model.mask_clip import MaskClip
from sono.training.model.transforms import PadToSquare
from sono.training.pretraining import checkpoints

from .views import MODES, FrameViews, Views

FRAMES_AT_ONCE, VIEWS_AT_ONCE, TEXTS_AT_ONCE = 32, 128, 256

Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Encoder:
    """A checkpoint's model with the transform that it was trained with.

    Args:
        checkpoint: identifies it in results: file, sha256 and step.
        recipe: of the training run.
        trained: the patients that it was trained on.
        captions_read: what its text tower could read in training; None if an older version wrote the checkpoint.
        plane_names: what its captions call planes, by their ids.
        datasets: name and fingerprint of those that it was trained on.
    """

    model: MaskClip
    transform: PadToSquare
    device: torch.device
    checkpoint: dict[str, Any]
    recipe: recipes.Recipe
    trained: TrainedPatients
    captions_read: CaptionsRead | None
    plane_names: Mapping[str, str]
    datasets: tuple[Mapping[str, str], ...]

    @classmethod
    def load(cls, run: Path, notice: Callable[[str], None]) -> Encoder:
        """The newest complete checkpoint of a run.

        Raises:
            UserError: the run has none, or it does not fit this version.
        """
        model, transform, meta = checkpoints.load_model(run, notice)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        checkpoint = {name: meta[name] for name in ("file", "sha256", "step")}
        return cls(
            model.to(device).eval(),
            transform,
            device,
            checkpoint,
            recipe=recipes.from_flat(meta["recipe"]),
            trained=TrainedPatients.from_meta(meta),
            captions_read=CaptionsRead.from_dict(meta["captions"]) if "captions" in meta else None,
            plane_names=meta.get("planes", {}),
            datasets=tuple({name: one[name] for name in ("name", "fingerprint")} for one in meta.get("datasets", ())),
        )

    @property
    def temperature(self) -> float:
        """The learned factor of cosines before a softmax."""
        return float(self.model.clip.logit_scale.detach().exp())

    @torch.inference_mode()
    def sentences(self, texts: Sequence[str], fix: str) -> torch.Tensor:
        """L2-normalised features of shape [texts, dim], on the CPU.

        Args:
            fix: what a person should do about a text that is too long.

        Raises:
            UserError: a text has more tokens than the text tower reads; the message quotes it.
        """
        tokenizer, limit = self.model.tokenizer, self.model.context_length
        for text in texts:
            if tokenizer.length(text) > limit:
                raise UserError(
                    f"a sentence has {tokenizer.length(text)} tokens, but the text tower reads {limit}: {text!r}",
                    fix=fix,
                )
        parts = [
            self.model.encode_text(tokenizer(texts[start : start + TEXTS_AT_ONCE]).to(self.device)).cpu()
            for start in range(0, len(texts), TEXTS_AT_ONCE)
        ]
        return torch.cat(parts)

    def batches(self, stage: str, views: FrameViews, left_out: int, progress: Report) -> Iterator[list[Views]]:
        """The views of all frames, a few frames at a time.

        Raises:
            UserError: a frame's image or mask is at fault; the text names the frame.
        """
        done, total = 0, -(-len(views) // FRAMES_AT_ONCE)
        for number, batch in enumerate(self.load_items(views, FRAMES_AT_ONCE), start=1):
            yield batch
            done += len(batch)
            progress(Progress(stage, total, number, done, left_out))

    def load_items(self, items: Dataset[Any], at_once: int) -> Iterator[list[Any]]:
        """Items in lists; an item that is an error in the data is raised."""
        loader = DataLoader(
            items,
            batch_size=at_once,
            num_workers=self.recipe.data.workers,
            collate_fn=list,
            worker_init_fn=start_worker,
        )
        for batch in loader:
            for item in batch:
                if isinstance(item, UserError):
                    raise item
            yield batch

    @torch.inference_mode()
    def view_features(self, frames: Sequence[Views], mode: str) -> tuple[torch.Tensor, torch.Tensor]:
        """L2-normalised features of every view, [views, dim], and the number of its frame in ``frames``, [views]."""
        images = torch.from_numpy(np.stack([views.image for views in frames])).to(self.device)
        if MODES[mode].image_blank:
            images = torch.zeros_like(images)
        masks_VHW = torch.from_numpy(np.concatenate([views.masks[mode] for views in frames])).to(self.device)
        counts = torch.tensor([len(views.masks[mode]) for views in frames], device=self.device)
        owners_V = torch.arange(len(frames), device=self.device).repeat_interleave(counts)
        parts = zip(torch.split(owners_V, VIEWS_AT_ONCE), torch.split(masks_VHW, VIEWS_AT_ONCE), strict=True)
        features_VD = torch.cat(
            [self.model.encode_image(self.transform.normalise(images[owners], masks)) for owners, masks in parts]
        )
        return features_VD.cpu(), owners_V.cpu()

    def frame_features(self, frames: Sequence[Views], mode: str) -> torch.Tensor:
        """For every frame the L2-normalised average over its views' features, [frames, dim]."""
        return average(*self.view_features(frames, mode), len(frames))


def average(features_VD: torch.Tensor, owners_V: torch.Tensor, frames: int) -> torch.Tensor:
    """The L2-normalised average of every frame's features, [frames, dim]."""
    sums_ND = features_VD.new_zeros(frames, features_VD.shape[1]).index_add_(0, owners_V, features_VD)
    return F.normalize(sums_ND, dim=-1)
