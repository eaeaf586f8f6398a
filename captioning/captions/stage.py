"""The caption stage: one caption for every frame, and one for every region, of a part of joined frames.

It writes millions of captions, so whatever repeats is done once: ``shared_facts`` holds what the captions of a plane
and study share, ``memory`` each distinct sentence. What is left for each caption is a look-up.
``benchmarks/caption_stage.py`` measures what each shortcut buys.
"""

from __future__ import annotations

import functools
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from sono.captioning.exams.dating import DATING
from sono.captioning.facts.facts import Fact, fact_json
from sono.captioning.sentences.writer import Sentence, Writer
from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.schemas import CAPTIONS, TableSpec
from sono.manifests.stages import Exclusion, StageOutput

from .frames import JoinedFrame, read_frames
from .memory import PlaneSentences, memory_of_worker
from .rows import CaptionRows
from .shared_facts import PlaneFacts, StudyFacts, plane_facts, study_facts

MESSAGES: Mapping[str, str] = {
    "plane_unknown": "the frame's plane is not known",
    "another_patient": "the record of the frame's examination names another patient than the frame does",
    "no_record": "no record belongs to the frame's examination",
    "no_gestational_age": "the record of the frame's examination gives no gestational age",
    "measurement_outside_range": "the record's measurements lie outside the ranges of the formulas that date by them",
    "gestational_age_conflict": "the record of the frame's examination gives ages that contradict each other",
    "structure_unknown": "a region of the frame is of a structure that the vocabulary does not have",
    "no_template": "no template can do with the facts that are known",
    "caption_refused": "the sentence is too long, or not all of its words and numbers are those of facts",
    "identity_in_caption": "the sentence holds a word of a name or identifier in the examination's own record",
}
"""Reason codes of the stage's exclusions, and their texts."""


@dataclass(frozen=True)
class CaptionStage:
    """Writes the captions of a part of joined frames (``join.JOINED``): one per frame, one per region."""

    keys: Pseudonymizer = field(repr=False)
    writer: Writer
    seed: int = 0

    name = "caption"
    version = 4

    @property
    def output(self) -> TableSpec:
        return CAPTIONS

    def config(self) -> Mapping[str, object]:
        return {"writer": self.writer.signature, "seed": self.seed}

    def made_with(self) -> Mapping[str, object]:
        return {"seed": self.seed, "context_length": self.writer.budget.context_length}

    def __call__(self, part: pa.Table) -> StageOutput:
        captions = _PartCaptions(self)
        for frame in read_frames(part):
            captions.add(frame)
        return StageOutput(captions.rows.table(), captions.exclusions)


class _PartCaptions:
    """The captions of one part, frame by frame."""

    def __init__(self, stage: CaptionStage) -> None:
        self.rows = CaptionRows()
        self.exclusions: list[Exclusion] = []
        self._keys = stage.keys
        self._vocabulary = stage.writer.vocabulary
        self._memory = memory_of_worker(stage.writer, stage.keys)
        self._seed_factor = seed_factor(stage.seed)
        self._studies: dict[str, StudyFacts] = {}
        self._planes: dict[tuple[object, ...], tuple[PlaneFacts, PlaneSentences]] = {}

    def add(self, frame: JoinedFrame) -> None:
        """Write the captions of a frame and its regions, or exclude them."""
        reason = self._problem(frame)
        if reason is not None:
            self._exclude(frame, reason)
            return
        shared, sentences = self._plane(frame)
        structures, member = self._memory.structures(frame, shared.study)
        sentence = sentences.sentence(structures, draw(frame.frame_id, self._seed_factor))
        frame_reason = self._add_caption(frame, None, shared, sentence, member)
        if frame_reason is not None:
            self._exclude(frame, frame_reason)
        for region_id, structure in zip(frame.region_ids, frame.structures, strict=True):
            if structure not in self._vocabulary.structures:
                self._exclude(frame, "structure_unknown")
                continue
            sentence = sentences.sentence(structure, draw(region_id, self._seed_factor))
            reason = self._add_caption(frame, region_id, shared, sentence, _structure_json(structure))
            if reason not in (None, frame_reason):  # a reason that holds for the frame is not repeated for its regions
                self._exclude(frame, str(reason))

    def _problem(self, frame: JoinedFrame) -> str | None:
        """Why the frame gets no captions, if that is clear before any is written."""
        if frame.plane not in self._vocabulary.planes:
            return "plane_unknown"
        recorded = frame.study["recorded_patient_key"]
        # A frame whose header named no patient may have its study as its patient; that is not a contradiction.
        if recorded not in (None, frame.patient_key) and frame.patient_key != self._keys.patient_of_study(
            frame.study["study_key"]
        ):
            return "another_patient"
        return None

    def _plane(self, frame: JoinedFrame) -> tuple[PlaneFacts, PlaneSentences]:
        """What the frame's captions share with others of its plane and study, and the sentences written about it."""
        study_key = frame.study["study_key"]
        key = (study_key, frame.plane, frame.plane_source, frame.laterality, frame.plane_provenance)
        found = self._planes.get(key)
        if found is None:
            study = self._studies.get(study_key)
            if study is None:
                study = self._studies[study_key] = study_facts(frame.study, self._memory.writer)
            shared = plane_facts(frame, study)
            found = self._planes[key] = shared, self._memory.sentences_about(shared)
        return found

    def _add_caption(
        self, frame: JoinedFrame, region_id: str | None, shared: PlaneFacts, sentence: Sentence | str, member: str
    ) -> str | None:
        """Add the row of a caption, unless there is no sentence or it must not be stored.

        Args:
            sentence: or, if there is none, the reason code.
            member: the structures or the structure that it is about, as a member of the facts' JSON.

        Returns:
            Why there is no caption; None if there is one.
        """
        if isinstance(sentence, str):
            return _reason_without_age(frame) if sentence == "no_template" else sentence
        if self._memory.names_somebody(sentence, shared.study.identity):
            return "identity_in_caption"
        self.rows.add(frame.frame_id, region_id, sentence, shared.json_with(member))
        return None

    def _exclude(self, frame: JoinedFrame, reason: str) -> None:
        self.exclusions.append(Exclusion(frame.source_key, reason, MESSAGES[reason], frame.frame_index))


def draw(key: str, factor: int) -> int:
    """A number that decides which template a caption gets, the same on every run with the same seed.

    A checksum times an odd number stands in for a keyed hash: measured, the caption stage writes 1.24 times as many
    captions per second as with SHA-256. (A seed that only started the checksum would change no order: every seed would
    give the same frames the same sentence.)

    Args:
        key: of the frame or region.
        factor: ``seed_factor`` of the seed.
    """
    return zlib.crc32(key.encode()) * factor >> 32


def seed_factor(seed: int) -> int:
    """An odd 64-bit number made from the seed."""
    return int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:8]) | 1


@functools.lru_cache(maxsize=1024)
def _structure_json(structure: str) -> str:
    return fact_json("structure", Fact(structure, "regions"))


def _reason_without_age(frame: JoinedFrame) -> str:
    """Why no template fits: nearly all need the gestational age."""
    study = frame.study
    if study["recorded_patient_key"] is None:
        return "no_record"
    if study["ga_conflict"] is not None:
        return "gestational_age_conflict"
    if study["ga_days"] is not None:
        return "no_template"
    return "measurement_outside_range" if any(study[name] is not None for name in DATING) else "no_gestational_age"
