"""What a reader must know before the figures of a result: texts by code, shown wherever the figures are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from sono.training.arrays import Integers
from sono.training.data.wordings import CaptionsRead, Kind, count_wordings

from .selection import Classes

Notes = dict[str, str]

UNKNOWN_WORDING = (
    "The checkpoint does not say how its training captions were worded. The sentences are averaged over all packaged "
    "wordings, which the model may never have read: it may do far better with its own."
)
FROM_TRAIN_SPLIT = (
    "The checkpoint does not say how its training captions were worded, but it was trained on this dataset: the "
    "sentences are worded like the captions of the train split."
)
UNREAD_WORDING = (
    "No training caption has a packaged wording: the model has never read sentences like those that it is asked here, "
    "and may do far better with its own."
)
WHOLE_WORDING = (
    "No training caption of a region has a packaged wording: what is seen through masks is compared with sentences "
    "worded like captions of whole images."
)
UNREAD_DAYS = (
    "No training caption is known to state days and a pixel spacing as these sentences do: the error may be far above "
    "what the model can do. --step weeks asks in the wording of its captions."
)


def about_classes(truth_N: Integers, names: Sequence[str], *, top5: bool) -> Notes:
    """Notes on figures of a classification: that all frames are of one class, or that there are few classes.

    Args:
        truth_N: for every scored frame the number of its class.
        names: of all classes that can be answered.
        top5: whether the figures would include a top-5.
    """
    notes = {}
    present = np.unique(truth_N)
    if len(present) == 1:
        notes["one_plane"] = (
            f"All scored frames show one plane, {_spaced(names[present[0]])}. Always answering it would be right every "
            "time, so no figure here says that the model can tell planes apart, and no difference that masks help."
        )
    if top5 and len(names) <= 5:
        choice = "1 plane" if len(names) == 1 else f"{len(names)} planes"
        notes["top5_trivial"] = f"There is no top-5: of {choice} to choose from, the true one is always among five."
    return notes


def about_planes(truth_N: Integers, classes: Classes, read: CaptionsRead | None) -> Notes:
    """A note on scored classes of which the model was trained on no frame; none if that is not known."""
    if read is None:
        return {}
    unread = [
        f"{_spaced(name)} ({frames} frames)"
        for number, (name, planes) in enumerate(classes.items())
        if (frames := int((truth_N == number).sum())) and not any(read.planes.get(plane) for plane in planes)
    ]
    if not unread:
        return {}
    return {"planes_not_trained": f"The model was trained on no frame of {', '.join(unread)}."}


def about_captions(captions: Mapping[Kind, Sequence[str]], read: CaptionsRead | None) -> Notes:
    """A note on scored captions whose wording does not occur in training, or that this is not known."""
    if read is None:
        return {"wording_unknown": "Whether the model was trained on captions worded like these is not known."}
    unread = 0
    for kind, texts in captions.items():
        for sentence, count in count_wordings(kind, Counter(texts).items()).items():
            seen = read.others[kind] if sentence is None else read.wordings[kind].get(sentence)
            unread += 0 if seen else count
    if not unread:
        return {}
    total = sum(map(len, captions.values()))
    return {"wording_unread": f"{unread} of {total} captions are worded unlike any that the model was trained on."}


def _spaced(name: str) -> str:
    return name.replace("_", " ")
