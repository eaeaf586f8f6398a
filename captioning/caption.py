"""Captions for a workspace's frames and regions, from clinical records."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from sono.manifests.errors import UserError
from sono.manifests.schemas import CAPTIONS, FRAMES, RECORDS, TableSpec
from sono.manifests.stages import Engine, Exclusion, Progress, RunReport, StageOutput, run_stage
from sono.manifests.store import TableStore
from sono.manifests.vocabulary import Vocabulary
from sono.manifests.workspace import Workspace

from .facts import Fact, FrameFacts, RegionFacts, anatomies, as_json
from .join import Joined, join_frames
from .records import RecordsStage, record_parts, settle, undated
from .records_csv import read_records
from .sentences import Template, TemplatePack, Writer, check_templates, load_templates


@dataclass(frozen=True)
class CaptionCounts:
    """What the captions table holds now, and what it lacks.

    Attributes:
        frames_without: frames and regions without a caption, by reason.
        records_unmatched: records that no frame belongs to.
        records_in_conflict: records whose own datings lie more than two weeks apart; the first was used.
    """

    global_captions: int
    region_captions: int
    frames_without: Mapping[str, int]
    records_unmatched: int
    records_in_conflict: int


@dataclass(frozen=True)
class CaptionReport:
    """What a run did in both stages, and the counts after it."""

    records: RunReport
    captions: RunReport
    counts: CaptionCounts


def caption_workspace(
    workspace: Workspace,
    records: Sequence[Path],
    *,
    templates: Path | None = None,
    engine: Engine,
    progress: Callable[[Progress], None] = lambda _: None,
) -> CaptionReport:
    """Bring the tables ``records`` and ``captions`` up to date with the clinical records named.

    The records named are all that count: facts of an earlier run whose file is not named again are removed. The
    caller holds ``workspace.writing()``.

    Args:
        records: CSV files, or folders of them; docs/captions.md lists the columns.
        templates: a folder with ``global.jinja`` and ``region.jinja`` that replace the packaged ones.

    Raises:
        UserError: there are no frames, or a records file or a template cannot be used; nothing has been written then.
    """
    store = workspace.store
    pack = load_templates(templates)
    check_templates(pack, workspace.vocabulary)
    if not store.paths(FRAMES):
        raise UserError("there are no frames to caption", where=str(workspace.path), fix="run sono-curate ingest first")
    entries = settle(read_records(records, workspace.keys, workspace.vocabulary))
    parts = record_parts(entries, workspace.keys)
    records_report = run_stage(RecordsStage(), parts, store, engine=engine, progress=progress)
    joined = join_frames(store, workspace.keys, undated(entries))
    stage = CaptionStage(pack, workspace.vocabulary)
    captions_report = run_stage(stage, joined.parts, store, engine=engine, progress=progress)
    return CaptionReport(records_report, captions_report, _counts(store, captions_report, joined))


@dataclass(frozen=True)
class CaptionStage:
    """Writes the captions of a part of joined frames (``join.JOINED``): one a frame, one a region."""

    templates: TemplatePack
    vocabulary: Vocabulary
    name: str = "caption"
    version: int = 1

    @property
    def output(self) -> TableSpec:
        return CAPTIONS

    def config(self) -> Mapping[str, object]:
        pack = self.templates
        return {"global": pack.frame.sha256, "region": pack.region.sha256, "vocabulary": self._vocabulary_sha256}

    @cached_property
    def _vocabulary_sha256(self) -> str:
        planes, structures = self.vocabulary.planes.values(), self.vocabulary.structures.values()
        text = "\n".join(entry.model_dump_json() for entry in (*planes, *structures))
        return hashlib.sha256(text.encode()).hexdigest()

    def __call__(self, part: pa.Table) -> StageOutput:
        writer = Writer(self.templates, self.vocabulary)
        captions: list[dict[str, object]] = []
        exclusions: list[Exclusion] = []
        for row in part.to_pylist():
            reason = row["problem"] if row["plane"] in self.vocabulary.planes else "plane_unknown"
            if reason:
                exclusions.append(_exclusion(row, reason))
            else:
                captions.extend(self._captions(row, writer))
                exclusions.extend(
                    _exclusion(row, "structure_unknown")
                    for region in row["regions"]
                    if region["structure"] not in self.vocabulary.structures
                )
        return StageOutput(CAPTIONS.from_rows(captions), exclusions)

    def _captions(self, row: Mapping[str, Any], writer: Writer) -> Iterator[dict[str, object]]:
        plane = self.vocabulary.planes[row["plane"]]
        regions = [region for region in row["regions"] if region["structure"] in self.vocabulary.structures]
        ga = Fact(row["ga_days"] // 7, row["ga_field"])
        where = Fact(plane.id, "frames.plane")
        shown = anatomies(
            plane,
            self.vocabulary,
            regions=[region["structure"] for region in regions],
            seen_in_plane=row["seen_in_plane"] or (),
            seen_in_study=row["seen_in_study"] or (),
        )
        frame = FrameFacts(ga, where, shown)
        yield _caption(row, row, self.templates.frame, writer.about_frame(frame), as_json(frame))
        for region in regions:
            facts = RegionFacts(ga, where, Fact(region["structure"], "regions.structure"))
            yield _caption(row, region, self.templates.region, writer.about_region(facts), as_json(facts))


_MESSAGES = {
    "plane_unknown": "the frame's plane is not known",
    "another_patient": "the record of the frame's study names another patient than the frame does",
    "no_record": "no record belongs to the frame's study",
    "no_gestational_age": "the record of the frame's study gives no gestational age",
    "structure_unknown": "a region of the frame is of a structure that the vocabulary does not have",
}


def _exclusion(row: Mapping[str, Any], reason: str) -> Exclusion:
    return Exclusion(row["source_key"], reason, _MESSAGES[reason], row["frame_index"])


def _caption(
    frame: Mapping[str, Any], subject: Mapping[str, Any], template: Template, text: str, facts: str
) -> dict[str, object]:
    """A row of ``captions``; ``tokens`` stays null, and no structure is dropped to shorten a caption."""
    return {
        "caption_id": subject["caption_id"],
        "frame_id": frame["frame_id"],
        "region_id": subject.get("region_id"),
        "text": text,
        "template": template.name,
        "template_sha256": template.sha256,
        "facts": facts,
        "tokens": None,
        "dropped": [],
    }


def _counts(store: TableStore, report: RunReport, joined: Joined) -> CaptionCounts:
    captions = store.read_all(CAPTIONS, ["region_id"])
    conflicts = store.read_all(RECORDS, ["ga_conflict"]).column("ga_conflict").to_pylist()
    return CaptionCounts(
        global_captions=captions.column("region_id").null_count,
        region_captions=captions.num_rows - captions.column("region_id").null_count,
        frames_without=dict(report.exclusions),
        records_unmatched=joined.records_unmatched,
        records_in_conflict=sum(conflict is True for conflict in conflicts),
    )
