"""Proposes masks for the structures of frames that have none: what ``sono-curate masks propose`` runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sono.curation.masks.backends.registry import (
    BackendChoice,
    known_structures,
    open_backend,
    prefix_of,
    refuse_unknown,
)
from sono.manifests.errors import UserError
from sono.manifests.schemas import FRAMES, QC
from sono.manifests.stages import Engine, Progress, RunReport, run_stage
from sono.manifests.workspace import Workspace

from .embedding_cache import EmbeddingCache, tally_in
from .plan import plan
from .stage import ProposeStage, Wanted

CACHE_GB = 20.0


@dataclass(frozen=True)
class ProposeReport:
    """What a run did.

    Attributes:
        run: its exclusions are frames in which the backend found nothing for a structure.
        embedded: frames whose embeddings were computed.
        cache_hits: frames whose embeddings were in the cache.
        decided: structures of frames that were left alone, because a mask of theirs is accepted or somebody has
            rejected this backend's.
        without_plane: frames that were left out because nobody knows what they show.
        unknown_places: by structure, in how many frames nothing says where it might be.
    """

    run: RunReport
    embedded: int
    cache_hits: int
    decided: int
    without_plane: int
    unknown_places: Mapping[str, int]


def propose_masks(
    workspace: Workspace,
    backend: BackendChoice,
    *,
    structures: Sequence[str] = (),
    limit: int | None = None,
    cache_gb: float = CACHE_GB,
    engine: Engine,
    progress: Callable[[Progress], None] = lambda _: None,
) -> ProposeReport:
    """Propose masks with a backend, as regions of status ``proposed``. The caller holds ``workspace.writing()``.

    Of frames that quality control has not rejected, every structure of the frame's plane without an accepted mask is
    proposed. Earlier proposals of the same backend are replaced, except for those that a person has decided on. Those
    of other backends stay.

    Args:
        structures: names of those to propose; empty for all that the backend can find. Earlier proposals for others
            stay.
        limit: frames at most, without proposals of this backend. All earlier proposals stay.
        cache_gb: what embeddings may take on disk; 0 for none.

    Raises:
        UserError: a structure is unknown to the vocabulary or to the model, the backend cannot be loaded, or frames
            have not been judged yet.
    """
    _check_tables(workspace)
    chosen = [workspace.vocabulary.require_structure(name) for name in structures]
    refuse_unknown(chosen, backend)
    sha256 = open_backend(backend).model_sha256  # refused here, also if there is nothing to propose
    folder = embedding_folder(workspace)
    cache = EmbeddingCache(folder, int(cache_gb * 1e9)) if cache_gb > 0 else None
    wanted = Wanted(chosen or known_structures(backend), keep_others=bool(chosen), all_frames=limit is None)
    with (
        plan(
            workspace.store,
            workspace.vocabulary,
            prefix=prefix_of(backend.name),
            structures=wanted.structures,
            keep_others=wanted.keep_others,
            limit=limit,
        ) as planned,
        tally_in(folder.parent) as tally,
    ):
        report = run_stage(
            ProposeStage(workspace.keys, backend, sha256, cache, tally, wanted),
            planned.parts,
            workspace.store,
            engine=engine,
            scope=f"propose/{backend.name}",
            remove_others=limit is None,
            progress=progress,
        )
        hits, misses = tally.read()
    return ProposeReport(
        report,
        embedded=misses,
        cache_hits=hits,
        decided=planned.decided,
        without_plane=planned.without_plane,
        unknown_places={} if backend.knows_structures else planned.unknown_places,
    )


def embedding_folder(workspace: Workspace) -> Path:
    """Where a workspace keeps embeddings; it may be deleted at any time."""
    return workspace.path / "cache" / "embeddings"


def _check_tables(workspace: Workspace) -> None:
    path = str(workspace.path)
    for table, command in ((FRAMES, "ingest"), (QC, "qc")):
        if not workspace.store.paths(table):
            raise UserError(
                f"the workspace has no {table.name} yet", where=path, fix=f"run sono-curate {command} first"
            )
