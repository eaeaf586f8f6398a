"""Build: which frames a dataset holds, in which split, and what other programs read from it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sono.captioning.captions.run import caption_workspace
from sono.curation.cleaning.clean_frames import CleanedFrame, clean_frames
from sono.curation.commands.dataset import build as build_command
from sono.curation.dataset.latest import latest_dataset
from sono.curation.dataset.run import build
from sono.curation.dataset.select import select
from sono.curation.dataset.store import MARKER
from sono.curation.engines.local import LocalEngine
from sono.curation.images.pixels import ExcludedError
from sono.curation.images.stored_png import decode_png
from sono.curation.ingest.run import ingest
from sono.curation.masks.run import import_masks
from sono.curation.qc.run import qc
from sono.manifests import masks
from sono.manifests.dataset_keys import dataset_keys
from sono.manifests.dataset_marker import describe_shard, listed_files
from sono.manifests.errors import UserError
from sono.manifests.schemas import REGIONS
from sono.manifests.splits import SplitPlan
from sono.manifests.stages import Crashed, in_process
from sono.manifests.store import PartInfo
from sono.manifests.workspace import Workspace

from .curated import PLAN, Curation, disk, rows_of

Image = npt.NDArray[np.uint8]


def test_rows_that_the_marker_states_wrongly_are_counted_again(curation: Curation, tmp_path: Path) -> None:
    out = tmp_path / "out"
    curation.build(out)
    marker = json.loads((out / MARKER).read_bytes())
    (out / MARKER).write_text(json.dumps(marker).replace('"rows": ', '"rows": 9'))
    curation.build(out)
    again = json.loads((out / MARKER).read_bytes())
    assert (again["splits"], again["configurations"]) == (marker["splits"], marker["configurations"])


def test_datasets_loads_it_with_images_labels_masks_and_captions(
    curation: Curation, tmp_path: Path, draw: Callable[..., Image]
) -> None:
    import datasets

    report = curation.build(tmp_path / "out")
    assert sum(report.splits.values()) == 12
    assert report.regions == 6
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {split: data.num_rows for split, data in loaded.items()} == {s: n for s, n in report.splits.items() if n}
    keys = curation.workspace.keys
    derived = dataset_keys(curation.workspace, "out")
    rows = {row["frame_id"]: row for data in loaded.values() for row in data}
    row = rows[derived.derive("frame", keys.frame(keys.source("P1/scan0.png"), 0))]
    assert np.array_equal(np.asarray(row["image"]), draw(10))
    assert next(iter(loaded.values())).features["plane"].int2str(row["plane"]) == "transthalamic"
    assert row["ga_days"] == 140
    assert row["caption"] == "A 20-week fetal ultrasound image of transthalamic plane showing head."
    region = row["regions"][0]
    assert region["caption"] == "A 20-week fetal ultrasound transthalamic plane. The segmentation highlights the head."
    assert np.array_equal(masks.decode(region["mask"], (200, 260)), disk())
    assert row["pixel_mm"] == [0.2, 0.2]
    assert rows[derived.derive("frame", keys.frame(keys.source("P1/scan1.png"), 0))]["regions"] == []


@pytest.mark.slow
def test_datasets_never_returns_the_rows_of_another_build(curation: Curation, tmp_path: Path) -> None:
    import datasets

    def ids(folder: Path) -> set[str]:
        loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
        return {row for split in loaded.values() for row in split["frame_id"]}

    curation.build(tmp_path / "one" / "dataset")
    first = ids(tmp_path / "one" / "dataset")
    cv2.imwrite(
        str(curation.archive / "P1" / "scan9.png"), np.roll(cv2.imread(str(curation.archive / "P1/scan0.png"), 0), 9)
    )
    curation.describe()
    curation.run()
    curation.build(tmp_path / "two" / "dataset")
    assert len(ids(tmp_path / "two" / "dataset") - first) == 1
    curation.build(tmp_path / "one" / "dataset")
    assert ids(tmp_path / "one" / "dataset") == ids(tmp_path / "two" / "dataset")


@pytest.mark.slow
def test_no_patient_is_in_two_splits_and_duplicates_stay_together(
    workspace: Workspace, archive: Path, tmp_path: Path
) -> None:
    curation = Curation(workspace, archive, tmp_path)
    curation.describe()
    curation.run()
    for seed in range(8):
        curation.build(tmp_path / f"out{seed}", SplitPlan(0.3, 0.3, seed))
        splits: dict[object, set[object]] = {}
        for row in rows_of(tmp_path / f"out{seed}"):
            splits.setdefault(row["patient_key"], set()).add(row["split"])
        assert all(len(seen) == 1 for seen in splits.values())


def test_a_held_out_center_is_the_test_split(workspace: Workspace, archive: Path, tmp_path: Path) -> None:
    curation = Curation(workspace, archive, tmp_path)
    curation.describe(lambda file: "B" if file.startswith("P4") else "A")
    curation.run()
    report = curation.build(tmp_path / "out", SplitPlan(0.3, 0.3, 0, holdout_center="B"))
    assert report.splits["test"] == 3
    assert {row["center"] for row in rows_of(tmp_path / "out") if row["split"] == "test"} == {"B"}
    assert {row["center"] for row in rows_of(tmp_path / "out") if row["split"] != "test"} == {"A"}
    with pytest.raises(UserError, match="no frame comes from center 'C'; centers in this workspace: A, B"):
        curation.build(tmp_path / "other", SplitPlan(holdout_center="C"))
    assert not (tmp_path / "other").exists()


def test_frames_not_checked_for_text_are_left_out_unless_allowed(
    workspace: Workspace, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those that a person has accepted although their text is not shown to be gone."""

    def unchecked(*args: object, **options: object) -> Iterator[CleanedFrame | ExcludedError]:
        for frame in clean_frames(*args, **options):  # type: ignore[arg-type]
            yield frame if isinstance(frame, ExcludedError) else replace(frame, burned_in_text="unchecked")

    monkeypatch.setattr("sono.curation.ingest.frame_rows.clean_frames", unchecked)
    curation = Curation(workspace, archive, tmp_path)
    curation.describe()
    curation.run()
    with pytest.raises(UserError, match=r"12 text_unchecked.*--allow-unchecked-text"):
        curation.build(tmp_path / "out", unchecked=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_rejected_and_captionless_frames_are_left_out_and_counted(curation: Curation, tmp_path: Path) -> None:
    shutil.copy(curation.archive / "P1" / "scan0.png", curation.archive / "P1" / "copy.png")
    cv2.imwrite(str(curation.archive / "P9.png"), np.full((200, 260), 77, np.uint8))
    curation.describe()
    curation.records.write_text("patient_id,ga_days\nP1,140\nP2,150\nP3,160\n")
    curation.run()
    report = curation.build(tmp_path / "out")
    assert report.left_out == {"no_caption": 3, "qc_reject": 2}
    manifest = json.loads((tmp_path / "out" / MARKER).read_text())
    assert manifest["left_out"] == report.left_out
    assert sum(split["rows"] for split in manifest["splits"].values()) == 9


@pytest.mark.slow
def test_scaling_also_scales_masks_boxes_and_pixel_size(curation: Curation, tmp_path: Path) -> None:
    curation.build(tmp_path / "out", max_side_px=130)
    for row in rows_of(tmp_path / "out"):
        assert decode_png(row["image"]["bytes"]).shape == (100, 130)
        assert row["pixel_mm"] == pytest.approx([0.4, 0.4])
        for region in row["regions"]:
            mask = masks.decode(region["mask"], (100, 130))
            assert region["area_px"] == np.count_nonzero(mask) == pytest.approx(np.count_nonzero(disk()) / 4, rel=0.02)
            assert list(region["bbox"]) == list(masks.bbox(mask))
    curation.build(tmp_path / "large", max_side_px=4000)
    assert decode_png(rows_of(tmp_path / "large")[0]["image"]["bytes"]).shape == (200, 260)


def test_regions_that_scaling_wipes_out_are_left_out_and_counted(
    curation: Curation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = np.zeros((200, 260), np.uint8)
    line[100, 20:240] = 255  # the falx, one pixel wide, in half of the frames with a head
    for file in sorted(curation.drawn.rglob("*.png"))[::2]:
        drawn = tmp_path / "lines" / file.relative_to(curation.drawn)
        drawn.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(drawn), line)
    import_masks(curation.workspace, tmp_path / "lines", structure="falx", mask_format="png", engine=in_process)
    caption_workspace(curation.workspace, [curation.records], templates="paper", engine=in_process)
    whole = curation.build(tmp_path / "whole")
    assert (whole.regions, whole.regions_vanished) == (9, {})
    for _ in range(2):  # computed, then up to date
        scaled = curation.build(tmp_path / "out", max_side_px=65)
        assert (scaled.regions, scaled.regions_vanished) == (6, {"falx": 3})
    regions = [region for row in rows_of(tmp_path / "out") for region in row["regions"]]  # type: ignore[attr-defined]
    assert {region["structure"] for region in regions} == {"head"}
    assert all(region["area_px"] > 0 for region in regions)
    assert json.loads((tmp_path / "out" / MARKER).read_text())["regions_vanished"] == {"falx": 3}
    assert "| falx | 3 |" in (tmp_path / "out" / "README.md").read_text()
    assert "no pixel of their masks" not in (tmp_path / "whole" / "README.md").read_text()
    build_command(curation.workspace.path, tmp_path / "printed", max_side=65, allow_unchecked_text=True, workers=1)
    assert "left out 3 regions of which no pixel is left at this size: falx 3\n" in capsys.readouterr().out


@pytest.mark.slow
def test_the_same_input_gives_the_same_bytes_and_a_second_build_does_nothing(
    curation: Curation, tmp_path: Path
) -> None:
    curation.build(tmp_path / "one", name="fetal")
    curation.build(tmp_path / "two", name="fetal")
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert Path(MARKER) in files
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert curation.build(tmp_path / "one", name="fetal").shards_written == 0


def sha256_of_files(out: Path) -> dict[str, str]:
    return {
        f"{path.parent.name}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in out.glob("*/*.parquet")
    }


@pytest.mark.slow
def test_any_number_of_workers_writes_the_same_bytes_and_lists_their_digests(
    curation: Curation, tmp_path: Path
) -> None:
    curation.build(tmp_path / "one", name="fetal")
    curation.build(tmp_path / "two", name="fetal", engine=LocalEngine(2))
    written = sha256_of_files(tmp_path / "one")
    assert len(written) > 3
    assert sha256_of_files(tmp_path / "two") == written
    assert (tmp_path / "two" / MARKER).read_bytes() == (tmp_path / "one" / MARKER).read_bytes()
    assert dict(listed_files(json.loads((tmp_path / "one" / MARKER).read_bytes()))) == written


@pytest.mark.slow
def test_no_file_is_hashed_twice(curation: Curation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: Counter[str] = Counter()

    def counted(path: Path, rows: int) -> dict[str, Any]:
        hashed[f"{path.parent.name}/{path.name}"] += 1
        return describe_shard(path, rows)

    for module in ("complete", "store", "shards.write"):
        monkeypatch.setattr(f"sono.curation.dataset.{module}.describe_shard", counted)
    for _ in ("written", "compared"):
        hashed.clear()
        curation.build(tmp_path / "out")
        assert hashed == dict.fromkeys(sha256_of_files(tmp_path / "out"), 1)


@pytest.mark.slow
def test_a_worker_that_dies_is_named_and_what_the_others_wrote_stays(curation: Curation, tmp_path: Path) -> None:
    def dies(function: Callable[[Any], Any], arguments: Sequence[Any]) -> Iterator[Any]:
        yield function(arguments[0])
        yield Crashed(arguments[1])

    with pytest.raises(UserError, match=r"the process that wrote \S+ died"):
        curation.build(tmp_path / "out", engine=dies)
    assert not (tmp_path / "out" / MARKER).exists()
    assert len(list((tmp_path / "out" / "data").iterdir())) == 1
    report = curation.build(tmp_path / "out")
    assert (report.shards_up_to_date, report.shards_written) == (1, 2)
    marker = json.loads((tmp_path / "out" / MARKER).read_bytes())
    assert dict(listed_files(marker)) == sha256_of_files(tmp_path / "out")


@pytest.mark.slow
def test_a_shard_that_is_no_longer_what_the_marker_lists_is_written_again(curation: Curation, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o755)
    curation.build(tmp_path / "out")
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700
    whole = {path: path.read_bytes() for path in (tmp_path / "out" / "data").iterdir()}
    marker = (tmp_path / "out" / MARKER).read_bytes()
    changed, truncated = sorted(whole)[:2]
    content = bytearray(whole[changed])
    content[200] ^= 1  # in the pixels of the first frame; the file's description of itself stays whole
    changed.write_bytes(content)
    truncated.write_bytes(whole[truncated][:100])
    (tmp_path / "out").chmod(0o750)
    assert curation.build(tmp_path / "out").shards_written == 2
    assert {path: path.read_bytes() for path in (tmp_path / "out" / "data").iterdir()} == whole
    assert (tmp_path / "out" / MARKER).read_bytes() == marker
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o750  # its owner has opened it


@pytest.mark.slow
def test_a_dataset_that_has_lost_a_folder_is_written_again(curation: Curation, tmp_path: Path) -> None:
    out = tmp_path / "out"
    curation.build(out)
    whole = {path: path.read_bytes() for path in out.rglob("*.parquet")}
    shutil.rmtree(out / "metadata")
    assert sum(curation.build(out).splits.values()) == 12
    assert {path: path.read_bytes() for path in out.rglob("*.parquet")} == whole


@pytest.mark.slow
def test_a_file_of_no_split_is_named(curation: Curation, tmp_path: Path) -> None:
    out = tmp_path / "out"
    curation.build(out)
    stray = out / "data" / "old-train.parquet"
    shutil.copy(min((out / "data").glob("train-*.parquet")), stray)
    with pytest.raises(UserError, match=r"old-train\.parquet: build did not write this file"):
        curation.build(out)
    stray.unlink()
    assert curation.build(out).shards_written == 0


@pytest.mark.slow
def test_files_that_a_killed_build_left_of_a_shard_are_removed(curation: Curation, tmp_path: Path) -> None:
    """They may be of patients who have left since, and nothing would be said of their frames in ``data/``."""
    out = tmp_path / "out"
    curation.build(out)
    for folder in ("regions", "metadata"):
        file = min((out / folder).glob("train-*.parquet"))
        shutil.copy(file, file.with_name("train-00007.parquet"))  # as if killed while the shard was being removed
    curation.build(out)
    listed = dict(listed_files(json.loads((out / MARKER).read_bytes())))
    assert not [path for path in listed if "00007" in path]
    assert not list(out.glob("*/train-00007.parquet"))


@pytest.mark.slow
def test_the_fingerprint_tells_splits_and_names_apart(workspace: Workspace, archive: Path, tmp_path: Path) -> None:
    curation = Curation(workspace, archive, tmp_path)
    curation.describe(lambda _: "A")
    curation.run()

    def fingerprint(plan: SplitPlan) -> str:
        curation.build(tmp_path / "out", plan)
        return str(json.loads((tmp_path / "out" / MARKER).read_bytes())["fingerprint"])

    everything_trains = fingerprint(SplitPlan(0, 0, 0))
    assert fingerprint(SplitPlan(0, 0, 0)) == everything_trains
    everything_tests = fingerprint(SplitPlan(0, 0, 0, holdout_center="A"))
    assert everything_tests != everything_trains


@pytest.mark.slow
def test_an_interrupted_build_has_no_marker_and_can_be_resumed(curation: Curation, tmp_path: Path) -> None:
    curation.build(tmp_path / "out")
    whole = {path.name: path.read_bytes() for path in (tmp_path / "out" / "data").iterdir()}

    def interrupted(function: Callable[..., object], arguments: object) -> object:
        raise KeyboardInterrupt

    cv2.imwrite(
        str(curation.archive / "P1" / "scan9.png"), np.roll(cv2.imread(str(curation.archive / "P1/scan0.png"), 0), 9)
    )
    curation.describe()
    curation.run()
    with pytest.raises(KeyboardInterrupt):
        build(curation.workspace, tmp_path / "out", plan=PLAN, allow_unchecked_text=True, engine=interrupted)
    assert not (tmp_path / "out" / MARKER).exists()
    report = curation.build(tmp_path / "out")
    assert sum(report.splits.values()) == 13
    assert (tmp_path / "out" / MARKER).exists()
    assert {path.name for path in (tmp_path / "out" / "data").iterdir()} >= set(whole)


@pytest.mark.slow
def test_verdicts_captions_and_masks_of_other_pixels_are_not_used(
    curation: Curation, tmp_path: Path, draw: Callable[..., Image]
) -> None:
    cv2.imwrite(str(curation.archive / "P1" / "scan0.png"), draw(777))
    ingest(curation.workspace, [curation.archive], engine=in_process, metadata=curation.metadata, cropped=True)
    with pytest.raises(UserError, match="quality control is out of date"):
        curation.build(tmp_path / "out")
    qc(curation.workspace, engine=in_process)
    report = curation.build(tmp_path / "out")
    assert report.regions == 5  # the mask was drawn on the pixels that were there before
    lines = curation.metadata.read_text().replace("P2/scan0.png,P2,transthalamic", "P2/scan0.png,P2,femur")
    curation.metadata.write_text(lines)
    ingest(curation.workspace, [curation.archive], engine=in_process, metadata=curation.metadata, cropped=True)
    qc(curation.workspace, engine=in_process)
    assert curation.build(tmp_path / "out").left_out == {"caption_outdated": 1}


def test_a_region_names_the_source_of_its_mask_and_an_edited_mask_is_manual(curation: Curation, tmp_path: Path) -> None:
    store, keys = curation.workspace.store, dataset_keys(curation.workspace, "out")
    wanted: dict[str, str] = {}
    for number, (name, info) in enumerate(store.parts(REGIONS).items()):
        rows = store.read(REGIONS, name).to_pylist()
        for row in rows:
            number += 1
            row |= {"source": ("sam", "sam", "import")[number % 3], "status": ("accepted", "edited")[number % 2]}
            drawn = row["status"] == "edited"
            wanted[keys.derive("frame", row["frame_id"])] = "manual" if drawn else row["source"]
        store.write(REGIONS, info, REGIONS.from_rows(rows))
    assert set(wanted.values()) == {"sam", "import", "manual"}
    curation.build(tmp_path / "out")
    found = {row["frame_id"]: [region["source"] for region in row["regions"]] for row in rows_of(tmp_path / "out")}
    assert {frame: sources for frame, sources in found.items() if sources} == {
        frame: [source] for frame, source in wanted.items()
    }


def test_proposals_are_in_no_dataset_and_make_none_stale(curation: Curation, tmp_path: Path) -> None:
    store, out = curation.workspace.store, tmp_path / "out"
    before = curation.build(out)
    regions = [row["regions"] for row in rows_of(out)]
    proposed = [
        {**row, "structure": structure, "source": "sam", "status": status}
        for name in store.parts(REGIONS)
        for row in store.read(REGIONS, name).to_pylist()
        for status, structure in (("proposed", row["structure"]), ("proposed", "falx"), ("rejected", "thalami"))
    ]
    for number, row in enumerate(proposed):
        row["region_id"] = f"{row['region_id']}-{number}"
    info = PartInfo("proposed-sam-1", "masks-propose", "0" * 64, "propose/sam", len(proposed))
    store.write(REGIONS, info, REGIONS.from_rows(proposed))
    latest = latest_dataset(curation.workspace)
    assert latest is not None
    assert latest.up_to_date
    again = curation.build(out)
    assert (again.shards_written, again.regions) == (0, before.regions)
    assert curation.build(tmp_path / "anew", name="out").regions == before.regions
    assert [row["regions"] for row in rows_of(tmp_path / "anew")] == regions


def test_a_folder_that_holds_something_else_is_not_touched(curation: Curation, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="something that build did not write"):
        curation.build(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"
    checkpoint = tmp_path / "step-00000500"
    checkpoint.mkdir()
    (checkpoint / "sono.json").write_text('{"files": {}}')
    with pytest.raises(UserError, match="something that build did not write"):
        curation.build(checkpoint)
    with pytest.raises(UserError, match=r"this lies in .*, a finished dataset or checkpoint"):
        curation.build(checkpoint / "out")
    assert [path.name for path in checkpoint.iterdir() if path.name != ".lock"] == ["sono.json"]


def test_a_workspace_that_is_not_ready_names_the_missing_command(
    workspace: Workspace, archive: Path, tmp_path: Path
) -> None:
    curation = Curation(workspace, archive, tmp_path)
    with pytest.raises(UserError, match="no frames yet; run sono-curate ingest"):
        curation.build(tmp_path / "out")
    curation.describe()
    ingest(workspace, [archive], engine=in_process, metadata=curation.metadata, cropped=True)
    with pytest.raises(UserError, match="no qc yet; run sono-curate qc"):
        curation.build(tmp_path / "out")


@pytest.mark.slow
def test_captions_must_be_rewritten_before_a_build_when_parts_are_cut_differently(
    curation: Curation, tmp_path: Path, draw: Callable[..., Image]
) -> None:
    cv2.imwrite(str(curation.archive / "P1" / "scan9.png"), draw(999))
    curation.describe()
    ingest(curation.workspace, [curation.archive], engine=in_process, metadata=curation.metadata, cropped=True)
    qc(curation.workspace, engine=in_process)
    selection, left_out = select(curation.workspace, allow_unchecked_text=True)
    assert left_out["no_caption"] >= 1
    assert selection.num_rows == 13 - left_out["no_caption"]
    curation.run()
    assert sum(curation.build(tmp_path / "out").splits.values()) == 13


@pytest.mark.parametrize(("table", "command"), [("frames", "ingest"), ("regions", "masks import")])
def test_leftover_parts_of_an_interrupted_run_are_not_built(
    curation: Curation, tmp_path: Path, table: str, command: str
) -> None:
    part = next((curation.workspace.path / table).glob("part-*"))
    info_name = part.stem.removeprefix("part-")
    content = part.read_bytes()
    assert info_name.encode() in content
    part.with_name(f"part-{'0' * 32}.parquet").write_bytes(content.replace(info_name.encode(), b"0" * 32))
    with pytest.raises(UserError, match=f"sono-curate {command} was interrupted"):
        curation.build(tmp_path / "out")


@pytest.mark.parametrize(
    ("publish", "max_side_px", "pixel_mm", "ga_days"),
    [
        ({}, None, 0.123, 143),
        ({"pixel_mm": "exact"}, None, 0.123456789, 143),
        ({"ga_days": "weeks"}, None, 0.123, 140),
        ({}, 130, 0.247, 143),
        ({"pixel_mm": "exact"}, 130, 0.246913578, 143),
    ],
)
def test_spacing_is_rounded_and_the_age_is_in_days_unless_asked_otherwise(
    curation: Curation,
    tmp_path: Path,
    publish: dict[str, str],
    max_side_px: int | None,
    pixel_mm: float,
    ga_days: int,
) -> None:
    curation.describe(pixel_mm="0.123456789", ga_days=143)
    curation.run()
    curation.publish(**publish)
    curation.build(tmp_path / "out", max_side_px=max_side_px)
    rows = rows_of(tmp_path / "out")
    assert {tuple(row["pixel_mm"]) for row in rows} == {(pixel_mm, pixel_mm)}
    assert min(row["ga_days"] for row in rows) == ga_days


def test_another_precision_writes_the_shards_again(curation: Curation, tmp_path: Path) -> None:
    assert curation.build(tmp_path / "out").shards_written > 0
    assert curation.build(tmp_path / "out").shards_written == 0
    curation.publish(pixel_mm="exact")
    assert curation.build(tmp_path / "out").shards_written > 0
