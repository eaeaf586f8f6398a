"""The patients that a model was trained on, as keyed digests that travel with it, and which of them a split has again.

A dataset names patients by pseudonyms, which nobody can make without the workspace's key. A model carries digests of
these pseudonyms, so that one that is published does not list the keys of a dataset. Whoever has a patient's pseudonym,
and so the dataset, can tell whether the model was trained on that patient; nobody else can.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sono.manifests.errors import UserError
from sono.manifests.publishable import TRAINED_PATIENTS

from .dataset import Frames
from .pool import Pool

FILE = TRAINED_PATIENTS
"""Beside the weights of an exported model: ``TrainedPatients`` as JSON."""

_BYTES = 8  # of a digest: among a million patients scored and a million trained on, one in 10^7 chances to err
_NOT_RECORDED = "the checkpoint does not record the patients that it was trained on"
_WEIGHTS = "the weights that training started from do not record theirs"
_OTHER_KEY = "pseudonyms of patients under another key cannot be compared"
_WITHOUT_PATIENT = "some frames have no patient_key"


@dataclass(frozen=True)
class PatientDigests:
    """The patients of one dataset that a model was trained on.

    A digest is an HMAC-SHA256 of a patient's pseudonym, truncated to 64 bits and in hex. ``key`` is a digest of all
    these pseudonyms together: equal for equal patients, so that runs are reproducible, and different for other
    datasets, so that two models' digests cannot be compared with each other. ``pseudonyms`` is that of the dataset's
    description.
    """

    pseudonyms: str
    key: str
    digests: tuple[str, ...]

    @classmethod
    def of(cls, patients: Iterable[str], pseudonyms: str) -> PatientDigests:
        """Of the patients with these pseudonyms."""
        keys = sorted(set(patients))
        key = hashlib.sha256(json.dumps(["trained patients", *keys]).encode()).hexdigest()
        return cls(pseudonyms, key, tuple(sorted(_digest(key, patient) for patient in keys)))

    def among(self, patients: Iterable[str]) -> set[str]:
        """Those of ``patients``, by their pseudonyms, that are among these."""
        known = set(self.digests)
        return {patient for patient in patients if _digest(self.key, patient) in known}


@dataclass(frozen=True)
class Overlap:
    """How many ``of`` a split's patients a model was trained on; None if they cannot be compared.

    ``not_known`` are the reasons why there may be more.
    """

    patients: int | None
    of: int
    not_known: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As results state it."""
        return {"patients": self.patients, "of": self.of, "not_known": list(self.not_known)}


@dataclass(frozen=True)
class TrainedPatients:
    """All patients that a model was trained on as far as they are known, in one set for every dataset.

    ``not_known`` are the reasons why there may be more.
    """

    sets: tuple[PatientDigests, ...] = ()
    not_known: tuple[str, ...] = ()

    @property
    def has_several_keys(self) -> bool:
        """Whether a patient of two datasets would go unnoticed."""
        return len({each.pseudonyms for each in self.sets}) > 1

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any]) -> TrainedPatients:
        """What a checkpoint's ``meta`` says; one that says nothing is older, or was written by another program."""
        if "trained_patients" not in meta:
            return cls(not_known=(_NOT_RECORDED,))
        return cls._from_json(meta["trained_patients"])

    @classmethod
    def of_weights(cls, file: Path | None) -> TrainedPatients:
        """What ``FILE`` says about the weights beside it; weights that come without it say nothing.

        Raises:
            UserError: the file cannot be read.
        """
        if file is None:
            return cls(not_known=(_WEIGHTS,))
        try:
            return cls._from_json(json.loads(file.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError("cannot be read", where=str(file), fix="export the model again") from error

    def joined(self, other: TrainedPatients) -> TrainedPatients:
        """Those of both."""
        return TrainedPatients(
            tuple(dict.fromkeys([*self.sets, *other.sets])), tuple(dict.fromkeys([*self.not_known, *other.not_known]))
        )

    def to_json(self) -> dict[str, Any]:
        """As plain data, the inverse of ``from_meta``."""
        return asdict(self)

    def overlap(self, frames: Frames) -> Overlap:
        """Which of the patients of a split the model was trained on."""
        pseudonyms, patients = frames.description.pseudonyms, _patients(frames.column("patient_key"))
        comparable = [each for each in self.sets if each.pseudonyms == pseudonyms]
        found = set().union(*(each.among(patients) for each in comparable))
        not_known = [*self.not_known]
        if len(comparable) < len(self.sets):
            not_known.append(_OTHER_KEY)
        if frames.column("patient_key").null_count:
            not_known.append(_WITHOUT_PATIENT)
        is_known = comparable or not not_known
        return Overlap(len(found) if is_known else None, len(patients), tuple(dict.fromkeys(not_known)))

    @classmethod
    def _from_json(cls, content: Mapping[str, Any]) -> TrainedPatients:
        sets = (PatientDigests(one["pseudonyms"], one["key"], tuple(one["digests"])) for one in content["sets"])
        return cls(tuple(sets), tuple(content["not_known"]))


def patients_of(pool: Pool) -> TrainedPatients:
    """The patients that a run trains on, in one set for every dataset."""
    trained = TrainedPatients()
    for dataset, frames in enumerate(pool.frames.parts):
        keys = frames.column("patient_key").take(pa.array(pool.usable_of(dataset)))
        found = PatientDigests.of(_patients(keys), frames.description.pseudonyms)
        trained = trained.joined(TrainedPatients((found,), (_WITHOUT_PATIENT,) if keys.null_count else ()))
    return trained


def _patients(keys: pa.ChunkedArray) -> list[str]:
    patients: list[str] = pc.unique(keys).drop_null().to_pylist()
    return patients


def _digest(key: str, patient: str) -> str:
    return hmac.digest(bytes.fromhex(key), patient.encode(), "sha256")[:_BYTES].hex()
