"""Keys of a dataset: the workspace's, derived once more, so that two datasets of one hospital cannot be joined.

A dataset's name decides its keys: a new revision of a dataset has those of the last one, a dataset of another name
shares none with it. Whoever has the workspace's key and the name can derive them again; nobody else can go from a
dataset to the workspace, or to another dataset.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .errors import UserError
from .store import write_atomically
from .workspace import Workspace

Kind = Literal["frame", "patient", "study", "caption", "scanner"]

_SCANNER_CODE = re.compile(r"(manufacturer|model)-([0-9a-f]{8})")  # of a name that is on no list

_NAMES = ".dataset-names"
_CODE_DIGITS = 8
_MAX_NAME = 96  # as long as a repository's name on the Hub


@dataclass(frozen=True)
class DatasetKeys:
    """Derives the keys of one dataset; no representation of the object shows its secret.

    Attributes:
        id: tells these keys from others without revealing anything: patients of two datasets can be compared if it is
            the same.
        linkable: the dataset keeps the workspace's keys.
    """

    id: str
    secret: bytes = field(repr=False)
    linkable: bool = False

    def derive(self, kind: Kind, key: str) -> str:
        """The dataset's key for one of the workspace; 32 hexadecimal digits."""
        return key if self.linkable else _digest(self.secret, kind, key)

    def scanner(self, name: str | None) -> str | None:
        """A scanner's manufacturer or model; the keyed code of one that is on no list is derived, too."""
        code = _SCANNER_CODE.fullmatch(name or "")
        return f"{code[1]}-{self.derive('scanner', code[2])[:_CODE_DIGITS]}" if code else name

    def center(self, name: str) -> str:
        """Stands for a center's name, in linkable datasets, too: names can be guessed."""
        return f"center-{_digest(self.secret, 'center', name)[:_CODE_DIGITS]}"

    def content(self, text: str) -> str:
        """Of text that decides a shard's content; keyed, so that it reveals nothing that two datasets share."""
        return _digest(self.secret, "text", text)


def dataset_keys(workspace: Workspace, name: str, *, linkable: bool = False) -> DatasetKeys:
    """The keys of a workspace's dataset.

    Args:
        name: of the dataset; the same one gives the same keys.
        linkable: keep the workspace's own keys, so that datasets can be joined with each other.

    Raises:
        UserError: the name cannot be used, or the workspace's key is missing or another one.
    """
    if not name.strip() or len(name) > _MAX_NAME or not name.isprintable():
        raise UserError(
            f"{name!r} cannot be the name of a dataset", fix=f"give --name with 1 to {_MAX_NAME} printable characters"
        )
    if linkable:
        return DatasetKeys(
            workspace.pseudonyms_id, hmac.digest(workspace.keys.key, b"datasets", "sha256"), linkable=True
        )
    secret = hmac.digest(workspace.keys.key, f"dataset/{name}".encode(), "sha256")
    identity = [workspace.pseudonyms_id, _digest(secret, "check", "dataset keys")]
    return DatasetKeys(hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32], secret)


def remember_name(workspace: Workspace, name: str) -> None:
    """Note that a dataset of this name was built, so that its keys can be traced back."""
    names = known_names(workspace)
    if name not in names:
        content = json.dumps([*names, name]).encode()
        write_atomically(workspace.path / _NAMES, lambda file: file.write(content))


def known_names(workspace: Workspace) -> list[str]:
    """The names of the datasets that were built from a workspace with keys of their own, the oldest first."""
    path: Path = workspace.path / _NAMES
    try:
        names: list[str] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise UserError("cannot be read", where=str(path), fix="delete it, and build the datasets again") from error
    return names


def known_keys(workspace: Workspace) -> Iterator[tuple[str, DatasetKeys]]:
    """Names and keys of the datasets that were built from a workspace, the newest first."""
    for name in reversed(known_names(workspace)):
        yield name, dataset_keys(workspace, name)


def _digest(secret: bytes, kind: str, key: str) -> str:
    return hmac.digest(secret, f"{kind}\0{key}".encode(), "sha256")[:16].hex()
