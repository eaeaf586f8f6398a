"""A published dataset in another workspace: what is in it, what changes, and what may be published again."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from sono.curation.check import check_workspace
from sono.curation.cli import app
from sono.curation.commands import options
from sono.curation.dataset.run import build
from sono.curation.dataset.shards.images import ImageFormat
from sono.curation.images.stored_png import decode_png
from sono.curation.qc.run import qc
from sono.manifests import masks
from sono.manifests.errors import UserError
from sono.manifests.journal import Journal
from sono.manifests.journal_events import NewEvent
from sono.manifests.journal_file import journal_path
from sono.manifests.key_check import record_key
from sono.manifests.schemas import CAPTIONS, FRAMES, QC, RECORDS, REGIONS
from sono.manifests.splits import SplitPlan
from sono.manifests.stages import in_process
from sono.manifests.workspace import Workspace, create, open_workspace
from tests.curation.dataset.curated import PLAN, rows_of
from tests.curation.publishing.conftest import REPO, MadeOnce, Publish, Ready
from tests.hub.faults import Fault
from tests.hub.fixtures import Hub

pytestmark = pytest.mark.slow

Row = dict[str, Any]
KEYS = ("frame_id", "patient_key", "study_key", "caption_id")
LOAD = """
import datasets, hashlib, json, sys
def said(row):
    return {**row, "image": hashlib.sha256(row["image"].tobytes()).hexdigest()}
def loaded(repo):
    return datasets.load_dataset(repo, cache_dir=sys.argv[1])
print(json.dumps([{split: list(map(said, rows)) for split, rows in loaded(repo).items()} for repo in sys.argv[2:]]))
"""


@pytest.fixture
def published(hub: Hub, ready: Ready, publish: Publish, made_once: MadeOnce) -> Ready:
    """On the Hub, as v1."""

    def fill(folder: Path) -> None:
        result = publish("--tag", "v1")
        assert result.exit_code == 0, result.output
        shutil.copytree(hub.state.root / "repos", folder / "repos")

    shutil.copytree(made_once("published", fill), hub.state.root, dirs_exist_ok=True)
    return ready


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """An empty workspace of another hospital, with a key of its own."""
    monkeypatch.setattr(options, "local_engine", lambda workers: in_process)
    return empty(tmp_path / "other", "b0")


def empty(path: Path, key: str) -> Workspace:
    workspace = create(path, "Hospital B")
    (workspace.path / "secret.key").write_text(key * 32)
    record_key(workspace.path, workspace.keys)
    return workspace


def build_again(ready: Ready) -> None:
    build(ready.workspace, ready.folder, plan=PLAN, allow_unchecked_text=True, engine=in_process)


def sono_curate(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def pull(workspace: Workspace, *words: object, name: object = REPO) -> str:
    result = sono_curate("pull", name, workspace.path, *words)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(result: Result) -> str:
    assert isinstance(result.exception, UserError), (result.output, result.exception)
    assert "\n" not in str(result.exception)
    return str(result.exception)


def loaded(folder: Path, *repos: str) -> list[dict[str, list[Row]]]:
    """By a process that knows ``datasets`` and nothing of this project."""
    line = [sys.executable, "-I", "-c", LOAD, folder, *repos]
    done = subprocess.run(line, capture_output=True, text=True, check=True, cwd="/")
    found: list[dict[str, list[Row]]] = json.loads(done.stdout)
    return found


def edit(workspace: Workspace, region: Row, mask: masks.Mask, action: str = "edit") -> None:
    """As the review's server notes it."""
    after = {
        **region,
        "mask": masks.encode(mask),
        "area_px": masks.area_px(mask),
        "bbox": list(masks.bbox(mask)),
        "updated_at": None,
    }
    journal_path(workspace.path).parent.mkdir(exist_ok=True)
    Journal(journal_path(workspace.path)).append(
        NewEvent(
            event_id=uuid.uuid4().hex, reviewer="berta", subject="region", frame_id=region["frame_id"],
            region_id=region["region_id"], structure=region["structure"], action=action, after=after,
            before=None if action == "draw" else region,
        ),
        expected=None,
    )  # fmt: skip


def oval() -> masks.Mask:
    canvas = np.zeros((200, 260), np.uint8)
    cv2.ellipse(canvas, (120, 90), (50, 30), 20, 0, 360, 255, -1)
    return canvas > 0


def without_keys(row: Row) -> Row:
    kept = {name: value for name, value in row.items() if name not in KEYS}
    return {**kept, "regions": [{n: v for n, v in region.items() if n not in KEYS} for region in row["regions"]]}


def test_a_mask_corrected_elsewhere_is_all_that_a_new_version_changes(
    hub: Hub, published: Ready, other: Workspace, tmp_path: Path
) -> None:
    said = pull(other)
    assert "12 frames, 6 regions, 18 captions, 4 records" in said
    assert "Licence: CC-BY-4.0" in said
    assert f"pulled      {REPO} at " in sono_curate("status", other.path).stdout
    region = other.store.read_all(REGIONS).to_pylist()[2]
    edit(other, region, oval())
    assert "accept" in sono_curate("qc", other.path).stdout
    assert sono_curate("build", other.path, tmp_path / "corrected").exit_code == 0
    result = sono_curate("publish", tmp_path / "corrected", "hospital/corrected", "--workspace", other.path)
    assert result.exit_code == 0, result.output
    assert check_workspace(other).problems == []

    before, after = loaded(tmp_path / "cache", REPO, "hospital/corrected")
    assert {split: len(rows) for split, rows in before.items()} == {split: len(rows) for split, rows in after.items()}
    changed = []
    for split, rows in before.items():
        there = {row["image"]: row for row in after[split]}
        for row in rows:
            corrected = there[row["image"]]
            assert not {row[name] for name in KEYS} & {corrected[name] for name in KEYS}
            if without_keys(row) != without_keys(corrected):
                changed.append((row, corrected))
    ((old, new),) = changed
    assert new["regions"][0]["mask"] == masks.encode(oval())
    assert new["regions"][0]["source"] == "manual"
    for row in (old, new):
        for name in ("mask", "bbox", "area_px", "source"):
            row["regions"][0].pop(name)
    assert without_keys(old) == without_keys(new)
    pngs = {row["image"]["bytes"] for row in rows_of(published.folder)}
    assert {row["image"]["bytes"] for row in rows_of(tmp_path / "corrected")} == pngs

    card = (tmp_path / "corrected" / "README.md").read_text()
    commit = hub.api.repo_info(REPO, repo_type="dataset", revision="v1").sha
    assert f"`{REPO}`](https://huggingface.co/datasets/{REPO}) at revision `{commit}`" in card
    assert "license: cc-by-4.0" in card
    assert "audit there compared" in card
    provenance = json.loads((tmp_path / "corrected" / "provenance.json").read_text())
    assert (provenance["pulled_from"]["repository"], provenance["pulled_from"]["commit"]) == (REPO, commit)


def content(workspace: Workspace) -> dict[str, list[Row]]:
    """All rows of what a pull writes, in the order of their keys."""
    return {
        table.name: sorted(workspace.store.read_all(table).to_pylist(), key=lambda row: str(row[table.key]))
        for table in (FRAMES, REGIONS, CAPTIONS, RECORDS)
    }


def written(workspace: Workspace) -> dict[Path, int]:
    return {
        path: path.stat().st_mtime_ns
        for table in (FRAMES, REGIONS, CAPTIONS, RECORDS)
        for path in workspace.store.paths(table)
    }


def downloads(hub: Hub) -> list[str]:
    return [entry.path for entry in hub.state.log if entry.method == "GET" and entry.path.startswith("/cdn/")]


def publish_again(ready: Ready, publish: Publish, tag: str) -> None:
    ready.audit()
    build_again(ready)
    result = publish("--tag", tag)
    assert result.exit_code == 0, result.output


def test_again_nothing_is_done_and_of_a_newer_revision_what_changed(
    hub: Hub, published: Ready, other: Workspace, publish: Publish
) -> None:
    pull(other)
    drawn = other.store.read_all(REGIONS).to_pylist()[0]
    edit(other, drawn, oval())
    sono_curate("qc", other.path)
    before, files = content(other), written(other)
    hub.state.log.clear()
    assert "is up to date" in pull(other)
    assert downloads(hub) == []
    assert (content(other), written(other)) == (before, files)
    assert not (other.path / "cache" / "pull").exists()

    region = published.workspace.store.read_all(REGIONS).to_pylist()[-1]
    edit(published.workspace, region, oval())
    published.workspace.apply_decisions()
    publish_again(published, publish, "v2")
    said = pull(other)
    assert "frames: 0 parts written" in said
    assert "captions: 0 parts written" in said
    assert "regions: 1 parts written" in said
    changed = {path.parent.name for path, at in written(other).items() if files.get(path) != at}
    assert changed == {"regions"}
    now = {row["region_id"]: row for row in other.store.read_all(REGIONS).to_pylist()}
    assert now[drawn["region_id"]]["status"] == "edited"  # a decision stays
    assert now[drawn["region_id"]]["mask"] == masks.encode(oval())
    assert sum(row["mask"] == masks.encode(oval()) for row in now.values()) == 2
    assert json.loads((other.path / "pulled.json").read_text())["commit"] == hub.state.repository(
        "dataset", REPO
    ).commit_of("v2")


def test_who_leaves_the_dataset_leaves_the_workspace_with_every_decision(
    hub: Hub, published: Ready, other: Workspace, publish: Publish
) -> None:
    pull(other)
    for region in other.store.read_all(REGIONS).to_pylist():
        edit(other, region, oval())
    sono_curate("qc", other.path)
    assert other.store.count_rows(REGIONS) == 6
    before = {row["frame_id"] for row in content(other)["frames"]}
    (published.folder.parent / "gone.txt").write_text("P2\n")
    assert sono_curate("withdraw", published.workspace.path, "--patients", published.folder.parent / "gone.txt")
    with published.workspace.writing():
        qc(published.workspace, engine=in_process)
    publish_again(published, publish, "v2")
    assert "1 patients are not in it any more, and have left the workspace with" in pull(other)
    now = content(other)
    assert len(now["frames"]) == 9
    left = before - {row["frame_id"] for row in now["frames"]}
    said = b"".join(path.read_bytes() for path in other.path.rglob("*") if path.is_file())
    assert not [key for key in left if key.encode() in said]
    assert {row["frame_id"] for row in now["regions"]} <= {row["frame_id"] for row in now["frames"]}
    assert check_workspace(other).problems == []


def test_who_withdrew_here_does_not_come_back(hub: Hub, published: Ready, other: Workspace, tmp_path: Path) -> None:
    """Named by the key that the dataset has for them; or, with the key of the hospital itself, by their number."""
    pull(other)
    patient = rows_of(published.folder)[0]["patient_key"]
    (tmp_path / "gone.txt").write_text(f"{patient}\n")
    assert sono_curate("withdraw", other.path, "--patients", tmp_path / "gone.txt").exit_code == 0
    assert other.store.count_rows(FRAMES) == 9
    for path in (other.path / "frames").glob("*.parquet"):
        path.unlink()
    assert "left out 3: withdrawn" in pull(other)
    assert other.store.count_rows(FRAMES) == 9
    assert other.store.count_rows(RECORDS) == 3

    home = empty(tmp_path / "home", "5e")
    (home.path / ".dataset-names").write_bytes((published.workspace.path / ".dataset-names").read_bytes())
    (tmp_path / "gone.csv").write_text("patient_id,center\nP3,A\n")
    assert sono_curate("withdraw", home.path, "--patients", tmp_path / "gone.csv").exit_code == 0
    assert "left out 3: withdrawn" in pull(home)
    assert (home.store.count_rows(FRAMES), home.store.count_rows(RECORDS)) == (9, 3)


def test_who_withdraws_at_home_after_a_pull_leaves_with_every_decision(
    hub: Hub, published: Ready, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A workspace with the hospital's own key, which is given the hospital's newest list after it was pulled."""
    monkeypatch.setattr(options, "local_engine", lambda workers: in_process)
    home = empty(tmp_path / "home", "5e")
    (home.path / ".dataset-names").write_bytes((published.workspace.path / ".dataset-names").read_bytes())
    pull(home)
    for region in home.store.read_all(REGIONS).to_pylist():
        edit(home, region, oval())
    sono_curate("qc", home.path)
    (tmp_path / "gone.txt").write_text("P2\n")
    sono_curate("withdraw", published.workspace.path, "--patients", tmp_path / "gone.txt")
    (home.path / "withdrawn.json").write_bytes((published.workspace.path / "withdrawn.json").read_bytes())
    here = {row["frame_id"]: row["patient_key"] for row in content(home)["frames"]}
    assert "1 patients are not in it any more" in pull(home)
    now = {row["frame_id"] for row in content(home)["frames"]}
    gone = {*(here.keys() - now), *(here[frame] for frame in here.keys() - now)}
    assert len(gone) == 4
    assert home.store.count_rows(RECORDS) == 3
    said = b"".join(path.read_bytes() for path in home.path.rglob("*") if path.is_file())
    assert not [key for key in gone if key.encode() in said]
    assert "is up to date" in pull(home)


@pytest.mark.parametrize("when", ["download", "regions"])
def test_an_interrupted_pull_resumes(
    hub: Hub, published: Ready, other: Workspace, tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if when == "download":
        hub.fail(Fault("GET", "^/cdn/", "status", status=503, times=1000, skip=4))
        assert "the Hub answers 503" in refused(sono_curate("pull", REPO, other.path))
    else:
        write, left = type(other.store).write, [2]

        def failing(store: Any, table: Any, *rest: Any) -> None:
            left[0] -= table.name == when
            if left[0] == 0:
                raise OSError(28, "No space left on device", str(other.path))
            write(store, table, *rest)

        monkeypatch.setattr(type(other.store), "write", failing)
        failed = sono_curate("pull", REPO, other.path)
        assert isinstance(failed.exception, OSError)
        assert failed.exception.errno == 28
        monkeypatch.setattr(type(other.store), "write", write)
        assert "sono-curate pull was interrupted" in refused(sono_curate("build", other.path, tmp_path / "out"))
    hub.state.faults.clear()
    hub.state.log.clear()
    pull(other)
    if when == "download":
        assert 0 < len(downloads(hub)) < 6  # of six tables, some were there
    whole = empty(tmp_path / "whole", "b0")
    pull(whole)
    assert content(other) == content(whole)


def test_only_some_splits_and_planes(hub: Hub, published: Ready, other: Workspace) -> None:
    rows = rows_of(published.folder)
    said = pull(other, "--split", "train", "--plane", "transthalamic")
    assert f"{sum(row['split'] == 'train' for row in rows)} frames" in said
    assert "pulled with --split train --plane transthalamic" in refused(sono_curate("pull", REPO, other.path))
    assert "did you mean 'train'" in refused(sono_curate("pull", REPO, other.path, "--split", "trian"))
    assert "is up to date" in pull(other, "--split", "train", "--plane", "transthalamic")


def test_splits_and_licence_of_the_origin_hold(ready: Ready, other: Workspace, tmp_path: Path) -> None:
    pull(other, name=ready.folder)
    sono_curate("qc", other.path)
    with pytest.raises(UserError, match="stay in its splits"):
        build(other, tmp_path / "out", plan=SplitPlan(seed=7), engine=in_process)
    toml = other.path / "sono.toml"
    toml.write_text(toml.read_text().partition("[publish]")[0] + '[publish]\nlicence = "MIT"\n')
    with pytest.raises(UserError, match=r"publish\.licence is 'MIT', and a local dataset has 'CC-BY-4.0', which holds"):
        build(open_workspace(other.path), tmp_path / "out", plan=SplitPlan(), engine=in_process)


def test_frames_of_two_sources_are_not_mixed(
    hub: Hub, published: Ready, other: Workspace, archive: Path, tmp_path: Path
) -> None:
    assert "has frames that were ingested" in refused(sono_curate("pull", REPO, published.workspace.path))
    pull(other)
    assert "nothing is ingested into it" in refused(sono_curate("ingest", other.path, archive))
    assert "there is no archive to audit it against" in refused(sono_curate("audit", other.path, archive))
    build(published.workspace, tmp_path / "two", name="two", plan=PLAN, engine=in_process)
    assert "this dataset has other keys" in refused(sono_curate("pull", tmp_path / "two", other.path))


def damage(folder: Path, path: str, change: Callable[[bytes], bytes]) -> None:
    (folder / path).write_bytes(change((folder / path).read_bytes()))


def test_what_cannot_be_pulled_is_said_in_one_line(
    hub: Hub, published: Ready, other: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = hub.api

    def said(name: object, *words: object) -> str:
        return refused(sono_curate("pull", name, other.path, *words))

    api.create_repo("hospital/model", repo_type="model")
    api.create_repo("hospital/empty", repo_type="dataset")
    assert "hospital/model is the name of a model" in said("hospital/model")
    assert "not a dataset that sono-curate build wrote" in said("hospital/empty")
    assert "it has no such revision" in said(REPO, "--revision", "v9")
    assert "no such folder" in said(tmp_path / "nothing" / "here")
    api.upload_file(path_or_fileobj=b'{"files": {}}', path_in_repo="sono.json", repo_id="hospital/empty",
                    repo_type="dataset")  # fmt: skip
    assert "sono.json is not that of a dataset" in said("hospital/empty")

    monkeypatch.setenv("HF_TOKEN", hub.stranger)
    assert "not found, or hidden from your token" in said(REPO)
    api.update_repo_settings(REPO, private=False, gated="manual", repo_type="dataset")
    assert "grants access to each reader, and has not granted it to you" in said(REPO)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "does not know your token" in said(REPO)
    assert not other.store.paths(FRAMES)

    marker = json.loads((published.folder / "sono.json").read_bytes())
    data = next(iter(marker["splits"]["train"]["shards"]))
    (published.folder / "sono.json").write_text(json.dumps({**marker, "format": 1}))
    assert "another version of sono-curate built it (format 1" in said(published.folder)
    (published.folder / "sono.json").write_text(json.dumps({**marker, "planes": {}}))
    assert "sono.json is damaged" in said(published.folder)
    (published.folder / "sono.json").write_text(json.dumps(marker))
    provenance = (published.folder / "provenance.json").read_text()
    (published.folder / "provenance.json").write_text(provenance.replace('"CC-BY-4.0"', '"mine"'))
    assert "provenance.json is damaged" in said(published.folder)
    (published.folder / "provenance.json").write_text(provenance)
    damage(published.folder, data, lambda content: content[:-1] + b"x")
    assert f"{data} is damaged: its SHA-256 is not the one in sono.json" in said(published.folder)
    damage(published.folder, "README.md", lambda content: content.replace(b"cc-by-4.0", b"mit"))
    assert "its card names the licence 'mit', and provenance.json 'CC-BY-4.0'" in said(published.folder)


def test_text_in_pixels_counts_as_checked_only_if_the_dataset_says_so_of_every_frame(
    ready: Ready, other: Workspace, tmp_path: Path
) -> None:
    marker = json.loads((ready.folder / "sono.json").read_bytes())
    assert sum(marker["text_in_pixels"].values()) == 12
    assert "unchecked" not in marker["text_in_pixels"]
    for stated in ({"none": 11, "removed": 0}, {"removed": 11, "unchecked": 1}, {"none": -1}, None):
        (ready.folder / "sono.json").write_text(json.dumps({**marker, "text_in_pixels": stated}))
        assert "does not state that all of its frames were checked" in pull(other, name=ready.folder)
        assert set(other.store.read_all(FRAMES, ["burned_in_text"])["burned_in_text"].to_pylist()) == {"unchecked"}
    sono_curate("qc", other.path)
    with pytest.raises(UserError, match="text_unchecked"):
        build(other, tmp_path / "out", plan=SplitPlan(), engine=in_process)


def test_frames_that_were_accepted_stay_accepted(ready: Ready, other: Workspace, tmp_path: Path) -> None:
    """Thresholds of the new workspace would reject every frame."""
    toml = other.path / "sono.toml"
    toml.write_text(toml.read_text().replace("[qc]\n", "[qc]\nmin_short_side_px = 1000\n"))
    other = open_workspace(other.path)
    pull(other, name=ready.folder)
    sono_curate("qc", other.path)
    assert set(other.store.read_all(QC)["verdict"].to_pylist()) == {"accept"}
    assert build(other, tmp_path / "out", plan=SplitPlan(), engine=in_process).splits["train"] > 0


def test_a_mask_that_somebody_draws_gets_a_caption_and_the_others_keep_theirs(
    ready: Ready, other: Workspace, tmp_path: Path
) -> None:
    pull(other, name=ready.folder)
    before = {row["caption_id"]: row for row in content(other)["captions"]}
    outlined = {row["frame_id"] for row in content(other)["regions"]}
    frame = next(row for row in content(other)["frames"] if row["frame_id"] not in outlined)
    region = {
        **dict.fromkeys(REGIONS.schema.names), "region_id": "d" * 32, "frame_id": frame["frame_id"],
        "pixel_digest": frame["pixel_digest"], "structure": "head", "source": "manual", "status": "proposed",
    }  # fmt: skip
    edit(other, region, oval(), action="draw")
    assert "its captions are the dataset's" in refused(sono_curate("caption", other.path, "--records", ready.folder))
    said = sono_curate("caption", other.path, "--templates", "paper").stdout
    assert "1 captions of masks for which the dataset has none. 1 parts computed" in said
    now = {row["caption_id"]: row for row in content(other)["captions"]}
    assert now.items() >= before.items()
    assert set(now) - set(before) == {"d" * 32}
    sono_curate("qc", other.path)
    assert build(other, tmp_path / "out", plan=SplitPlan(), engine=in_process).regions == 7
    (drawn,) = [each for row in rows_of(tmp_path / "out") for each in row["regions"] if each["source"] == "manual"]
    assert " head" in drawn["caption"]
    assert "is up to date" in pull(other, name=ready.folder)
    assert check_workspace(other).problems == []


def test_of_jpeg_the_pixels_are_kept_as_they_decode(ready: Ready, other: Workspace, tmp_path: Path) -> None:
    build(
        ready.workspace, tmp_path / "jpeg", plan=PLAN, max_side_px=100, image_format=ImageFormat("jpeg", 80),
        allow_unchecked_text=True, engine=in_process,
    )  # fmt: skip
    pull(other, name=tmp_path / "jpeg")
    here = {np.asarray(decode_png(row["image"]["bytes"])).tobytes() for row in content(other)["frames"]}
    there = {np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))).tobytes() for row in rows_of(tmp_path / "jpeg")}
    assert here == there
    assert {row["width"] for row in content(other)["frames"]} == {100}
    assert {tuple(row["mask"]["size"]) for row in content(other)["regions"]} == {(77, 100)}


def gate(workspace: Workspace, folder: Path, *words: object) -> str:
    result = sono_curate("publish", folder, "hospital/corrected", "--workspace", workspace.path, *words)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    return result.stderr


def test_what_the_gate_refuses_of_a_pulled_workspace(
    hub: Hub, published: Ready, other: Workspace, publish: Publish, tmp_path: Path
) -> None:
    pull(other)
    sono_curate("qc", other.path)
    out = tmp_path / "out"
    build(other, out, plan=SplitPlan(), engine=in_process)
    assert sono_curate("publish", out, "hospital/corrected", "--workspace", other.path, "--dry-run").exit_code == 0
    said = gate(other, out, "--public", "--open", "--yes")
    assert "refused: access: hospital/frames at" in said
    assert "is not public, so a copy must not be" in said
    assert "is not open to all, so a copy must not be" in said

    build(other, tmp_path / "small", plan=SplitPlan(), max_side_px=100, engine=in_process)
    assert "refused: audit: 12 images are not those of hospital/frames" in gate(other, tmp_path / "small")

    stated = json.loads((other.path / "pulled.json").read_text())
    edited = {**stated, "audit": {**stated["audit"], "files": 99}, "private": False, "gated": False}
    (other.path / "pulled.json").write_text(json.dumps(edited))
    said = gate(other, out, "--public", "--yes")
    assert "pulled.json says of an audit what hospital/frames at" in said
    assert "is not public, so a copy must not be" in said  # as the Hub says today
    (other.path / "pulled.json").write_text(json.dumps(stated))

    hub.fail(Fault("GET", "/api/datasets/hospital/frames/tree", "status", status=404, times=100))
    assert "cannot be compared with the Hub" in gate(other, out)
    hub.state.faults.clear()

    # A patient leaves the origin: what was pulled before must not be published any more.
    (tmp_path / "gone.txt").write_text("P2\n")
    sono_curate("withdraw", published.workspace.path, "--patients", tmp_path / "gone.txt")
    with published.workspace.writing():
        qc(published.workspace, engine=in_process)
    publish_again(published, publish, "v2")
    assert "1 patients are not on main of hospital/frames any more" in gate(other, out)
    squashed = sono_curate("withdraw", published.workspace.path, "--squash", REPO, "--yes")
    assert squashed.exit_code == 0, squashed.output
    assert "cannot be compared with the Hub: it has no such revision" in gate(other, out)
    pull(other)
    sono_curate("qc", other.path)
    build(other, out, plan=SplitPlan(), engine=in_process)
    assert sono_curate("publish", out, "hospital/corrected", "--workspace", other.path).exit_code == 0


def test_without_a_stated_audit_or_a_revision_on_the_hub_the_gate_refuses(
    hub: Hub, ready: Ready, publish: Publish, other: Workspace, tmp_path: Path
) -> None:
    (ready.workspace.path / "audit" / "audit.json").unlink()
    build_again(ready)
    ready.audit()
    assert publish("--tag", "v1").exit_code == 0  # built before it was audited
    pull(other)
    sono_curate("qc", other.path)
    build(other, tmp_path / "out", plan=SplitPlan(), engine=in_process)
    assert "does not state that its audit passed" in gate(other, tmp_path / "out")
    build_again(ready)
    local = create(tmp_path / "local", "B")
    pull(local, name=ready.folder)
    sono_curate("qc", local.path)
    build(local, tmp_path / "out2", plan=SplitPlan(), engine=in_process)
    assert "it was pulled from a folder" in gate(local, tmp_path / "out2")
