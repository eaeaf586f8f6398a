"""A phantom archive, captioned from records in each of three formats, against the phantom's truth."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pytest

from sono.curation.phantom.exams import plan_exam
from sono.curation.phantom.hospitals import CENTERS
from sono.curation.phantom.truth import TRUE_FAULTS, TRUE_FRAMES, TRUE_REGIONS
from sono.manifests import vocabulary as vocabularies
from sono.manifests.schemas import CAPTIONS, EXCLUSIONS, FRAMES, RECORDS
from sono.manifests.store import TableStore
from sono.manifests.workspace import Workspace

from .conftest import environment

Row = dict[str, Any]

FORMS = ("csv", "fhir", "sr")
VOCABULARY = vocabularies.load()
SEED, EXAMS = 85, 5
"""Both hospitals, an examination without a record, one whose dates contradict its age, one with a finding, a cine, an
exact and a near duplicate, and an image whose header names no plane."""


@dataclass(frozen=True)
class Archive:
    """The phantom, its truth by frame and region id, and one workspace per record format."""

    folder: Path
    frames: Mapping[str, Row]
    structures: Mapping[str, tuple[str, str]]  # frame and structure of each region
    faults: Mapping[str, str]  # of examinations, by study UID

    def workspace(self, form: str) -> Workspace:
        return Workspace(self.folder / form)

    def rows(self, form: str, table: Any) -> list[Row]:
        found: list[Row] = self.workspace(form).store.read_all(table).to_pylist()
        return found

    def captioned(self) -> set[str]:
        """Frames whose examination has one known age and whose header names their plane."""
        return {
            frame_id
            for frame_id, row in self.frames.items()
            if row["study_uid"] not in self.faults and names_plane(row)
        }

    def run(self, *words: object) -> str:
        done = subprocess.run(
            ["sono-curate", *map(str, words)],
            cwd=self.folder,
            env=environment(HF_HOME=str(self.folder / "hf")),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    folder = tmp_path_factory.mktemp("captions")
    blank = Archive(folder, {}, {}, {})
    blank.run("phantom", "phantom", "--exams", EXAMS, "--seed", SEED)
    blank.run("init", "csv", "--center", "north")
    for center in ("north", "south"):
        blank.run("ingest", "csv", folder / "phantom" / "dicom" / center, "--center", center)
        blank.run("masks", "import", "csv", folder / "phantom" / "truth" / "masks" / center)
    blank.run("qc", "csv")
    for form in FORMS[1:]:
        shutil.copytree(folder / "csv", folder / form)
    for form in FORMS:
        blank.run("caption", form, "--records", folder / "phantom" / "records" / form)
    return _with_truth(folder)


def _with_truth(folder: Path) -> Archive:
    store, keys = TableStore(folder / "phantom" / "truth"), Workspace(folder / "csv").keys
    faults = store.read_all(TRUE_FAULTS).to_pylist()
    damaged = {row["file"] for row in faults if row["fault"] in ("truncated_file", "empty_file", "not_dicom")}

    def frame_id(row: Row) -> str:
        return keys.frame(keys.source(row["file"].partition("/")[2].removesuffix(".dcm")), row["frame_index"])

    frames = {frame_id(row): row for row in store.read_all(TRUE_FRAMES).to_pylist() if row["file"] not in damaged}
    structures = {
        keys.region(frame_id(row), row["structure"], "import"): (frame_id(row), row["structure"])
        for row in store.read_all(TRUE_REGIONS).to_pylist()
    }
    return Archive(folder, frames, structures, {row["study_uid"]: row["fault"] for row in faults if not row["file"]})


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_archive_covers_every_case(archive: Archive) -> None:
    assert set(archive.faults.values()) == {"missing_record", "conflicting_gestational_age"}
    assert {row["center"] for row in archive.frames.values()} == {"north", "south"}
    assert any(row["fault"] == "no_plane" for row in archive.frames.values())
    assert any(row["findings"] for row in archive.frames.values())
    assert len(archive.captioned()) > 20


def test_frames_with_known_age_and_plane_are_captioned(archive: Archive, form: str) -> None:
    rows = archive.rows(form, CAPTIONS)
    assert {row["frame_id"] for row in rows if row["region_id"] is None} == archive.captioned()
    expected = {region for region, (frame_id, _) in archive.structures.items() if frame_id in archive.captioned()}
    assert {row["region_id"] for row in rows} - {None} == expected


def test_facts_match_the_truth(archive: Archive, form: str) -> None:
    for row in archive.rows(form, CAPTIONS):
        truth, facts = archive.frames[row["frame_id"]], json.loads(row["facts"])
        assert facts["plane"]["value"] == truth["plane"]
        assert facts["ga_days"]["value"] == truth["ga_days"]
        assert facts["trimester"]["value"] == 1 + (truth["ga_days"] >= 14 * 7) + (truth["ga_days"] >= 28 * 7)
        assert facts.get("findings", {"value": []})["value"] == truth["findings"]
        if row["region_id"] is None:
            assert facts["structures"]["value"] == truth["structures"]
        else:
            assert facts["structure"]["value"] == archive.structures[row["region_id"]][1]


def test_sentences_state_the_truth(archive: Archive, form: str) -> None:
    for row in archive.rows(form, CAPTIONS):
        truth = archive.frames[row["frame_id"]]
        weeks = str(truth["ga_days"] // 7)
        named = truth["structures"] if row["region_id"] is None else [archive.structures[row["region_id"]][1]]
        names = [VOCABULARY.structures[name].name for name in named if name not in row["dropped"]]
        text = row["text"].lower()
        assert re.findall(r"\d+", text) == [weeks]
        assert f"{VOCABULARY.planes[truth['plane']].name} plane".lower() in text
        assert ", ".join(names).lower() in text


def test_the_paper_template_writes_the_papers_sentence(archive: Archive, form: str) -> None:
    rows = [row for row in archive.rows(form, CAPTIONS) if row["template"] == "global/paper"]
    assert rows
    for row in rows:
        truth = archive.frames[row["frame_id"]]
        names = ", ".join(VOCABULARY.structures[name].name for name in truth["structures"])
        weeks, plane = truth["ga_days"] // 7, VOCABULARY.planes[truth["plane"]].name
        article = "An" if weeks in (8, 11, 18) else "A"
        assert row["text"] == f"{article} {weeks}-week fetal ultrasound image of {plane} plane showing {names}."


@pytest.mark.parametrize("other", FORMS[1:])
def test_every_record_format_gives_the_same_captions_and_records(archive: Archive, other: str) -> None:
    assert _without_sources(archive.rows(other, CAPTIONS)) == _without_sources(archive.rows("csv", CAPTIONS))
    for left, right in zip(archive.rows(other, RECORDS), archive.rows("csv", RECORDS), strict=True):
        same = set(left) - {"provenance", "identity"}
        assert {name: left[name] for name in same} == {name: right[name] for name in same}


def _without_sources(rows: list[Row]) -> list[Row]:
    """The fields differ between formats (a column, an Observation, a content item); the facts must not."""
    return [row | {"facts": {name: fact["value"] for name, fact in json.loads(row["facts"]).items()}} for row in rows]


def test_conflicts_and_gaps_are_exclusions_and_are_listed_on_the_page(archive: Archive, form: str) -> None:
    workspace, rows = archive.workspace(form), archive.rows(form, EXCLUSIONS)
    by_fault = {fault: study for study, fault in archive.faults.items()}
    conflicting = workspace.keys.study(by_fault["conflicting_gestational_age"])
    (record,) = [row for row in rows if row["stage"] == "records"]
    assert (record["source_key"], record["reason"]) == (conflicting, "gestational_age_conflict")
    ages = [row["ga_days"] for row in archive.rows(form, RECORDS) if row["study_key"] == conflicting]
    stored = {row["frame_id"] for row in archive.rows(form, FRAMES)}
    assert set(ages) == {None}
    assert Counter(row["reason"] for row in rows if row["stage"] == "caption") == {
        "gestational_age_conflict": _frames_of(archive, by_fault["conflicting_gestational_age"]),
        "no_record": _frames_of(archive, by_fault["missing_record"]),
        "plane_unknown": sum(not names_plane(row) for key, row in archive.frames.items() if key in stored),
    }
    page = (workspace.path / "reports" / "captions.html").read_text(encoding="utf-8")
    assert record["message"] in page
    assert "no record belongs to the frame" in page


def _frames_of(archive: Archive, study_uid: str) -> int:
    return sum(row["study_uid"] == study_uid and names_plane(row) for row in archive.frames.values())


def names_plane(row: Row) -> bool:
    """Whether the header of a true frame names its plane; a 3-D rendering shows none."""
    return row["plane"] is not None and row["fault"] != "no_plane"


def test_no_name_or_identifier_is_written(archive: Archive, form: str) -> None:
    patients = [plan_exam(SEED, number, VOCABULARY).record for number in range(EXAMS)]
    names = {record.patient.family_name for record in patients} | {record.patient.given_name for record in patients}
    names |= {record.patient.patient_id for record in patients} | {record.accession_number for record in patients}
    written = [json.dumps(archive.rows(form, table), default=str) for table in (CAPTIONS, RECORDS, EXCLUSIONS)]
    written.append((archive.folder / form / "reports" / "captions.html").read_text(encoding="utf-8"))
    assert [name for name in names for text in written if name.lower() in text.lower()] == []


def test_a_caption_in_the_dataset_can_be_traced_to_its_record(archive: Archive, form: str) -> None:
    archive.run("build", form, f"{form}-dataset", "--max-side", 128)
    rows = [
        row
        for split in datasets.load_dataset(str(archive.folder / f"{form}-dataset")).values()
        for row in split.remove_columns("image")
    ]
    row = next(row for row in rows if row["regions"])
    scanner = CENTERS[row["center"]]
    assert (row["manufacturer"], row["model"]) == (scanner.manufacturer, scanner.model)
    field = {"csv": "column ga_days", "fhir": "Observation 18185-9", "sr": "SR 121111/125008/18185-9"}[form]
    for caption_id, text in (
        (row["caption_id"], row["caption"]),
        (row["regions"][0]["caption_id"], row["regions"][0]["caption"]),
    ):
        shown = json.loads(archive.run("trace", form, caption_id, "--json"))
        assert shown["text"] == text
        assert shown["template_text"]
        facts = {fact["name"]: fact for fact in shown["facts"]}
        assert (facts["ga_days"]["value"], facts["ga_days"]["source"]) == (row["ga_days"], field)
        assert {"fact": "ga_days", "value": row["ga_days"], "field": field}.items() <= next(
            statement for statement in facts["ga_days"]["statements"] if statement["fact"] == "ga_days"
        ).items()
