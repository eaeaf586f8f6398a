"""Publishes files as one revision of a repository of the Hub: to a branch, checked there, then to main in one commit.

Every step looks at what the repository holds and does what is missing, so a killed or failed run resumes where it
stopped. Contents are uploaded once: main gets copies of what was checked on the branch, without an upload.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import UserError
from .filenames import MARKER
from .hub import Remote, list_files, patiently, refuse_other_kind
from .publishable import CARD, TRAINED_PATIENTS, LocalFile, Refusal, is_listed, refuse_changed, revision_id

if TYPE_CHECKING:
    from huggingface_hub.hf_api import GitRefs, RepoFile

BRANCHES = "publish-"
_COMMIT_FILES, _COMMIT_BYTES = 50, 2_000_000_000  # what one commit on the branch brings, and a killed run may repeat
_OURS = {TRAINED_PATIENTS, MARKER}


@dataclass(frozen=True)
class Wanted:
    """What the caller asks for.

    Attributes:
        files: all of them.
        listed: patterns of paths that are ours; others in the repository are left alone.
        tag: None for one that follows from the content.
        private, gated: None keeps what the repository has; a new one is private and gated.
    """

    files: Sequence[LocalFile]
    listed: Sequence[str]
    message: str
    tag: str | None = None
    private: bool | None = None
    gated: bool | None = None


@dataclass(frozen=True)
class Plan:
    """What publishing would change.

    Attributes:
        exists: whether the repository does.
        head: the commit that main points to.
        send, delete: files that differ from main's, and paths that main would lose.
        left_alone: paths on main that are not ours.
        private, gated: as the repository will be.
        tagged: whether the tag is there already.
    """

    remote: Remote
    wanted: Wanted
    exists: bool
    head: str | None
    send: Sequence[LocalFile]
    delete: Sequence[str]
    left_alone: Sequence[str]
    private: bool
    gated: bool
    tag: str
    tagged: bool

    @property
    def branch(self) -> str:
        return BRANCHES + revision_id(self.wanted.files)

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.send)

    @property
    def nothing_to_send(self) -> bool:
        return self.exists and not self.send and not self.delete


@dataclass(frozen=True)
class Published:
    """What is on main now. ``sent`` counts the files of this revision that main did not have."""

    url: str
    commit: str
    tag: str
    sent: int
    sent_bytes: int
    deleted: int

    @property
    def summary(self) -> str:
        """What was done, in one line."""
        if not self.sent and not self.deleted:
            return f"{self.url} has all of it already: revision {self.tag} ({self.commit[:12]})."
        sent = f"{self.sent:,} files sent ({self.sent_bytes:,} bytes), {self.deleted:,} deleted"
        return f"{self.url}: revision {self.tag} ({self.commit[:12]}), {sent}."


def plan_revision(remote: Remote, wanted: Wanted, *, ask: bool = True) -> Plan:
    """Compare ``wanted`` with the repository.

    Args:
        ask: False to assume that there is no such repository.

    Raises:
        UserError: the name is another kind of repository's or somebody else's, the token cannot write to it, the
            repository is public or open and nobody said that it shall be, or the tag is another revision's.
    """
    tag = wanted.tag or f"rev-{revision_id(wanted.files)}"
    _check_tag(tag)
    new = Plan(
        remote=remote,
        wanted=wanted,
        exists=False,
        head=None,
        send=wanted.files,
        delete=(),
        left_alone=(),
        private=wanted.private is not False,
        gated=wanted.gated is not False,
        tag=tag,
        tagged=False,
    )
    if not ask:
        return new
    info = patiently(lambda: _info(remote), remote.url)
    if info is None:
        patiently(lambda: refuse_other_kind(remote), remote.url)
        return new
    patiently(lambda: _check_writes(remote), remote.url)
    private, gated = _settings(remote, wanted, bool(info["private"]), bool(info["gated"]))
    head = str(info["sha"])
    present = patiently(lambda: list_files(remote, head), remote.url)
    _refuse_foreign(remote, present)
    ours = {path for path in present if is_listed(path, wanted.listed)}
    kept = {file.path for file in wanted.files}
    send = [file for file in wanted.files if not _is_same(file, present.get(file.path))]
    unchanged = not send and ours <= kept
    tags = {ref.name: ref.target_commit for ref in patiently(lambda: _refs(remote), remote.url).tags}
    if tag in tags and not (unchanged and tags[tag] == head):
        raise UserError(f"the tag {tag} is another revision's", where=remote.url, fix="name another with --tag")
    return replace(
        new,
        exists=True,
        head=head,
        send=send,
        delete=sorted(ours - kept),
        left_alone=sorted(present.keys() - ours - kept - {".gitattributes"}),
        private=private,
        gated=gated,
        tagged=tag in tags,
    )


class RefusedError(Exception):
    """Something speaks against a revision that did not when its upload began; no branch holds it any more."""

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        super().__init__(f"{len(refusals)} reasons")
        self.refusals = refusals


def publish_revision(
    plan: Plan,
    *,
    read_back: Callable[[Remote, str], None] = lambda _remote, _commit: None,
    last_look: Callable[[], AbstractContextManager[Sequence[Refusal]]] = lambda: nullcontext(()),
    progress: Callable[[str], None] = lambda _: None,
) -> Published:
    """Bring the repository to what ``plan`` says; main shows the whole revision or none of it.

    Args:
        read_back: is called with the branch's commit once every file was checked there, and raises if what others
            would read is not what it should be.
        last_look: gives what speaks against the revision by now, and keeps that as it is while main moves.

    Raises:
        UserError: a step failed; the text says what to do. What was uploaded stays on the branch.
        RefusedError: something speaks against it by now.
    """
    remote = plan.remote
    refuse_changed(plan.wanted.files)
    head = patiently(lambda: _prepare(plan), remote.url)
    if not plan.nothing_to_send:
        commit = patiently(lambda: _upload(plan, head, progress), remote.url)
        refuse_changed(plan.wanted.files)  # the Hub states of large files what it was told their content is
        progress("checking what the Hub has")
        patiently(lambda: _check(plan, commit), remote.url)
        patiently(lambda: read_back(remote, commit), remote.url)
    with last_look() as refusals:
        if refusals:
            patiently(lambda: _remove_branches(remote), remote.url)
            raise RefusedError(refusals)
        if not plan.nothing_to_send:
            progress("moving main")
            head = patiently(lambda: _move_main(plan, commit, head), remote.url)
        patiently(lambda: _tag(plan, head), remote.url)
        if not plan.private:
            patiently(lambda: _change_settings(remote, private=False), remote.url)
    patiently(lambda: _remove_branches(remote), remote.url)
    return Published(remote.url, head, plan.tag, len(plan.send), plan.bytes, len(plan.delete))


# What is there


def _check_tag(tag: str) -> None:
    """A tag that Git takes, and that nobody can mistake for main, a branch of ours or a commit."""
    mistaken = tag in ("main", "HEAD") or tag.startswith(BRANCHES) or re.fullmatch(r"[0-9a-f]{7,40}", tag)
    if mistaken or not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?", tag) or ".." in tag:
        raise UserError(f"{tag!r} cannot be a tag", fix="give letters, digits, '-', '_' and '.', such as v1.0")


def _info(remote: Remote) -> Mapping[str, object] | None:
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info = remote.api.repo_info(remote.repo_id, repo_type=remote.kind)
    except RepositoryNotFoundError:
        return None
    return {"private": info.private, "gated": info.gated, "sha": info.sha}


def _check_writes(remote: Remote) -> None:
    remote.api.auth_check(remote.repo_id, repo_type=remote.kind, write=True)


def _settings(remote: Remote, wanted: Wanted, private: bool, gated: bool) -> tuple[bool, bool]:
    """Whether the repository will be private and gated; nobody is surprised by one that is not."""
    if not private and wanted.private is None:
        raise UserError("the repository is public", where=remote.url, fix="say --public to publish there, or --private")
    if not gated and wanted.gated is None and not private and not wanted.private:
        raise UserError(
            "the repository is open to all", where=remote.url, fix="say --open to publish there, or --gated"
        )
    return wanted.private is not False, wanted.gated is not False


def _refuse_foreign(remote: Remote, present: Mapping[str, RepoFile]) -> None:
    """A repository that somebody has filled with something else."""
    others = present.keys() - {".gitattributes", CARD, "LICENSE"}
    if others and not others & _OURS:
        raise UserError(
            "the name is taken: the repository holds something that was not published from here",
            where=remote.url,
            fix="name another repository",
        )


def _refs(remote: Remote) -> GitRefs:
    return remote.api.list_repo_refs(remote.repo_id, repo_type=remote.kind)


def _head_of(remote: Remote, branch: str) -> str | None:
    return next((ref.target_commit for ref in _refs(remote).branches if ref.name == branch), None)


def _is_same(file: LocalFile, there: RepoFile | None) -> bool:
    if there is None or there.size != file.size:
        return False
    return there.lfs.sha256 == file.sha256 if there.lfs else there.blob_id == file.git_oid


# The steps, each of which does only what is missing


def _prepare(plan: Plan) -> str:
    """The repository exists, and is no more open than it shall be; returns main's commit."""
    remote = plan.remote
    if not plan.exists:
        remote.api.create_repo(remote.repo_id, repo_type=remote.kind, private=True, exist_ok=True)
    _change_settings(remote, private=True if plan.private else None, gated=plan.gated)
    head = _head_of(remote, "main")
    if head is None:
        raise UserError("the repository has no main branch", where=remote.url, fix="name another repository")
    if plan.exists and head != plan.head:
        raise UserError("it was changed by somebody else meanwhile", where=remote.url, fix="run the same command again")
    return head


def _change_settings(remote: Remote, private: bool | None = None, gated: bool | None = None) -> None:
    info = remote.api.repo_info(remote.repo_id, repo_type=remote.kind)
    private = None if private == bool(info.private) else private
    if private is None and gated in (None, bool(info.gated)):
        return
    asked = None if gated in (None, bool(info.gated)) else ("manual" if gated else False)
    remote.api.update_repo_settings(remote.repo_id, repo_type=remote.kind, private=private, gated=asked)  # type: ignore[arg-type]


def _upload(plan: Plan, head: str, progress: Callable[[str], None]) -> str:
    """The branch holds all files, and none of ours besides; returns its commit."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    remote = plan.remote
    if _head_of(remote, plan.branch) is None:
        remote.api.create_branch(
            remote.repo_id, repo_type=remote.kind, branch=plan.branch, revision=head, exist_ok=True
        )
    present = list_files(remote, plan.branch)
    differs = set(_differs(plan, present))
    missing = [file for file in plan.wanted.files if file.path in differs]
    stale = sorted(differs - _paths(plan))
    done = len(plan.wanted.files) - len(missing)
    for batch in [*_batches(missing), *([[]] if stale else [])]:
        operations: list[CommitOperationAdd | CommitOperationDelete] = []
        for file in batch:
            operation = CommitOperationAdd(file.path, file.source)
            operation.upload_info.sha256 = bytes.fromhex(file.sha256)  # no need to read it again
            operations.append(operation)
        if not batch:
            operations = [CommitOperationDelete(path, is_folder=False) for path in stale]
        done += len(batch)
        progress(f"uploading {done:,} of {len(plan.wanted.files):,} files")
        remote.api.create_commit(
            remote.repo_id, operations, repo_type=remote.kind, revision=plan.branch, commit_message=plan.wanted.message
        )
    commit = _head_of(remote, plan.branch)
    assert commit is not None, "the branch was made above"
    return commit


def _batches(files: Sequence[LocalFile]) -> Iterator[list[LocalFile]]:
    batch: list[LocalFile] = []
    for file in files:
        if batch and (len(batch) == _COMMIT_FILES or sum(each.size for each in batch) + file.size > _COMMIT_BYTES):
            yield batch
            batch = []
        batch.append(file)
    if batch:
        yield batch


def _check(plan: Plan, commit: str) -> None:
    """The Hub has every file as it is here: sizes and SHA-256 by its own account, small texts read back.

    Of files that are not in LFS the Hub knows Git's digest only.
    """
    remote = plan.remote
    present = list_files(remote, commit)
    different = _differs(plan, present)
    texts = [file for file in plan.wanted.files if not different and not present[file.path].lfs]
    with tempfile.TemporaryDirectory(prefix="sono-publish-") as folder:
        for file in texts:
            path = remote.api.hf_hub_download(
                remote.repo_id, file.path, repo_type=remote.kind, revision=commit, local_dir=folder
            )
            if sha256(Path(path).read_bytes()).hexdigest() != file.sha256:
                different.append(file.path)
    if different:
        raise UserError(
            f"the Hub has {different[0]} in another form than this folder",
            where=remote.url,
            fix="run the same command again; if it stays, see whether another program writes to the folder",
        )


def _move_main(plan: Plan, commit: str, head: str) -> str:
    """Main holds what the branch's ``commit`` does, by one commit on ``head``; returns main's commit."""
    from huggingface_hub import CommitOperationCopy, CommitOperationDelete

    remote = plan.remote
    now = _head_of(remote, "main")
    assert now is not None, "main cannot be removed"
    if now != head and not _differs(plan, list_files(remote, now)):
        return now  # the answer of an earlier try was lost
    paths = _paths(plan)
    operations = [
        CommitOperationCopy(path, path, src_revision=commit)
        if path in paths
        else CommitOperationDelete(path, is_folder=False)
        for path in _differs(plan, list_files(remote, head))
    ]
    done = remote.api.create_commit(
        remote.repo_id,
        operations,
        repo_type=remote.kind,
        revision="main",
        parent_commit=head,
        commit_message=plan.wanted.message,
    )
    return str(done.oid)


def _paths(plan: Plan) -> set[str]:
    return {file.path for file in plan.wanted.files}


def _differs(plan: Plan, present: Mapping[str, RepoFile]) -> list[str]:
    """Paths of ours that differ from what is wanted."""
    different = [file.path for file in plan.wanted.files if not _is_same(file, present.get(file.path))]
    return different + sorted(path for path in present.keys() - _paths(plan) if is_listed(path, plan.wanted.listed))


def _tag(plan: Plan, commit: str) -> None:
    remote = plan.remote
    present = next((ref.target_commit for ref in _refs(remote).tags if ref.name == plan.tag), None)
    if present is None:
        remote.api.create_tag(remote.repo_id, repo_type=remote.kind, tag=plan.tag, revision=commit)
    elif present != commit:
        raise UserError(f"the tag {plan.tag} is another revision's", where=remote.url, fix="name another with --tag")


def _remove_branches(remote: Remote) -> None:
    """Those of this run and of earlier ones that were never finished: they hold what nobody wants any more."""
    for ref in _refs(remote).branches:
        if ref.name.startswith(BRANCHES):
            remote.api.delete_branch(remote.repo_id, repo_type=remote.kind, branch=ref.name)
