from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sono.manifests.errors import UserError
from sono.training import checkpoints


def content(step: int) -> dict[str, Any]:
    return {"step": step, "model": {"weight": torch.full((1000,), float(step))}}


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


def test_what_was_saved_is_read_back_and_the_last_are_kept(tmp_path: Path) -> None:
    for step in (0, 10, 20, 30):
        checkpoints.save(tmp_path, content(step), keep=2)
    loaded = checkpoints.latest(tmp_path, pytest.fail)
    assert loaded is not None
    assert loaded.content["step"] == 30
    assert torch.equal(loaded.content["model"]["weight"], torch.full((1000,), 30.0))
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "step-00000020.json", "step-00000020.pt", "step-00000030.json", "step-00000030.pt",
    ]  # fmt: skip


@pytest.mark.parametrize("how", ["truncated", "empty", "one bit", "missing"])
def test_a_damaged_checkpoint_is_passed_over_with_a_notice(how: str, tmp_path: Path) -> None:
    for step in (10, 20):
        checkpoints.save(tmp_path, content(step), keep=2)
    damage(tmp_path / "checkpoints/step-00000020.pt", how)
    notices: list[str] = []
    loaded = checkpoints.latest(tmp_path, notices.append)
    assert loaded is not None
    assert loaded.content["step"] == 10
    assert len(notices) == 1
    assert "step-00000020.pt: damaged" in notices[0]


def test_when_all_are_damaged_it_says_so_and_does_not_begin_again(tmp_path: Path) -> None:
    for step in (10, 20):
        damage(checkpoints.save(tmp_path, content(step), keep=2), "truncated")
    with pytest.raises(UserError, match="every checkpoint is damaged"):
        checkpoints.latest(tmp_path, lambda _: None)


def test_one_without_its_digest_was_never_finished(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, content(10), keep=2)
    checkpoints.save(tmp_path, content(20), keep=2).with_suffix(".json").unlink()
    loaded = checkpoints.latest(tmp_path, pytest.fail)
    assert loaded is not None
    assert loaded.content["step"] == 10
    assert checkpoints.latest(tmp_path / "elsewhere", pytest.fail) is None


def test_a_damaged_later_one_does_not_push_out_the_good_ones(tmp_path: Path) -> None:
    for step in (10, 20):
        checkpoints.save(tmp_path, content(step), keep=1)
    damage(tmp_path / "checkpoints/step-00000020.pt", "truncated")
    checkpoints.save(tmp_path, content(15), keep=1)
    loaded = checkpoints.latest(tmp_path, lambda _: None)
    assert loaded is not None
    assert loaded.content["step"] == 15


def test_nothing_but_tensors_and_plain_values_is_ever_unpickled(tmp_path: Path) -> None:
    path = checkpoints.save(tmp_path, {"step": 1, "trap": Trap()}, keep=1)
    with pytest.raises(Exception, match="weights_only"):
        checkpoints.latest(tmp_path, lambda _: None)
    assert path.exists()
    assert not Trap.sprung


class Trap:
    sprung = False

    def __setstate__(self, state: object) -> None:
        Trap.sprung = True

    def __getstate__(self) -> object:
        return {"a": 1}


def test_a_checkpoint_of_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints.save(tmp_path, content(1), keep=1)
    monkeypatch.setattr(checkpoints, "FORMAT", 2)
    with pytest.raises(UserError, match="has format 1 and this version reads 2"):
        checkpoints.latest(tmp_path, pytest.fail)
