"""The sentences that describe a plane, worded as the model's training captions were, each at several ages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from sono.training.data.dataset import Frames, open_split
from sono.training.data.joined import JoinedFrames
from sono.training.data.pairs import read_pairs
from sono.training.data.wordings import WORDINGS, CaptionsRead, Kind
from sono.training.features.encoder import Encoder

from .notes import FROM_TRAIN_SPLIT, UNKNOWN_WORDING, UNREAD_WORDING, WHOLE_WORDING, Notes
from .selection import Classes

WEEKS = range(12, 41, 4)
SHORTER_PLANE = "give the plane a shorter name in the vocabulary, or score a model with a longer context"
"""What to do about a sentence that is too long for the text tower."""


@dataclass(frozen=True)
class Wordings:
    """The wordings that a model is asked in, by kind of view, and what to know about them.

    Args:
        of: by kind of view the sentences, with gaps for the plane and the weeks.
        source: where the choice comes from, for a result.
        read: what the model has read in training; None if nothing tells.
    """

    of: Mapping[Kind, tuple[str, ...]]
    source: str
    read: CaptionsRead | None
    notes: Notes = field(default_factory=dict)


def choose_wordings(
    encoder: Encoder, frames: Frames, kinds: Iterable[Kind], protocol_sentence: str | None = None
) -> Wordings:
    """The wordings of the model's training captions, or the sentence that a publication's protocol asks with.

    A text tower trained on one wording does not understand the others: with a tower trained from scratch, the average
    over four wordings got 34 % of planes right, the one in its captions 88 %. The scored split decides nothing here: it
    would choose what suits it.

    The checkpoint says what its captions were. If an older version wrote it, and ``frames`` are of the dataset that it
    was trained on, the train split is read; else all packaged wordings are used. ``notes`` then says so, and also if
    the model has read none of the wordings for a kind of view.

    Raises:
        UserError: the train split is needed and cannot be read.
    """
    read, source, notes = encoder.captions_read, "the checkpoint", {}
    if read is None and _was_trained_on(encoder, frames):
        read, source = _read_train_split(encoder, frames), "the train split of the scored dataset"
        notes["wording_from_train_split"] = FROM_TRAIN_SPLIT
    if protocol_sentence is not None:
        return Wordings(dict.fromkeys(kinds, (protocol_sentence,)), "the protocol", read)
    if read is None:
        source, notes["wording_unknown"] = "all packaged wordings", UNKNOWN_WORDING
    chosen: dict[Kind, tuple[str, ...]] = {}
    for kind in kinds:
        own, whole = _seen(read, kind), _seen(read, "whole")
        if read is not None and not own and whole:
            notes["wording_of_whole"] = WHOLE_WORDING
        elif read is not None and not own:
            source, notes["wording_unread"] = "all packaged wordings", UNREAD_WORDING
        chosen[kind] = own or whole or tuple(wording.sentence for wording in WORDINGS[kind])
    return Wordings(chosen, source, read, notes)


def prompts(wordings: Iterable[str]) -> tuple[str, ...]:
    """Sentences with a gap for a plane's display name, at several ages: captions name an age, so ages are averaged."""
    texts = (wording.replace("{weeks}", str(weeks)) for wording in wordings for weeks in WEEKS)
    return tuple(dict.fromkeys(texts))  # a publication's sentence may name no age


def plane_names(encoder: Encoder, frames: Frames) -> Mapping[str, str]:
    """What sentences call each plane of the dataset: as the training captions did, or else as the dataset does."""
    return {plane: encoder.plane_names.get(plane, name) for plane, name in frames.description.planes.items()}


def plane_features(encoder: Encoder, frames: Frames, classes: Classes, sentences: Sequence[str]) -> torch.Tensor:
    """For every class the L2-normalised average over its planes and these sentences, of shape [classes, dim]."""
    display = plane_names(encoder, frames)
    names = [[display[plane] for plane in planes if plane in frames.planes] for planes in classes.values()]
    texts = [[sentence.format(plane=name) for name in of_class for sentence in sentences] for of_class in names]
    together = encoder.sentences([text for of_class in texts for text in of_class], SHORTER_PLANE)
    features = torch.split(together, [len(of_class) for of_class in texts])
    return F.normalize(torch.stack([part.mean(dim=0) for part in features]), dim=-1)


def _seen(read: CaptionsRead | None, kind: Kind) -> tuple[str, ...]:
    """The packaged wordings that the model has read."""
    if read is None:
        return ()
    return tuple(wording.sentence for wording in WORDINGS[kind] if read.wordings[kind].get(wording.sentence))


def _was_trained_on(encoder: Encoder, frames: Frames) -> bool:
    """Whether its train split is all that the model was trained on."""
    description = frames.description
    fingerprints = [dataset["fingerprint"] for dataset in encoder.datasets]
    return fingerprints == [description.fingerprint] and description.rows("train") > 0


def _read_train_split(encoder: Encoder, frames: Frames) -> CaptionsRead:
    train = JoinedFrames((open_split(frames.description, "train"),))
    pairs = read_pairs(train, encoder.transform)
    return CaptionsRead.of(train, pairs, global_fraction=encoder.recipe.data.global_fraction)
