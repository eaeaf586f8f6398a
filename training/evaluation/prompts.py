"""The sentences that describe a plane: several wordings for each kind of view, each at several ages."""

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
SHORTER_PLANE = "give the plane a shorter name in the vocabulary, or score a model with a longer context"
"""What to do about a sentence that is too long for the text tower."""


@dataclass(frozen=True)
class Wording:
    """A sentence with ``{weeks}`` and ``{plane}``, and a pattern for how captions of that template begin."""

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
"""By kind of view, worded like the packaged templates, but without structures: they would give the plane away."""


def wordings_of(kind: Kind, captions: Iterable[str]) -> tuple[str, ...]:
    """The wordings that occur in a dataset's captions, or all of them if none does.

    A text tower trained on one wording does not understand the others: with a tower trained from scratch, the average
    over four wordings got 34 % of planes right, the one in its captions 88 %. Words for planes play no part here.
    """
    patterns = {wording.sentence: re.compile(wording.captions) for wording in WORDINGS[kind]}
    used = {sentence for caption in captions for sentence, pattern in patterns.items() if pattern.match(caption)}
    return tuple(sentence for sentence in patterns if sentence in used) or tuple(patterns)


def prompts(wordings: Iterable[str]) -> tuple[str, ...]:
    """Sentences with a gap for a plane's display name, at several ages: captions name an age, so ages are averaged."""
    return tuple(wording.replace("{weeks}", str(weeks)) for wording in wordings for weeks in WEEKS)


def plane_features(encoder: Encoder, frames: Frames, classes: Classes, sentences: Sequence[str]) -> torch.Tensor:
    """For every class the L2-normalised average over its planes and these sentences, of shape [classes, dim]."""
    names = [
        [frames.description.planes[plane] for plane in planes if plane in frames.planes] for planes in classes.values()
    ]
    texts = [[sentence.format(plane=name) for name in of_class for sentence in sentences] for of_class in names]
    together = encoder.sentences([text for of_class in texts for text in of_class], SHORTER_PLANE)
    features = torch.split(together, [len(of_class) for of_class in texts])
    return F.normalize(torch.stack([part.mean(dim=0) for part in features]), dim=-1)
