"""Takes everything but main's newest revision out of a repository of the Hub: commits, tags, branches, and contents.

Every step looks at what the repository holds and does what is missing, so a killed run resumes where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .errors import UserError
from .hub import Remote, list_files, patiently

if TYPE_CHECKING:
    from huggingface_hub.hf_api import GitRefs, LFSFileInfo

_MESSAGE = "Squash the history"


@dataclass(frozen=True)
class History:
    """What a repository holds, as it was before anything was erased.

    Attributes:
        files: of main, each with the digest of its content.
        kept_tags: those of main's newest revision, which is the only one that stays.
        old_tags, branches: those that hold earlier revisions.
        commits: ids of all commits that a branch or a tag leads to.
        unreferenced: how many contents in LFS are not main's, and ``unreferenced_bytes`` of what size.
    """

    files: Mapping[str, str]
    kept_tags: Sequence[str] = ()
    old_tags: Sequence[str] = ()
    branches: Sequence[str] = ()
    commits: Sequence[str] = ()
    unreferenced: int = 0
    unreferenced_bytes: int = 0


@dataclass(frozen=True)
class Erased:
    """What was erased, and what the Hub still has.

    Attributes:
        commit: main's only one now.
        answering: ids of old commits that the Hub still answers to.
        pull_requests, converts: refs that only the Hub can remove.
    """

    commit: str
    answering: Sequence[str] = field(default=())
    pull_requests: Sequence[str] = field(default=())
    converts: Sequence[str] = field(default=())


def read_history(remote: Remote, head: str) -> History:
    """What erasing the history would take away from the repository, of which main is at ``head``.

    Raises:
        UserError: the Hub does not answer, or the token cannot write there.
    """
    api, kind, name = remote.api, remote.kind, remote.repo_id
    patiently(lambda: api.auth_check(name, repo_type=kind, write=True), remote.url)
    refs = patiently(lambda: _refs(remote), remote.url)
    files = patiently(lambda: _digests(remote, head), remote.url)
    unreferenced = patiently(lambda: _unreferenced(remote, files.values()), remote.url)
    starts = {ref.target_commit for ref in [*refs.branches, *refs.tags]}
    commits = {commit for start in sorted(starts) for commit in patiently(lambda: _commits(remote, start), remote.url)}  # noqa: B023 - called at once
    return History(
        files=files,
        kept_tags=sorted(ref.name for ref in refs.tags if ref.target_commit == head),
        old_tags=sorted(ref.name for ref in refs.tags if ref.target_commit != head),
        branches=sorted(ref.name for ref in refs.branches if ref.name != "main"),
        commits=sorted(commits),
        unreferenced=len(unreferenced),
        unreferenced_bytes=sum(file.size for file in unreferenced),
    )


def erase_history(remote: Remote, history: History, progress: Callable[[str], None] = lambda _: None) -> Erased:
    """Erase everything but the revision that ``history`` was read at.

    Raises:
        UserError: a step failed, or main was changed meanwhile; running it again does what is missing.
    """

    def step(what: str, call: Callable[[], Any]) -> Any:
        progress(what)
        return patiently(call, remote.url)

    step("comparing main with what was checked", lambda: _refuse_changed(remote, history, "main"))
    step("deleting branches", lambda: _delete_branches(remote))
    step("deleting tags", lambda: _delete_tags(remote))
    step("squashing main", lambda: _squash(remote))
    step("comparing main with what was checked", lambda: _refuse_changed(remote, history, "main"))
    step("deleting contents", lambda: _delete_unreferenced(remote, history.files.values()))
    commit: str = step("asking for main", lambda: _commits(remote, "main")[0])  # the Hub may have rewritten it
    step("setting tags", lambda: _set_tags(remote, history.kept_tags, commit))
    answering = step("asking for old revisions", lambda: _answering(remote, history.commits, commit))
    refs: GitRefs = step("asking for other refs", lambda: _refs(remote))
    return Erased(
        commit=commit,
        answering=answering,
        pull_requests=[ref.ref for ref in refs.pull_requests or ()],
        converts=[ref.ref for ref in refs.converts],
    )


def _refs(remote: Remote) -> GitRefs:
    return remote.api.list_repo_refs(remote.repo_id, repo_type=remote.kind, include_pull_requests=True)


def _commits(remote: Remote, revision: str) -> list[str]:
    """The newest one first."""
    found = remote.api.list_repo_commits(remote.repo_id, repo_type=remote.kind, revision=revision)
    return [commit.commit_id for commit in found]


def _digests(remote: Remote, revision: str) -> dict[str, str]:
    """Each file's SHA-256 if its content is in LFS, else the id of its blob."""
    files = list_files(remote, revision)
    return {path: file.lfs.sha256 if file.lfs else file.blob_id for path, file in files.items()}


def _refuse_changed(remote: Remote, history: History, revision: str) -> None:
    if _digests(remote, revision) != history.files:
        raise UserError(
            "main was changed meanwhile", where=remote.url, fix="run the same command again, which looks at main anew"
        )


def _delete_branches(remote: Remote) -> None:
    for ref in _refs(remote).branches:
        if ref.name != "main":
            remote.api.delete_branch(remote.repo_id, repo_type=remote.kind, branch=ref.name)


def _delete_tags(remote: Remote) -> None:
    """All of them, because each leads to the commits before it; once main is squashed, all but those of main."""
    commits = _commits(remote, "main")
    for ref in _refs(remote).tags:
        if len(commits) > 1 or ref.target_commit != commits[0]:
            remote.api.delete_tag(remote.repo_id, repo_type=remote.kind, tag=ref.name)


def _squash(remote: Remote) -> None:
    if len(_commits(remote, "main")) > 1:
        remote.api.super_squash_history(remote.repo_id, repo_type=remote.kind, branch="main", commit_message=_MESSAGE)


def _unreferenced(remote: Remote, digests: Collection[str]) -> list[LFSFileInfo]:
    kept = set(digests)
    found = remote.api.list_lfs_files(remote.repo_id, repo_type=remote.kind)
    return [file for file in found if not {file.file_oid, file.oid} & kept]


def _delete_unreferenced(remote: Remote, digests: Collection[str]) -> None:
    going = _unreferenced(remote, digests)
    remote.api.permanently_delete_lfs_files(remote.repo_id, going, repo_type=remote.kind)
    left = _unreferenced(remote, digests)
    if left:
        raise UserError(
            f"the Hub still has {len(left):,} contents that nothing refers to",
            where=remote.url,
            fix="run the same command again",
        )


def _set_tags(remote: Remote, tags: Sequence[str], commit: str) -> None:
    present = {ref.name for ref in _refs(remote).tags}
    for tag in tags:
        if tag not in present:
            remote.api.create_tag(remote.repo_id, repo_type=remote.kind, tag=tag, revision=commit)


def _answering(remote: Remote, commits: Sequence[str], kept: str) -> list[str]:
    """Those of the old commits that can still be asked for by their ids."""
    from huggingface_hub.errors import RevisionNotFoundError

    found = []
    for commit in commits:
        if commit == kept:
            continue
        try:
            remote.api.repo_info(remote.repo_id, repo_type=remote.kind, revision=commit)
        except RevisionNotFoundError:
            continue
        found.append(commit)
    return found
