"""How captions are worded, and which wordings a model has read in training."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from .joined import JoinedFrames
from .pairs import Numbers, Pairs

Kind = Literal["whole", "region"]


@dataclass(frozen=True)
class Wording:
    """A sentence with gaps, and a pattern for how captions of that template begin."""

    sentence: str
    captions: str


WORDINGS: Mapping[Kind, tuple[Wording, ...]] = {
    "whole": (
        Wording("A {weeks}-week fetal ultrasound image of {plane} plane.", r"An? \d+-week fetal ultrasound image of "),
        Wording(
            "Fetal ultrasound at {weeks} weeks of gestation in the {plane} plane.",
            r"Fetal ultrasound at \d+ weeks",
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

DAY_WORDINGS = (
    Wording(
        "Fetal ultrasound image of the {plane} at {weeks} weeks and {days} days of gestation, {mm} mm/pixel.",
        r"Fetal ultrasound image of the .+ at \d+ weeks and \d+ days of gestation, ",
    ),
    Wording(
        "Ultrasound at {weeks} weeks and {days} days showing the fetal {plane}, pixel spacing of {mm} mm/pixel.",
        r"Ultrasound at \d+ weeks and \d+ days showing the fetal ",
    ),
    Wording(
        "At {weeks} weeks and {days} days, ultrasound of the fetal {plane} with a pixel spacing of {mm} mm/pixel.",
        r"At \d+ weeks and \d+ days, ultrasound of the fetal ",
    ),
)
"""For models trained on captions with days and the pixel spacing after scaling, as FetalCLIP was. These are not
FetalCLIP's own sentences."""


@dataclass(frozen=True)
class CaptionsRead:
    """What a text tower could read in training.

    Args:
        wordings: by kind of view how many captions have each wording; the key is its sentence.
        others: by kind of view how many have none of them.
        planes: ids of the planes of which there was a captioned frame, with their number.
    """

    wordings: Mapping[Kind, Mapping[str, int]]
    others: Mapping[Kind, int]
    planes: Mapping[str, int]

    @classmethod
    def of(cls, frames: JoinedFrames, pairs: Pairs, *, global_fraction: float) -> CaptionsRead:
        """What these pairs hold, as far as a recipe with ``data.global_fraction`` draws them."""
        usable_F = pairs.caption_F >= 0
        regions_F = np.diff(pairs.bounds_E)
        whole_F = usable_F & ((regions_F == 0) | (global_fraction > 0))
        region_R = np.repeat(usable_F & (global_fraction < 1), regions_F)
        drawn: Mapping[Kind, Numbers] = {"whole": pairs.caption_F[whole_F], "region": pairs.caption_R[region_R]}
        wordings: dict[Kind, dict[str, int]] = {}
        others: dict[Kind, int] = {}
        for kind, captions in drawn.items():
            numbers, counts = np.unique(captions, return_counts=True)
            found = count_wordings(
                kind, zip((pairs.bank.texts[number] for number in numbers), counts.tolist(), strict=True)
            )
            others[kind] = found.pop(None, 0)
            wordings[kind] = {sentence: count for sentence, count in found.items() if sentence is not None}
        labels = frames.column("plane").to_numpy()[usable_F]
        names, counts = np.unique(labels[np.isfinite(labels)].astype(np.int64), return_counts=True)
        planes = {frames.planes[label]: count for label, count in zip(names.tolist(), counts.tolist(), strict=True)}
        return cls(wordings, others, planes)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CaptionsRead:
        """The inverse of ``to_dict``."""
        return cls(values["wordings"], values["others"], values["planes"])

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for a checkpoint."""
        return asdict(self)


def count_wordings(kind: Kind, captions: Iterable[tuple[str, int]]) -> Counter[str | None]:
    """How many captions have each wording, by its sentence; under None, how many have none of them.

    Words for planes play no part in this.

    Args:
        captions: distinct ones, each with how often it occurs.
    """
    patterns = [(wording.sentence, re.compile(wording.captions)) for wording in _known(kind)]
    counts: Counter[str | None] = Counter()
    for caption, occurrences in captions:
        counts[next((sentence for sentence, begins in patterns if begins.match(caption)), None)] += occurrences
    return counts


def _known(kind: Kind) -> Iterator[Wording]:
    yield from WORDINGS[kind]
    if kind == "whole":
        yield from DAY_WORDINGS
