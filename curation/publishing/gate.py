"""The gate that a dataset passes before it is published: it fails closed, and lists everything that is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sono.curation.audit.report.result import latest_audit
from sono.curation.dataset.latest import tables_id
from sono.manifests.dataset_keys import DatasetKeys
from sono.manifests.dataset_marker import FORMAT, listed_files, seal_of
from sono.manifests.errors import UserError
from sono.manifests.filenames import MARKER
from sono.manifests.publishable import DATASET_FILES, LocalFile, Refusal, check_files, check_licence
from sono.manifests.pulled import read_pulled
from sono.manifests.withdrawn import read_withdrawn, refuse_older_list
from sono.manifests.workspace import Workspace

from .origin import own_keys
from .pulled_gate import pulled_refusals
from .rows import Guard, RowFaults, read_rows

_BUILD_AGAIN = "run sono-curate build again"


@dataclass(frozen=True)
class Candidate:
    """A dataset that somebody wants to publish: its folder, its files, and the workspace that it was built from."""

    folder: Path
    files: Sequence[LocalFile]
    workspace: Workspace | None
    guard: Guard

    @cached_property
    def marker(self) -> Mapping[str, Any]:
        """What ``sono.json`` says; empty where it is missing or damaged."""
        try:
            content = json.loads((self.folder / MARKER).read_bytes())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    @cached_property
    def keys(self) -> DatasetKeys | None:
        """None where there is no workspace, or the dataset is not its."""
        return own_keys(self.workspace, str(self.marker.get("pseudonyms"))) if self.workspace else None

    @cached_property
    def rows(self) -> RowFaults:
        """What is wrong with rows; they are read once for all checks."""
        tables = [file.source for file in self.files if file.path.endswith(".parquet")]
        return read_rows(tables, self.workspace, self.keys, self.guard)


def refusals(folder: Path, files: Sequence[LocalFile], workspace: Workspace | None, guard: Guard) -> list[Refusal]:
    """Why the dataset must not be published, in the order of ``CHECKS``; empty if it may.

    Args:
        files: those of the folder, as ``publishable.digest_files`` read them.
        workspace: which it was built from; without it, nothing passes.
        guard: whether a caption may be published.

    Raises:
        UserError: there is no dataset, a shard cannot be read, or the list of who took back the consent is an older
            one.
    """
    if not any(file.path.startswith("data/") for file in files):
        raise UserError("this is no dataset", where=str(folder), fix="run sono-curate build WORKSPACE DATASET first")
    if workspace is not None:
        refuse_older_list(workspace.path)
        workspace.apply_decisions()
    candidate = Candidate(folder, files, workspace, guard)
    return [refusal for check in CHECKS.values() for refusal in check(candidate)]


def check_complete(candidate: Candidate) -> Iterator[Refusal]:
    """``build`` has finished, is this version's, and had the workspace as it is now: nobody has changed anything since.

    What a row's image and masks show is compared with no table: that they are what ``build`` wrote is enough.
    """
    if not candidate.marker:
        yield Refusal("complete", f"{MARKER} is missing or damaged: the dataset is not complete", _BUILD_AGAIN)
    elif candidate.marker.get("format") != FORMAT:
        yield Refusal("complete", "another version of sono-curate built it", _BUILD_AGAIN)
    elif candidate.workspace is not None and candidate.keys is not None:
        if candidate.marker.get("seal") != seal_of(candidate.marker, candidate.keys.content):
            yield Refusal("complete", f"{MARKER} is not as build wrote it", _BUILD_AGAIN)
        elif candidate.marker.get("built_from") != tables_id(candidate.workspace, candidate.keys):
            yield Refusal("complete", "the workspace has changed since it was built", _BUILD_AGAIN)


def check_folder(candidate: Candidate) -> Iterator[Refusal]:
    """Nothing but what ``build`` writes is in the folder, and no key or token."""
    secrets = [candidate.workspace.keys.key.hex()] if candidate.workspace else []
    yield from check_files(candidate.folder, DATASET_FILES, secrets)


def check_shards(candidate: Candidate) -> Iterator[Refusal]:
    """Every Parquet file is the one that the marker lists."""
    listed = dict(listed_files(candidate.marker))
    present = {file.path: file.sha256 for file in candidate.files if file.path.endswith(".parquet")}
    for path in sorted(listed.keys() | present.keys()):
        if path not in present:
            yield Refusal("shards", f"{path} is missing", _BUILD_AGAIN)
        elif listed.get(path) != present[path]:
            yield Refusal("shards", f"{path} is not as build wrote it", _BUILD_AGAIN)
    if others := candidate.rows.other_configurations:
        yield Refusal("shards", f"regions/ or metadata/ contradicts data/ in {others:,} splits", _BUILD_AGAIN)


def check_card(candidate: Candidate) -> Iterator[Refusal]:
    yield from check_licence(candidate.folder, "set licence in [publish] of sono.toml, and run sono-curate build again")


def check_splits(candidate: Candidate) -> Iterator[Refusal]:
    if patients := candidate.rows.patients_across_splits:
        yield Refusal("splits", f"{patients:,} patients are in several splits", _BUILD_AGAIN)
    if groups := candidate.rows.duplicates_across_splits:
        yield Refusal("splits", f"{groups:,} groups of duplicates are in several splits", _BUILD_AGAIN)
    if moved := candidate.rows.moved_frames:
        yield Refusal("splits", f"{moved:,} frames are in another split than in their origin", _BUILD_AGAIN)


def check_masks(candidate: Candidate) -> Iterator[Refusal]:
    if masks := candidate.rows.unfit_masks:
        example = candidate.rows.unfit_example
        yield Refusal("masks", f"{masks:,} masks do not fit their images, for example in {example}", _BUILD_AGAIN)


def check_captions(candidate: Candidate) -> Iterator[Refusal]:
    rows = candidate.rows
    if rows.unguarded_captions:
        what = f"{rows.unguarded_captions:,} captions break the guard, for example in {rows.unguarded_example}"
        yield Refusal("captions", what, "run sono-curate caption, then build again")
    if rows.unknown_captions:
        what = f"{rows.unknown_captions:,} captions are not the workspace's"
        yield Refusal("captions", what, "run sono-curate caption, then build again")


def check_text(candidate: Candidate) -> Iterator[Refusal]:
    """Every frame was checked for text in its pixels, and is one that the workspace would build today."""
    if unchecked := candidate.rows.unchecked_frames:
        fix = "review them with sono-curate review, and build without --allow-unchecked-text"
        yield Refusal("text", f"{unchecked:,} frames are not checked for burned-in text", fix)
    if unknown := candidate.rows.unknown_frames:
        yield Refusal("text", f"{unknown:,} frames are not among those that the workspace accepts", _BUILD_AGAIN)


def check_consent(candidate: Candidate) -> Iterator[Refusal]:
    """Nobody who took back the consent is in it."""
    if candidate.workspace is None:
        return
    if read_withdrawn(candidate.workspace.path).unfinished:
        fix = "run sono-curate withdraw again with the same list, then qc, audit and build"
        yield Refusal("consent", "a withdrawal was interrupted, so some of its patients may still be there", fix)
    if frames := candidate.rows.withdrawn_frames:
        what = f"{frames:,} frames are of patients who took back their consent"
        yield Refusal("consent", what, "run sono-curate withdraw again with the same list, then qc, audit and build")


def check_audit(candidate: Candidate) -> Iterator[Refusal]:
    """The audit of the workspace passed, and nothing has changed since.

    Of a pulled workspace there is no archive: its pixels have to be those of a revision on the Hub that states that its
    own audit passed.
    """
    if candidate.workspace is None:
        yield Refusal("audit", "nothing shows what it was built from", "give --workspace WORKSPACE")
        return
    if candidate.keys is None:
        yield Refusal("audit", "it was not built from this workspace", "name the one it was built from")
        return
    pulled = read_pulled(candidate.workspace.path)
    if pulled is not None:
        yield from pulled_refusals(candidate.workspace, pulled, candidate.rows)
        return
    audit = latest_audit(candidate.workspace)
    command = f"run: sono-curate audit {candidate.workspace.path} SOURCE"
    if audit is None:
        yield Refusal("audit", "the workspace was not audited", command)
    elif not audit.up_to_date:
        yield Refusal("audit", "the workspace has changed since its audit", command)
    elif not audit.report.passed:
        failures = len(audit.report.failures)
        yield Refusal("audit", f"the audit failed for {failures:,} reasons", "see reports/audit.html of the workspace")


CHECKS: Mapping[str, Callable[[Candidate], Iterator[Refusal]]] = {
    "complete": check_complete,
    "files": check_folder,
    "shards": check_shards,
    "licence": check_card,
    "splits": check_splits,
    "masks": check_masks,
    "captions": check_captions,
    "text": check_text,
    "consent": check_consent,
    "audit": check_audit,
}
"""Every check by the name that its refusals have."""
