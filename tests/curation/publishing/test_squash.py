"""After a squash no revision of the repository has a byte of who withdrew; until then nothing is erased."""

from __future__ import annotations

import io
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from huggingface_hub.errors import RevisionNotFoundError
from typer.testing import CliRunner

from sono.curation.cli import app
from sono.curation.dataset.run import build
from sono.curation.qc.run import qc
from sono.manifests.dataset_marker import describe_shard
from sono.manifests.errors import UserError
from sono.manifests.key_check import record_key
from sono.manifests.stages import in_process
from sono.manifests.workspace import create
from tests.curation.dataset.curated import PLAN, rows_of
from tests.curation.publishing.conftest import REPO, MadeOnce, Publish, Ready
from tests.hub.faults import Fault
from tests.hub.fixtures import Hub

pytestmark = pytest.mark.slow


def sono_curate(*words: object, typed: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], input=typed)


def squash(ready: Ready, *words: object, repo: str = REPO, typed: str | None = None) -> Result:
    return sono_curate("withdraw", ready.workspace.path, "--squash", repo, *words, typed=typed)


def refused(result: Result) -> str:
    assert isinstance(result.exception, UserError), result.output
    return str(result.exception)


def build_again(ready: Ready) -> None:
    with ready.workspace.writing():
        qc(ready.workspace, engine=in_process)
    build(ready.workspace, ready.folder, plan=PLAN, allow_unchecked_text=True, engine=in_process)
    ready.audit()


def withdraw(ready: Ready, patient: str) -> set[bytes]:
    """Take a patient out of the workspace; returns everything that the dataset has of them."""
    before = rows_of(ready.folder)
    (ready.folder.parent / "gone.txt").write_text(f"{patient}\n")
    result = sono_curate("withdraw", ready.workspace.path, "--patients", ready.folder.parent / "gone.txt")
    assert result.exit_code == 0, result.output
    build_again(ready)
    kept = {row["frame_id"] for row in rows_of(ready.folder)}
    theirs = [row for row in before if row["frame_id"] not in kept]
    assert len(theirs) == 3
    assert len({row["patient_key"] for row in theirs}) == 1
    return {
        value
        for row in theirs
        for value in (
            row["image"]["bytes"],
            *(row[name].encode() for name in ("frame_id", "patient_key", "study_key", "caption_id", "caption")),
            *(region["caption_id"].encode() for region in row["regions"]),
        )
    }


def contents(hub: Hub) -> dict[str, bytes]:
    """Every file in the Hub's folder, tables decoded as well."""
    found = {}
    for path in hub.state.root.rglob("*"):
        if not path.is_file():
            continue
        found[str(path)] = raw = path.read_bytes()
        if raw[:4] == b"PAR1":
            table = pq.read_table(io.BytesIO(raw))
            names = [name for name in table.schema.names if name not in ("image", "mask")]
            found[str(path)] += json.dumps(table.select(names).to_pylist()).encode()
    return found


def found_in(hub: Hub, values: set[bytes]) -> set[bytes]:
    texts = contents(hub).values()
    return {value for value in values if any(value in text for text in texts)}


@pytest.fixture
def twice(hub: Hub, ready: Ready, publish: Publish, made_once: MadeOnce) -> set[bytes]:
    """Published, then without a patient; the history, a tag and a branch still have them. Returns what is theirs."""

    def fill(folder: Path) -> None:
        assert publish("--tag", "v1").exit_code == 0
        hub.api.create_branch(REPO, branch="try", repo_type="dataset")
        theirs = withdraw(ready, "P2")
        assert publish("--tag", "v2").exit_code == 0
        (folder / "theirs").write_bytes(pickle.dumps(theirs))
        shutil.copytree(hub.state.root / "repos", folder / "hub" / "repos")
        shutil.copytree(ready.folder.parent, folder / "ready")

    made = made_once("published without a patient", fill)
    shutil.copytree(made / "hub", hub.state.root, dirs_exist_ok=True)
    shutil.rmtree(ready.folder.parent)
    shutil.copytree(made / "ready", ready.folder.parent)
    theirs: set[bytes] = pickle.loads((made / "theirs").read_bytes())
    assert found_in(hub, theirs) == theirs
    return theirs


def test_nothing_of_who_withdrew_is_left_on_the_hub(hub: Hub, ready: Ready, twice: set[bytes]) -> None:
    old, newest = hub.api.repo_info(REPO, repo_type="dataset", revision="v1").sha, hub.files(REPO)
    hub.api.upload_file(path_or_fileobj=b"mine", path_in_repo="NOTES.txt", repo_id=REPO, repo_type="dataset")
    assert "that is not its name" in refused(squash(ready, typed="frames\n"))
    assert found_in(hub, twice) == twice

    result = squash(ready, typed=f"{REPO}\n")
    assert result.exit_code == 0, result.output
    assert "tag v1" in result.stderr
    assert "branch try" in result.stderr
    assert found_in(hub, twice) == set()
    assert hub.files(REPO) == {**newest, "NOTES.txt": hub.files(REPO)["NOTES.txt"]}
    assert set(hub.state.repository("dataset", REPO).refs) == {"refs/heads/main"}
    assert len(hub.api.list_repo_commits(REPO, repo_type="dataset")) == 1
    with pytest.raises(RevisionNotFoundError):
        hub.api.repo_info(REPO, repo_type="dataset", revision=old)
    assert "not looked into: NOTES.txt" in result.stdout
    assert "trained on these patients" in result.stdout

    proof = json.loads((ready.workspace.path / "withdrawals" / "0001.json").read_text())
    (entry,) = proof["squashed"]
    assert old in entry["erased"]["commits"]
    assert entry["erased"]["tags"] == ["v1", "v2"]  # somebody has committed since v2
    assert entry["erased"]["branches"] == ["try"]
    assert entry["rows_checked"] == sum(len(pq.read_table(path)) for path in ready.folder.glob("*/*.parquet"))
    assert entry["left"]["unchecked_files"] == ["NOTES.txt"]


def test_a_squash_that_breaks_off_resumes(hub: Hub, ready: Ready, twice: set[bytes], publish: Publish) -> None:
    def break_off(method: str, moment: str) -> None:
        if method in ("POST", "DELETE") and moment == "after":
            hub.state.faults.append(Fault("*", ".", "drop", times=10_000))

    steps = 0
    while (result := _squashed_until(hub, ready, break_off)).exit_code:
        assert isinstance(result.exception, UserError), result.output
        steps += 1
        assert hub.files(REPO)
    hub.state.watch = lambda method, moment: None
    assert steps == 6  # a branch, two tags, the squash, contents, and a tag again
    assert found_in(hub, twice) == set()
    assert set(hub.state.repository("dataset", REPO).refs) == {"refs/heads/main", "refs/tags/v2"}
    proof = json.loads((ready.workspace.path / "withdrawals" / "0001.json").read_text())
    assert proof["squashed"][-1]["erased"]["tags"] == ["v1"]
    assert f"{proof['squashed'][-1]['erased']['contents']} contents of" in result.stdout  # that an earlier run deleted
    assert proof["squashed"][-1]["erased"]["contents"] > 0
    assert not (ready.workspace.path / "withdrawals" / ".squash.json").exists()
    assert "has all of it already" in publish("--tag", "v2").stdout


def _squashed_until(hub: Hub, ready: Ready, watch: Callable[[str, str], None]) -> Result:
    """One attempt, which ends with the first change that the Hub makes."""
    hub.state.watch = watch
    try:
        return squash(ready, "--yes")
    finally:
        hub.state.faults.clear()


def test_while_main_holds_a_row_of_theirs_nothing_is_erased(hub: Hub, ready: Ready, publish: Publish) -> None:
    assert publish("--tag", "v1").exit_code == 0
    assert "nobody has taken back the consent" in refused(squash(ready, "--yes"))
    rows = pa.concat_tables(pq.read_table(path) for path in (ready.folder / "data").glob("*.parquet"))
    withdraw(ready, "P2")
    said = refused(squash(ready, "--yes"))
    assert "main still holds 7 rows of patients who took back their consent" in said
    assert "then sono-curate publish it there" in said
    assert publish("--tag", "v2").exit_code == 0

    def upload(path: str, content: bytes) -> None:
        hub.api.upload_file(path_or_fileobj=content, path_in_repo=path, repo_id=REPO, repo_type="dataset")

    table = io.BytesIO()
    pq.write_table(rows, table)
    upload("data/more-00000.parquet", table.getvalue())
    assert "data/more-00000.parquet, which sono.json does not list" in refused(squash(ready, "--yes"))

    # The metadata show nobody who withdrew; every table is looked into all the same.
    hub.api.delete_file("data/more-00000.parquet", REPO, repo_type="dataset")
    marker = json.loads((ready.folder / "sono.json").read_bytes())
    name, shard = next(iter(marker["splits"]["train"]["shards"].items()))
    (ready.folder / name).write_bytes(table.getvalue())
    shard |= describe_shard(ready.folder / name, len(rows))
    upload(name, table.getvalue())
    upload("sono.json", json.dumps(marker).encode())
    assert "main still holds 3 rows" in refused(squash(ready, "--yes"))
    assert "refs/tags/v1" in hub.state.repository("dataset", REPO).refs


def test_what_the_hub_keeps_is_said(hub: Hub, ready: Ready, twice: set[bytes]) -> None:
    state = hub.state.repository("dataset", REPO)
    state.move("refs/pr/1", state.commit_of("v1"))
    state.move("refs/convert/parquet", state.commit_of("v2"))
    said = squash(ready, "--yes").stdout
    assert "old commits, which the Hub still answers to" in said
    assert "refs/pr/1 hold revisions of their own" in said
    assert "refs/convert/parquet, the viewer's copy" in said
    assert found_in(hub, twice) == set()  # their contents are gone all the same


def test_repositories_that_cannot_be_squashed(hub: Hub, ready: Ready, twice: set[bytes], tmp_path: Path) -> None:
    hub.api.create_repo("hospital/model", repo_type="model")
    hub.api.create_repo("hospital/empty", repo_type="dataset")
    assert "hospital/model is the name of a model" in refused(squash(ready, "--yes", repo="hospital/model"))
    assert "main is no dataset of sono-curate" in refused(squash(ready, "--yes", repo="hospital/empty"))
    assert "not found" in refused(squash(ready, "--yes", repo="hospital/none"))
    other: Any = Ready(ready.folder, create(tmp_path / "other", "B"))
    record_key(other.workspace.path, other.workspace.keys)
    shutil.copy(ready.workspace.path / "withdrawn.json", other.workspace.path)
    assert "was not built from this workspace" in refused(squash(other, "--yes"))
    assert "give either --patients or --squash" in refused(sono_curate("withdraw", ready.workspace.path))
    assert found_in(hub, twice) == twice
