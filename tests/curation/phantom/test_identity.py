"""Nothing that names a person survives curation and captioning."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pydicom

from sono.captioning.captions.run import caption_workspace
from sono.curation.ingest.cleaning_page import write_cleaning_report
from sono.curation.qc.page import write_qc_report
from sono.curation.qc.run import qc
from sono.manifests.stages import in_process
from tests.curation.phantom.archive import Curated, Phantom, every_file


def test_nothing_of_an_identity_survives_ingest(phantom_archive: Phantom, curated: Curated) -> None:
    workspace = curated.workspace
    qc(workspace, engine=in_process)
    write_cleaning_report(workspace)
    write_qc_report(workspace)
    report = caption_workspace(workspace, [phantom_archive.out / "records"], engine=in_process)  # in all three forms
    assert report.global_captions > 0
    names = identities(phantom_archive)
    searched = "\n".join(contents(path) for path in every_file(workspace.path) if path.name != "secret.key").lower()
    assert "captions" in {path.parent.name for path in every_file(workspace.path)}
    assert "b_mode" in searched
    assert "femur" in searched
    assert not [name for name in names if name in searched]
    images = (
        path for path in every_file(phantom_archive.out, "dicom") if path.suffix == ".dcm" and path.stat().st_size
    )
    headers = "\n".join(str(pydicom.dcmread(path, stop_before_pixels=True)) for path in images).lower()
    assert sum(name in headers for name in names) > 0.5 * len(names), "the search finds what is there"


def identities(archive: Phantom) -> set[str]:
    """Everything that identifies somebody, in lower case."""
    found: set[str] = set()
    for exam in archive.exams:
        record = exam.record
        people = [
            (record.patient.family_name, record.patient.given_name),
            record.referring_physician,
            record.sonographer,
        ]
        for family, given in people:
            found |= {f"{family}^{given}", family, f"{family}, {given}"}
        found |= {given for _, given in people if len(given) > 4}  # shorter ones may occur in codes by chance
        born, started = record.patient.birth_date, record.started
        found |= {f"{born:%Y%m%d}", f"{born:%d.%m.%Y}", f"{started:%d.%m.%Y}", f"{born}", f"{started:%Y-%m-%d}"}
        found |= {record.patient.patient_id, record.center.hospital, record.study_uid, record.accession_number}
        found |= {exam.folder.split("/")[1]}
    return {name.lower() for name in found}


def contents(path: Path) -> str:
    """A file's content as text; of Parquet, all values but pixels, and its metadata."""
    raw = path.read_bytes().decode("utf-8", "ignore")
    if path.suffix != ".parquet":
        return f"{path.name}\n{raw}"
    file = pq.ParquetFile(path)
    table = file.read(columns=[name for name in file.schema_arrow.names if name not in ("image", "mask")])
    return f"{path.name}\n{file.schema_arrow.metadata}\n{table.to_pylist()}"
