"""Checkpoints: whole or absent, whatever moment a process is killed at, for any number of ranks.

``RUN/checkpoints/step-00000500/`` holds what ``torch.distributed.checkpoint`` writes (each rank its own file, and
``.metadata``), ``meta.json`` with everything but tensors, and ``sono.json`` with the SHA-256 of each of them. It is
written under another name, ``sono.json`` last, and then renamed. A folder without that file, or that disagrees with it,
does not count. What another number of ranks wrote is read all the same.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import shutil
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save

from sono.manifests.errors import UserError
from sono.manifests.filenames import MARKER
from sono.manifests.store import sync_folder, write_atomically
from sono.training import recipes
from sono.training.model.mask_clip import MaskClip, restore_model
from sono.training.model.transforms import PadToSquare
from sono.training.step.distributed import ALONE, Ranks

FOLDER = "checkpoints"
FORMAT = 2
META = "meta.json"
_TEMPORARY = ".tmp-"

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on the disk.

    ``meta`` is what was saved beside the tensors: ``step``, ``recipe``, ``transform``, ``planes``, ``dataset``. For
    those who report figures made with it, it also has ``file``, the folder's name, and ``sha256``, that of its
    ``sono.json``, which covers every byte of the others.
    """

    folder: Path
    meta: dict[str, Any]

    def load(self, into: Mapping[str, torch.Tensor]) -> None:
        """Fill these tensors, or shards of tensors, with those of the same name; all ranks call it together."""
        _quiet()
        load(dict(into), storage_reader=_Reader(self.folder))

    def sizes(self, prefix: str) -> dict[str, torch.Size]:
        """The tensors whose names begin with ``prefix``."""
        return {name: kind.size for name, kind in self._tensors().items() if name.startswith(prefix)}

    def read(self, prefix: str) -> Tensors:
        """Whole tensors on the CPU whose names begin with ``prefix``, by what follows it; any process may call it."""
        _quiet()
        tensors = {
            name: torch.empty(kind.size, dtype=kind.properties.dtype)
            for name, kind in self._tensors().items()
            if name.startswith(prefix)
        }
        load(dict(tensors), storage_reader=_Reader(self.folder), no_dist=True)
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}

    def _tensors(self) -> dict[str, TensorStorageMetadata]:
        metadata = _Reader(self.folder).read_metadata()
        return {
            name: kind for name, kind in metadata.state_dict_metadata.items() if isinstance(kind, TensorStorageMetadata)
        }


def load_model(run: Path, notice: Callable[[str], None]) -> tuple[MaskClip, PadToSquare, dict[str, Any]]:
    """The model of the newest whole checkpoint of ``run`` on the CPU, its transform, and ``Checkpoint.meta``.

    Raises:
        UserError: there is no checkpoint, all are damaged, or another version wrote them.
    """
    newest = latest(run, notice)
    if newest is None:
        raise UserError("there is no checkpoint", where=str(run), fix="name the folder of a run that was trained")
    recipe = recipes.from_flat(newest.meta["recipe"])
    model = restore_model(recipe.model.backbone, newest.read("model."))
    return model, PadToSquare.from_dict(newest.meta["transform"]), newest.meta


def latest(run: Path, notice: Callable[[str], None]) -> Checkpoint | None:
    """The newest whole checkpoint, or None if none was ever finished; damaged ones are passed over with a notice.

    Raises:
        UserError: there are checkpoints but all are damaged, or another version wrote them.
    """
    steps = _steps(run)
    for step in reversed(steps):
        folder = _folder(run, step)
        if found := _read(folder):
            return found
        notice(f"{folder}: damaged, falling back to the checkpoint before it")
    if steps:
        raise UserError("every checkpoint is damaged", where=str(run / FOLDER), fix="restore one, or start a new run")
    if any((run / FOLDER).glob("step-*.pt")):
        raise UserError("another version wrote its checkpoints", where=str(run), fix="use that version, or a new run")
    return None


def clear_leftovers(run: Path) -> None:
    """Remove what a killed process left half-written. Call it only while holding the run's lock."""
    for path in [*run.glob(f"{_TEMPORARY}*"), *(run / FOLDER).glob(f"{_TEMPORARY}*")]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


class Writer:
    """Writes checkpoints beside the training: ``save`` copies the tensors and returns, the disk is waited for later.

    All ranks make one together and call its methods together. Each writes its own share of the tensors; the first rank
    takes the digests and, when everything is on the disk, gives the checkpoint its name.

    Args:
        run: folder of the run.
        keep: how many checkpoints stay, the newest ones.
    """

    def __init__(self, run: Path, keep: int, ranks: Ranks = ALONE) -> None:
        self.run, self.keep, self.ranks = run, keep, ranks
        self.last_good: Path | None = None
        self._group = ranks.new_group()
        self._finisher = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: tuple[Path, Future[None]] | None = None

    def save(self, tensors: Tensors, meta: Mapping[str, Any]) -> None:
        """Begin to write the checkpoint of ``meta["step"]``, once the one before is finished.

        Raises:
            UserError: the one before could not be written, or this one not begun; the last good one stays.
        """
        self.wait()
        folder = _folder(self.run, int(meta["step"]))
        temporary = folder.with_name(_TEMPORARY + folder.name)
        error = None
        try:
            temporary.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            error = self._cannot_write(folder, fault)
        self.ranks.raise_together(error)
        _quiet()
        written = async_save(
            tensors, storage_writer=FileSystemWriter(temporary), process_group=self._group, no_dist=not self._group
        )
        assert isinstance(written, Future)
        self._pending = folder, self._finisher.submit(self._finish, folder, temporary, dict(meta), written)

    def wait(self) -> None:
        """Until the checkpoint that was begun is whole, and remove those before the last ``keep``.

        Raises:
            UserError: it could not be written, on whichever rank; the last good one stays.
        """
        if self._pending is None:
            return
        (folder, future), self._pending = self._pending, None
        error = None
        try:
            future.result()
        except (OSError, RuntimeError, CheckpointException) as fault:
            error = self._cannot_write(folder, fault)
        self.ranks.raise_together(error)
        self.last_good = folder

    def close(self) -> None:
        """Wait for what was begun without a word about it, where something else has gone wrong."""
        self._finisher.shutdown(wait=True)

    def _finish(self, folder: Path, temporary: Path, meta: dict[str, Any], written: Future[Any]) -> None:
        written.result()  # on the first rank it comes after all ranks' files
        if not self.ranks.is_first:
            return
        found = {path.name for path in temporary.iterdir()}
        if any(info.relative_path not in found for info in _Reader(temporary).read_metadata().storage_data.values()):
            raise OSError("other ranks' files are not here: all machines must share the run's folder")
        text = json.dumps(meta, indent=2).encode()
        write_atomically(temporary / META, lambda file: file.write(text))
        files = {path.name: _sha256(path) for path in sorted(temporary.iterdir())}
        marker = json.dumps({"format": FORMAT, "step": meta["step"], "files": files}, indent=2).encode()
        write_atomically(temporary / MARKER, lambda file: file.write(marker))
        if folder.exists():  # a damaged one, that was passed over
            _remove(folder)
        temporary.rename(folder)
        sync_folder(folder.parent)
        _prune(self.run, int(meta["step"]), self.keep)

    def _cannot_write(self, folder: Path, fault: BaseException) -> UserError:
        stays = f"; {self.last_good.name} is the last good checkpoint" if self.last_good else ""
        return UserError(
            f"the checkpoint cannot be written: {_cause(fault)}",
            where=str(folder),
            fix=f"make room or mend the disk, then go on with --resume{stays}",
        )


class _Reader(FileSystemReader):
    """The library's own, except that nothing is unpickled but the few plain classes that describe tensors."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with (Path(self.path) / ".metadata").open("rb") as file:
            metadata = _PlainUnpickler(file).load()
        assert isinstance(metadata, Metadata)
        metadata.storage_meta = metadata.storage_meta or StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


class _PlainUnpickler(pickle.Unpickler):
    _KNOWN = frozenset(
        {
            *(
                ("torch.distributed.checkpoint.metadata", name)
                for name in (
                    "Metadata", "MetadataIndex", "TensorStorageMetadata", "TensorProperties", "ChunkStorageMetadata",
                    "BytesStorageMetadata", "StorageMeta", "_MEM_FORMAT_ENCODING",
                )
            ),
            ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
            ("torch.serialization", "_get_layout"),
            ("torch", "Size"),
            ("pathlib", "PosixPath"),
            ("pathlib._local", "PosixPath"),  # Python 3.13
        }
    )  # fmt: skip

    def find_class(self, module: str, name: str) -> Any:
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if is_dtype or (module, name) in self._KNOWN:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a checkpoint")


def _folder(run: Path, step: int) -> Path:
    return run / FOLDER / f"step-{step:08d}"


def _steps(run: Path) -> list[int]:
    names = (path.parent.name for path in (run / FOLDER).glob(f"step-*/{MARKER}"))
    return sorted(int(name.removeprefix("step-")) for name in names if re.fullmatch(r"step-\d{8,}", name))


def _read(folder: Path) -> Checkpoint | None:
    """The checkpoint, or None where its files are not those that were written."""
    try:
        marker = json.loads((folder / MARKER).read_bytes())
        if marker["format"] != FORMAT:
            raise UserError(
                f"the checkpoint has format {marker['format']} and this version reads {FORMAT}",
                where=str(folder),
                fix="use the version of sono-curate that wrote it",
            )
        if any(_sha256(folder / name) != sha256 for name, sha256 in marker["files"].items()):
            return None
        meta = json.loads((folder / META).read_bytes()) if META in marker["files"] else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not isinstance(meta, dict):
        return None
    return Checkpoint(folder, {**meta, "file": folder.name, "sha256": _sha256(folder / MARKER)})


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _prune(run: Path, newest: int, keep: int) -> None:
    """Later steps than ``newest`` can only be damaged ones that were passed over: they count for nothing."""
    steps = _steps(run)
    kept = [step for step in steps if step <= newest][-keep:]
    for step in steps:
        if step < kept[0]:
            _remove(_folder(run, step))


def _remove(folder: Path) -> None:
    """Take its name away first: half of a checkpoint is then no checkpoint."""
    gone = folder.with_name(f"{_TEMPORARY}old-{folder.name}")
    folder.rename(gone)
    shutil.rmtree(gone)


def _cause(fault: BaseException) -> str:
    """One line about the fault that lies under what the library made of it."""
    if isinstance(fault, CheckpointException) and fault.failures:
        return _cause(next(iter(fault.failures.values()))[0])
    inner = fault.__cause__ or fault.__context__
    if not isinstance(fault, OSError) and inner is not None:
        return _cause(inner)
    text = fault.strerror if isinstance(fault, OSError) and fault.strerror else str(fault) or type(fault).__name__
    return text.strip().splitlines()[0][:200]


def _quiet() -> None:
    """The library warns that there is no process group; one process alone needs none."""
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")
