"""Repositories of the loopback Hub on disk: settings, refs, commits, and the contents of files."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HEADS, TAGS, PULL_REQUESTS, CONVERTS = "refs/heads/", "refs/tags/", "refs/pr/", "refs/convert/"
GITATTRIBUTES = b"*.parquet filter=lfs diff=lfs merge=lfs -text\n*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
Files = dict[str, "StoredFile"]


class RefusedError(Exception):
    """An answer that is an error, with the headers by which huggingface_hub tells errors apart."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


@dataclass(frozen=True)
class StoredFile:
    """A file of a commit: its Git blob, and its SHA-256 if its content is in LFS."""

    oid: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True)
class Move:
    """A ref of a repository that began to point elsewhere; ``files`` is None where it was removed."""

    repo: str
    ref: str
    commit: str | None
    files: Mapping[str, StoredFile] | None


class Repository:
    """One repository below ``folder``; not safe for several processes."""

    def __init__(self, folder: Path, kind: str, name: str, moves: list[Move]) -> None:
        self.folder, self.kind, self.name, self._moves = folder, kind, name, moves
        self._state: dict[str, Any] = {}
        if (folder / "repo.json").exists():
            self._state = json.loads((folder / "repo.json").read_bytes())

    def create(self, private: bool) -> None:
        for name in ("commits", "blobs", "lfs"):
            (self.folder / name).mkdir(parents=True)
        self._state = {"private": private, "gated": False, "refs": {}}
        blob = self.add_blob(GITATTRIBUTES)
        self.move(f"{HEADS}main", self.add_commit(None, {".gitattributes": blob}, "initial commit", ""))

    @property
    def settings(self) -> Mapping[str, Any]:
        return {name: self._state[name] for name in ("private", "gated")}

    def change_settings(self, **settings: object) -> None:
        self._state |= settings
        self._save()

    @property
    def refs(self) -> Mapping[str, str]:
        return dict(self._state["refs"])

    def move(self, ref: str, commit: str | None) -> None:
        """Let ``ref`` point to ``commit``; None removes it."""
        if commit is None:
            del self._state["refs"][ref]
        else:
            self._state["refs"][ref] = commit
        self._save()
        self._moves.append(Move(self.name, ref, commit, self.files(commit) if commit else None))

    def commit_of(self, revision: str) -> str:
        """The commit that a branch, a tag or (the beginning of) a commit's id names."""
        for ref in (f"{HEADS}{revision}", f"{TAGS}{revision}", revision):
            if ref in self._state["refs"]:
                return str(self._state["refs"][ref])
        if re.fullmatch(r"[0-9a-f]{7,40}", revision):
            for path in (self.folder / "commits").glob(f"{revision}*.json"):
                return path.stem
        raise RefusedError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def add_commit(self, parent: str | None, files: Files, title: str, message: str) -> str:
        content = {
            "parent": parent,
            "title": title,
            "message": message,
            "date": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "files": {path: [file.oid, file.size, file.sha256] for path, file in sorted(files.items())},
        }
        text = json.dumps(content)
        oid = hashlib.sha1(text.encode()).hexdigest()
        (self.folder / "commits" / f"{oid}.json").write_text(text)
        return oid

    def commit(self, oid: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "commits" / f"{oid}.json").read_bytes())
        return content

    def files(self, commit: str) -> Files:
        return {path: StoredFile(*values) for path, values in self.commit(commit)["files"].items()}

    def history(self, commit: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
        while commit is not None:
            content = self.commit(commit)
            yield commit, content
            commit = content["parent"]

    def squash(self, branch: str, message: str) -> None:
        """The branch as one commit without a parent. What nothing leads to any more, but LFS, is gone at once."""
        files = self.files(self.commit_of(branch))
        self.move(f"{HEADS}{branch}", self.add_commit(None, files, message, ""))
        reachable = {oid for head in self._state["refs"].values() for oid, _ in self.history(head)}
        for path in (self.folder / "commits").glob("*.json"):
            if path.stem not in reachable:
                path.unlink()
        blobs = {file.oid for oid in reachable for file in self.files(oid).values()}
        for path in (self.folder / "blobs").iterdir():
            if path.name not in blobs:
                path.unlink()

    def add_blob(self, content: bytes) -> StoredFile:
        oid = git_oid(content)
        (self.folder / "blobs" / oid).write_bytes(content)
        return StoredFile(oid, len(content))

    def add_pointer(self, sha256: str) -> StoredFile:
        """A file whose content is in LFS."""
        if not self.lfs_path(sha256).exists():
            raise RefusedError(
                400, "Your push was rejected because an LFS pointer pointed to a file that does not exist"
            )
        size = self.lfs_path(sha256).stat().st_size
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
        return StoredFile(git_oid(pointer.encode()), size, sha256)

    def lfs_path(self, sha256: str) -> Path:
        return self.folder / "lfs" / sha256

    def content_path(self, file: StoredFile) -> Path:
        return self.lfs_path(file.sha256) if file.sha256 else self.folder / "blobs" / file.oid

    def _save(self) -> None:
        temporary = self.folder / "repo.json.tmp"
        temporary.write_text(json.dumps(self._state))
        os.replace(temporary, self.folder / "repo.json")  # noqa: PTH105


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
