"""The cache of embeddings: what goes in comes out, it stays within its limit, and nothing depends on it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from sono.curation.images.pixels import Pixels
from sono.curation.masks.backends.protocol import Candidate, Embedding, Prompts
from sono.curation.masks.propose.embedding_cache import EmbeddingCache, Encoder, Tally, tally_in

FRAME = np.arange(48, dtype=np.uint8).reshape(6, 8)


@dataclass
class Doubling:
    """A backend whose embedding is the pixels times two; it counts its calls."""

    embedding_id: str | None = "doubling/1"
    name: str = "sam"
    model_sha256: str | None = "0" * 64
    calls: int = 0

    def embed(self, pixels: Pixels) -> Embedding:
        self.calls += 1
        return Embedding((6, 8), {"features": pixels.astype(np.float16) * 2, "more": np.ones((1, 2, 3), np.float16)})

    def propose(self, embedding: Embedding, prompts: Prompts) -> Sequence[Candidate]:
        del embedding, prompts
        return []


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    backend, cache = Doubling(), EmbeddingCache(tmp_path / "cache", 10**6)
    encoder = Encoder(backend, cache)
    first, second = encoder.embed(FRAME, "a"), encoder.embed(FRAME, "a")
    assert (backend.calls, encoder.hits, encoder.misses) == (1, 1, 1)
    assert second.size == (6, 8)
    for name, array in first.arrays.items():
        assert second.arrays[name].dtype == np.float16
        assert np.array_equal(array, second.arrays[name])
    encoder.embed(FRAME, "b")
    assert Encoder(Doubling("doubling/2"), cache).cache.load(Doubling("doubling/2"), "a") is None  # type: ignore[union-attr]
    assert backend.calls == 2
    assert oct((tmp_path / "cache").stat().st_mode & 0o777) == "0o700"
    assert "a" not in {path.stem for path in (tmp_path / "cache").iterdir()}


def test_backends_that_need_no_embedding_are_not_cached(tmp_path: Path) -> None:
    backend = Doubling(embedding_id=None)
    encoder = Encoder(backend, EmbeddingCache(tmp_path / "cache", 10**6))
    encoder.embed(FRAME, "a")
    encoder.embed(FRAME, "a")
    assert (backend.calls, encoder.hits) == (2, 0)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("content", [b"", b"nothing", "half", "pickle", "other"])
def test_a_damaged_file_counts_as_missing(tmp_path: Path, content: bytes | str) -> None:
    backend, cache = Doubling(), EmbeddingCache(tmp_path, 10**6)
    encoder = Encoder(backend, cache)
    encoder.embed(FRAME, "a")
    (path,) = tmp_path.glob("*.npz")
    if content == "half":
        path.write_bytes(path.read_bytes()[:-200])
    elif content == "pickle":
        np.savez(path, size=np.array([object()]), features=np.zeros(3))
    elif content == "other":
        np.savez(path, features=np.zeros(3))
    else:
        path.write_bytes(content)  # type: ignore[arg-type]
    assert np.array_equal(encoder.embed(FRAME, "a").arrays["features"], FRAME.astype(np.float16) * 2)
    assert (backend.calls, encoder.hits, encoder.misses) == (2, 0, 2)
    encoder.embed(FRAME, "a")
    assert encoder.hits == 1


def test_the_least_recently_used_make_room(tmp_path: Path) -> None:
    backend, unlimited = Doubling(), EmbeddingCache(tmp_path, 10**6)
    for number in range(10):
        Encoder(backend, unlimited).embed(FRAME, str(number))
    files = {number: unlimited._path(backend, str(number)) for number in range(10)}
    size = files[0].stat().st_size
    for number, path in files.items():
        os.utime(path, (1000 + number, 1000 + number))
    unlimited.load(backend, "0")  # used now
    left = tmp_path / ".tmp-left"
    left.write_bytes(b"of a process that was killed")
    os.utime(left, (1000, 1000))
    (tmp_path / ".tmp-young").write_bytes(b"of another process")
    Encoder(backend, EmbeddingCache(tmp_path, 6 * size)).embed(FRAME, "new")
    there = {number for number, path in files.items() if path.exists()}
    assert there == {0, 6, 7, 8, 9} - {6}
    assert unlimited.load(backend, "new") is not None
    assert not left.exists()
    assert (tmp_path / ".tmp-young").exists()


def test_a_tally_adds_up_what_processes_counted(tmp_path: Path) -> None:
    with tally_in(tmp_path / "cache") as tally:
        for hits, misses in ((3, 1), (0, 2)):
            encoder = Encoder(Doubling(), None)
            encoder.hits, encoder.misses = hits, misses
            tally.add(encoder)
        assert tally.read() == (3, 3)
    assert list((tmp_path / "cache").iterdir()) == []
    Tally(tmp_path / "gone").add(Encoder(Doubling(), None))
