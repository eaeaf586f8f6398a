"""What an ablation varies, and how its runs are scored."""

from __future__ import annotations

from dataclasses import dataclass

SEEN_THROUGH = ("none", "region")
"""How every model is scored: by whole images, and through the dataset's true masks."""

FIGURES = ("top1", "top5")
SCORED = ("dataset", "split", "n_frames", "n_patients", "trained_on")
"""What all runs have in common, in their results' words."""

VARIED = ("data.masks", "loss.kind", "loss.positives", "train.seed")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One combination of the varied settings."""

    masks: str
    kind: str
    positives: str

    @property
    def name(self) -> str:
        """For folders and files."""
        return f"masks-{self.masks}-{self.kind}-{self.positives}"

    @property
    def label(self) -> str:
        """For people. Positives change nothing in the softmax loss."""
        return self.kind if self.kind == "softmax" else f"{self.kind}, {self.positives}"

    @property
    def settings(self) -> list[str]:
        """As ``--set`` takes them."""
        return [f"data.masks={self.masks}", f"loss.kind={self.kind}", f"loss.positives={self.positives}"]


LOSSES = (("softmax", "caption"), ("sigmoid", "diagonal"), ("sigmoid", "caption"))

CELLS = tuple(
    Cell(masks=masks, kind=kind, positives=positives) for kind, positives in LOSSES for masks in ("off", "on")
)
