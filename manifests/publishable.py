"""What of a folder may be published: files on a list, none of them a secret, with a licence."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from .errors import UserError
from .filenames import MARKER
from .store import TEMPORARY

CARD = "README.md"
TRAINED_PATIENTS = "trained_patients.json"

DATASET_FILES = (
    *(CARD, MARKER, "LICENSE", "CHANGELOG.md", "croissant.json", "provenance.json"),
    *("data/*.parquet", "regions/*.parquet", "metadata/*.parquet"),
    *("figures/*.png", "figures/*.svg"),
)
"""Every file that a published dataset may have; a pattern's * is never a folder."""

MODEL_FORMATS = (
    frozenset({"open_clip_config.json", "open_clip_model.safetensors"}),
    frozenset({"sonoclip_vision.pth", "clip_base.pt"}),
    frozenset({"config.json", "model.safetensors"}),
)
"""Files that an exported model cannot be loaded without, for each format of ``sono-train export``."""

MODEL_FILES = (
    *(CARD, "LICENSE", TRAINED_PATIENTS, "mask_input.json", "processor_config.json"),
    *(name for needed in MODEL_FORMATS for name in sorted(needed)),
    *("mask_stem.py", "mask_input.py", "text_tokens.py"),
    *("configuration_sono_clip.py", "modeling_sono_clip.py", "processing_sono_clip.py"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "chat_template.jinja"),
)
"""Every file that ``sono-train export`` writes, with the tokenizers of transformers."""

_SILENT = (
    ".lock",
    f"{TEMPORARY}*",
    ".cache",
    "sono.building",
)  # what programs leave beside what they wrote; never sent
_TEXT = (".md", ".json", ".py", ".txt", ".svg", ".jinja", "LICENSE")
_TOKEN = re.compile(r"hf_[A-Za-z0-9]{20,}|api_org_[A-Za-z0-9]{20,}|-----BEGIN [A-Z ]*PRIVATE KEY-----")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Refusal:
    """Why something must not be published.

    Attributes:
        check: the check that found it.
        what: what is wrong, with counts and places, and never a value that identifies somebody.
        fix: what to do.
    """

    check: str
    what: str
    fix: str


@dataclass(frozen=True)
class LocalFile:
    """A file to publish: its path in the repository, and its content's digests as LFS and Git name it.

    Attributes:
        stamp: inode, and times of the last change, of what was read.
    """

    path: str
    source: Path
    size: int
    sha256: str
    git_oid: str
    stamp: tuple[int, ...] = ()


def is_listed(path: str, listed: Sequence[str]) -> bool:
    """Whether a path of a repository is on the list of what we publish."""
    return any(path.count("/") == pattern.count("/") and fnmatchcase(path, pattern) for pattern in listed)


def find_files(folder: Path, listed: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The files of ``folder`` that are on the list, and the names of those that are not, links among them.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError("no such folder", where=str(folder))
    found: list[Path] = []
    others: list[str] = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if any(fnmatchcase(part, pattern) for part in name.split("/") for pattern in _SILENT):
            continue
        if path.is_symlink() or (path.is_file() and not is_listed(name, listed)):
            others.append(name)
        elif path.is_file():
            found.append(path)
    return found, others


def digest_files(folder: Path, paths: Sequence[Path]) -> list[LocalFile]:
    """Read every file once."""
    return [_digest(path, path.relative_to(folder).as_posix()) for path in paths]


def refuse_changed(files: Sequence[LocalFile]) -> None:
    """Check that every file is still the one that was read: what was judged is what is sent.

    Raises:
        UserError: one was written, replaced or removed since.
    """
    for file in files:
        if not file.source.is_file() or file.source.is_symlink() or _stamp(file.source) != (file.size, *file.stamp):
            raise UserError(
                f"{file.path} was changed while it was being published",
                where=str(file.source),
                fix="let the program that writes there finish, then run the same command again",
            )


def check_files(folder: Path, listed: Sequence[str], secrets: Collection[str] = ()) -> Iterator[Refusal]:
    """Files that are on no list, and secrets in texts: tokens, private keys, and those of ``secrets``."""
    paths, others = find_files(folder, listed)
    if others:
        yield Refusal("files", f"{_some(others)} would not be published or is a link", "move it out of the folder")
    for path in paths:
        if path.name.endswith(_TEXT):
            text = path.read_text(encoding="utf-8", errors="replace")
            if _TOKEN.search(text) or any(secret in text for secret in secrets):
                name = path.relative_to(folder).as_posix()
                yield Refusal("files", f"{name} holds a key or a token", "remove it from there, and replace it")


def card_metadata(folder: Path) -> Mapping[str, Any]:
    """The YAML block at the start of the card; empty where there is none.

    Raises:
        UserError: it cannot be read.
    """
    import yaml

    try:
        text = (folder / CARD).read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    found = re.match(r"---\r?\n(.*?)\r?\n---\s*$", text, flags=re.DOTALL | re.MULTILINE)
    try:
        metadata = yaml.safe_load(found.group(1)) if found else {}
    except yaml.YAMLError as error:
        raise UserError("its metadata are no YAML", where=str(folder / CARD), fix="correct it") from error
    return metadata if isinstance(metadata, dict) else {}


def check_licence(folder: Path, fix: str) -> Iterator[Refusal]:
    """A card without a licence; ``fix`` says where one is stated."""
    licence = card_metadata(folder).get("license")
    if not licence or str(licence).lower() in ("unknown", "none"):
        yield Refusal("licence", f"{CARD} states no licence", fix)


def revision_id(files: Sequence[LocalFile]) -> str:
    """Twelve hexadecimal digits that are equal for equal files of equal names."""
    content = "".join(f"{file.path}\0{file.sha256}\n" for file in sorted(files, key=lambda file: file.path))
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _digest(path: Path, name: str) -> LocalFile:
    size, *stamp = _stamp(path)
    sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            sha256.update(chunk)
            git.update(chunk)
    return LocalFile(name, path, size, sha256.hexdigest(), git.hexdigest(), tuple(stamp))


def _stamp(path: Path) -> tuple[int, ...]:
    """A file's size, and what changes when it is written or replaced; nobody can set the last of it."""
    found = path.lstat()
    return found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def _some(names: Sequence[str]) -> str:
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(repr(name) for name in names[:3]) + rest
