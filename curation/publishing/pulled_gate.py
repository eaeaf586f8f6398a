"""The gate of a dataset that was built from a pulled one: what it shows has to be published already, and still to be.

There is no archive to audit it against. Instead, nothing of an image may be new: its pixels are those of a revision on
the Hub that states that its audit passed, the Hub has that revision still, and main has all of its patients still.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from sono.manifests.dataset_marker import listed_files
from sono.manifests.errors import UserError
from sono.manifests.filenames import MARKER
from sono.manifests.hub import Remote, download_small, list_files, patiently, quietly, reader
from sono.manifests.publishable import DATASET_FILES, Refusal, is_listed
from sono.manifests.pulled import STAGE, Pulled, read_pulled
from sono.manifests.schemas import FRAMES
from sono.manifests.workspace import Workspace

from .origin import own_keys
from .pull.described import stated_audit
from .pull.rows import PulledKeys
from .rows import RowFaults

_PULL_AGAIN = "run sono-curate pull again, then qc and build"


def pulled_refusals(workspace: Workspace, pulled: Pulled, rows: RowFaults) -> Iterator[Refusal]:
    """Why a dataset that was built from a pulled workspace must not be published."""
    if not pulled.complete:
        yield Refusal("audit", "sono-curate pull was interrupted", _PULL_AGAIN)
    if any(info.stage != STAGE for info in workspace.store.parts(FRAMES).values()):
        yield Refusal("audit", "some of the workspace's frames were not pulled", "pull into a new workspace")
    if rows.other_pixels:
        yield Refusal(
            "audit",
            f"{rows.other_pixels:,} images are not those of {pulled.name}, for example {rows.other_pixels_example}",
            "build without --max-side, as png or webp",
        )
    if not (pulled.audit or {}).get("passed"):
        yield Refusal(
            "audit",
            f"{pulled.name} does not state that its audit passed",
            "its owner has to audit, then build and publish again; then pull again",
        )
    if pulled.repository is None or pulled.commit is None:
        yield Refusal(
            "audit", "it was pulled from a folder: nothing shows that these images are published", "pull from the Hub"
        )
        return
    try:
        with quietly(show_bars=False):
            yield from _not_there_any_more(workspace, pulled, reader(pulled.repository, "dataset"))
    except UserError as error:
        yield Refusal("audit", f"{pulled.name} cannot be compared with the Hub: {error.what}", error.fix or _PULL_AGAIN)


def audience_refusals(
    workspace: Workspace | None, repo: str, *, private: bool | None, gated: bool | None
) -> Iterator[Refusal]:
    """A dataset of pulled frames must not be easier to get than the one that they are from.

    Args:
        repo: where it would be published.
        private, gated: as asked for; None keeps what is there, and what is new is private and gated.
    """
    pulled = read_pulled(workspace.path) if workspace else None
    if pulled is None or pulled.repository is None or pulled.repository == repo or False not in (private, gated):
        return
    now_private, now_gated = _access_now(pulled.repository)
    for wider, was, asked in (
        ("public", pulled.private or now_private, private is False),
        ("open to all", pulled.gated or now_gated, gated is False),
    ):
        if asked and was is not False:
            yield Refusal(
                "access", f"{pulled.name} is not {wider}, so a copy must not be", "ask its owner, and pull again"
            )


def _access_now(repo: str) -> tuple[bool, bool]:
    """Whether a repository is private and gated today; if the Hub does not say, it is."""
    try:
        with quietly(show_bars=False):
            remote = reader(repo, "dataset")
            info = patiently(lambda: remote.api.dataset_info(repo), remote.url)
    except UserError:
        return True, True
    return bool(info.private), bool(info.gated)


def _not_there_any_more(workspace: Workspace, pulled: Pulled, remote: Remote) -> Iterator[Refusal]:
    """The revision is as it was pulled, and main still has the patients: they may have taken back their consent."""
    commit = str(pulled.commit)
    marker = download_small(remote, MARKER, commit)
    files = patiently(lambda: list_files(remote, commit), remote.url)
    found = {path: file.lfs.sha256 if file.lfs else None for path, file in files.items()}
    if hashlib.sha256(marker).hexdigest() != pulled.marker_sha256 or any(
        found.get(path) != sha256 for path, sha256 in pulled.tables.items()
    ):
        yield Refusal("audit", f"the Hub has another dataset as {pulled.name}", _PULL_AGAIN)
    elif stated_audit(json.loads(marker).get("audit")) != pulled.audit:
        yield Refusal("audit", f"pulled.json says of an audit what {pulled.name} does not", _PULL_AGAIN)
    newest = _marker_of_main(remote)
    if newest.get("pseudonyms") != pulled.pseudonyms:
        if own_keys(workspace, str(newest.get("pseudonyms"))) is None:
            what = f"main of {pulled.repository} has another dataset by now, so nothing shows who is still in it"
            yield Refusal("audit", what, _PULL_AGAIN)
        return
    here = set(pc.unique(workspace.store.read_all(FRAMES, ["patient_key"])["patient_key"]).to_pylist())
    gone = here - _patients_of_main(workspace, pulled, remote, newest)
    if gone:
        what = f"{len(gone):,} patients are not on main of {pulled.repository} any more"
        yield Refusal("audit", what, _PULL_AGAIN)


def _marker_of_main(remote: Remote) -> Mapping[str, Any]:
    try:
        content = json.loads(download_small(remote, MARKER, "main"))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _patients_of_main(
    workspace: Workspace, pulled: Pulled, remote: Remote, marker: Mapping[str, Any]
) -> frozenset[str]:
    """Everybody on main, by their keys here."""
    import tempfile

    keys = PulledKeys(workspace.keys, pulled.pseudonyms)
    found: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="sono-publish-") as folder:
        for path, sha256 in listed_files(marker.get("configurations")):
            if not (path.startswith("metadata/") and is_listed(path, DATASET_FILES)):
                continue
            table = Path(
                patiently(
                    lambda path=path: remote.api.hf_hub_download(  # type: ignore[misc]
                        remote.repo_id, path, repo_type="dataset", revision="main", local_dir=folder
                    ),
                    remote.url,
                )
            )
            if hashlib.sha256(table.read_bytes()).hexdigest() != sha256:
                raise UserError(f"{path} on main is damaged", where=remote.url)
            with pq.ParquetFile(table) as file:
                patients = pc.unique(file.read(["patient_key"], use_threads=False)["patient_key"])
            found |= {keys.patient(key)["patient_key"] for key in patients.to_pylist()}
    return frozenset(found)
