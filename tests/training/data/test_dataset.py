from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sono.manifests import masks
from sono.manifests.dataset_marker import fingerprint_of
from sono.manifests.errors import UserError
from sono.training.data.dataset import decode_image, decode_mask, open_split, read_description
from sono.training.data.joined import JoinedFrames
from sono.training.data.pool import make_pool
from sono.training.data.together import open_together, read_descriptions
from sono.training.model.tokenizer import CaptionTokenizer


def test_a_split_is_read_with_its_planes_images_and_masks(shapes: Path) -> None:
    frames = open_split(read_description(str(shapes)), "test")
    assert len(frames) == 80
    assert frames.planes == ("transthalamic", "four_chamber", "abdominal_circumference", "femur")
    assert frames.description.planes["four_chamber"] == "four-chamber"
    row = frames.row(0)
    image = decode_image(row)
    assert image.size == (120, 80)
    pixels = np.asarray(image)
    inside = decode_mask(row, row["regions"][0], image)
    assert pixels[inside].mean() > pixels[~inside].mean() + 80


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "sono.json").unlink(), "not a finished dataset: sono.json is missing"),
        (lambda folder: (folder / "sono.json").write_text("{"), "sono.json cannot be read"),
        (lambda folder: (folder / "sono.json").write_text('{"format": 9}'), "has format 9, but this version reads 2"),
        (lambda folder: (folder / "data/train-00001-of-00002.parquet").unlink(), "00001-of-00002.parquet is missing"),
        (
            lambda folder: shutil.copy(
                folder / "data/test-00000-of-00002.parquet", folder / "data/test-00009-of-00002.parquet"
            ),
            "test-00009-of-00002.parquet is not listed in sono.json",
        ),
        (
            lambda folder: shutil.copy(
                folder / "data/test-00000-of-00002.parquet", folder / "data/train-00000-of-00002.parquet"
            ),
            "it was changed, or damaged",
        ),
        (lambda folder: (folder / "data/train-00000-of-00002.parquet").write_bytes(b"PAR1"), "has 4 bytes, but"),
        (
            lambda folder: (folder / "sono.json").write_text(
                (folder / "sono.json").read_text().replace('"four-chamber"', '"lvot"')
            ),
            "sono.json does not have the fingerprint of its own content: it was changed",
        ),
    ],
)
def test_an_unfinished_or_damaged_folder_is_refused(
    damage: Callable[[Path], object], message: str, shapes: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(shapes, tmp_path / "copy")
    damage(folder)
    with pytest.raises(UserError) as raised:
        read_description(str(folder))
    assert message in str(raised.value)
    assert str(folder) in str(raised.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("/no/such/folder", "dataset folder not found"),
        ("./nobody/nothing", "dataset folder not found"),
        ("nobody/nothing", "neither a folder nor a reachable dataset on the Hub"),
    ],
)
def test_a_source_that_is_not_a_dataset_is_refused(source: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_description(source)


def test_an_empty_split_is_an_error_only_when_it_is_opened(shapes: Path) -> None:
    description = read_description(str(shapes))
    assert len(open_split(description, "train")) == 240
    with pytest.raises(UserError, match="the validation split is empty; splits with frames: train, test"):
        open_split(description, "validation")
    with pytest.raises(UserError, match="unknown split 'dev'"):
        open_split(description, "dev")


def test_planes_missing_from_sono_json_are_refused(
    make_rows: Callable, write_dataset: Callable, describe_again: Callable, tmp_path: Path
) -> None:
    folder = write_dataset(tmp_path / "dataset", {"train": make_rows(8, seed=4)})
    describe_again(folder, lambda content: content["planes"].pop("femur"))
    with pytest.raises(UserError, match=r"the planes differ from those of sono\.json"):
        open_split(read_description(str(folder)), "train")


def test_a_rebuilt_dataset_is_not_read_from_the_cache(
    make_rows: Callable, write_dataset: Callable, tmp_path: Path
) -> None:
    folder = tmp_path / "dataset"
    for seed in (5, 6):
        shutil.rmtree(folder, ignore_errors=True)
        write_dataset(folder, {"train": make_rows(8, seed=seed)})
        frames = open_split(read_description(str(folder)), "train")
        assert frames.row(0)["frame_id"].startswith(f"{seed:04x}")


@pytest.mark.parametrize("change", ["a byte", "another dataset's shard"])
def test_a_shard_that_sono_json_does_not_list_is_refused_whatever_its_size_and_times(
    change: str, make_rows: Callable, write_dataset: Callable, tmp_path: Path
) -> None:
    folder = write_dataset(tmp_path / "dataset", {"train": make_rows(8, seed=9)}, shards=1)
    shard = folder / "data/train-00000-of-00001.parquet"
    content, before = bytearray(shard.read_bytes()), shard.stat()
    if change == "a byte":
        content[200] ^= 1  # in the first frame's pixels
    else:
        other = write_dataset(tmp_path / "other", {"train": make_rows(8, seed=10)}, shards=1)
        content = bytearray((other / shard.relative_to(folder)).read_bytes())
        marker = json.loads((folder / "sono.json").read_text())
        marker["splits"]["train"]["shards"]["data/train-00000-of-00001.parquet"]["bytes"] = len(content)
        marker["fingerprint"] = fingerprint_of(marker)
        (folder / "sono.json").write_text(json.dumps(marker))
    shard.write_bytes(content)
    os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(UserError, match=r"train-00000-of-00001\.parquet is not the file that sono\.json lists"):
        open_split(read_description(str(folder)), "train")


def test_a_damaged_image_names_its_frame(make_rows: Callable) -> None:
    row = make_rows(1, seed=1)[0]
    for content in (row["image"]["bytes"][:200], b"", None):
        with pytest.raises(UserError, match=f"frame {row['frame_id']}: the image cannot be decoded"):
            decode_image({**row, "image": {"bytes": content, "path": None}})


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_an_image_that_is_not_8_bit_is_refused(kind: type, make_rows: Callable) -> None:
    """A conversion would cut off whatever is above 255."""
    row, buffer = make_rows(1, seed=1)[0], io.BytesIO()
    Image.fromarray(np.full((80, 120), 300, dtype=kind)).save(buffer, "TIFF")
    with pytest.raises(UserError, match=rf"frame {row['frame_id']}: the image is not 8-bit \(Pillow's mode [IF]"):
        decode_image({**row, "image": {"bytes": buffer.getvalue(), "path": None}})


def test_a_mask_of_another_size_names_its_frame_and_both_sizes(make_rows: Callable) -> None:
    row = make_rows(1, seed=1)[0]
    region = {**row["regions"][0], "mask": masks.encode(np.ones((120, 80), dtype=np.bool_))}
    with pytest.raises(UserError, match=f"frame {row['frame_id']}: the mask is 80x120 px but its image is 120x80 px"):
        decode_mask(row, region, decode_image(row))


def test_a_damaged_mask_names_its_frame(make_rows: Callable) -> None:
    row = make_rows(1, seed=1)[0]
    size = row["regions"][0]["mask"]["size"]
    for counts in ("0", "zzz", None):
        region = {**row["regions"][0], "mask": {"size": size, "counts": counts}}
        with pytest.raises(UserError, match=f"frame {row['frame_id']}: a mask cannot be decoded"):
            decode_mask(row, region, decode_image(row))


def test_an_image_that_claims_to_be_enormous_names_its_frame(make_rows: Callable) -> None:
    row, buffer = make_rows(1, seed=1)[0], io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(buffer, "PNG")
    with pytest.raises(UserError, match=f"frame {row['frame_id']}: the image cannot be decoded"):
        decode_image({**row, "image": {"bytes": buffer.getvalue(), "path": None}})


def test_frames_without_caption_or_regions_are_counted(
    make_rows: Callable, write_dataset: Callable, tmp_path: Path
) -> None:
    rows = make_rows(12, seed=7)
    rows[1]["caption"], rows[7]["caption"] = None, ""
    rows[2]["regions"], rows[3]["regions"] = [], None
    rows[9]["regions"] = [{**region, "caption": None} for region in rows[9]["regions"]]
    folder = write_dataset(tmp_path / "dataset", {"train": rows}, shards=3)
    pool = make_pool(open_together(read_descriptions([str(folder)])), CaptionTokenizer(77))
    assert (len(pool), pool.without_caption(0), pool.without_regions(0)) == (10, 2, 3)
    assert pool.usable.tolist() == [0, 2, 3, 4, 5, 6, 8, 9, 10, 11]


@pytest.mark.parametrize("place", ["frame", "region"])
def test_a_caption_longer_than_the_context_names_its_frame(
    place: str, make_rows: Callable, write_dataset: Callable, tmp_path: Path
) -> None:
    rows = make_rows(12, seed=8)
    long = " ".join(["leg"] * 76)
    if place == "frame":
        rows[9]["caption"] = long
    else:
        rows[9]["regions"][1]["caption"] = long
    folder = write_dataset(tmp_path / "dataset", {"train": rows}, shards=3)
    frames = open_split(read_description(str(folder)), "train")
    message = f"frame {rows[9]['frame_id']}: a caption has 78 tokens, but the text tower reads 77"
    with pytest.raises(UserError, match=message):
        make_pool(JoinedFrames((frames,)), CaptionTokenizer(77))
    assert len(make_pool(JoinedFrames((frames,)), CaptionTokenizer(78))) == 12


def test_the_tokenizer_never_truncates_a_caption() -> None:
    tokenizer = CaptionTokenizer(8)
    assert tokenizer(["a leg"]).shape == (1, 8)
    assert tokenizer.length("a leg") == 4
    with pytest.raises(UserError, match="a caption has 9 tokens, but the text tower reads 8"):
        tokenizer(["a b c d e f g"])
