"""Embeddings on disk, by frame and model: an encoder takes seconds, and a reviewer asks about one frame many times."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sono.curation.images.pixels import Pixels
from sono.curation.masks.backends.protocol import Backend, Embedding
from sono.manifests.store import TEMPORARY, write_atomically

_SIZE = "size"  # the array with the frame's height and width
_KEPT = 0.9  # of the limit, after the oldest were removed
_LEFT_BEHIND_S = 3600.0  # after which a temporary file is that of a process that was killed


@dataclass(frozen=True)
class EmbeddingCache:
    """Files of float16 arrays, the least recently used removed when there are too many bytes of them.

    Safe to delete at any time, and for several processes at once. A file that cannot be read counts as missing.

    Attributes:
        folder: ``cache/embeddings`` of a workspace.
        limit_bytes: of all files together.
    """

    folder: Path
    limit_bytes: int

    def load(self, backend: Backend, pixel_digest: str) -> Embedding | None:
        """The embedding of a frame by a backend, if it is there."""
        path = self._path(backend, pixel_digest)
        try:
            with np.load(path, allow_pickle=False) as content:
                arrays = {name: content[name] for name in content.files}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
            path.unlink(missing_ok=True)
            return None
        size = arrays.pop(_SIZE, np.zeros(0, np.int64)).tolist()
        if len(size) != 2 or not arrays:
            path.unlink(missing_ok=True)
            return None
        with contextlib.suppress(FileNotFoundError):
            os.utime(path)  # used now
        return Embedding((size[0], size[1]), arrays)

    def save(self, backend: Backend, pixel_digest: str, embedding: Embedding) -> None:
        """Write it atomically, and make room for it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        size = np.array(embedding.size, np.int64)
        write_atomically(
            self._path(backend, pixel_digest),
            lambda file: np.savez(file, allow_pickle=False, **{_SIZE: size}, **embedding.arrays),
            mode=0o600,
        )
        self._make_room()

    def _path(self, backend: Backend, pixel_digest: str) -> Path:
        # The digest of pixels is keyed, so a file's name says nothing to anybody without the workspace's key.
        name = hashlib.sha256(f"{backend.embedding_id}/{pixel_digest}".encode()).hexdigest()[:40]
        return self.folder / f"{name}.npz"

    def _make_room(self) -> None:
        files = []
        for entry in os.scandir(self.folder):
            with contextlib.suppress(FileNotFoundError):
                found = entry.stat()
                if entry.name.startswith(TEMPORARY):
                    if time.time() - found.st_mtime > _LEFT_BEHIND_S:
                        Path(entry.path).unlink(missing_ok=True)
                elif entry.name.endswith(".npz"):
                    files.append((found.st_mtime_ns, found.st_size, entry.path))
        total = sum(size for _, size, _ in files)
        if total <= self.limit_bytes:
            return
        for _, size, path in sorted(files):
            Path(path).unlink(missing_ok=True)
            total -= size
            if total <= _KEPT * self.limit_bytes:
                return


@dataclass
class Encoder:
    """Embeds frames with a backend, through a cache if there is one and the backend has a use for it.

    Attributes:
        hits, misses: how many embeddings came from the cache, and how many were computed.
    """

    backend: Backend
    cache: EmbeddingCache | None
    hits: int = field(default=0, init=False)
    misses: int = field(default=0, init=False)

    def embed(self, pixels: Pixels, pixel_digest: str) -> Embedding:
        """The embedding of a frame; ``pixel_digest`` as the frames table has it."""
        cache = self.cache if self.backend.embedding_id is not None else None
        if cache is not None:
            found = cache.load(self.backend, pixel_digest)
            if found is not None and found.size == pixels.shape[:2]:
                self.hits += 1
                return found
        embedding = self.backend.embed(pixels)
        self.misses += 1
        if cache is not None:
            cache.save(self.backend, pixel_digest, embedding)
        return embedding


@dataclass(frozen=True)
class Tally:
    """Adds up what the encoders of all worker processes counted, in a file that each appends to."""

    path: Path

    def add(self, encoder: Encoder) -> None:
        line = f"{encoder.hits} {encoder.misses}\n".encode()
        with contextlib.suppress(FileNotFoundError):  # the run that counts has ended
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)

    def read(self) -> tuple[int, int]:
        """Hits and misses."""
        pairs = [line.split() for line in self.path.read_text().splitlines()]
        return sum(int(hits) for hits, _ in pairs), sum(int(misses) for _, misses in pairs)


@contextlib.contextmanager
def tally_in(folder: Path) -> Iterator[Tally]:
    """A tally for one run, which is removed at its end; if the run is killed, with other leftovers.

    Args:
        folder: directly in the workspace.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{TEMPORARY}tally-{uuid.uuid4().hex}"
    path.touch(mode=0o600)
    try:
        yield Tally(path)
    finally:
        path.unlink(missing_ok=True)
