from __future__ import annotations

import json
import pickle
import resource
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from sono.manifests.errors import UserError
from sono.training.pretraining import checkpoints
from sono.training.pretraining.checkpoint_reader import CheckpointReader
from sono.training.pretraining.checkpoint_writer import CheckpointWriter


def save(run: Path, *steps: int, keep: int = 2) -> None:
    writer = CheckpointWriter(run, keep)
    for step in steps:
        writer.save({"model.weight": torch.full((1000,), float(step))}, {"step": step, "note": "né"})
    writer.wait()
    writer.close()


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "one bit":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    else:
        path.unlink()


def test_checkpoints_are_read_back_and_the_last_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 0, 10, 20, 30)
    found = checkpoints.latest(tmp_path, pytest.fail)
    assert found is not None
    assert (found.meta["step"], found.meta["note"], found.meta["file"]) == (30, "né", "step-00000030")
    assert torch.equal(found.read("model.")["weight"], torch.full((1000,), 30.0))
    assert names(tmp_path) == ["step-00000020", "step-00000030"]


def test_training_may_continue_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    writer, weight = CheckpointWriter(tmp_path, 1), torch.zeros(3_000_000)
    writer.save({"model.weight": weight}, {"step": 1})
    assert writer.last_good is None
    for value in range(1, 20):
        weight.fill_(value)
    writer.wait()
    assert writer.last_good is not None
    found = checkpoints.latest(tmp_path, pytest.fail)
    assert found is not None
    assert not found.read("model.")["weight"].any()


@pytest.mark.parametrize("file", ["__0_0.distcp", ".metadata", "meta.json"])
@pytest.mark.parametrize("how", ["truncated", "empty", "one bit", "missing"])
def test_a_damaged_checkpoint_is_skipped_with_a_notice(how: str, file: str, tmp_path: Path) -> None:
    save(tmp_path, 10, 20)
    damage(tmp_path / "checkpoints/step-00000020" / file, how)
    notices: list[str] = []
    found = checkpoints.latest(tmp_path, notices.append)
    assert found is not None
    assert found.meta["step"] == 10
    assert len(notices) == 1
    assert "step-00000020: damaged" in notices[0]


def test_if_all_checkpoints_are_damaged_training_does_not_start_over(tmp_path: Path) -> None:
    save(tmp_path, 10, 20)
    for step in (10, 20):
        damage(tmp_path / f"checkpoints/step-{step:08d}/__0_0.distcp", "truncated")
    with pytest.raises(UserError, match="every checkpoint is damaged"):
        checkpoints.latest(tmp_path, lambda _: None)


def test_a_checkpoint_without_digests_does_not_count(tmp_path: Path) -> None:
    save(tmp_path, 10, 20)
    (tmp_path / "checkpoints/step-00000020/sono.json").unlink()
    found = checkpoints.latest(tmp_path, pytest.fail)
    assert found is not None
    assert found.meta["step"] == 10
    assert checkpoints.latest(tmp_path / "elsewhere", pytest.fail) is None


def test_a_damaged_later_checkpoint_is_replaced_and_evicts_no_good_one(tmp_path: Path) -> None:
    save(tmp_path, 10, 20, keep=2)
    damage(tmp_path / "checkpoints/step-00000020/__0_0.distcp", "truncated")
    save(tmp_path, 15, 20, keep=2)
    found = checkpoints.latest(tmp_path, pytest.fail)
    assert found is not None
    assert found.meta["step"] == 20
    assert names(tmp_path) == ["step-00000015", "step-00000020"]


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    save(tmp_path, 10)
    shutil.copytree(tmp_path / "checkpoints/step-00000010", tmp_path / "checkpoints/.tmp-step-00000020")
    (tmp_path / ".tmp-1").touch()
    checkpoints.clear_leftovers(tmp_path)
    assert [*names(tmp_path), *(path.name for path in tmp_path.iterdir())] == ["step-00000010", "checkpoints"]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a full file system, writing more is an error of the system."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [100_000, 10])
def test_a_full_disk_is_a_one_line_error_and_the_last_good_checkpoint_stays(room: int, tmp_path: Path) -> None:
    writer = CheckpointWriter(tmp_path, keep=1)
    writer.save({"model.weight": torch.ones(100_000)}, {"step": 1})
    writer.wait()
    with files_of_at_most(room):
        writer.save({"model.weight": torch.ones(100_000)}, {"step": 2})
        with pytest.raises(UserError, match="cannot be written: File too large") as error:
            writer.wait()
    assert "\n" not in str(error.value)
    assert "step-00000001 is the last good checkpoint" in str(error.value)
    found = checkpoints.latest(tmp_path, pytest.fail)
    assert found is not None
    assert found.meta["step"] == 1


def test_only_descriptions_of_tensors_are_unpickled(tmp_path: Path) -> None:
    save(tmp_path, 1)
    folder = tmp_path / "checkpoints/step-00000001"
    (folder / ".metadata").write_bytes(pickle.dumps(Trap()))
    found = checkpoints.Checkpoint(folder, {})
    with pytest.raises(pickle.UnpicklingError, match="does not belong in a checkpoint"):
        found.read("model.")
    assert "antigravity" not in sys.modules


class Trap:
    def __reduce__(self) -> tuple[object, ...]:
        return __import__, ("antigravity",)


def test_a_checkpoint_of_another_format_is_refused(tmp_path: Path) -> None:
    save(tmp_path, 1)
    marker = tmp_path / "checkpoints/step-00000001/sono.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "format": 4}))
    with pytest.raises(UserError, match="has format 4, but this version reads 3"):
        checkpoints.latest(tmp_path, pytest.fail)
    (tmp_path / "old/checkpoints").mkdir(parents=True)
    (tmp_path / "old/checkpoints/step-00000001.pt").touch()  # what the first format looked like
    with pytest.raises(UserError, match="another version wrote its checkpoints"):
        checkpoints.latest(tmp_path / "old", pytest.fail)


def test_a_checkpoint_without_other_ranks_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every machine had a folder of its own: the description names files that are elsewhere."""
    save(tmp_path, 1)
    described = CheckpointReader.read_metadata

    def of_two_ranks(self: CheckpointReader) -> object:
        metadata = described(self)
        next(iter(metadata.storage_data.values())).relative_path = "__1_0.distcp"
        return metadata

    monkeypatch.setattr(CheckpointReader, "read_metadata", of_two_ranks)
    with pytest.raises(UserError, match=r"all machines must share the run's folder.*step-00000001 is the last good"):
        save_after(tmp_path, 2)
    assert names(tmp_path)[-1] == "step-00000001"


def save_after(run: Path, step: int) -> None:
    """As a resumed run does."""
    found = checkpoints.latest(run, pytest.fail)
    assert found is not None
    writer = CheckpointWriter(run, 2, last_good=found.folder)
    writer.save({"model.weight": torch.zeros(3)}, {"step": step})
    writer.wait()
