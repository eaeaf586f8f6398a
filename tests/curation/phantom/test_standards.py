"""Independent programs accept what is written."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.curation.phantom.archive import EXAMS, Phantom


def test_dciodvfy_finds_no_error_in_any_undamaged_file(phantom_archive: Phantom, other_archive: Phantom) -> None:
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy not found: apt-get install dicom3tools")
    for archive in (phantom_archive, other_archive):
        damaged = {archive.path(file) for fault in ("truncated_file", "empty_file") for file in archive.fault(fault)}
        files = {*archive.out.glob("dicom/**/*.dcm"), *archive.out.glob("records/sr/**/*.dcm")} - damaged
        assert files
        for file in sorted(files):
            done = subprocess.run([program, str(file)], capture_output=True, text=True, check=False)
            errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
            # a file with a region outside its image is still valid DICOM
            assert not errors, (file.name, errors)


def test_fhir_models_accept_every_bundle(phantom_archive: Phantom) -> None:
    from fhir.resources.R4B.bundle import Bundle

    files = list(phantom_archive.out.glob("records/fhir/*/*.json"))
    assert len(files) == EXAMS - len(phantom_archive.fault("missing_record"))
    for file in files:
        Bundle.model_validate_json(file.read_bytes())
