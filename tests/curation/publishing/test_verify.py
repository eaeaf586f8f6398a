"""What is published is read back as others will read it: by ``datasets``, from the Hub."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sono.curation.publishing.verify import row_reader
from sono.manifests.errors import UserError
from sono.manifests.hub import Remote, TransientError
from tests.hub.fixtures import Hub

REPO = "hospital/frames"

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a dataset with several row groups."""
    (tmp_path / "data").mkdir()
    frames = pa.table({"frame_id": [f"{number:032x}" for number in range(40)], "image": [bytes(100_000)] * 40})
    pq.write_table(frames, tmp_path / "data" / "train-00000.parquet", row_group_size=4, compression="none")
    (tmp_path / "sono.json").write_text(json.dumps({"splits": {"train": 40}}))
    return tmp_path


@pytest.fixture
def published(hub: Hub, folder: Path) -> tuple[Remote, str]:
    hub.api.create_repo(REPO, repo_type="dataset")
    commit = hub.api.upload_folder(repo_id=REPO, folder_path=folder, repo_type="dataset").oid
    return Remote(hub.api, "dataset", REPO), commit


def test_the_first_row_is_that_of_the_folder(folder: Path, published: tuple[Remote, str]) -> None:
    row_reader(folder)(*published)


def test_another_first_row_is_refused(folder: Path, published: tuple[Remote, str]) -> None:
    shard = folder / "data" / "train-00000.parquet"
    pq.write_table(pq.read_table(shard).slice(1), shard)
    with pytest.raises(UserError, match="another first row than this folder has"):
        row_reader(folder)(*published)


def test_what_datasets_cannot_read_is_refused(hub: Hub, folder: Path) -> None:
    hub.api.create_repo(REPO, repo_type="dataset")
    commit = hub.api.upload_file(
        path_or_fileobj=b"PAR1 and no more", path_in_repo="data/train-00000.parquet", repo_id=REPO, repo_type="dataset"
    ).oid
    with pytest.raises(UserError, match=r"datasets cannot read it: \S") as refused:
        row_reader(folder)(Remote(hub.api, "dataset", REPO), commit)
    assert not isinstance(refused.value, TransientError), "no other try would help"
