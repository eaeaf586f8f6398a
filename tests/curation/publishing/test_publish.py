"""Publish: what is on the Hub afterwards, what is sent again, and what one is told when it cannot be done."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest

from sono.curation.images.stored_png import decode_png
from sono.curation.publishing import verify
from sono.curation.publishing.patient_list import ListedPatient
from sono.curation.publishing.withdraw import withdraw
from sono.manifests import hub_upload
from sono.manifests.errors import UserError
from sono.manifests.hub import Remote
from sono.manifests.schemas import FRAMES
from tests.curation.publishing.conftest import REPO, Publish, Ready
from tests.hub.fixtures import Hub


def sha256s(folder: Path) -> dict[str, str]:
    """As ``Hub.files`` has them: texts by Git's digest."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.name != ".lock":
            content = path.read_bytes()
            text = path.suffix in (".md", ".json")
            digest = hashlib.sha1(b"blob %d\0" % len(content) + content) if text else hashlib.sha256(content)
            found[path.relative_to(folder).as_posix()] = digest.hexdigest()
    return found


def settings(hub: Hub) -> tuple[bool, object]:
    found = hub.state.repository("dataset", REPO).settings
    return found["private"], found["gated"]


def refs(hub: Hub) -> set[str]:
    return set(hub.state.repository("dataset", REPO).refs)


def puts(hub: Hub) -> int:
    return sum(entry.received for entry in hub.state.log if entry.method == "PUT" and entry.path.startswith("/lfs/"))


def failed(publish: Publish, *words: object, repo: str = REPO, typed: str | None = None) -> str:
    result = publish(*words, repo=repo, typed=typed)
    assert isinstance(result.exception, UserError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_a_published_dataset_is_private_gated_tagged_and_equal_in_every_field(
    hub: Hub, ready: Ready, publish: Publish, tmp_path: Path
) -> None:
    result = publish("--tag", "v1", "--message", "The first frames")
    assert result.exit_code == 0, result.output
    assert hub.files(REPO) == hub.files(REPO, "v1") == sha256s(ready.folder)
    assert settings(hub) == (True, "manual")
    assert refs(hub) == {"refs/heads/main", "refs/tags/v1"}
    assert hub.api.list_repo_commits(REPO, repo_type="dataset")[0].title == "The first frames"
    assert [move.ref for move in hub.state.moves].count("refs/heads/main") == 2  # it was made, and moved once
    loaded = datasets.load_dataset(REPO, revision="v1", cache_dir=str(tmp_path / "cache"))
    for split, rows in loaded.items():
        local = pq.read_table(next((ready.folder / "data").glob(f"{split}-*"))).to_pylist()
        for here, there in zip(local, rows, strict=True):
            assert np.array_equal(np.asarray(there.pop("image")), decode_png(here.pop("image")["bytes"]))
            assert there == here
    assert hub.token not in result.output


def test_a_dataset_that_the_gate_refuses_is_not_sent(hub: Hub, ready: Ready, publish: Publish) -> None:
    (ready.folder / "secret.key").write_text("5e" * 32)
    (ready.workspace.path / "audit" / "audit.json").unlink()
    for words in ([], ["--dry-run"]):
        result = publish(*words)
        assert result.exit_code == 1
        assert [line.split(":")[1] for line in result.stderr.splitlines()] == [" files", " audit"]
    assert not hub.api.repo_exists(REPO, repo_type="dataset")


def test_who_withdraws_during_the_upload_is_not_published(
    hub: Hub, ready: Ready, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    patients = ready.workspace.store.read_all(FRAMES, ["patient_number_key"])["patient_number_key"].to_pylist()
    number = next(f"P{n}" for n in range(1, 5) if ready.workspace.keys.patient("", f"P{n}") in patients)
    real = verify.row_reader

    def while_they_wait(folder: Path) -> Callable[[Remote, str], None]:
        with ready.workspace.writing():
            withdraw(ready.workspace, [ListedPatient(1, number)])
        return real(folder)

    monkeypatch.setattr(verify, "row_reader", while_they_wait)
    result = publish("--public", "--yes")
    assert result.exit_code == 1
    assert "refused: consent: 3 frames are of patients who took back their consent" in result.stderr
    assert hub.files(REPO) == {}
    assert refs(hub) == {"refs/heads/main"}
    assert settings(hub) == (True, "manual")


def test_nobody_can_withdraw_between_the_last_look_and_the_end(
    hub: Hub, ready: Ready, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, said = hub_upload._move_main, []

    def moving(*arguments: Any) -> str:
        with pytest.raises(UserError) as refused, ready.workspace.writing():
            pass
        said.append(refused.value.what)
        return real(*arguments)

    monkeypatch.setattr(hub_upload, "_move_main", moving)
    assert publish().exit_code == 0
    assert said == ["another command is writing here"]
    with ready.workspace.writing():
        pass


def test_an_update_sends_what_changed_and_deletes_what_is_gone(hub: Hub, ready: Ready, publish: Publish) -> None:
    assert publish("--tag", "v1").exit_code == 0
    first = hub.files(REPO)
    hub.api.upload_file(path_or_fileobj=b"mine", path_in_repo="NOTES.txt", repo_id=REPO, repo_type="dataset")
    extra = ready.folder / "data" / "old-00000-of-00001.parquet"
    hub.api.upload_file(path_or_fileobj=b"PAR1\0", path_in_repo=f"data/{extra.name}", repo_id=REPO, repo_type="dataset")
    (ready.folder / "CHANGELOG.md").write_text("# Changes\n")
    hub.state.log.clear()
    hub.state.moves.clear()
    result = publish("--tag", "v2")
    assert result.exit_code == 0, result.output
    assert "1 files sent (10 bytes), 1 deleted" in result.stdout
    assert puts(hub) == 0
    assert hub.files(REPO, "v1") == first
    assert set(hub.files(REPO, "v2")) == {*first, "CHANGELOG.md", "NOTES.txt"}
    assert len([move for move in hub.state.moves if move.ref == "refs/heads/main"]) == 1


def test_publishing_the_same_again_does_nothing(hub: Hub, ready: Ready, publish: Publish) -> None:
    assert publish().exit_code == 0
    hub.state.moves.clear()
    result = publish()
    assert result.exit_code == 0
    assert "has all of it already" in result.stdout
    assert hub.state.moves == []


def test_a_dry_run_prints_what_would_happen_and_changes_nothing(hub: Hub, ready: Ready, publish: Publish) -> None:
    files = [path for path in ready.folder.rglob("*") if path.is_file() and path.name != ".lock"]
    count, size = len(files), sum(path.stat().st_size for path in files)
    result = publish("--dry-run", "--tag", "v1", "--public")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == f"to        {hub.address}/datasets/{REPO} (new)"
    assert lines[1:3] == ["access    public, gated", "tag       v1"]
    assert {"card      license: cc-by-4.0", "card      language: en", "card      configs: 3 described"} <= set(lines)
    assert len([line for line in lines if line.startswith("send      ")]) == count
    assert lines[-1] == f"in all    {count} files to send ({size:,} bytes), 0 to delete, 0 unchanged"
    assert not hub.api.repo_exists(REPO, repo_type="dataset")
    assert publish().exit_code == 0
    last = publish("--dry-run").stdout.splitlines()[-1]
    assert last == f"in all    0 files to send (0 bytes), 0 to delete, {count} unchanged"


def test_a_dry_run_needs_no_token(hub: Hub, ready: Ready, publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    result = publish("--dry-run")
    assert result.exit_code == 0
    assert "assumed: the Hub was not asked (no token)" in result.stdout
    assert hub.state.log == []


def test_public_asks_for_the_name(hub: Hub, ready: Ready, publish: Publish) -> None:
    assert "that is not its name" in failed(publish, "--public", typed="yes\n")
    assert not hub.api.repo_exists(REPO, repo_type="dataset")
    result = publish("--public", "--open", typed=f"{REPO}\n")
    assert result.exit_code == 0, result.output
    assert settings(hub) == (False, False)
    assert hub.api.repo_info(REPO, repo_type="dataset", token=False).sha
    assert "the repository is public; say --public to publish there, or --private" in failed(publish)
    assert "open to all" in failed(publish, "--public", "--yes")
    assert publish("--private").exit_code == 0
    assert settings(hub) == (True, "manual")


def test_who_cannot_write_is_told(hub: Hub, ready: Ready, publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "your token cannot write here; use one with write access" in failed(publish, repo="others/frames")
    monkeypatch.setenv("HF_TOKEN", hub.reader)
    assert "your token cannot write here" in failed(publish)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    said = failed(publish)
    assert "the Hub does not know your token" in said
    assert "hf_wrong" not in said
    monkeypatch.delenv("HF_TOKEN")
    assert "no token for" in failed(publish)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert publish().exit_code == 0
    monkeypatch.setenv("HF_TOKEN", hub.reader)
    assert "your token cannot write here" in failed(publish)
