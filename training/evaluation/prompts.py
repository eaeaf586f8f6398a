"""The sentences that stand for a plane: several wordings for each kind of view, each at several ages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from sono.training.data.dataset import Frames
from sono.training.features.encoder import Encoder
from sono.training.features.views import Kind

from .selection import Classes

WEEKS = range(12, 41, 4)


@dataclass(frozen=True)
class Wording:
    """A sentence with ``{weeks}`` and ``{plane}``, and how captions of the template that it follows begin."""

    sentence: str
    captions: str


WORDINGS: Mapping[Kind, tuple[Wording, ...]] = {
    "whole": (
        Wording("A {weeks}-week fetal ultrasound image of {plane} plane.", r"An? \d+-week fetal ultrasound image of "),
        Wording(
            "Fetal ultrasound at {weeks} weeks of gestation in the {plane} plane.", r"Fetal ultrasound at \d+ weeks"
        ),
        Wording(
            "At {weeks} weeks of gestation, fetal ultrasound in the {plane} plane.",
            r"At \d+ weeks of gestation, fetal ultrasound in ",
        ),
        Wording(
            "{plane} plane on fetal ultrasound at {weeks} weeks of gestation.",
            r".+ plane (with .+ )?on fetal ultrasound at \d+ weeks",
        ),
    ),
    "region": (
        Wording("A {weeks}-week fetal ultrasound {plane} plane.", r"An? \d+-week fetal ultrasound .+ plane\."),
        Wording(
            "Fetal ultrasound with an outline highlighted, {plane} plane, {weeks} weeks of gestation.",
            r"Fetal ultrasound with .+ highlighted, ",
        ),
        Wording(
            "At {weeks} weeks of gestation, the segmentation in the {plane} plane on fetal ultrasound.",
            r"At \d+ weeks of gestation, the segmentation marks ",
        ),
        Wording(
            "{plane} plane on fetal ultrasound at {weeks} weeks of gestation, with an outline.",
            r".+ plane on fetal ultrasound at \d+ weeks of gestation, with .+ outlined",
        ),
    ),
}
"""By kind of view, worded as the packaged templates are, without what they say of structures: structures give the plane
away."""


def wordings_of(kind: Kind, captions: Iterable[str]) -> tuple[str, ...]:
    """The wordings that captions of a dataset have, or all of them where it has none of these.

    A text tower that was trained on one wording does not know the others: on one from scratch the average over four
    had 34 % of planes right where the one it knew had 88 %. The captions' words for planes decide nothing here.
    """
    known = {wording.sentence: re.compile(wording.captions) for wording in WORDINGS[kind]}
    found = {sentence for caption in captions for sentence, pattern in known.items() if pattern.match(caption)}
    return tuple(sentence for sentence in known if sentence in found) or tuple(known)


def prompts(wordings: Iterable[str]) -> tuple[str, ...]:
    """Sentences for a plane's display name. Captions hold an age, so a plane's features are the average over ages."""
    return tuple(wording.replace("{weeks}", str(weeks)) for wording in wordings for weeks in WEEKS)


SHORTER_PLANE = "give the plane a shorter name in the vocabulary, or score a model with a longer context"


def plane_features(encoder: Encoder, frames: Frames, classes: Classes, sentences: Sequence[str]) -> torch.Tensor:
    """For every class the L2-normalised average over its planes and these sentences, of shape [classes, dim]."""
    names = [
        [frames.description.planes[plane] for plane in planes if plane in frames.planes] for planes in classes.values()
    ]
    said = [[sentence.format(plane=name) for name in of for sentence in sentences] for of in names]
    together = encoder.sentences([sentence for of in said for sentence in of], SHORTER_PLANE)
    features = torch.split(together, [len(of) for of in said])
    return F.normalize(torch.stack([part.mean(dim=0) for part in features]), dim=-1)
