"""The datasets that a run trains on: each of them once, with one vocabulary, and nobody in two of them.

What cannot be compared is left to people: datasets have keys of their own, so a patient of two hospitals, or of two
datasets of one that were not built to be linked, has different ones. Equal pictures give them away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import pyarrow as pa
import pyarrow.compute as pc

from sono.manifests.errors import UserError
from sono.manifests.schemas import DATASET, SPLITS

from .dataset import Description, Frames, open_split, read_description
from .joined import JoinedFrames
from .same_pictures import count_same_pictures

_NAMED = 3  # of entries that differ
_KEYS = {"patient_key": "patients", "study_key": "studies", "frame_id": "frames"}
_ONE_VOCABULARY = "build them with the same vocabulary and version of sono-curate, or train on one of them"

Splits = Mapping[str, Frames]


def read_descriptions(sources: Sequence[str]) -> tuple[Description, ...]:
    """What ``sono.json`` says about each dataset, in an order that does not depend on that of ``sources``.

    Raises:
        UserError: one is not found or damaged, two are the same, or their vocabularies differ.
    """
    assert not isinstance(sources, str)
    descriptions = sorted(map(read_description, sources), key=lambda description: description.fingerprint)
    for one, other in combinations(descriptions, 2):
        if one.fingerprint == other.fingerprint:
            raise UserError(f"the same dataset as {one.source}", where=other.source, fix="give every dataset once")
        _check_vocabulary(one, other)
    return tuple(descriptions)


def open_together(descriptions: Sequence[Description]) -> JoinedFrames:
    """The train splits as one.

    Raises:
        UserError: one cannot be read, or a patient, study, frame or picture is in two datasets.
    """
    frames = [open_split(description, "train") for description in descriptions]
    for one, other in combinations(frames, 2):
        _check_columns(one, other)
        _check_apart(one, other)
        _check_pictures(one, other)
    return JoinedFrames(tuple(frames))


def are_comparable(descriptions: Sequence[Description]) -> bool:
    """Whether a patient of two of these datasets would have the same key in both."""
    return len({description.pseudonyms for description in descriptions}) == 1


def _check_vocabulary(one: Description, other: Description) -> None:
    differences = [*_differences(one, other, "plane", one.planes, other.planes)]
    if (one.structures is None) != (other.structures is None):
        without = one if one.structures is None else other
        differences.append(f"{without.source} does not list its structures")
    differences += _differences(one, other, "structure", one.structures or {}, other.structures or {})
    if differences:
        more = f"; and {len(differences) - _NAMED} more" if len(differences) > _NAMED else ""
        raise UserError(
            f"the vocabularies of {one.source} and {other.source} differ: {'; '.join(differences[:_NAMED])}{more}",
            fix=_ONE_VOCABULARY,
        )


def _differences(
    one: Description, other: Description, kind: str, names: Mapping[str, str], others: Mapping[str, str]
) -> Iterator[str]:
    for key in dict.fromkeys([*names, *others]):
        if key not in names or key not in others:
            yield f"only {(one if key in names else other).source} has the {kind} {key!r}"
        elif names[key] != others[key]:
            yield f"the {kind} {key!r} is called {names[key]!r} and {others[key]!r}"


def _check_columns(one: Frames, other: Frames) -> None:
    where = f"{one.description.source} and {other.description.source}"
    if one.planes != other.planes:
        raise UserError("the planes are not listed in the same order", where=where, fix=_ONE_VOCABULARY)
    for name in DATASET.schema.names:
        if one.rows.schema.field(name).type != other.rows.schema.field(name).type:
            raise UserError(f"the column {name} has two types", where=where, fix=_ONE_VOCABULARY)


def _check_apart(one: Frames, other: Frames) -> None:
    """Refuse two datasets that share a key in any split, or, if their keys cannot be equal, in the train splits."""
    splits, others = _comparable_splits(one, other), _comparable_splits(other, one)
    shared = {column: _shared(_keys(splits, column), _keys(others, column)) for column in _KEYS}
    if not any(shared.values()):
        return
    found = ", ".join(f"{count:,} {_KEYS[column]}" for column, count in shared.items() if count)
    same_split = sum(
        _shared(_keys({split: splits[split]}, "patient_key"), _keys({split: others[split]}, "patient_key"))
        for split in splits.keys() & others.keys()
    )
    moved = shared["patient_key"] - same_split
    raise UserError(
        f"{one.description.source} and {other.description.source} share {found}"
        + (f", and {moved:,} of the patients are in different splits" if moved else ""),
        fix="train on one of them, or build one dataset from both archives",
    )


def _check_pictures(one: Frames, other: Frames) -> None:
    same = count_same_pictures(one, other)
    if same:
        raise UserError(
            f"{one.description.source} and {other.description.source} share at least {same:,} pictures under different "
            "keys, so the same patients",
            fix="train on one of them",
        )


def _comparable_splits(frames: Frames, other: Frames) -> Splits:
    """Those whose keys could be equal to the other dataset's; another split is read only then."""
    description = frames.description
    if description.pseudonyms != other.description.pseudonyms:
        return {frames.split: frames}
    return {
        split: frames if split == frames.split else open_split(description, split)
        for split in SPLITS
        if description.rows(split)
    }


def _keys(splits: Splits, column: str) -> pa.Array:
    chunks = [chunk for frames in splits.values() for chunk in frames.column(column).chunks]
    return pc.unique(pa.chunked_array(chunks)).drop_null()


def _shared(keys: pa.Array, others: pa.Array) -> int:
    return int(pc.sum(pc.is_in(keys, value_set=others)).as_py() or 0)
