"""The gate: each thing for which a dataset must not be published is refused by its name, and all of them at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sono.curation.commands.captions import caption_guard
from sono.curation.dataset.run import build
from sono.curation.publishing.gate import refusals
from sono.curation.publishing.origin import own_keys
from sono.manifests.dataset_marker import describe_shard, seal_of
from sono.manifests.errors import UserError
from sono.manifests.key_check import record_key
from sono.manifests.publishable import DATASET_FILES, digest_files, find_files
from sono.manifests.schemas import FRAMES, QC, RECORDS, REGIONS, TableSpec
from sono.manifests.stages import in_process
from sono.manifests.withdrawn import Withdrawn
from sono.manifests.workspace import Workspace, create
from tests.curation.dataset.curated import PLAN
from tests.curation.publishing.conftest import Ready

Row = dict[str, Any]


def judge(ready: Ready, workspace: Workspace | None) -> dict[str, str]:
    files = digest_files(ready.folder, find_files(ready.folder, DATASET_FILES)[0])
    found = refusals(ready.folder, files, workspace, caption_guard(workspace))
    return {refusal.check: f"{refusal.what}; {refusal.fix}" for refusal in found}


def whats(ready: Ready) -> list[str]:
    files = digest_files(ready.folder, find_files(ready.folder, DATASET_FILES)[0])
    return [refusal.what for refusal in refusals(ready.folder, files, ready.workspace, caption_guard(ready.workspace))]


def shard(ready: Ready, split: str) -> Path:
    return min((ready.folder / "data").glob(f"{split}-*.parquet"))


def edit(ready: Ready, change: Callable[[list[Row]], object], split: str = "train", listed: bool = True) -> None:
    """Change rows of a shard, and have the marker list it as it is then, as a faulty build would."""
    path = shard(ready, split)
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    if listed:
        marker: Any = ready.marker
        marker["splits"][split]["shards"][f"data/{path.name}"] = describe_shard(path, len(rows))
        seal(ready, marker)


def seal(ready: Ready, marker: Any) -> None:
    keys = own_keys(ready.workspace, marker["pseudonyms"])
    assert keys
    (ready.folder / "sono.json").write_text(json.dumps({**marker, "seal": seal_of(marker, keys.content)}))


def edit_workspace(ready: Ready, table: TableSpec, change: Callable[[list[Row]], object]) -> None:
    store = ready.workspace.store
    for name, info in store.parts(table).items():
        rows = store.read(table, name).to_pylist()
        change(rows)
        store.write(table, info, table.from_rows(rows))
    ready.audit()


def test_a_dataset_as_build_writes_it_passes(ready: Ready) -> None:
    assert judge(ready, ready.workspace) == {}


def test_a_dataset_that_keeps_the_workspaces_keys_passes(ready: Ready, tmp_path: Path) -> None:
    build(ready.workspace, tmp_path / "out", plan=PLAN, linkable=True, allow_unchecked_text=True, engine=in_process)
    linkable = Ready(tmp_path / "out", ready.workspace)
    assert judge(linkable, ready.workspace) == {}
    edit(linkable, lambda rows: rows[0].update(caption="Another caption."))
    assert "captions" in judge(linkable, ready.workspace)


def test_without_the_workspace_or_with_another_nothing_passes(ready: Ready, tmp_path: Path) -> None:
    assert judge(ready, None) == {"audit": "nothing shows what it was built from; give --workspace WORKSPACE"}
    other = create(tmp_path / "other", "Hospital B")
    record_key(other.path, other.keys)
    assert "not built from this workspace" in judge(ready, other)["audit"]


def test_everything_that_is_wrong_is_named_at_once(ready: Ready) -> None:
    (ready.folder / "README.md").write_text("# no metadata\n")
    (ready.folder / "secret.key").write_text("5e" * 32)
    (ready.workspace.path / "audit" / "audit.json").unlink()
    edit(ready, lambda rows: None, listed=False)
    assert list(judge(ready, ready.workspace)) == ["files", "shards", "licence", "audit"]


def test_an_audit_that_failed_or_is_stale_is_refused(ready: Ready) -> None:
    ready.audit(passed=False)
    assert "failed for 1 reasons" in judge(ready, ready.workspace)["audit"]
    ready.audit()
    store = ready.workspace.store
    name, info = next(iter(store.parts(QC).items()))
    rows = store.read(QC, name).to_pylist()
    rows[0]["sharpness"] += 1.0
    store.write(QC, info, QC.from_rows(rows))
    assert "has changed since its audit" in judge(ready, ready.workspace)["audit"]


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("secret.key", "5e" * 32, "'secret.key'"),
        ("data/notes.txt", "x", "'data/notes.txt'"),
        ("data/deeper/train-0.parquet", "x", "'data/deeper/train-0.parquet'"),
        (".env", "HF_TOKEN=x", "'.env'"),
        ("CHANGELOG.md", "key " + "5e" * 32, "CHANGELOG.md holds a key"),
        ("provenance.json", '{"token": "hf_abcdefghijklmnopqrstuvwx"}', "provenance.json holds a key"),
    ],
)
def test_a_file_that_is_on_no_list_or_holds_a_secret_is_refused(
    ready: Ready, name: str, content: str, named: str
) -> None:
    (ready.folder / name).parent.mkdir(exist_ok=True)
    (ready.folder / name).write_text(content)
    found = judge(ready, ready.workspace)
    assert named in found["files"]
    assert "5e5e" not in found["files"]
    assert "hf_abc" not in found["files"]


def test_a_link_is_refused(ready: Ready) -> None:
    (ready.folder / "LICENSE").symlink_to(ready.workspace.path / "secret.key")
    assert "'LICENSE' would not be published or is a link" in judge(ready, ready.workspace)["files"]


def test_a_licence_is_needed(ready: Ready) -> None:
    card = (ready.folder / "README.md").read_text()
    (ready.folder / "README.md").write_text(card.replace("license: cc-by-4.0", "license: unknown"))
    assert list(judge(ready, ready.workspace)) == ["licence"]


def test_shards_have_to_be_those_that_the_marker_lists(ready: Ready) -> None:
    train, test = shard(ready, "train"), shard(ready, "test")
    edit(ready, lambda rows: rows.pop(), listed=False)
    test.rename(test.with_name("test-00009.parquet"))
    assert whats(ready) == [
        f"data/{test.name} is missing",
        "data/test-00009.parquet is not as build wrote it",
        f"data/{train.name} is not as build wrote it",
        "regions/ or metadata/ contradicts data/ in 1 splits",
    ]
    (ready.folder / "sono.json").unlink()
    assert "complete" in judge(ready, ready.workspace)


def test_patients_and_duplicates_across_splits_are_refused(ready: Ready) -> None:
    other = pq.read_table(shard(ready, "test")).to_pylist()[0]
    edit(ready, lambda rows: rows[0].update(patient_key=other["patient_key"]))
    assert "1 patients are in several splits" in judge(ready, ready.workspace)["splits"]


def test_duplicates_across_splits_are_refused(ready: Ready) -> None:
    edit_workspace(ready, QC, lambda rows: [row.update(duplicate_group="group") for row in rows])
    assert "1 groups of duplicates are in several splits" in judge(ready, ready.workspace)["splits"]


@pytest.mark.parametrize(
    "change",
    [
        lambda region: region["mask"].update(size=[200, 261]),
        lambda region: region["mask"].update(counts="0"),
        lambda region: region.update(area_px=region["area_px"] + 1),
        lambda region: region.update(bbox=[0, 0, 5, 5]),
    ],
    ids=["size", "runs", "area", "box"],
)
def test_a_mask_that_does_not_fit_its_image_is_refused(ready: Ready, change: Callable[[Row], None]) -> None:
    def first(rows: list[Row]) -> None:
        change(next(row for row in rows if row["regions"])["regions"][0])

    edit(ready, first)
    assert "1 masks do not fit their images" in judge(ready, ready.workspace)["masks"]


def test_captions_have_to_be_the_workspaces_and_within_the_guard(ready: Ready) -> None:
    edit(ready, lambda rows: rows[0].update(caption="A fetal ultrasound image of Mrs Example."))
    assert "1 captions are not the workspace's" in judge(ready, ready.workspace)["captions"]
    edit(ready, lambda rows: rows[0].update(caption="An image of 3 March."))
    assert list(judge(ready, ready.workspace)) == ["shards", "captions"]


def test_a_caption_that_names_somebody_is_refused(ready: Ready) -> None:
    word = ready.workspace.keys.word("transthalamic")  # as if somebody's name were in the caption
    edit_workspace(ready, RECORDS, lambda rows: rows[0].update(identity=[word]))
    assert "captions break the guard" in judge(ready, ready.workspace)["captions"]


def test_frames_whose_text_is_unchecked_or_that_are_not_accepted_are_refused(ready: Ready) -> None:
    edit_workspace(ready, FRAMES, lambda rows: rows[0].update(burned_in_text="unchecked"))
    assert "1 frames are not checked for burned-in text" in judge(ready, ready.workspace)["text"]
    edit_workspace(ready, QC, lambda rows: rows[1].update(verdict="reject"))
    assert whats(ready)[1] == "1 frames are not among those that the workspace accepts"


def test_a_dataset_from_before_a_change_of_the_workspace_is_refused(ready: Ready) -> None:
    store = ready.workspace.store
    name, info = next(iter(store.parts(REGIONS).items()))
    rows = [{**row, "status": "rejected"} for row in store.read(REGIONS, name).to_pylist()]
    store.write(REGIONS, replace(info, decisions="another"), REGIONS.from_rows(rows))
    ready.audit()
    assert judge(ready, ready.workspace)["complete"].startswith("the workspace has changed since it was built")


@pytest.mark.parametrize("name", ["audit", "text_in_pixels", "seal", "splits"])
def test_a_marker_that_somebody_edited_is_refused(ready: Ready, name: str) -> None:
    marker = {**ready.marker, name: {"passed": True, "files": 99, "frames": 12}}
    (ready.folder / "sono.json").write_text(json.dumps(marker))
    assert "sono.json is not as build wrote it" in judge(ready, ready.workspace)["complete"]


def test_a_column_that_no_check_knows_is_refused(ready: Ready) -> None:
    path = shard(ready, "train")
    table = pq.read_table(path)
    pq.write_table(table.append_column("name", pa.array(["Mrs Example"] * table.num_rows)), path)
    with pytest.raises(UserError, match="has other columns than build writes"):
        judge(ready, ready.workspace)


@pytest.mark.parametrize("folder", ["metadata", "regions"])
def test_rows_of_other_configurations_have_to_be_those_of_default(ready: Ready, folder: str) -> None:
    path = min((ready.folder / folder).glob("train-*.parquet"))
    table = pq.read_table(path)
    rows = table.to_pylist()
    pq.write_table(pa.Table.from_pylist([*rows[1:], {**rows[0], "patient_key": "f" * 32}], schema=table.schema), path)
    assert "regions/ or metadata/ contradicts data/ in 1 splits" in whats(ready)
    path.unlink()
    assert "regions/ or metadata/ contradicts data/ in 1 splits" in whats(ready)


def test_nobody_who_took_back_the_consent_is_published(ready: Ready) -> None:
    """Not even if the list of who did is newer than the tables, or a withdrawal was interrupted."""
    patient = ready.workspace.store.read_all(FRAMES, ["patient_key"])["patient_key"][0].as_py()
    withdrawn = Withdrawn().with_keys({"patient_key": frozenset({patient})})
    (ready.workspace.path / "withdrawn.json").write_text(json.dumps({**withdrawn.as_json(), "unfinished": True}))
    found = whats(ready)
    assert "a withdrawal was interrupted, so some of its patients may still be there" in found
    assert "3 frames are of patients who took back their consent" in found


def test_a_damaged_shard_is_to_be_built_again(ready: Ready) -> None:
    path = shard(ready, "train")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="this file is damaged") as refused:
        whats(ready)
    assert refused.value.fix == "run sono-curate build again"
