"""Proposals for one frame and the prompts that somebody gives: what a page that asks for masks calls."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from sono.curation.cleaning.sectors.geometry import Sector, sector_mask
from sono.curation.images.pixels import Pixels
from sono.curation.images.stored_png import decode_png
from sono.curation.masks.backends.protocol import Candidate, Embedding, Prompts
from sono.curation.masks.backends.registry import BackendChoice, open_backend
from sono.manifests.errors import UserError
from sono.manifests.masks import Mask
from sono.manifests.query import query
from sono.manifests.schemas import FRAMES
from sono.manifests.store import TableStore
from sono.manifests.workspace import Workspace

from .choose import cleaned
from .embedding_cache import EmbeddingCache, Encoder
from .run import CACHE_GB, embedding_folder

_FRAMES_IN_MEMORY = 8


class FrameProposer:
    """Answers prompts about any frame of a workspace; the backend is loaded once, and an embedding once per frame.

    It writes nothing but the cache of embeddings, so it needs no lock. One thread at a time.

    Raises:
        UserError: a package is missing, or a file is not a model that the backend can run.
    """

    def __init__(self, workspace: Workspace, backend: BackendChoice, *, cache_gb: float = CACHE_GB) -> None:
        cache = EmbeddingCache(embedding_folder(workspace), int(cache_gb * 1e9)) if cache_gb > 0 else None
        self.encoder = Encoder(open_backend(backend), cache)
        self._store = workspace.store
        self._opened = lru_cache(_FRAMES_IN_MEMORY)(self._open)

    def propose(self, frame_id: str, prompts: Prompts) -> Sequence[Candidate]:
        """The candidates, the best first, within the frame's ultrasound.

        Raises:
            UserError: the frame is unknown, or the prompts do not lie in it.
        """
        embedding, shown = self._opened(frame_id)
        _check(prompts, embedding.size)
        found = self.encoder.backend.propose(embedding, prompts)
        return [candidate for each in found if (candidate := cleaned(each, shown)) is not None]

    def _open(self, frame_id: str) -> tuple[Embedding, Mask | None]:
        pixels, pixel_digest, sectors = read_frame(self._store, frame_id)
        shown = sector_mask(sectors, pixels.shape[0], pixels.shape[1]) if sectors else None
        return self.encoder.embed(pixels, pixel_digest), shown


def read_frame(store: TableStore, frame_id: str) -> tuple[Pixels, str, list[Sector]]:
    """The pixels of one frame, their digest, and its sectors.

    Raises:
        UserError: no frame has that id.
    """
    paths = [str(path) for path in store.paths(FRAMES)]
    sql = "SELECT filename FROM read_parquet($paths, filename = true) WHERE frame_id = $id"
    files = query(sql, {"paths": paths, "id": frame_id})["filename"].to_pylist() if paths else []
    for file in files:
        for row in store.find_rows(Path(file), FRAMES, {frame_id}, ["image", "pixel_digest", "sectors"]):
            sectors = [Sector.from_row(sector) for sector in row["sectors"] or []]
            return decode_png(row["image"]["bytes"]), row["pixel_digest"], sectors
    raise UserError("no frame has this id", where=str(store.root), fix="take one from the frames table")


def _check(prompts: Prompts, size: tuple[int, int]) -> None:
    height, width = size
    if prompts.mask is not None and prompts.mask.shape != size:
        raise UserError(
            f"the mask is {prompts.mask.shape[1]}x{prompts.mask.shape[0]} px, its frame {width}x{height} px"
        )
    if prompts.box is not None:
        x, y, across, down = prompts.box
        if x >= width or y >= height or x + across <= 0 or y + down <= 0:
            raise UserError(f"the box lies outside the frame of {width}x{height} px")
    if len(prompts.labels):
        inside = (prompts.points >= 0) & (prompts.points <= (width, height))
        if not inside.all():
            raise UserError(f"a point lies outside the frame of {width}x{height} px")
