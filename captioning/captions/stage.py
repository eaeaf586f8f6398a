"""The caption stage: a caption for every frame, and for every region, of a part of joined frames.

It writes millions, so what repeats is done once: a sentence for equal values of the facts that its template names, the
facts' JSON for equal facts of a study and plane. What is left for each caption is its key and a look-up.
"""

from __future__ import annotations

import functools
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sono.captioning.exams.dating import DATING
from sono.captioning.facts.facts import Fact, Facts, fact_json, structures_shown, trimester
from sono.captioning.sentences.guard import IdentityGuard
from sono.captioning.sentences.packs import Template
from sono.captioning.sentences.writer import RefusedError, Sentence, Writer
from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.schemas import CAPTIONS, TableSpec
from sono.manifests.stages import Exclusion, StageOutput

from .join import STUDY

_REMEMBERED_MOST = 200_000
_NO_PLANE = Fact("", "")


@dataclass(frozen=True)
class CaptionStage:
    """Writes the captions of a part of joined frames (``join.JOINED``): one a frame, one a region."""

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

    def __call__(self, part: pa.Table) -> StageOutput:
        work = _Work(self)
        for frame in _frames(part):
            work.add(frame)
        return StageOutput(work.table(), work.exclusions)


@dataclass(frozen=True)
class _Frame:
    """One row of the input; ``study`` is shared by the study's frames."""

    source_key: str
    frame_index: int
    frame_id: str
    patient_key: str
    plane: str | None
    plane_source: str | None
    seen_in_plane: Sequence[str]
    laterality: str | None
    plane_provenance: str | None
    study: Mapping[str, Any]
    region_ids: Sequence[str]
    structures: Sequence[str]


def _frames(part: pa.Table) -> Iterator[_Frame]:
    """The rows, with what a study's rows share made once."""
    part = part.combine_chunks()
    codes = part.column("study_key").combine_chunks().dictionary_encode()
    of_row = codes.indices.to_numpy()
    first: dict[int, int] = {}
    for row, code in enumerate(of_row.tolist()):
        first.setdefault(code, row)
    studies = part.select(STUDY.names).take(pa.array(list(first.values()), pa.int64())).to_pylist()
    lists = part.column("regions").combine_chunks()
    flat = lists.values
    region_ids, structures = flat.field("region_id").to_pylist(), flat.field("structure").to_pylist()
    offsets = lists.offsets.to_pylist()
    own = [part.column(name).to_pylist() for name in ("source_key", "frame_index", "frame_id", "patient_key")]
    own += [part.column(name).to_pylist() for name in ("plane", "plane_source")]
    of_plane = [part.column(name).to_pylist() for name in ("seen_in_plane", "laterality", "plane_provenance")]
    rows = zip(zip(*own, strict=True), zip(*of_plane, strict=True), of_row.tolist(), strict=True)
    for row, (cells, (seen, laterality, provenance), code) in enumerate(rows):
        regions = slice(offsets[row], offsets[row + 1])
        record = (seen or (), laterality, provenance, studies[code])
        yield _Frame(*(*cells, *record, region_ids[regions], structures[regions]))


class _Memory:
    """What a worker keeps from part to part: the sentences that it has written, by the values they show."""

    def __init__(self, stage: CaptionStage) -> None:
        self.writer = stage.writer
        self.sentences: list[Sentence] = []
        self.shown: dict[tuple[object, ...], tuple[Fact, str]] = {}
        self._guard = IdentityGuard(stage.keys)
        self._said: set[str] = set()  # keyed hashes of all words in all sentences
        self._values: dict[tuple[object, ...], int] = {}
        self._templates: dict[tuple[int, bool], Sequence[Template]] = {}
        self._numbers: dict[tuple[object, ...], int | str] = {}

    @property
    def full(self) -> bool:
        return len(self.sentences) > _REMEMBERED_MOST or len(self.shown) > _REMEMBERED_MOST

    def number_of(self, values: tuple[object, ...]) -> int:
        return self._values.setdefault(values, len(self._values))

    def sentence(self, subject: _Subject, about: Fact | str, draw: int) -> int | str:
        """The number of the sentence in ``sentences``, or why there is none.

        Args:
            about: the structure of a region, or the structures of a frame.
            draw: chooses among the templates that can do with the facts.
        """
        whole = isinstance(about, Fact)
        templates = self._templates.get((subject.values, whole))
        if templates is None:
            templates = self._templates[subject.values, whole] = self.writer.templates_for(_facts(subject, about))
        if not templates:
            return "no_template"
        choice = draw % len(templates)
        key = (subject.values, about.value if isinstance(about, Fact) else about, choice)
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = self._write(templates[choice], _facts(subject, about))
        return found

    def never_says(self, identity: frozenset[str]) -> bool:
        """Whether no sentence so far has a word of these; cheap, and nearly always so."""
        return self._said.isdisjoint(identity)

    def says(self, number: int, identity: frozenset[str]) -> bool:
        return self._guard.says(self.sentences[number].text, identity)

    def _write(self, template: Template, facts: Facts) -> int | str:
        try:
            sentence = self.writer.write(template, facts)
        except RefusedError:
            return "caption_refused"
        self.sentences.append(sentence)
        self._said.update(self._guard.hashes(sentence.text))
        return len(self.sentences) - 1


_KEPT: dict[tuple[str, Pseudonymizer], _Memory] = {}


def _memory(stage: CaptionStage) -> _Memory:
    """The worker's memory, if it is of the same templates and key."""
    key = stage.writer.signature, stage.keys
    if key not in _KEPT or _KEPT[key].full:
        _KEPT.clear()
        _KEPT[key] = _Memory(stage)
    return _KEPT[key]


@dataclass(frozen=True)
class _Study:
    """What captions of one study share.

    Attributes:
        facts: those of the study; the plane is still to come.
        members: the same as members of a JSON object, each with a comma before it.
        values: what templates can show of it.
        laterality: and its field, where it holds for the whole study.
        seen_in: the field that its structures come from.
        identity: keyed hashes of words that its captions must not say.
    """

    facts: Facts
    members: str
    values: tuple[object, ...]
    laterality: Fact | None
    seen_in: str | None
    identity: frozenset[str]


@dataclass(frozen=True)
class _Subject:
    """What captions about one plane of one study share.

    Attributes:
        values: the number of what templates can show of it (``_Memory.number_of``).
        head, tail: the facts' JSON before and behind the structures.
    """

    study: _Study
    plane: Fact
    laterality: Fact | None
    values: int
    head: str
    tail: str

    def facts(self, shown: Fact | None, structure: str | None) -> Facts:
        outlined = None if structure is None else Fact(structure, "regions")
        return replace(
            self.study.facts, plane=self.plane, laterality=self.laterality, structures=shown, structure=outlined
        )


class _Work:
    """The captions of one part, while they are made."""

    def __init__(self, stage: CaptionStage) -> None:
        self.exclusions: list[Exclusion] = []
        self._stage = stage
        self._memory = _memory(stage)
        self._vocabulary = stage.writer.vocabulary
        self._factor = int.from_bytes(hashlib.sha256(str(stage.seed).encode()).digest()[:8]) | 1
        self._studies: dict[str, _Study] = {}
        self._subjects: dict[tuple[object, ...], _Subject] = {}
        self._facts: dict[str, int] = {}
        self._rows: tuple[list[str], list[str | None], list[int], list[int]] = ([], [], [], [])

    def add(self, frame: _Frame) -> None:
        reason = self._problem(frame)
        if reason is not None:
            self._exclude(frame, reason)
            return
        subject = self._subject(frame)
        shown, member = self._shown(frame, subject.study)
        said = self._caption(frame, None, subject, shown, f"{subject.head}, {member}{subject.tail}")
        for region_id, structure in zip(frame.region_ids, frame.structures, strict=True):
            if structure in self._vocabulary.structures:
                text = f'{subject.head}, "structure": {{"value": "{structure}", "source": "regions"}}{subject.tail}'
                self._caption(frame, region_id, subject, structure, text, said)
            else:
                self._exclude(frame, "structure_unknown")

    def table(self) -> pa.Table:
        frame_ids, region_ids, numbers, facts = self._rows
        used, chosen = np.unique(np.asarray(numbers, np.int64), return_inverse=True)
        sentences = [self._memory.sentences[number] for number in used.tolist()]
        written = pa.table(
            {
                "text": pa.array([sentence.text for sentence in sentences], pa.string()),
                "template": pa.array([sentence.template.id for sentence in sentences], pa.string()),
                "template_sha256": pa.array([sentence.template.sha256 for sentence in sentences], pa.string()),
                "tokens": pa.array([sentence.tokens for sentence in sentences], pa.int32()),
                "dropped": pa.array([list(sentence.dropped) for sentence in sentences], pa.list_(pa.string())),
            }
        ).take(pa.array(chosen))
        regions, frames = pa.array(region_ids, pa.string()), pa.array(frame_ids, pa.string())
        columns = {
            "caption_id": pc.coalesce(regions, frames),
            "frame_id": frames,
            "region_id": regions,
            "facts": pa.array(list(self._facts), pa.string()).take(pa.array(facts, pa.int32())),
            **{name: written.column(name) for name in written.schema.names},
        }
        return pa.table([columns[name] for name in CAPTIONS.schema.names], schema=CAPTIONS.schema)

    def _problem(self, frame: _Frame) -> str | None:
        if frame.plane not in self._vocabulary.planes:
            return "plane_unknown"
        recorded = frame.study["recorded_patient_key"]
        # A frame whose header named no patient may carry its study in the patient's place; that is no contradiction.
        if recorded not in (None, frame.patient_key) and frame.patient_key != self._stage.keys.patient_of_study(
            frame.study["study_key"]
        ):
            return "another_patient"
        return None

    def _subject(self, frame: _Frame) -> _Subject:
        key = (frame.study["study_key"], frame.plane, frame.plane_source, frame.laterality, frame.plane_provenance)
        found = self._subjects.get(key)
        if found is None:
            found = self._subjects[key] = self._make_subject(frame, self._study(frame.study))
        return found

    def _make_subject(self, frame: _Frame, study: _Study) -> _Subject:
        plane = Fact(str(frame.plane), f"frames.plane ({frame.plane_source})" if frame.plane_source else "frames.plane")
        laterality = study.laterality
        if frame.laterality is not None:
            laterality = Fact(frame.laterality, _provenance(frame.plane_provenance)["laterality"])
        side = None if laterality is None else laterality.value
        return _Subject(
            study=study,
            plane=plane,
            laterality=laterality,
            values=self._memory.number_of((plane.value, side, *study.values)),
            head=f"{{{fact_json('plane', plane)}",
            tail=f"{'' if laterality is None else ', ' + fact_json('laterality', laterality)}{study.members}}}",
        )

    def _study(self, record: Mapping[str, Any]) -> _Study:
        found = self._studies.get(record["study_key"])
        if found is None:
            found = self._studies[record["study_key"]] = _make_study(record, self._memory.writer)
        return found

    def _shown(self, frame: _Frame, study: _Study) -> tuple[Fact, str]:
        """The structures that the frame shows, and the fact's JSON."""
        assert frame.plane is not None
        seen = tuple(frame.study["seen_in_study"] or ())
        field = _provenance(frame.plane_provenance).get("structures_seen") if frame.seen_in_plane else study.seen_in
        key = (frame.plane, tuple(frame.structures), tuple(frame.seen_in_plane), seen, field)
        found = self._memory.shown.get(key)
        if found is None:
            fact = structures_shown(
                self._vocabulary.planes[frame.plane],
                self._vocabulary,
                regions=[name for name in frame.structures if name in self._vocabulary.structures],
                seen_in_plane=frame.seen_in_plane,
                seen_in_study=seen,
                field=field,
            )
            found = self._memory.shown[key] = fact, fact_json("structures", fact)
        return found

    def _caption(
        self,
        frame: _Frame,
        region_id: str | None,
        subject: _Subject,
        about: Fact | str,
        facts_json: str,
        said: str | None = None,
    ) -> str | None:
        """Write a caption or exclude; what is ``said`` of the whole frame is not said again of each region.

        Returns:
            Why there is no caption.
        """
        memory, identity = self._memory, subject.study.identity
        # A seed that only starts the checksum would give the same frames the same sentence under every seed.
        draw = zlib.crc32((region_id or frame.frame_id).encode()) * self._factor >> 32
        found = memory.sentence(subject, about, draw)
        # Nearly always none of all sentences has a word of the record's names; then this one need not be looked at.
        if not isinstance(found, str) and not memory.never_says(identity) and memory.says(found, identity):
            found = "identity_in_caption"
        if isinstance(found, str):
            reason = _without_age(frame) if found == "no_template" else found
            if reason != said:
                self._exclude(frame, reason)
            return reason
        frame_ids, region_ids, numbers, facts = self._rows
        frame_ids.append(frame.frame_id)
        region_ids.append(region_id)
        numbers.append(found)
        facts.append(self._facts.setdefault(facts_json, len(self._facts)))
        return None

    def _exclude(self, frame: _Frame, reason: str) -> None:
        self.exclusions.append(Exclusion(frame.source_key, reason, MESSAGES[reason], frame.frame_index))


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


def _facts(subject: _Subject, about: Fact | str) -> Facts:
    return subject.facts(about, None) if isinstance(about, Fact) else subject.facts(None, about)


def _without_age(frame: _Frame) -> str:
    """Why no template fits, where the age is what is missing."""
    study = frame.study
    if study["recorded_patient_key"] is None:
        return "no_record"
    if study["ga_conflict"] is not None:
        return "gestational_age_conflict"
    if study["ga_days"] is not None:
        return "no_template"
    return "measurement_outside_range" if any(study[name] is not None for name in DATING) else "no_gestational_age"


def _make_study(record: Mapping[str, Any], writer: Writer) -> _Study:
    provenance = _provenance(record["provenance"])

    def fact(name: str) -> Fact | None:
        value = record[name]
        return None if value is None else Fact(tuple(value) if isinstance(value, list) else value, provenance[name])

    age = fact("ga_days")
    facts = Facts(
        plane=_NO_PLANE,
        ga_days=age,
        trimester=None if age is None else Fact(trimester(record["ga_days"]), age.source),
        presentation=fact("presentation"),
        measurements={name: value for name in writer.named_biometry if (value := fact(name)) is not None},
        findings=fact("findings"),
    )
    known = [fact_json(name, each) for name, each in facts.known().items() if each is not _NO_PLANE]
    side = record["study_laterality"]
    return _Study(
        facts=facts,
        members="".join(f", {member}" for member in known),
        values=writer.shared_values(facts),
        laterality=None if side is None else Fact(side, provenance["laterality"]),
        seen_in=provenance.get("structures_seen"),
        identity=frozenset(record["identity"] or ()),
    )


@functools.lru_cache(maxsize=4096)
def _provenance(text: str | None) -> Mapping[str, str]:
    found: dict[str, str] = json.loads(text) if text else {}
    return found
