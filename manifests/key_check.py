"""Refuses a key that is not the workspace's: it would give every known patient a new pseudonym.

``key-check`` beside the key holds a keyed value that only the same key gives. While the tables are empty, any key will
do; that is how two workspaces are given the same one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from .errors import UserError
from .pseudonyms import Pseudonymizer
from .schemas import FRAMES, REGIONS, TABLES
from .store import TableStore, write_atomically

KEY_CHECK = "key-check"


def check_key(folder: Path, keys: Pseudonymizer) -> None:
    """Check that ``keys`` are those that the workspace in ``folder`` was filled with. Writes nothing.

    Raises:
        UserError: they are not.
    """
    store = TableStore(folder)
    recorded = _recorded(folder)
    if recorded == keys.check() or not any(store.paths(table) for table in TABLES.values()):
        return
    if recorded is None and _agrees(store, keys):
        return
    raise UserError(
        "not the key that this workspace was filled with",
        where=str(folder / "secret.key"),
        fix="restore it from your backup; another key would give every patient a new pseudonym",
    )


def record_key(folder: Path, keys: Pseudonymizer) -> None:
    """Remember ``keys``, which ``check_key`` has accepted, as the workspace's."""
    if _recorded(folder) != keys.check():
        write_atomically(folder / KEY_CHECK, lambda file: file.write(keys.check().encode() + b"\n"), mode=0o600)


def pseudonyms_id(folder: Path, patient_scope: str) -> str:
    """Tells this workspace's pseudonyms of patients from those under another key or scope, without revealing the key.

    Raises:
        UserError: the workspace does not know its key.
    """
    recorded = _recorded(folder)
    if not recorded:
        raise UserError("key-check is missing", where=str(folder), fix="restore it, or secret.key, from your backup")
    return hashlib.sha256(f"pseudonyms\0{recorded}\0{patient_scope}".encode()).hexdigest()[:32]


def _recorded(folder: Path) -> str | None:
    try:
        return (folder / KEY_CHECK).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        return ""


def _agrees(store: TableStore, keys: Pseudonymizer) -> bool:
    """Whether the key gives the ids in a table of a workspace without ``key-check``; one row is enough."""
    for path in store.paths(FRAMES):
        rows = store.read_first(path, ["source_key", "frame_index", "frame_id"])
        if rows:
            return rows[0]["frame_id"] == keys.frame(str(rows[0]["source_key"]), int(str(rows[0]["frame_index"])))
    for path in store.paths(REGIONS):
        rows = store.read_first(path, ["frame_id", "structure", "source", "region_id"])
        if rows:
            frame_id, structure, source, region_id = map(str, rows[0].values())
            return region_id == keys.region(frame_id, structure, source)
    return True
