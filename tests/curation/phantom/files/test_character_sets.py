"""Names in Cyrillic and Greek letters, in the character sets that scanners write them in."""

from __future__ import annotations

import pydicom
import pytest

from sono.curation.phantom.scripts import CHARACTER_SETS, CODECS, romanized, script_of, transliterated
from tests.curation.phantom.archive import Curated, Phantom


def test_headers_hold_the_name_in_the_declared_character_set(phantom_archive: Phantom) -> None:
    seen = set()
    for row in phantom_archive.frames:
        exam, _ = phantom_archive.plans[row["file"]]
        record = exam.record
        header = pydicom.dcmread(phantom_archive.path(row["file"]), stop_before_pixels=True)
        assert header.SpecificCharacterSet == record.character_set
        name = f"{record.patient.family_name}^{record.patient.given_name}"
        assert str(header.PatientName) == name
        content = phantom_archive.path(row["file"]).read_bytes()
        assert name.encode(CODECS[record.character_set]) in content
        seen.add((script_of(name), record.character_set))
    assert {script for script, _ in seen} == set(CHARACTER_SETS)
    assert {"ISO_IR 144", "ISO_IR 126"} <= {character_set for _, character_set in seen}


def test_reports_hold_the_same_name_as_images(phantom_archive: Phantom) -> None:
    for exam in phantom_archive.exams:
        path = phantom_archive.out / "records" / "sr" / exam.record.center.center / f"exam-{exam.index:06d}.dcm"
        if path.exists():
            patient = exam.record.patient
            assert str(pydicom.dcmread(path).PatientName) == f"{patient.family_name}^{patient.given_name}"


def test_patients_with_such_names_are_ingested_under_their_own_key(phantom_archive: Phantom, curated: Curated) -> None:
    keys = curated.workspace.keys
    others = [exam for exam in phantom_archive.exams if script_of(exam.record.patient.family_name) != "latin"]
    assert others
    for exam in others:
        patient = keys.patient_keys(exam.record.patient.patient_id, center=exam.record.center.center).patient
        files = {curated.key(f"{exam.folder}/{image.name}.dcm") for image in exam.images}
        frames = [row for (source, _), row in curated.frames.items() if source in files]
        assert frames
        assert {row["patient_key"] for row in frames} == {patient}
        assert exam.folder.isascii()


@pytest.mark.parametrize(
    ("name", "cyrillic", "greek"),
    [
        ("Lindqvist", "Линдквист", "Λινδκβιστ"),
        ("Müllner", "Муллнер", "Μουλλνερ"),
        ("O'Rourke", "О'Роурке", "Ο'Ροουρκε"),
        ("Agnes", "Агнес", "Αγνες"),
    ],
)
def test_names_are_spelled_in_other_letters_and_back(name: str, cyrillic: str, greek: str) -> None:
    assert transliterated(name, "cyrillic") == cyrillic
    assert transliterated(name, "greek") == greek
    assert transliterated(cyrillic, "cyrillic") == cyrillic
    assert transliterated(name, "latin") == name
    assert romanized(cyrillic).isascii()
    assert (script_of(name), script_of(cyrillic), script_of(greek)) == ("latin", "cyrillic", "greek")
