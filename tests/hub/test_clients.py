"""The real clients against the loopback Hub: what they send is understood, and what they get is what was sent."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import datasets
import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub.faults import Fault
from tests.hub.fixtures import Hub

REPO = "hospital/frames"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# Frames\n")
    for split, rows in (("train", 3000), ("test", 10)):
        pq.write_table(pa.table({"n": range(rows), "split": [split] * rows}), folder / "data" / f"{split}-0.parquet")
    return folder


@pytest.fixture
def published(hub: Hub, folder: Path) -> str:
    hub.api.create_repo(REPO, repo_type="dataset", private=True)
    hub.api.upload_folder(repo_id=REPO, repo_type="dataset", folder_path=folder)
    return REPO


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_uploaded_folder_is_loaded_by_datasets(hub: Hub, published: str, folder: Path, tmp_path: Path) -> None:
    streamed = datasets.load_dataset(published, split="train", streaming=True)
    assert next(iter(streamed)) == {"n": 0, "split": "train"}
    loaded = datasets.load_dataset(published, cache_dir=str(tmp_path / "cache"))
    assert {name: split.num_rows for name, split in loaded.items()} == {"train": 3000, "test": 10}
    assert loaded["train"]["n"][:] == list(range(3000))


def test_a_snapshot_has_the_same_bytes(hub: Hub, published: str, folder: Path, tmp_path: Path) -> None:
    snapshot_download(published, repo_type="dataset", local_dir=tmp_path / "copy")
    for path in folder.rglob("*.*"):
        assert (tmp_path / "copy" / path.relative_to(folder)).read_bytes() == path.read_bytes()


def test_large_files_travel_in_parts(hub: Hub, folder: Path) -> None:
    hub.state.multipart_bytes = 5000
    hub.api.create_repo(REPO, repo_type="dataset")
    hub.api.upload_folder(repo_id=REPO, repo_type="dataset", folder_path=folder)
    assert any(re.fullmatch("/lfs/.*/2", entry.path) for entry in hub.state.log)
    assert hub.files(REPO)["data/train-0.parquet"] == sha256(folder / "data" / "train-0.parquet")


def test_what_is_there_already_is_not_sent_again(hub: Hub, published: str, folder: Path) -> None:
    hub.state.log.clear()
    head = hub.api.repo_info(published, repo_type="dataset").sha
    hub.api.upload_folder(repo_id=published, repo_type="dataset", folder_path=folder)
    assert hub.api.repo_info(published, repo_type="dataset").sha == head
    assert not [entry for entry in hub.state.log if entry.method == "PUT"]


def test_the_tree_comes_in_pages(hub: Hub, published: str) -> None:
    hub.state.page = 2
    files = [entry.path for entry in hub.api.list_repo_tree(published, repo_type="dataset", recursive=True)]
    assert set(files) == {".gitattributes", "README.md", "data", "data/train-0.parquet", "data/test-0.parquet"}
    assert [entry.path for entry in hub.api.list_repo_tree(published, "data", repo_type="dataset")] == [
        "data/test-0.parquet",
        "data/train-0.parquet",
    ]


def test_branches_tags_and_copies_between_branches(hub: Hub, published: str) -> None:
    api = hub.api
    api.create_branch(published, branch="new/one", repo_type="dataset")
    add = CommitOperationAdd("data/more-0.parquet", b"PAR1\0more")
    done = api.create_commit(published, [add], commit_message="more", repo_type="dataset", revision="new/one")
    head = api.repo_info(published, repo_type="dataset").sha
    copy = CommitOperationCopy("data/more-0.parquet", "data/more-0.parquet", src_revision=done.oid)
    drop = CommitOperationDelete("data/test-0.parquet")
    moved = api.create_commit(published, [copy, drop], commit_message="move", repo_type="dataset", parent_commit=head)
    api.create_tag(published, tag="v1", repo_type="dataset")
    refs = api.list_repo_refs(published, repo_type="dataset")
    assert {branch.name: branch.target_commit for branch in refs.branches} == {"main": moved.oid, "new/one": done.oid}
    assert {tag.name: tag.target_commit for tag in refs.tags} == {"v1": moved.oid}
    assert set(hub.files(published)) == {"README.md", "data/train-0.parquet", "data/more-0.parquet"}
    api.delete_branch(published, branch="new/one", repo_type="dataset")
    api.delete_tag(published, tag="v1", repo_type="dataset")
    assert list(hub.state.repository("dataset", published).refs) == ["refs/heads/main"]


def test_a_commit_on_an_older_parent_is_refused(hub: Hub, published: str) -> None:
    parent = hub.api.list_repo_commits(published, repo_type="dataset")[-1].commit_id
    with pytest.raises(HfHubHTTPError) as refused:
        hub.api.create_commit(
            published,
            [CommitOperationAdd("x.txt", b"x")],
            commit_message="x",
            repo_type="dataset",
            parent_commit=parent,
        )
    assert refused.value.response.status_code == 412
    assert "x.txt" not in hub.files(published)


def test_squashing_leaves_one_commit_and_deleted_contents_are_gone(hub: Hub, published: str) -> None:
    api = hub.api
    before = api.repo_info(published, repo_type="dataset").sha
    api.delete_file("data/train-0.parquet", published, repo_type="dataset")
    api.super_squash_history(published, repo_type="dataset")
    assert len(api.list_repo_commits(published, repo_type="dataset")) == 1
    with pytest.raises(RevisionNotFoundError):
        api.repo_info(published, repo_type="dataset", revision=before)
    gone = [file for file in api.list_lfs_files(published, repo_type="dataset") if not file.filename]
    api.permanently_delete_lfs_files(published, gone, repo_type="dataset")
    assert [file.filename for file in api.list_lfs_files(published, repo_type="dataset")] == ["data/test-0.parquet"]


def test_who_may_not_see_a_repository_does_not_learn_that_it_is_there(hub: Hub, published: str) -> None:
    for token in (False, hub.stranger):
        with pytest.raises(RepositoryNotFoundError):
            hub.api.repo_info(published, repo_type="dataset", token=token)
        with pytest.raises(RepositoryNotFoundError):
            hub.api.hf_hub_download(published, "README.md", repo_type="dataset", token=token)
    with pytest.raises(datasets.exceptions.DatasetNotFoundError):
        datasets.load_dataset(published, token=False)
    assert hub.api.whoami()["name"] == hub.user
    with pytest.raises(HfHubHTTPError) as refused:
        hub.api.repo_info(published, repo_type="dataset", token="hf_wrong")
    assert refused.value.response.status_code == 401
    with pytest.raises(HfHubHTTPError) as refused:
        hub.api.delete_file("README.md", published, repo_type="dataset", token=hub.reader)
    assert refused.value.response.status_code == 403


def test_a_gated_repository_shows_its_tree_and_keeps_its_files(hub: Hub, published: str) -> None:
    hub.api.update_repo_settings(published, private=False, gated="manual", repo_type="dataset")
    info = hub.api.repo_info(published, repo_type="dataset", token=False)
    assert (info.private, info.gated) == (False, "manual")
    with pytest.raises(GatedRepoError):
        hub.api.hf_hub_download(published, "README.md", repo_type="dataset", token=hub.stranger)
    hub.api.update_repo_settings(published, gated=False, repo_type="dataset")
    assert hub.api.hf_hub_download(published, "README.md", repo_type="dataset", token=False)
    with pytest.raises(EntryNotFoundError):
        hub.api.hf_hub_download(published, "LICENSE", repo_type="dataset")
    hub.api.delete_repo(published, repo_type="dataset")
    assert not hub.api.repo_exists(published, repo_type="dataset")


@pytest.mark.parametrize("kind", ["status", "drop", "lose"])
def test_a_client_gets_over_faults_of_an_upload(hub: Hub, folder: Path, kind: str) -> None:
    hub.api.create_repo(REPO, repo_type="dataset")
    hub.fail(
        Fault("PUT", "^/lfs/", kind, headers={"Retry-After": "7"}, status=429),  # type: ignore[arg-type]
        Fault("POST", "/preupload/", kind),  # type: ignore[arg-type]
    )
    hub.api.upload_folder(repo_id=REPO, repo_type="dataset", folder_path=folder)
    assert hub.files(REPO)["data/train-0.parquet"] == sha256(folder / "data" / "train-0.parquet")
    assert [fault.struck for fault in hub.state.faults] == [1, 1]
    assert (8.0 in hub.waits) == (kind == "status")


def test_a_slow_link_is_slow(hub: Hub, published: str) -> None:
    hub.fail(Fault("GET", "^/cdn/", "slow", bytes_per_second=100_000))
    url = f"{hub.address}/datasets/{published}/resolve/main/data/train-0.parquet"
    answer = httpx2.get(url, headers={"Authorization": f"Bearer {hub.token}"}, follow_redirects=True)
    assert answer.elapsed.total_seconds() > len(answer.content) / 110_000 > 0.05
