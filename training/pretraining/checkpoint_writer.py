"""Writes checkpoints in the background, under a temporary name until everything is on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_saver import async_save

from sono.manifests.errors import UserError, first_line
from sono.manifests.filenames import MARKER
from sono.manifests.store import sync_folder, write_atomically
from sono.training.step.distributed import ALONE, Ranks

from .checkpoint_reader import CheckpointReader
from .checkpoints import (
    FORMAT,
    META,
    TEMPORARY,
    Tensors,
    ignore_missing_process_group,
    sha256_of,
    step_folder,
    steps_saved,
)


class CheckpointWriter:
    """Writes checkpoints while training continues: ``save`` copies the tensors and returns before they are on disk.

    All ranks make one together and call its methods together. Each writes its own share of the tensors; the first rank
    computes the digests and, when everything is on disk, gives the checkpoint its name.

    Args:
        run: folder of the run.
        keep: how many checkpoints to keep, the newest ones.
        last_good: the folder of the newest checkpoint that is complete.
    """

    def __init__(self, run: Path, keep: int, ranks: Ranks = ALONE, *, last_good: Path | None = None) -> None:
        self.run, self.keep, self.ranks, self.last_good = run, keep, ranks, last_good
        self._group = ranks.new_group()
        self._finisher = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: tuple[Path, Future[None]] | None = None

    def save(self, tensors: Tensors, meta: Mapping[str, Any]) -> None:
        """Begin to write the checkpoint of ``meta["step"]``, once the one before is finished.

        Raises:
            UserError: the one before could not be written, or this one not begun; the last good one stays.
        """
        self.wait()
        folder = step_folder(self.run, int(meta["step"]))
        temporary = folder.with_name(TEMPORARY + folder.name)
        error = None
        try:
            temporary.mkdir(parents=True, exist_ok=True)
        except OSError as cause:
            error = self._cannot_write(folder, cause)
        self.ranks.raise_together(error)
        ignore_missing_process_group()
        written = async_save(
            tensors, storage_writer=FileSystemWriter(temporary), process_group=self._group, no_dist=not self._group
        )
        assert isinstance(written, Future)
        self._pending = folder, self._finisher.submit(self._finish, folder, temporary, dict(meta), written)

    def wait(self) -> None:
        """Wait until the checkpoint that was begun is complete; all but the last ``keep`` are then removed.

        Raises:
            UserError: it could not be written, on whichever rank; the last good one stays.
        """
        if self._pending is None:
            return
        (folder, future), self._pending = self._pending, None
        error = None
        try:
            future.result()
        except (OSError, RuntimeError, CheckpointException) as cause:
            error = self._cannot_write(folder, cause)
        self.ranks.raise_together(error)
        self.last_good = folder

    def close(self) -> None:
        """Wait for what was begun and report nothing: for when something else has gone wrong."""
        self._finisher.shutdown(wait=True)

    def _finish(self, folder: Path, temporary: Path, meta: dict[str, Any], written: Future[Any]) -> None:
        written.result()  # on the first rank it comes after all ranks' files
        if not self.ranks.is_first:
            return
        present = {path.name for path in temporary.iterdir()}
        stored = CheckpointReader(temporary).read_metadata().storage_data.values()
        if any(info.relative_path not in present for info in stored):
            raise OSError("other ranks' files are missing: all machines must share the run's folder")
        text = json.dumps(meta, indent=2).encode()
        write_atomically(temporary / META, lambda file: file.write(text))
        files = {path.name: sha256_of(path) for path in sorted(temporary.iterdir())}
        marker = json.dumps({"format": FORMAT, "step": meta["step"], "files": files}, indent=2).encode()
        write_atomically(temporary / MARKER, lambda file: file.write(marker))
        if folder.exists():  # a damaged one that was skipped
            _remove(folder)
        temporary.rename(folder)
        sync_folder(folder.parent)
        _prune(self.run, int(meta["step"]), self.keep)

    def _cannot_write(self, folder: Path, cause: BaseException) -> UserError:
        good = f"; {self.last_good.name} is the last good checkpoint" if self.last_good else ""
        return UserError(
            f"the checkpoint cannot be written: {_reason(cause)}",
            where=str(folder),
            fix=f"free space or fix the disk, then continue with --resume{good}",
        )


def _prune(run: Path, newest: int, keep: int) -> None:
    """Later steps than ``newest`` can only be damaged ones that were skipped: they do not count."""
    steps = steps_saved(run)
    kept = [step for step in steps if step <= newest][-keep:]
    for step in steps:
        if step < kept[0]:
            _remove(step_folder(run, step))


def _remove(folder: Path) -> None:
    """Rename it first: a half-removed checkpoint must not count as one."""
    removed = folder.with_name(f"{TEMPORARY}old-{folder.name}")
    folder.rename(removed)
    shutil.rmtree(removed)


def _reason(error: BaseException) -> str:
    """One line about the error behind the library's own."""
    if isinstance(error, CheckpointException) and error.failures:
        return _reason(next(iter(error.failures.values()))[0])
    inner = error.__cause__ or error.__context__
    if not isinstance(error, OSError) and inner is not None:
        return _reason(inner)
    return error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
