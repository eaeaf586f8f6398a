"""Masks while one looks: a backend answers prompts on any frame, and embeds the next frames ahead."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from sono.curation.cleaning.sectors.geometry import Sector, sector_mask
from sono.curation.images.stored_png import decode_png
from sono.curation.masks.backends.protocol import Embedding, Prompts
from sono.curation.masks.backends.registry import BackendChoice, open_backend
from sono.curation.masks.backends.scores import for_json
from sono.curation.masks.propose.choose import cleaned
from sono.curation.masks.propose.embedding_cache import EmbeddingCache, Encoder
from sono.curation.masks.propose.run import CACHE_GB, embedding_folder
from sono.manifests import masks
from sono.manifests.errors import UserError
from sono.manifests.masks import Mask
from sono.manifests.workspace import Workspace

from .frame_view import FrameReader
from .requests import PromptRequest

_IN_MEMORY = 16

_Key = tuple[str, str]  # a frame's id and the digest of its pixels
_Opened = tuple[Embedding, "Mask | None"]


class Proposals:
    """Answers prompts with one backend. Threads may share it.

    Encoding takes seconds and answering milliseconds, so an answer never waits for another frame's encoding: that
    happens in a thread of its own, the frame that somebody asks about first.

    Raises:
        UserError: a package is missing, or a file is not a model that the backend can run.
    """

    def __init__(self, workspace: Workspace, backend: BackendChoice, reader: FrameReader) -> None:
        self._backend = open_backend(backend)
        self._encoder = Encoder(self._backend, EmbeddingCache(embedding_folder(workspace), int(CACHE_GB * 1e9)))
        self._reader = reader
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encoder")
        self._answering = threading.Lock()
        self._guard = threading.Lock()
        self._ahead: OrderedDict[_Key, Future[_Opened]] = OrderedDict()
        self._asked: Counter[_Key] = Counter()  # how many wait for an answer on a frame
        self.describes = {"name": backend.name, "box": True, "points": not backend.knows_structures,
                          "mask": not backend.knows_structures}  # fmt: skip

    def embed(self, frame_id: str) -> None:
        """Start to embed a frame, unless that has been done.

        Raises:
            FrameGoneError: there is no such frame.
        """
        self._start((frame_id, self._reader.frame(frame_id)["pixel_digest"]))

    def answer(self, frame_id: str, asked: PromptRequest) -> dict[str, Any]:
        """Candidates for a structure, the best first, within the frame's ultrasound.

        Raises:
            FrameGoneError: there is no such frame.
            UserError: the prompts do not lie in it.
            ValueError: they make no sense.
        """
        embedding, shown = self._embedded(frame_id)
        started = time.perf_counter()
        points, labels = asked.arrays()
        prompts = Prompts(
            asked.structure,
            box=asked.box,
            points=points,
            labels=labels,
            mask=asked.mask.decoded(*embedding.size) if asked.mask else None,
        )
        _check(prompts, embedding.size)
        with self._answering:
            found = self._backend.propose(embedding, prompts)
        candidates = [each for raw in found if (each := cleaned(raw, shown)) is not None]
        return {
            "candidates": [
                {
                    "mask": masks.encode(each.mask),
                    "score": round(each.score, 4),
                    "scores": for_json(each.scores),
                }
                for each in candidates
            ],
            "ms": round(1000 * (time.perf_counter() - started), 1),
        }

    def close(self) -> None:
        """Finish what is being embedded, and start nothing more."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _embedded(self, frame_id: str) -> _Opened:
        """A frame that somebody looks at goes before those that wait to be embedded ahead."""
        key = (frame_id, self._reader.frame(frame_id)["pixel_digest"])
        with self._guard:
            known = self._ahead.get(key)
            if known is None or not (known.done() or known.running()):
                for other, future in list(self._ahead.items()):
                    if not future.done() and self._cancel(other, future):
                        del self._ahead[other]
            self._asked[key] += 1
        try:
            return self._start(key).result()
        finally:
            with self._guard:
                self._asked -= Counter([key])

    def _start(self, key: _Key) -> Future[_Opened]:
        with self._guard:
            known = self._ahead.get(key)
            if known is None or known.cancelled() or (known.done() and known.exception() is not None):
                known = self._ahead[key] = self._thread.submit(self._open, key[0])
            self._ahead.move_to_end(key)
            while len(self._ahead) > _IN_MEMORY:
                self._cancel(*self._ahead.popitem(last=False))
            return known

    def _cancel(self, key: _Key, future: Future[_Opened]) -> bool:
        """Do not embed a frame any more, unless somebody waits for it."""
        return not self._asked[key] and future.cancel()

    def _open(self, frame_id: str) -> _Opened:
        frame = self._reader.frame(frame_id)
        pixels = decode_png(self._reader.image(frame_id))
        sectors = [Sector.from_row(row) for row in frame["sectors"] or []]
        shown = sector_mask(sectors, pixels.shape[0], pixels.shape[1]) if sectors else None
        return self._encoder.embed(pixels, frame["pixel_digest"]), shown


def _check(prompts: Prompts, size: tuple[int, int]) -> None:
    height, width = size
    if prompts.box is not None:
        x, y, across, down = prompts.box
        if x >= width or y >= height or x + across <= 0 or y + down <= 0:
            raise UserError(f"the box lies outside the frame of {width}x{height} px")
    if len(prompts.labels):
        inside = (prompts.points >= 0) & (prompts.points <= (width, height))
        if not inside.all():
            raise UserError(f"a point lies outside the frame of {width}x{height} px")
