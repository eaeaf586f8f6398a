"""Where a dataset is pulled from: a revision on the Hub, whose files are downloaded one by one, or a folder."""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sono.manifests.errors import UserError
from sono.manifests.filenames import MARKER
from sono.manifests.hub import Remote, list_files, patiently, reader, refuse_other_kind

OTHER_COPY = "name another revision or copy"
"""What to do about a damaged file."""

_NOT_OURS = "not a dataset that sono-curate build wrote"


class Source(Protocol):
    """A dataset's files.

    Attributes:
        place: for people.
        repository, commit, private, gated: as in ``Pulled``.
    """

    place: str
    repository: str | None
    commit: str | None
    private: bool | None
    gated: bool | None

    def has(self, path: str) -> bool: ...

    def get(self, path: str, sha256: str | None = None) -> Path:
        """A file on this machine.

        Raises:
            UserError: there is none, or its content has another SHA-256.
        """
        ...

    def release(self, path: str) -> None:
        """The file is not needed any more."""
        ...

    def close(self) -> None:
        """Nothing is needed any more."""
        ...


def find_source(name: str, revision: str | None, downloads: Path) -> Source:
    """The dataset ``name``: a folder, or else a repository on the Hub.

    Args:
        revision: a branch, tag or commit; None for main.
        downloads: a folder for files from the Hub. A download that was interrupted resumes there.

    Raises:
        UserError: there is no such dataset, or nobody may read it.
    """
    if Path(name).is_dir():
        if revision is not None:
            raise UserError("a folder has no revisions", where=name, fix="leave out --revision")
        return _FolderSource(Path(name))
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError("no such folder", where=name, fix="name a folder, or NAMESPACE/NAME of a repository on the Hub")
    remote = reader(name, "dataset")
    return _resolve(remote, revision, downloads)


@dataclass
class _FolderSource:
    root: Path
    repository: str | None = None
    commit: str | None = None
    private: bool | None = None
    gated: bool | None = None

    def __post_init__(self) -> None:
        self.place = str(self.root)
        if not self.has(MARKER):
            raise UserError(_NOT_OURS, where=self.place, fix="name a folder that has a sono.json")

    def has(self, path: str) -> bool:
        return (self.root / path).is_file()

    def get(self, path: str, sha256: str | None = None) -> Path:
        if not self.has(path):
            raise UserError(f"{path} is missing", where=self.place, fix="build the dataset again, or copy it anew")
        if sha256 is not None and _sha256(self.root / path) != sha256:
            raise UserError(
                f"{path} is damaged: its SHA-256 is not the one in {MARKER}",
                where=self.place,
                fix="build the dataset again, or copy it anew",
            )
        return self.root / path

    def release(self, path: str) -> None:
        del path

    def close(self) -> None:
        pass


@dataclass
class _HubSource:
    """Each revision has a folder of its own: huggingface_hub falls back on any file of a name that it finds."""

    remote: Remote
    commit: str | None
    private: bool | None
    gated: bool | None
    paths: frozenset[str]
    downloads: Path

    def __post_init__(self) -> None:
        self.place = f"{self.remote.url} at {str(self.commit)[:12]}"
        self.repository: str | None = self.remote.repo_id
        if not self.has(MARKER):
            raise UserError(_NOT_OURS, where=self.place, fix="name another repository, or another --revision")

    @property
    def _folder(self) -> Path:
        return self.downloads / str(self.commit)

    def has(self, path: str) -> bool:
        return path in self.paths

    def get(self, path: str, sha256: str | None = None) -> Path:
        remote = self.remote
        if not self.has(path):
            raise UserError(f"{path} is missing", where=self.place, fix="name another --revision")
        found = Path(
            patiently(
                lambda: remote.api.hf_hub_download(
                    remote.repo_id, path, repo_type="dataset", revision=self.commit, local_dir=self._folder
                ),
                self.place,
            )
        )
        if sha256 is not None and _sha256(found) != sha256:
            self.release(path)
            raise UserError(
                f"{path} is damaged: its SHA-256 is not the one in {MARKER}",
                where=self.place,
                fix="run the same command again; if it stays, ask whoever published it",
            )
        return found

    def release(self, path: str) -> None:
        (self._folder / path).unlink(missing_ok=True)

    def close(self) -> None:
        shutil.rmtree(self.downloads, ignore_errors=True)


def _resolve(remote: Remote, revision: str | None, downloads: Path) -> _HubSource:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
    from huggingface_hub.hf_api import DatasetInfo

    def ask() -> DatasetInfo:
        try:
            return remote.api.dataset_info(remote.repo_id, revision=revision)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            refuse_other_kind(remote)
            raise

    info = patiently(ask, remote.url)
    commit = str(info.sha)
    if not re.fullmatch(r"[0-9a-f]{40,64}", commit):  # it becomes the name of a folder
        raise UserError("the Hub names no commit", where=remote.url, fix="see whether HF_ENDPOINT is a Hub's address")
    paths = patiently(lambda: list_files(remote, commit), remote.url)
    return _HubSource(remote, commit, bool(info.private), bool(info.gated), frozenset(paths), downloads)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
