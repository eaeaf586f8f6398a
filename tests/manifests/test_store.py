"""Parts are whole or not there, whoever is killed when; and one process at a time writes to a workspace."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sono.manifests import masks
from sono.manifests.errors import UserError
from sono.manifests.schemas import EXCLUSIONS, FRAMES, QC, REGIONS
from sono.manifests.store import PartInfo, TableStore, exclusive, read_info, write_atomically, write_part
from sono.manifests.workspace import Workspace, create

PROGRAM = Path(__file__).with_name("store_program.py")


@pytest.fixture
def store(tmp_path: Path) -> TableStore:
    return TableStore(tmp_path)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return create(tmp_path / "workspace", "Hospital A")


def info(name: str = "a", **changes: object) -> PartInfo:
    return PartInfo(**{"name": name, "stage": "qc", "fingerprint": "f", "scope": "", "rows": 2, **changes})  # type: ignore[arg-type]


def judged(*frame_ids: str) -> pa.Table:
    rest = {"verdict": "review", "reasons": ["dark"], "config_sha256": "c"}
    return QC.from_rows([{"frame_id": frame_id, **rest} for frame_id in frame_ids])


def excluded(*source_keys: str) -> pa.Table:
    rest = {"stage": "qc", "reason": "dark", "message": "too dark"}
    return EXCLUSIONS.from_rows([{"source_key": key, **rest} for key in source_keys])


def frame(png: bytes) -> dict[str, object]:
    keys = ("frame_id", "patient_key", "study_key", "source_key", "source_digest", "pixel_digest")
    size = {"height": 40, "width": 60, "crop": [0, 0, 60, 40], "grey_histogram": [0] * 256, "laplacian_energy": 0.0}
    image = {"bytes": png, "path": None}
    return {**dict.fromkeys(keys, "k"), **size, "image": image, "frame_index": 0, "burned_in_text": "none"}


@contextmanager
def program(run: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The program, once it says that it is in the middle of its work; killed at the end."""
    with subprocess.Popen(
        [sys.executable, str(PROGRAM), run, str(folder)], stdout=subprocess.PIPE, text=True
    ) as started:
        try:
            assert started.stdout is not None
            assert started.stdout.readline() == "now\n"
            yield started
        finally:
            started.kill()


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_part_reads_back_as_written(store: TableStore) -> None:
    written = info(scope="s", exclusions={"dark": 3})
    store.write(QC, written, judged("x", "y"))
    assert store.read(QC, "a").equals(judged("x", "y"))
    assert store.read(QC, "a", ["verdict"]).column_names == ["verdict"]
    assert store.parts(QC) == {"a": written}
    assert files(store.folder(QC)) == ["part-a.parquet"]


def test_parts_are_read_in_name_order(store: TableStore) -> None:
    for name in ("b", "c", "a"):
        store.write(QC, info(name), judged(name))
    assert list(store.parts(QC)) == ["a", "b", "c"]
    assert store.read_all(QC)["frame_id"].to_pylist() == ["a", "b", "c"]
    assert store.read_all(QC, ["verdict"]).column_names == ["verdict"]


def test_a_table_without_parts_is_empty_but_has_its_columns(store: TableStore) -> None:
    assert store.read_all(QC).equals(QC.empty())
    assert store.parts(QC) == {}


def test_masks_and_images_survive_being_stored(store: TableStore) -> None:
    mask = np.random.default_rng(0).random((40, 60)) < 0.5
    region = {"region_id": "r", "frame_id": "f", "pixel_digest": "p", "structure": "head", "mask": masks.encode(mask)}
    region |= {"area_px": 1, "bbox": [0, 0, 60, 40], "source": "import", "status": "accepted"}
    store.write(REGIONS, info(), REGIONS.from_rows([region]))
    store.write(FRAMES, info(), FRAMES.from_rows([frame(bytes(range(256)) * 50)]))
    np.testing.assert_array_equal(masks.decode(store.read(REGIONS, "a")["mask"][0].as_py(), (40, 60)), mask)
    assert store.read(FRAMES, "a")["image"][0].as_py() == {"bytes": bytes(range(256)) * 50, "path": None}


def test_everything_but_png_is_compressed(store: TableStore) -> None:
    store.write(FRAMES, info(), FRAMES.from_rows([frame(b"png")]))
    group = pq.ParquetFile(store.path(FRAMES, "a")).metadata.row_group(0)
    columns = [group.column(index) for index in range(group.num_columns)]
    assert [column.path_in_schema for column in columns if column.compression == "UNCOMPRESSED"] == ["image.bytes"]
    assert {column.compression for column in columns} == {"UNCOMPRESSED", "ZSTD"}


def test_who_looks_for_a_few_frames_reads_the_pictures_of_few_others(store: TableStore) -> None:
    random = np.random.default_rng(0)
    rows = [frame(random.bytes(300_000)) | {"frame_id": f"f{number:03}"} for number in range(64)]
    store.write(FRAMES, info(), FRAMES.from_rows(rows))
    path = store.path(FRAMES, "a")
    groups = pq.read_metadata(path)
    assert groups.num_row_groups == 4
    column = groups.row_group(0).column(groups.schema.names.index("bytes"))
    assert column.path_in_schema == "image.bytes"
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + 10_000] ^= 1
    path.write_bytes(content)
    (row,) = store.find_rows(path, FRAMES, {"f050"}, ["image"])
    assert row["image"]["bytes"] == rows[50]["image"]["bytes"]  # type: ignore[index]
    with pytest.raises(UserError):  # it would have been seen
        list(store.find_rows(path, FRAMES, {"f001"}, ["image"]))


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, counts in (("one", {"a": 2, "b": 1}), ("other", {"b": 1, "a": 2})):
        write_part(tmp_path / name, QC, info(exclusions=counts), judged("x", "y"))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_columns_are_stored_in_the_types_of_the_schema(store: TableStore) -> None:
    wide = judged("x").set_column(0, "frame_id", pa.array(["x"], pa.large_string()))
    store.write(QC, info(), wide)
    assert pq.read_schema(store.path(QC, "a")).equals(QC.schema)


def test_a_null_where_none_may_be_is_refused(store: TableStore) -> None:
    store.write(QC, info(), judged("before"))
    broken = QC.from_rows([{"frame_id": "x", "reasons": [], "config_sha256": "c"}])
    with pytest.raises(ValueError, match=r"verdict.*null"):
        store.write(QC, info(), broken)
    assert store.read(QC, "a").equals(judged("before"))
    assert files(store.folder(QC)) == ["part-a.parquet"]


def test_a_table_with_other_columns_is_refused(store: TableStore) -> None:
    with pytest.raises(ValueError, match=r"^qc: columns \['frame_id'\] are not the schema's$"):
        store.write(QC, info(), judged("x").select(["frame_id"]))
    with pytest.raises(ValueError, match=r"^qc: columns .* are not the schema's$"):
        store.write(QC, info(), judged("x").append_column("colour", [["red"]]))
    assert store.paths(QC) == []


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_failing_writer_keeps_the_old_file(tmp_path: Path, before: bytes | None) -> None:
    path = tmp_path / "part-a.parquet"
    if before is not None:
        path.write_bytes(before)

    def write(file: IO[bytes]) -> None:
        file.write(b"half of the new")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_atomically(path, write)
    assert (path.read_bytes() if path.exists() else None) == before
    assert files(tmp_path) == ([] if before is None else ["part-a.parquet"])


def test_a_file_is_invisible_until_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "part-a.parquet"
    path.write_bytes(b"old")
    seen: list[bytes] = []

    def write(file: IO[bytes]) -> None:
        file.write(b"new")
        file.flush()
        seen.append(path.read_bytes())
        assert list(tmp_path.glob("part-*")) == [path]

    write_atomically(path, write)
    assert seen == [b"old"]
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_process_killed_while_writing_keeps_the_old_file(workspace: Workspace, before: bytes | None) -> None:
    folder = workspace.store.folder(QC)
    folder.mkdir()
    path = folder / "part-a.parquet"
    if before is not None:
        path.write_bytes(before)
    with program("write_half", folder) as writer:
        writer.kill()
        writer.wait()
    assert (path.read_bytes() if path.exists() else None) == before
    left = [name for name in files(folder) if name != "part-a.parquet"]
    assert len(left) == 1
    assert workspace.store.paths(QC) == ([] if before is None else [path])
    with workspace.writing():
        assert files(folder) == ([] if before is None else ["part-a.parquet"])


def test_only_leftovers_are_cleared_and_they_are_counted(store: TableStore) -> None:
    store.write(QC, info(), judged("x"))
    for name in (".tmp-1", ".tmp-2"):
        (store.folder(QC) / name).write_bytes(b"half")
    assert store.clear_leftovers() == 2
    assert store.clear_leftovers() == 0
    assert files(store.folder(QC)) == ["part-a.parquet"]


def test_exclusions_are_replaced_and_removed_if_empty(store: TableStore) -> None:
    store.write_exclusions(info("a"), excluded("x", "y"))
    store.write_exclusions(info("b"), excluded("z"))
    assert store.read_all(EXCLUSIONS)["source_key"].to_pylist() == ["x", "y", "z"]
    store.write_exclusions(info("a"), excluded("y"))
    assert store.read_all(EXCLUSIONS)["source_key"].to_pylist() == ["y", "z"]
    store.write_exclusions(info("a"), EXCLUSIONS.empty())
    assert files(store.folder(EXCLUSIONS)) == ["part-qc-b.parquet"]


def test_exclusions_of_two_stages_do_not_collide(store: TableStore) -> None:
    store.write_exclusions(info("a", stage="ingest"), excluded("x"))
    store.write_exclusions(info("a", stage="qc"), excluded("y"))
    store.remove(QC, "a", "qc")
    assert store.read_all(EXCLUSIONS)["source_key"].to_pylist() == ["x"]


def test_removing_a_part_removes_its_exclusions(store: TableStore) -> None:
    for name in ("a", "b"):
        store.write(QC, info(name), judged(name))
        store.write_exclusions(info(name), excluded(name))
    store.remove(QC, "a", "qc")
    assert list(store.parts(QC)) == ["b"]
    assert store.read_all(EXCLUSIONS)["source_key"].to_pylist() == ["b"]


def test_an_interrupted_removal_is_completed_by_the_next_run(store: TableStore) -> None:
    """The part goes last: without it nobody would look for its exclusions any more."""
    store.write(QC, info(), judged("x"))
    store.path(EXCLUSIONS, "qc-a").mkdir(parents=True)  # a folder cannot be unlinked
    with pytest.raises(OSError, match="part-qc-a"):
        store.remove(QC, "a", "qc")
    assert list(store.parts(QC)) == ["a"]


def parquet_of_others(path: Path) -> None:
    pq.write_table(pa.table({"frame_id": ["x"]}), path)


def parquet_of_another_version(path: Path) -> None:
    content = pa.table({"frame_id": ["x"]}).replace_schema_metadata({b"sono": b'{"name": "a", "colour": "red"}'})
    pq.write_table(content, path)


def truncated(path: Path) -> None:
    write_part(path, QC, info(), judged("x"))
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    "spoil",
    [
        parquet_of_others,
        parquet_of_another_version,
        truncated,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("frame_id,verdict\nx,accept\n"),
        lambda path: path.mkdir(),
    ],
    ids=["of others", "of another version", "truncated", "empty", "text", "a folder"],
)
def test_a_foreign_file_is_named_in_one_line(store: TableStore, spoil: object) -> None:
    store.write(QC, info("a"), judged("x"))
    path = store.path(QC, "b")
    spoil(path)  # type: ignore[operator]
    for read in (lambda: read_info(path), lambda: store.parts(QC)):
        with pytest.raises(UserError) as caught:
            read()
        assert str(caught.value) == f"{path}: not a part that sono-curate wrote; move it away and run again"


def test_a_second_writer_is_refused_until_the_first_ends(workspace: Workspace) -> None:
    second = [sys.executable, str(PROGRAM), "hold_and_end", str(workspace.path)]
    with program("hold", workspace.path):
        refused = subprocess.run(second, capture_output=True, text=True, timeout=60, check=False)
        assert refused.stdout == ""
        assert refused.stderr == (
            f"{workspace.path}: another command is writing here; wait for it to finish, then run this command again\n"
        )
    done = subprocess.run(second, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "had it\n", "the first was killed, and its lock went with it"


def test_files_of_a_running_process_are_not_cleared(workspace: Workspace) -> None:
    folder = workspace.store.folder(QC)
    folder.mkdir()
    with program("hold", workspace.path):
        (folder / ".tmp-1").write_bytes(b"being written")
        with pytest.raises(UserError, match="another command is writing here"), workspace.writing():
            pass
        assert files(folder) == [".tmp-1"]


def test_the_lock_is_free_after_an_exception(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), exclusive(tmp_path, "here"):
        raise RuntimeError
    with exclusive(tmp_path, "here"):
        pass


def test_rows_are_found_by_their_keys(store: TableStore) -> None:
    names = [f"f{number:03}" for number in range(100)]
    store.write(QC, info(rows=100), judged(*names))
    found = list(store.find_rows(store.path(QC, "a"), QC, {"f007", "f099", "f100"}, ["verdict"]))
    assert found == [{"frame_id": "f007", "verdict": "review"}, {"frame_id": "f099", "verdict": "review"}]
