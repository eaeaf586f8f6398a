"""The index of a bulk export: it travels to other processes, and memory does not grow with the export."""

from __future__ import annotations

import multiprocessing
import pickle
import tracemalloc
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor

import pytest

from sono.captioning.facts.statements import Entry
from sono.captioning.readers.fhir.index import Index
from sono.captioning.readers.fhir.reader import index_ndjson, read_ndjson
from tests.captioning.readers.fhir.resources import (
    READING,
    exam_of,
    facts,
    identifiers_of,
    lines,
    observation,
    patient,
    read,
    reasons,
    report,
    study,
)


def _read_elsewhere(index: Index) -> list[Entry]:
    return list(read_ndjson([(1, lines(observation())[0])], "records file 1", READING, index))


def test_an_index_can_be_sent_to_other_processes(index):
    index_ndjson(lines(patient(), study()), READING, index)
    here = _read_elsewhere(index)
    assert facts(here)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        assert pool.submit(_read_elsewhere, index).result(timeout=30) == here
    assert _read_elsewhere(pickle.loads(pickle.dumps(index))) == here


def test_pending_notes_are_written_before_an_index_is_pickled(index):
    index.put("key", "U - 7")
    assert pickle.loads(pickle.dumps(index)).get("key") == "U - 7"


def test_an_empty_index_makes_no_file_and_finds_nobody(tmp_path):
    empty = Index(tmp_path / "references")
    index_ndjson([], READING, empty)
    assert reasons(read(empty, observation())) == ["patient_missing"]
    assert not list(tmp_path.iterdir())


def test_resource_types_may_be_indexed_one_after_the_other(index):
    content = lines(study(), patient(), report(result=[{"reference": "Observation/o1"}]), observation(derivedFrom=[]))
    for kinds in (("Patient",), ("ImagingStudy", "DiagnosticReport")):
        index_ndjson(content, READING, index, kinds=kinds)
    entries = list(read_ndjson(enumerate(content, 1), "records file 1", READING, index))
    assert {entry.exam for entry in entries} == {exam_of()}


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(index):
    def export(count: int) -> Iterable[bytes]:
        for number in range(count):
            who = f"p{number // 10}"
            if number % 10 == 0:
                yield lines(patient(id=who, identifier=identifiers_of((f"MRN {who}", True))))[0]
            yield lines(observation(id=f"o{number}", subject={"reference": f"Patient/{who}"}, derivedFrom=[]))[0]

    def peak(count: int) -> int:
        tracemalloc.start()
        index_ndjson(export(count), READING, index)
        found = sum(len(entry.statements) > 0 for entry in read_ndjson(enumerate(export(count)), "f", READING, index))
        assert found == count
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    small, large = peak(1_000), peak(6_000)
    assert large < small + 4 * 2**20
