"""Takes patients who took back their consent out of the history of a repository on the Hub."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from sono.manifests.dataset_marker import listed_files
from sono.manifests.errors import UserError
from sono.manifests.filenames import MARKER
from sono.manifests.hub import Remote, connect, download_small, list_files, patiently, refuse_other_kind
from sono.manifests.hub_history import Erased, History, erase_history, read_history
from sono.manifests.publishable import DATASET_FILES, is_listed
from sono.manifests.store import write_atomically
from sono.manifests.withdrawn import PROOFS, read_withdrawn
from sono.manifests.workspace import Workspace

from .origin import own_keys, withdrawn_patients

_BEGUN = ".squash.json"
"""Beside the proofs while a history is being erased: what it was like before."""


@dataclass(frozen=True)
class SquashPlan:
    """What squashing would erase. Main was checked: it holds no row of a patient who withdrew.

    Attributes:
        rows_checked: of all its tables.
        unchecked: files on main that were not published from here, in which nobody looked.
    """

    remote: Remote
    history: History
    rows_checked: int
    unchecked: tuple[str, ...]


def plan_squash(workspace: Workspace, repo_id: str) -> SquashPlan:
    """Look at main, row by row, and at what stands beside it.

    Raises:
        UserError: nobody has withdrawn, a withdrawal is unfinished, the repository is not of a dataset of this
            workspace, or its main still holds rows of a patient who withdrew.
    """
    withdrawn = read_withdrawn(workspace.path)
    fix = f"run: sono-curate withdraw {workspace.path} --patients FILE"
    if not withdrawn:
        raise UserError("nobody has taken back the consent here", where=str(workspace.path), fix=fix)
    if withdrawn.unfinished:
        raise UserError("a withdrawal was interrupted", where=str(workspace.path), fix=fix)
    remote = connect(repo_id, "dataset")
    head = _head(remote)
    files = patiently(lambda: list_files(remote, head), remote.url)
    marker = _marker(remote, head, MARKER in files)
    patients = _their_keys(workspace, remote, marker)
    listed = dict(listed_files(marker))
    tables = sorted(path for path in files if path.endswith(".parquet"))
    for path in tables:
        file = files[path]
        if path not in listed or (file.lfs.sha256 if file.lfs else None) != listed[path]:
            raise UserError(f"main has {path}, which {MARKER} does not list", where=remote.url, fix=_publish(workspace))
    found, rows = patiently(lambda: _count_rows(remote, head, tables, patients), remote.url)
    if found:
        raise UserError(
            f"main still holds {found:,} rows of patients who took back their consent",
            where=remote.url,
            fix=_publish(workspace),
        )
    unchecked = sorted(path for path in files if not is_listed(path, DATASET_FILES) and path != ".gitattributes")
    return SquashPlan(remote, read_history(remote, head), rows, tuple(unchecked))


@dataclass(frozen=True)
class Squashed:
    """What was erased by this run and those before it that broke off, what is left, and the proofs that say so."""

    history: History
    erased: Erased
    proofs: list[str]


def squash(workspace: Workspace, plan: SquashPlan, *, progress: Callable[[str], None] = lambda _: None) -> Squashed:
    """Erase the history, and add that to the proofs of the withdrawals. The caller holds ``workspace.writing()``.

    Raises:
        UserError: a step failed; run again, it resumes where it stopped.
    """
    history = _begin(workspace, plan)
    erased = erase_history(plan.remote, history, progress)
    proofs = _prove(workspace, plan, history, erased)
    (workspace.path / PROOFS / _BEGUN).unlink(missing_ok=True)
    return Squashed(history, erased, proofs)


def _publish(workspace: Workspace) -> str:
    return f"run sono-curate build {workspace.path} DATASET, then sono-curate publish it there"


def _head(remote: Remote) -> str:
    from huggingface_hub.errors import RepositoryNotFoundError

    def ask() -> str | None:
        try:
            return str(remote.api.repo_info(remote.repo_id, repo_type=remote.kind).sha)
        except RepositoryNotFoundError:
            refuse_other_kind(remote)
            raise

    return str(patiently(ask, remote.url))


def _marker(remote: Remote, head: str, there: bool) -> Mapping[str, Any]:
    if there:
        try:
            content = json.loads(download_small(remote, MARKER, head))
        except ValueError:
            content = None
        if isinstance(content, dict) and "splits" in content:
            return content
    raise UserError("its main is no dataset of sono-curate", where=remote.url, fix="name the dataset's repository")


def _their_keys(workspace: Workspace, remote: Remote, marker: Mapping[str, Any]) -> frozenset[str]:
    keys = own_keys(workspace, str(marker.get("pseudonyms")))
    if keys is None:
        raise UserError(
            "its main was not built from this workspace, so nothing shows whose rows it holds",
            where=remote.url,
            fix="name the workspace that it was built from",
        )
    return withdrawn_patients(workspace, keys)


def _count_rows(remote: Remote, head: str, tables: Collection[str], patients: frozenset[str]) -> tuple[int, int]:
    """Rows of these patients, and all rows. Of each file, the column that names patients is read, and no other."""
    from huggingface_hub import HfFileSystem

    hub = HfFileSystem(endpoint=remote.api.endpoint, token=remote.api.token, skip_instance_cache=True)
    found = rows = 0
    for path in tables:
        with hub.open(f"datasets/{remote.repo_id}@{head}/{path}") as opened, pq.ParquetFile(opened) as file:
            for batch in file.iter_batches(65_536, columns=["patient_key"]):
                keys = batch["patient_key"].to_pylist()
                rows += len(keys)
                found += sum(key in patients for key in keys)
    return found, rows


def _begin(workspace: Workspace, plan: SquashPlan) -> History:
    """Note what is about to be erased; of a run that was killed, what it had noted, and what has come since."""
    path = workspace.path / PROOFS / _BEGUN
    history = plan.history
    try:
        begun = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        begun = {}
    if begun.get("repository") == plan.remote.repo_id and begun.get("files") == dict(history.files):
        history = History(
            files=history.files,
            **{
                name: sorted({*begun[name], *getattr(history, name)})
                for name in ("kept_tags", "old_tags", "branches", "commits")
            },
            unreferenced=max(begun["unreferenced"], history.unreferenced),
            unreferenced_bytes=max(begun["unreferenced_bytes"], history.unreferenced_bytes),
        )
    content = json.dumps({"repository": plan.remote.repo_id, **asdict(history)}).encode()
    write_atomically(path, lambda file: file.write(content), mode=0o600)
    return history


def _prove(workspace: Workspace, plan: SquashPlan, history: History, erased: Erased) -> list[str]:
    """Every withdrawal's proof says of the repository that its history was erased: main holds nobody of any of them."""
    entry = {
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "repository": plan.remote.url,
        "commit": erased.commit,
        "rows_checked": plan.rows_checked,
        "erased": {
            "commits": [commit for commit in history.commits if commit != erased.commit],
            "branches": list(history.branches),
            "tags": list(history.old_tags),
            "contents": history.unreferenced,
            "bytes": history.unreferenced_bytes,
        },
        "left": {
            "commits_that_answer": list(erased.answering),
            "pull_requests": list(erased.pull_requests),
            "converts": list(erased.converts),
            "unchecked_files": list(plan.unchecked),
        },
    }
    proofs = sorted(path for path in (workspace.path / PROOFS).glob("*.json") if path.stem.isdigit())
    for path in proofs:
        _add_to(path, entry)
    return list(map(str, proofs))


def _add_to(path: Path, entry: Mapping[str, object]) -> None:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError("this proof is damaged", where=str(path), fix="put a copy from your backup there") from error
    content["squashed"] = [*content.get("squashed", ()), entry]
    write_atomically(path, lambda file: file.write(json.dumps(content, indent=1).encode() + b"\n"), mode=0o600)
