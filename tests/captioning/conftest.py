"""A workspace as ingest and review leave it, built through the table store."""

from __future__ import annotations

import datetime
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from sono.captioning.captions import plan
from sono.captioning.captions.run import CaptionReport, caption_workspace
from sono.captioning.sentences.pack_check import check_pack
from sono.captioning.sentences.tokens import CLIP
from sono.captioning.sentences.writer import Writer
from sono.manifests import workspace as workspaces
from sono.manifests.schemas import CAPTIONS, EXCLUSIONS, FRAMES, RECORDS, REGIONS, STATEMENTS, TableSpec
from sono.manifests.stages import Progress, in_process
from sono.manifests.store import PartInfo
from sono.manifests.workspace import Workspace

PATIENT, STUDY = "PAT-1", "1.2.840.1"


@pytest.fixture(scope="session", autouse=True)
def _each_pack_is_checked_once() -> Iterator[None]:
    """Checking a pack renders thousands of sentences, which takes longer than all else that captioning does here."""
    passed: set[object] = set()

    def check_once(writer: Writer) -> None:
        budget = writer.budget
        content = (writer.pack.sha256, repr(writer.vocabulary), budget.tokenizer, budget.context_length)
        if content not in passed:
            check_pack(writer)
        if budget.tokenizer == CLIP:  # another one is a file, which may change
            passed.add(content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "check_pack", check_once)
        yield


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 6), 40).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass(frozen=True)
class Clinic:
    """A workspace, and the few things the tests do with it."""

    workspace: Workspace
    folder: Path

    def frame(
        self,
        name: str,
        plane: str | None = "transthalamic",
        study: str | None = STUDY,
        patient: str = PATIENT,
        accession: str | None = None,
        date: datetime.date | None = None,
        center: str = "Center",
        issuer: str = "",
    ) -> dict[str, object]:
        keys = self.workspace.keys
        found = keys.patient_keys(patient, issuer=issuer, center=center)
        source_key = keys.source(name)
        return {
            "frame_id": keys.frame(source_key, 0),
            "image": {"bytes": png(), "path": None},
            "height": 6,
            "width": 8,
            "crop": [0, 0, 8, 6],
            "patient_key": found.patient,
            "patient_center_key": found.center,
            "patient_number_key": found.number,
            "study_key": keys.study(study) if study else keys.only_study(found.patient),
            "accession_key": keys.accession(accession) if accession else None,
            "study_day": keys.day(found.number, date) if date else None,
            "source_key": source_key,
            "source_digest": "0" * 64,
            "frame_index": 0,
            "plane": plane,
            "pixel_digest": "0" * 64,
            "grey_histogram": [0] * 256,
            "laplacian_energy": 0.0,
            "burned_in_text": "none",
        }

    def region(self, frame: dict[str, object], structure: str, status: str = "accepted") -> dict[str, object]:
        return {
            "region_id": self.workspace.keys.region(str(frame["frame_id"]), structure, "manual"),
            "frame_id": frame["frame_id"],
            "pixel_digest": frame["pixel_digest"],
            "structure": structure,
            "mask": {"size": [6, 8], "counts": "0"},
            "area_px": 4,
            "bbox": [0, 0, 2, 2],
            "source": "manual",
            "status": status,
        }

    def write(self, table: TableSpec, part: str, rows: list[dict[str, object]]) -> None:
        info = PartInfo(name=part, stage=table.name, fingerprint="by hand", scope="", rows=len(rows))
        self.workspace.store.write(table, info, table.from_rows(rows))

    def frames(self, part: str, *rows: dict[str, object]) -> None:
        self.write(FRAMES, part, list(rows))

    def regions(self, part: str, *rows: dict[str, object]) -> None:
        self.write(REGIONS, part, list(rows))

    def csv(self, *lines: str, name: str = "records.csv") -> Path:
        path = self.folder / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    def caption(
        self,
        *records: Path,
        mapping: str | None = None,
        templates: str = "paper",
        seed: int | None = None,
        told: list[Progress] | None = None,
    ) -> CaptionReport:
        heard: list[Progress] = told if told is not None else []
        file = None
        if mapping is not None:
            file = self.workspace.path.parent / "mapping.toml"
            file.write_text(mapping, encoding="utf-8")
        return caption_workspace(
            self.workspace,
            records,
            mapping=file,
            templates=templates,
            seed=seed,
            engine=in_process,
            progress=heard.append,
        )

    def rows(self, table: TableSpec) -> list[dict[str, object]]:
        found: list[dict[str, object]] = self.workspace.store.read_all(table).to_pylist()
        return found

    def texts(self) -> list[str]:
        return [str(row["text"]) for row in self.rows(CAPTIONS)]

    def records(self) -> list[dict[str, object]]:
        return self.rows(RECORDS)

    def said(self) -> list[tuple[object, ...]]:
        """Fact, value, plane and field of every statement but identifiers' hashes."""
        return [
            (row["fact"], row["code"] if row["number"] is None else row["number"], row["plane"], row["field"])
            for row in self.rows(STATEMENTS)
            if row["fact"] != "identity"
        ]

    def configure(self, text: str) -> None:
        """Write ``sono.toml`` anew."""
        (self.workspace.path / "sono.toml").write_text(text, encoding="utf-8")
        self.workspace.__dict__.clear()
        self.workspace.__dict__["path"] = self.folder.parent / "workspace"

    def exclusions(self, stage: str) -> list[dict[str, object]]:
        return [row for row in self.rows(EXCLUSIONS) if row["stage"] == stage]

    def reasons(self, stage: str) -> list[object]:
        return [row["reason"] for row in self.exclusions(stage)]

    def written(self, tables: Sequence[TableSpec] = (STATEMENTS, RECORDS, CAPTIONS, EXCLUSIONS)) -> dict[str, bytes]:
        """Every file of the tables by its path within the workspace."""
        store = self.workspace.store
        paths = [path for table in tables for path in store.paths(table)]
        return {str(path.relative_to(self.workspace.path)): path.read_bytes() for path in paths}


@pytest.fixture
def clinic(tmp_path: Path) -> Clinic:
    workspace = workspaces.create(tmp_path / "workspace", "Center")
    folder = tmp_path / "records"
    folder.mkdir()
    return Clinic(workspace, folder)
