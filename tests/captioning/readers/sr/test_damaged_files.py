"""Files that are damaged, endless, or not structured reports: a fault, never an exception."""

from __future__ import annotations

import dataclasses
import io
import random
import struct
import time
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import UltrasoundImageStorage

from sono.captioning.facts.statements import Entry
from sono.captioning.readers.sr.content import is_dicom
from sono.captioning.readers.sr.reader import read_document
from sono.curation.phantom.files import sr
from tests.captioning.readers.sr.reports import (
    HC,
    READING,
    RECORD,
    VOCABULARY,
    biometry,
    dataset,
    facts,
    number,
    read,
    reasons,
    to_bytes,
    undefined_lengths,
)


@pytest.mark.parametrize("content", [b"", b"DICM", bytes(132), bytes(128) + b"DICM", b"%PDF-1.7", b"\xff" * 4000])
def test_a_file_that_is_not_dicom_is_a_fault(content):
    entry = read_document(content, "document 1", READING)
    assert (entry.place, entry.exam, reasons(entry)) == ("document 1", None, ["not_dicom"])


def test_dicom_is_told_by_its_preamble():
    assert is_dicom(to_bytes(dataset(biometry(number(HC, 190))))[:132])
    assert not is_dicom(b"PAR1" + bytes(200))


def test_an_image_is_not_a_report():
    assert reasons(read(biometry(number(HC, 190)), SOPClassUID=UltrasoundImageStorage)) == ["not_a_report"]


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.slow
def test_a_truncated_file_gives_nothing(undefined):
    report = sr.document(dataclasses.replace(RECORD, views=RECORD.views[:1]), VOCABULARY)
    content = to_bytes(undefined_lengths(report) if undefined else report)
    for end in range(0, len(content), 13):
        entry = read_document(content[:end], "document 1", READING)
        assert (entry.exam, reasons(entry)) == (None, ["not_dicom"])


@pytest.mark.slow
def test_damaged_files_never_raise():
    chance = random.Random(5)
    content = to_bytes(sr.document(dataclasses.replace(RECORD, views=RECORD.views[:1]), VOCABULARY))
    for _ in range(200):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 20)):
            damaged[chance.randrange(132, len(content))] = chance.randrange(256)
        assert isinstance(read_document(bytes(damaged), "document 1", READING), Entry)


def nested(levels: int) -> bytes:
    """A report with containers in containers; pydicom itself could not write so many."""
    name = to_bytes(dataset(biometry(number(HC, 190))))
    inner = b""
    for _ in range(levels):
        inner = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
        inner = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, len(inner)) + inner
    start = name.index(struct.pack("<HH2s", 0x0040, 0xA730, b"SQ"))
    return name[:start] + inner


def nested_without_lengths(levels: int) -> bytes:
    content = to_bytes(dataset(biometry(number(HC, 190))))
    start = content.index(struct.pack("<HH2s", 0x0040, 0xA730, b"SQ"))
    begin = struct.pack("<HH2sHIHHI", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF)
    end = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return content[:start] + begin * levels + end * levels


def test_content_that_is_nested_too_deeply_is_not_read():
    entry = read_document(nested(100), "document 1", READING)
    assert entry.exam is not None
    assert (facts(entry), reasons(entry)) == ({}, ["too_deep"])


def test_a_header_that_is_nested_too_deeply_is_not_read():
    other = Dataset()
    for _ in range(100):
        above = Dataset()
        above.OtherPatientIDsSequence = [other]
        other = above
    entry = read(biometry(number(HC, 190)), OtherPatientIDsSequence=[other])
    assert (entry.exam, reasons(entry)) == (None, ["too_deep"])


@pytest.mark.parametrize("build", [nested, nested_without_lengths])
def test_very_deep_nesting_neither_crashes_nor_takes_long(build):
    content = build(5_000)
    started = time.process_time()
    entry = read_document(content, "document 1", READING)
    assert time.process_time() - started < 5
    assert facts(entry) == {}
    assert entry.faults


@pytest.mark.parametrize("name", ["test-SR.dcm", "reportsi.dcm", "reportsi_with_empty_number_tags.dcm"])
def test_reports_about_something_else_give_no_facts(name):
    path = get_testdata_file(name, download=False)
    assert path is not None
    content = Path(path).read_bytes()
    entry = read_document(content, "document 1", READING)
    has_patient = bool(str(pydicom.dcmread(io.BytesIO(content)).get("PatientID") or "").strip())
    assert (entry.exam is not None) == has_patient
    assert reasons(entry) == ([] if has_patient else ["patient_missing"])
    assert facts(entry) == {}
