"""Who withdraws leaves the workspace completely, however large its parts are, and nobody else leaves with them."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pyarrow as pa
import pytest

from sono.captioning.captions.run import caption_workspace
from sono.curation.publishing.patient_list import ListedPatient
from sono.curation.publishing.withdraw import withdraw
from sono.curation.qc.run import qc
from sono.curation.status import read_status
from sono.manifests.errors import UserError
from sono.manifests.schemas import RECORDS, STATEMENTS
from sono.manifests.stages import in_process
from sono.manifests.store import PartInfo
from sono.manifests.withdrawn import read_withdrawn
from sono.manifests.workspace import Workspace
from tests.curation.dataset.curated import Curation


def test_only_their_rows_leave_a_large_part(workspace: Workspace) -> None:
    """DuckDB gives the rows of a part of this size in an order of its own."""
    count, each = 50_000, 8
    patients = [f"{number:032x}" for number in range(count)]
    patients[17::2500] = leaving = [
        workspace.keys.patient("", f"P{number}") for number in range(len(patients[17::2500]))
    ]
    keys = pa.array([key for key in patients for _ in range(each)])
    said = {"place": "line", "fact": "edd_day", "field": "column edd", "rank": 0, "study_unknown": False}
    columns = {name: pa.nulls(len(keys), STATEMENTS.schema.field(name).type) for name in STATEMENTS.schema.names}
    columns |= {name: pa.repeat(value, len(keys)) for name, value in said.items()}
    columns |= dict.fromkeys(("source_key", "patient_key", "patient_center_key", "patient_number_key"), keys)
    rows = pa.table(columns).cast(STATEMENTS.schema)
    workspace.store.write(STATEMENTS, PartInfo("large", "statements", "0" * 64, "", len(rows)), rows)

    with workspace.writing():
        report = withdraw(workspace, [ListedPatient(n, f"P{n}") for n in range(len(leaving))])
    left = workspace.store.read_all(STATEMENTS, ["patient_key"])["patient_key"].to_pylist()
    assert report.rows["statements"] == len(leaving) * each
    assert set(leaving).isdisjoint(left)
    assert len(left) == (count - len(leaving)) * each
    assert len(set(left)) == count - len(leaving)


def test_a_document_about_several_patients_keeps_what_it_says_about_the_others(curation: Curation) -> None:
    medical_record = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}]}
    age = {"coding": [{"system": "http://loinc.org", "code": "18185-9"}]}
    bundle = curation.folder / "bundle.json"
    entries = []
    for n in range(1, 5):
        patient = {"resourceType": "Patient", "id": f"p{n}", "identifier": [{"type": medical_record, "value": f"P{n}"}]}
        days = {"value": 140 + n, "unit": "d", "system": "http://unitsofmeasure.org", "code": "d"}
        said = {"resourceType": "Observation", "id": f"o{n}", "status": "final", "code": age, "valueQuantity": days}
        said |= {"subject": {"reference": f"Patient/p{n}"}, "effectiveDateTime": "2023-05-06T10:00:00+01:00"}
        entries += [{"fullUrl": f"urn:uuid:p{n}", "resource": patient}, {"resource": said}]
    bundle.write_text(json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries}))
    workspace = curation.workspace
    caption_workspace(workspace, [bundle], templates="paper", engine=in_process)
    before = workspace.store.read_all(STATEMENTS).to_pylist()
    assert len({row["source_key"] for row in before}) == 1
    gone = workspace.keys.patient("", "P2")

    with workspace.writing():
        withdraw(workspace, [ListedPatient(1, "P2")])
    after = workspace.store.read_all(STATEMENTS).to_pylist()
    assert after == [row for row in before if row["patient_number_key"] != gone]
    assert len(after) == len(before) * 3 // 4
    caption_workspace(workspace, [bundle], templates="paper", engine=in_process)
    assert sorted(workspace.store.read_all(RECORDS, ["ga_days"])["ga_days"].to_pylist()) == [141, 143, 144]


def test_a_dataset_from_before_is_not_up_to_date(curation: Curation) -> None:
    workspace, out = curation.workspace, curation.folder / "dataset"
    curation.build(out)
    assert read_status(workspace).next_step.startswith("sono-train pretrain")
    with workspace.writing():
        withdraw(workspace, [ListedPatient(1, "P2")])
    qc(workspace, engine=in_process)
    assert read_status(workspace).next_step.startswith("sono-curate build")
    curation.build(out)
    assert read_status(workspace).next_step.startswith("sono-train pretrain")


def test_pictures_on_another_disk_go_as_well(curation: Curation) -> None:
    workspace, disk = curation.workspace, curation.folder / "scratch"
    (disk / "embeddings").mkdir(parents=True)
    (disk / "embeddings" / "some.npz").write_bytes(b"of anybody")
    (workspace.path / "cache").symlink_to(disk)
    with workspace.writing():
        withdraw(workspace, [ListedPatient(1, "P2")])
    assert list(disk.iterdir()) == []
    assert (workspace.path / "cache").is_symlink()
    assert not (workspace.path / "reports").exists()


def test_a_withdrawal_is_not_finished_while_pictures_stay(curation: Curation) -> None:
    workspace, disk = curation.workspace, curation.folder / "scratch"
    disk.mkdir()
    (disk / "some.npz").write_bytes(b"of anybody")
    (workspace.path / "cache").mkdir()
    (workspace.path / "cache" / "embeddings").symlink_to(disk)
    with pytest.raises(UserError, match="cache/embeddings: a link to a folder is not followed"), workspace.writing():
        withdraw(workspace, [ListedPatient(1, "P2")])
    assert (disk / "some.npz").exists()  # it may be anybody's
    (workspace.path / "cache" / "embeddings").unlink()
    with pytest.MonkeyPatch.context() as patch, workspace.writing(withdrawing=True):
        patch.setattr(Path, "rmdir", refuse)
        with pytest.raises(UserError, match="cannot be deleted: Permission denied"):
            withdraw(workspace, [ListedPatient(1, "P2")])
    assert read_withdrawn(workspace.path).unfinished
    assert read_status(workspace).next_step.startswith("sono-curate withdraw")
    with workspace.writing(withdrawing=True):
        withdraw(workspace, [ListedPatient(1, "P2")])
    assert not read_withdrawn(workspace.path).unfinished
    assert not (workspace.path / "cache").exists()


def refuse(*_: object, **__: object) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")
