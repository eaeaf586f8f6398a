"""Where a workspace's frames come from if they were pulled from a published dataset: which one, and what it states."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .errors import UserError
from .schemas import FRAMES, SPLITS
from .store import TableStore, write_atomically

FILE = "pulled.json"
STAGE = "pull-frames"
"""The stage that writes the frames of a pulled dataset."""

_SCOPE = "pull/"


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """The dataset, as it stated itself when it was pulled.

    Attributes:
        repository, commit: on the Hub; None of a folder.
        private, gated: whether it was; of a folder both are None.
        fingerprint, pseudonyms: as in its ``sono.json``, of which ``marker_sha256`` is the digest.
        tables: the SHA-256 of its files in ``data/``.
        licence, citation: of its ``[publish]``; empty where it stated none.
        ga_days, pixel_mm: how exact its ages and pixel sizes are, as in ``[publish]``.
        text: how many frames have which ``burned_in_text``; None if it does not say.
        audit: of the workspace that it was built from, with ``passed``; None if it does not say.
        split_plan: how its patients were split.
        splits, planes: that were asked for; empty for all.
        complete: the tables hold all of it; False while a pull is at work, or was interrupted.
        groups: by SHA-256 of a file in ``data/`` what is in it, for the next pull.
        exams: the parts of ``records``, as name and digest.
    """

    repository: str | None
    commit: str | None
    private: bool | None
    gated: bool | None
    fingerprint: str
    pseudonyms: str
    marker_sha256: str
    tables: Mapping[str, str]
    licence: str
    citation: str
    ga_days: str
    pixel_mm: str
    text: Mapping[str, int] | None
    audit: Mapping[str, Any] | None
    split_plan: Mapping[str, Any]
    splits: Sequence[str] = ()
    planes: Sequence[str] = ()
    complete: bool = False
    groups: Mapping[str, Sequence[Mapping[str, str]]] = field(default_factory=dict)
    exams: Sequence[Sequence[str]] = ()

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.repository} at {str(self.commit)[:12]}" if self.repository else "a local dataset"

    def statement(self) -> dict[str, Any]:
        """What a dataset that is built from it says of it; there is no path in it."""
        names = ("repository", "commit", "fingerprint", "licence", "citation")
        return {name: getattr(self, name) for name in names}


def read_pulled(workspace: Path) -> Pulled | None:
    """What a workspace was pulled from; None if its frames were ingested.

    Raises:
        UserError: the file is damaged.
    """
    path = workspace / FILE
    try:
        return Pulled(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise UserError("cannot be read", where=str(path), fix="delete it, and run sono-curate pull again") from error


def write_pulled(workspace: Path, pulled: Pulled) -> None:
    """Note what is pulled, or was."""
    content = json.dumps(asdict(pulled), indent=1).encode() + b"\n"
    write_atomically(workspace / FILE, lambda file: file.write(content), mode=0o600)


def require_complete(workspace: Path, store: TableStore) -> Pulled | None:
    """``read_pulled``, for whatever uses the tables as a whole.

    Raises:
        UserError: a pull was interrupted, or some of the frames have another source.
    """
    pulled = read_pulled(workspace)
    others = [info.stage for info in store.parts(FRAMES).values() if (info.stage == STAGE) != (pulled is not None)]
    if others:
        raise UserError(
            "some frames were ingested and others pulled: nothing shows which licence and which audit hold",
            where=str(workspace),
            fix="run sono-curate init for a new folder, and pull there",
        )
    if pulled is not None and not pulled.complete:
        raise UserError("sono-curate pull was interrupted", where=str(workspace), fix="run it again and let it finish")
    return pulled


def refuse_pulled(workspace: Path, what: str) -> None:
    """Refuse what only the archive allows.

    Raises:
        UserError: the workspace was pulled from a dataset.
    """
    pulled = read_pulled(workspace)
    if pulled is not None:
        raise UserError(
            f"this workspace was pulled from {pulled.name}, so {what}",
            where=str(workspace),
            fix="see docs/publishing.md, or run sono-curate init for a new folder",
        )


def scope_of(split: str) -> str:
    """The scope of parts that hold a split of a pulled dataset."""
    return f"{_SCOPE}{split}"


def split_of_parts(store: TableStore) -> dict[str, str]:
    """The split of every part of pulled frames."""
    scopes = {name: info.scope.removeprefix(_SCOPE) for name, info in store.parts(FRAMES).items()}
    return {name: split for name, split in scopes.items() if split in SPLITS}


def in_vocabulary(names: Iterable[str], known: Mapping[str, object], what: str) -> None:
    """Check that a dataset's planes or structures are the workspace's.

    Raises:
        UserError: one is not.
    """
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise UserError(
            f"the dataset has the {what} {unknown[0]!r}, which the vocabulary of this workspace does not have",
            fix="set file in [vocabulary] of sono.toml to the vocabulary that it was built with",
        )
