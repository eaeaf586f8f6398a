from __future__ import annotations

import fcntl
import io
import os
import shutil
import stat
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from sono.manifests import masks
from sono.manifests.errors import UserError
from sono.training import recipes
from sono.training.data import cache_layout
from sono.training.data.cache import Cache, open_cache
from sono.training.data.cache_layout import layout_of
from sono.training.data.dataset import Frames, open_split, read_description
from sono.training.data.joined import JoinedFrames
from sono.training.data.pixels import DecodedPixels, PixelSource
from sono.training.data.pool import make_pool, with_cache
from sono.training.data.samples import batches_from
from sono.training.model.tokenizer import CaptionTokenizer
from sono.training.model.transforms import PadToSquare

pytestmark = pytest.mark.slow  # each test reads a dataset and fills a cache

TRANSFORM = PadToSquare(size=32)
BUILD = """
import resource, sys
from pathlib import Path
import pyarrow as pa
from sono.manifests.errors import UserError
from sono.training.data import cache_layout
from sono.training.data.cache import open_cache
from sono.training.data.dataset import open_split, read_description
from sono.training.model.transforms import PadToSquare

source, root, size, limit = sys.argv[1:]
cache_layout.PART_ROWS, cache_layout.BATCH_ROWS = 16, 4
frames = open_split(read_description(source), "train")
if limit != "0":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
try:
    opened = open_cache(frames, PadToSquare(size=int(size)), Path(root), notice=print)
    print("peak", pa.default_memory_pool().max_memory())
    print("sum", sum(int(opened.pair(row, 0)[0].sum()) for row in range(len(frames))))
except UserError as error:
    print("error", error)
"""


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many parts from few frames."""
    monkeypatch.setattr(cache_layout, "PART_ROWS", 16)
    monkeypatch.setattr(cache_layout, "BATCH_ROWS", 4)


def build(source: Path, root: Path, size: int, limit: int = 0) -> subprocess.Popen[str]:
    """Build the cache in another process; ``limit`` is the size in bytes of the largest file it may write."""
    arguments = [sys.executable, "-c", BUILD, str(source), str(root), str(size), str(limit)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def output_of(process: subprocess.Popen[str]) -> list[str]:
    lines = process.communicate(timeout=120)[0].splitlines()
    assert process.returncode == 0
    return lines


@pytest.fixture(scope="module")
def frames(shapes: Path) -> Frames:
    return open_split(read_description(str(shapes)), "train")


def compare(one: PixelSource, other: PixelSource, frames: Frames, rows: range | None = None) -> int:
    """Compare every image and every mask byte by byte; returns how many there were."""
    compared = 0
    for row in rows or range(len(frames)):
        for region in [None, *range(len(frames.row(row)["regions"] or ()))]:
            for left, right in zip(one.pair(row, region), other.pair(row, region), strict=True):
                assert left.shape == right.shape
                assert left.tobytes() == right.tobytes()
            compared += 1
    return compared


def encoded(pixels: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def part_files(root: Path) -> dict[Path, tuple[int, int]]:
    """The files of the one cache below ``root``; rewriting one would change its inode."""
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in sorted(root.glob("*/part-*.arrow"))}


@pytest.mark.parametrize("workers", [0, 2])
def test_the_cache_gives_the_same_bytes_as_the_dataset(workers: int, frames: Frames, tmp_path: Path) -> None:
    notices: list[str] = []
    opened = open_cache(frames, TRANSFORM, tmp_path, workers=workers, notice=notices.append)
    assert compare(opened, DecodedPixels(frames, TRANSFORM), frames) == 3 * 240
    assert len(part_files(tmp_path)) == 15
    assert notices[0].startswith("writing 240 frames at 32 px into the cache, once: ")
    assert notices[1].startswith("the cache is complete: 240 frames written")


def test_grey_colour_black_and_odd_frames_are_read_back_unchanged(
    make_rows: Callable[..., Any], write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    rows = make_rows(7, seed=3)
    colour = np.random.default_rng(0).integers(0, 256, (40, 90, 3), dtype=np.uint8)
    grey = np.repeat(colour[..., :1], 3, axis=2)
    whole = masks.encode(np.ones((40, 90), dtype=np.bool_))
    empty = masks.encode(np.zeros((40, 90), dtype=np.bool_))
    for row, pixels in zip(rows, (colour, grey, np.zeros_like(grey), np.zeros_like(colour[..., 0])), strict=False):
        row["image"]["bytes"] = encoded(pixels)
        row["regions"] = [{**row["regions"][0], "mask": mask} for mask in (whole, empty)]
    rows[4]["regions"], rows[5]["regions"], rows[6]["caption"] = [], None, None
    folder = write_dataset(tmp_path / "dataset", {"train": rows})
    odd = open_split(read_description(str(folder)), "train")
    opened = open_cache(odd, TRANSFORM, tmp_path / "cache", notice=lambda _: None)
    assert compare(opened, DecodedPixels(odd, TRANSFORM), odd) == 4 * 3 + 2 * 1 + 3
    assert [len(opened.pair(row, None)[0]) for row in range(4)] == [3, 1, 1, 1]
    assert not opened.pair(0, 1)[1].any()


def test_batches_are_the_same_with_and_without_it(frames: Frames, tmp_path: Path) -> None:
    tokenizer = CaptionTokenizer(77)
    settings = ["train.batch_size=24", "data.workers=1", f"data.cache={tmp_path}", "augment.rotate_deg=10"]
    recipe = recipes.override(recipes.tiny(), settings)
    plain = make_pool(JoinedFrames((frames,)), tokenizer)
    cached = with_cache(plain, TRANSFORM, recipe.data, lambda _: None)
    assert [type(cache) for cache in cached.caches] == [Cache]
    assert len(part_files(tmp_path)) == 15
    without = batches_from(0, 8, plain, TRANSFORM, tokenizer, recipe)
    with_ = batches_from(0, 8, cached, TRANSFORM, tokenizer, recipe)
    for one, other in zip(without, with_, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.masks, other.masks)
        assert one.origins == other.origins


def test_none_writes_nothing_and_auto_is_below_the_user_cache_folder(
    frames: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    pool = make_pool(JoinedFrames((frames,)), CaptionTokenizer(77))
    assert with_cache(pool, TRANSFORM, recipes.Data(cache=None)).caches == ()
    assert list(tmp_path.iterdir()) == []
    with_cache(pool, TRANSFORM, recipes.Data(), lambda _: None)
    assert len(part_files(tmp_path / "sono-curate" / "frames")) == 15


def test_dataset_split_and_size_decide_the_folder_and_the_mean_does_not(
    shapes: Path, make_rows: Callable[..., Any], write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    folder = write_dataset(tmp_path / "other", {"train": make_rows(4, seed=1), "test": make_rows(4, seed=2)})
    splits = [
        open_split(read_description(str(path)), split) for path in (shapes, folder) for split in ("train", "test")
    ]
    found = {layout_of(split, PadToSquare(size=size), tmp_path).folder for split in splits for size in (32, 64)}
    assert len(found) == 8
    one, other = (layout_of(splits[0], PadToSquare(size=32, mean=(mean, 0.5, 0.5)), tmp_path) for mean in (0.4, 0.5))
    assert one == other


def test_of_a_dataset_replaced_in_place_with_equal_times_nothing_is_served_from_a_cache(
    make_rows: Callable, write_dataset: Callable, replace_in_place: Callable, tmp_path: Path
) -> None:
    folder, opened = write_dataset(tmp_path / "dataset", {"train": make_rows(8, seed=5)}), []
    for seed in (5, 6):
        if seed == 6:
            replace_in_place(folder, {"train": make_rows(8, seed=6)})
        frames = open_split(read_description(str(folder)), "train")
        opened.append(open_cache(frames, TRANSFORM, tmp_path / "cache", notice=lambda _: None))
        assert [frames.row(row)["frame_id"][:4] for row in range(8)] == [f"{seed:04x}"] * 8
    expected = write_dataset(tmp_path / "elsewhere", {"train": make_rows(8, seed=6)})
    pixels = DecodedPixels(open_split(read_description(str(expected)), "train"), TRANSFORM)
    for row in range(8):
        for region in (None, 0, 1):
            for found, wanted in zip(opened[1].pair(row, region), pixels.pair(row, region), strict=True):
                np.testing.assert_array_equal(found, wanted)
    assert (opened[0].pair(0, None)[0] != opened[1].pair(0, None)[0]).any()


def test_only_its_owner_may_enter_a_cache(frames: Frames, tmp_path: Path) -> None:
    open_cache(frames, TRANSFORM, tmp_path / "new", notice=lambda _: None)
    folder = layout_of(frames, TRANSFORM, tmp_path / "new").folder
    copies = datasets.config.HF_DATASETS_CACHE / "sono-curate"
    assert [stat.S_IMODE(made.stat().st_mode) for made in (tmp_path / "new", folder, copies)] == [0o700] * 3


def test_a_complete_cache_is_only_read(frames: Frames, tmp_path: Path) -> None:
    open_cache(frames, TRANSFORM, tmp_path, notice=lambda _: None)
    before = part_files(tmp_path)
    next(tmp_path.glob("*/.lock")).unlink()
    notices: list[str] = []
    open_cache(frames, TRANSFORM, tmp_path, notice=notices.append)
    assert notices == []
    assert part_files(tmp_path) == before
    assert not list(tmp_path.glob("*/.lock"))


@pytest.mark.slow
def test_a_killed_build_resumes_where_it_stopped(shapes: Path, frames: Frames, tmp_path: Path) -> None:
    process = build(shapes, tmp_path, 224)
    deadline = time.monotonic() + 60
    while len(part_files(tmp_path)) < 3:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    process.communicate(timeout=30)
    before = part_files(tmp_path)
    assert 3 <= len(before) < 15
    folder = next(iter(before)).parent
    (folder / ".tmp-left-behind").write_bytes(b"half")
    transform, notices = PadToSquare(size=224), list[str]()
    opened = open_cache(frames, transform, tmp_path, notice=notices.append)
    after = part_files(tmp_path)
    assert {path: after[path] for path in before} == before
    assert f"the cache is complete: {240 - 16 * len(before)} frames written" in notices[-1]
    assert not list(folder.glob(".tmp-*"))
    assert compare(opened, DecodedPixels(frames, transform), frames, range(0, 240, 7)) == 3 * 35


@pytest.mark.slow
def test_processes_that_start_together_build_it_once_and_hold_no_more_than_a_few_batches(
    shapes: Path, tmp_path: Path
) -> None:
    lines = [output_of(process) for process in [build(shapes, tmp_path, 224) for _ in range(2)]]
    flat = [line for output in lines for line in output]
    assert sum(line.startswith("writing") for line in flat) == 1
    assert all(line.startswith(("writing", "the cache is complete", "another process", "peak", "sum")) for line in flat)
    peaks = [int(line.split()[1]) for line in flat if line.startswith("peak")]
    assert 0 < max(peaks) < sum(path.stat().st_size for path in part_files(tmp_path)) / 10
    assert len({output[-1] for output in lines}) == 1  # all read the same
    assert len(part_files(tmp_path)) == 15


@pytest.mark.slow
def test_a_process_waits_for_the_one_that_writes(frames: Frames, shapes: Path, tmp_path: Path) -> None:
    folder = layout_of(frames, TRANSFORM, tmp_path).folder
    folder.mkdir()
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen(  # notices must come at once
            [sys.executable, "-u", "-c", BUILD, str(shapes), str(tmp_path), "32", "0"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == f"another process writes the cache; waiting for it: {folder}\n"
        assert not part_files(tmp_path)
    assert output_of(process)[-1].startswith("sum ")
    assert len(part_files(tmp_path)) == 15


def test_only_a_truncated_part_is_rewritten_with_a_notice(frames: Frames, tmp_path: Path) -> None:
    open_cache(frames, TRANSFORM, tmp_path, notice=lambda _: None)
    before = part_files(tmp_path)
    short, other = list(before)[2], list(before)[4]
    short.write_bytes(short.read_bytes()[:-100])
    other.unlink()
    notices: list[str] = []
    opened = open_cache(frames, TRANSFORM, tmp_path, notice=notices.append)
    assert notices[0] == f"damaged, so rewritten: 1 of 15 files of the cache, the first {short}"
    assert "32 frames written" in notices[-1]
    changed = {path for path, facts in part_files(tmp_path).items() if facts != before[path]}
    assert changed == {short, other}
    assert compare(opened, DecodedPixels(frames, TRANSFORM), frames, range(32, 96)) == 3 * 64


def test_a_part_of_another_cache_is_rewritten(frames: Frames, tmp_path: Path) -> None:
    for size in (32, 64):
        open_cache(frames, PadToSquare(size=size), tmp_path / str(size), notice=lambda _: None)
    ours, foreign = (next(iter(part_files(tmp_path / size))) for size in ("32", "64"))
    shutil.copy(foreign, ours)
    notices: list[str] = []
    opened = open_cache(frames, TRANSFORM, tmp_path / "32", notice=notices.append)
    assert "damaged, so rewritten: 1 of 15 files" in notices[0]
    assert compare(opened, DecodedPixels(frames, TRANSFORM), frames, range(16)) == 3 * 16


def test_a_flipped_bit_is_detected(frames: Frames, tmp_path: Path) -> None:
    """Wherever a byte changes, reading gives either the right pixels or an error that names the file."""
    open_cache(frames, TRANSFORM, tmp_path, notice=lambda _: None)
    path = next(iter(part_files(tmp_path)))
    content, random = path.read_bytes(), np.random.default_rng(0)
    layout, plain = layout_of(frames, TRANSFORM, tmp_path), DecodedPixels(frames, TRANSFORM)
    expected = {row: plain.pair(row, 1) for row in range(16)}
    caught = 0
    for place in random.integers(0, len(content), 300):
        path.write_bytes(
            content[:place] + bytes([content[place] ^ 1 << int(random.integers(8))]) + content[place + 1 :]
        )
        try:
            damaged = Cache(layout, TRANSFORM)
            for row, pair in expected.items():
                for left, right in zip(damaged.pair(row, 1), pair, strict=True):
                    assert left.tobytes() == right.tobytes()
        except UserError as error:
            caught += 1
            message = str(error)
            assert message == (
                f"{path}: this file of the cache is damaged; delete it and run again with --resume to rewrite it"
            )
    assert caught > 200  # most of a file is pixels


def test_a_faulty_frame_is_named_before_training_begins(
    make_rows: Callable[..., Any], write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    rows = make_rows(24, seed=9)
    rows[21]["regions"][0]["mask"] = masks.encode(np.ones((9, 12), dtype=np.bool_))
    folder = write_dataset(tmp_path / "dataset", {"train": rows})
    faulty = open_split(read_description(str(folder)), "train")
    for workers in (0, 1):
        with pytest.raises(UserError) as raised:
            open_cache(faulty, TRANSFORM, tmp_path / "cache", workers=workers, notice=lambda _: None)
        assert f"frame {rows[21]['frame_id']}: the mask is 12x9 px but its image is" in str(raised.value)
        assert len(part_files(tmp_path / "cache")) == 1  # complete parts stay
        assert not list((tmp_path / "cache").glob("*/.tmp-*"))


@pytest.mark.slow
def test_a_full_disk_is_a_one_line_error_and_the_build_resumes(frames: Frames, shapes: Path, tmp_path: Path) -> None:
    last = output_of(build(shapes, tmp_path, 128, limit=150_000))[-1]
    assert last.startswith(f"error {tmp_path}")
    assert "the disk is full; free space, or choose another disk with --set data.cache=FOLDER" in last
    assert not list(tmp_path.glob("*/.tmp-*"))
    transform = PadToSquare(size=128)
    opened = open_cache(frames, transform, tmp_path, notice=lambda _: None)
    assert compare(opened, DecodedPixels(frames, transform), frames, range(0, 240, 20)) == 3 * 12


def test_a_disk_that_will_be_full_is_an_error_after_the_first_part(
    frames: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 10_000))
    with pytest.raises(UserError, match=r"the rest of the cache needs about .* GiB are free; free space, or choose"):
        open_cache(frames, TRANSFORM, tmp_path, notice=lambda _: None)
    assert len(part_files(tmp_path)) == 1


def test_a_folder_that_cannot_be_created_is_a_one_line_error(frames: Frames, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"the cache cannot be written \(File exists\)"):
        open_cache(frames, TRANSFORM, tmp_path / "file", notice=lambda _: None)


def own_memory() -> int:
    """Bytes of this process that are not of mapped files, which the system may drop."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("RssAnon:")).split()[1])


def test_reading_takes_neither_memory_nor_file_descriptors(frames: Frames, tmp_path: Path) -> None:
    transform = PadToSquare(size=336)
    opened = open_cache(frames, transform, tmp_path, notice=lambda _: None)
    size = sum(path.stat().st_size for path in part_files(tmp_path))
    opened.pair(0, 0)
    memory, descriptors = own_memory(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for row in range(len(frames)):
        opened.pair(row, 0)
    assert size > 12_000_000
    assert own_memory() - memory < size / 3
    assert len(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208
