"""Keys of datasets: what two datasets of one workspace share, and what a dataset says about the workspace."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sono.captioning.explain.trace import trace
from sono.curation.dataset.latest import latest_dataset
from sono.curation.dataset.store import MARKER
from sono.manifests.dataset_keys import dataset_keys, known_names
from sono.manifests.errors import UserError
from sono.manifests.schemas import CAPTIONS, TABLES
from sono.manifests.workspace import Workspace, create

from .curated import Curation, rows_of

COLUMNS = ("frame_id", "patient_key", "study_key", "caption_id")
HEX = re.compile(rb"[0-9a-f]{32,}")


def keys_of(out: Path) -> set[str]:
    found: set[str] = set()
    for row in rows_of(out):
        found |= {row[column] for column in COLUMNS} | {region["caption_id"] for region in row["regions"]}
    return found


def pseudonyms_of(out: Path) -> str:
    return str(json.loads((out / MARKER).read_bytes())["pseudonyms"])


def test_datasets_of_other_names_share_no_key_and_those_of_one_name_share_all(
    curation: Curation, tmp_path: Path
) -> None:
    curation.build(tmp_path / "first")
    curation.build(tmp_path / "second")
    curation.build(tmp_path / "moved", name="first")
    first, second, moved = (tmp_path / name for name in ("first", "second", "moved"))
    assert len(keys_of(first)) == 12 + 4 + 4 + 12 + 6
    assert not keys_of(first) & keys_of(second)
    assert keys_of(first) == keys_of(moved)
    assert pseudonyms_of(first) == pseudonyms_of(moved) != pseudonyms_of(second)
    assert [row["caption"] for row in rows_of(first)] == [row["caption"] for row in rows_of(second)]


def test_linkable_datasets_have_the_keys_of_the_workspace(curation: Curation, tmp_path: Path) -> None:
    curation.build(tmp_path / "one", linkable=True)
    curation.build(tmp_path / "two", linkable=True)
    frames = curation.workspace.store.read_all(TABLES["frames"], ["frame_id", "patient_key"])
    for out in (tmp_path / "one", tmp_path / "two"):
        assert {row["frame_id"] for row in rows_of(out)} == set(frames["frame_id"].to_pylist())
        assert {row["patient_key"] for row in rows_of(out)} == set(frames["patient_key"].to_pylist())
        assert pseudonyms_of(out) == curation.workspace.pseudonyms_id


def test_no_byte_of_a_dataset_is_a_key_digest_or_day_of_the_workspace(curation: Curation, tmp_path: Path) -> None:
    curation.build(tmp_path / "out")
    secrets = {*hexadecimal_values(curation.workspace), curation.workspace.pseudonyms_id.encode()}
    secrets.add((curation.workspace.path / "secret.key").read_bytes().strip())
    secrets.add((curation.workspace.path / "key-check").read_bytes().strip())
    assert len(secrets) > 90
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    for path in files:
        texts = [path.read_bytes()]
        if path.suffix == ".parquet":  # columns are compressed
            parquet = pq.ParquetFile(path)
            texts.append(json.dumps(parquet.read().to_pylist(), default=repr).encode())
            texts += [key + b" " + value for key, value in parquet.schema_arrow.metadata.items()]
        for text in texts:
            found = {match[start : start + 32] for match in HEX.findall(text) for start in range(len(match) - 31)}
            assert not found & {secret[:32] for secret in secrets}, path
            assert not any(bytes.fromhex(secret[:32].decode()) in text for secret in secrets)
    names = {name for path in files if path.suffix == ".parquet" for name in pq.read_schema(path).names}
    assert not names & {"source_key", "pixel_digest", "source_digest", "study_day", "accession_key", "name_key"}


def hexadecimal_values(workspace: Workspace) -> Iterator[bytes]:
    """Everything in the workspace's tables and their metadata that looks like a key, a digest or a fingerprint."""
    for table in TABLES.values():
        for path in workspace.store.paths(table):
            columns = [field.name for field in table.schema if pa.types.is_string(field.type)]
            text = json.dumps(pq.ParquetFile(path).read(columns).to_pylist()).encode()
            text += b" ".join((pq.read_schema(path).metadata or {}).values())
            yield from HEX.findall(text)


def test_trace_takes_the_caption_ids_of_every_dataset_and_of_the_workspace(curation: Curation, tmp_path: Path) -> None:
    curation.build(tmp_path / "one")
    curation.build(tmp_path / "two", name="a name of its own")
    workspace_ids = curation.workspace.store.read_all(CAPTIONS, ["caption_id"])["caption_id"].to_pylist()
    for out in (tmp_path / "one", tmp_path / "two"):
        row = rows_of(out)[0]
        traced = trace(curation.workspace, row["caption_id"])
        assert traced.caption_id in workspace_ids
        assert traced.text == row["caption"]
        assert trace(curation.workspace, traced.caption_id) == traced
    with pytest.raises(UserError, match="no caption has this id"):
        trace(curation.workspace, "0" * 32)


def test_the_name_is_the_folder_s_unless_given_and_is_repeated_by_status(curation: Curation, tmp_path: Path) -> None:
    curation.build(tmp_path / "out")
    plain = latest_dataset(curation.workspace)
    curation.build(tmp_path / "out", name="hospital-a")
    named = latest_dataset(curation.workspace)
    assert plain is not None
    assert named is not None
    assert "--name" not in plain.options
    assert list(named.options[:2]) == ["--name", "hospital-a"]
    assert known_names(curation.workspace) == ["out", "hospital-a"]


@pytest.mark.parametrize("name", ["", " ", "a" * 97, "two\nlines"])
def test_names_that_cannot_be_used_are_refused(workspace: Workspace, name: str) -> None:
    with pytest.raises(UserError, match="cannot be the name of a dataset"):
        dataset_keys(workspace, name)


def test_workspaces_with_one_key_derive_the_same_keys_and_others_do_not(workspace: Workspace, tmp_path: Path) -> None:
    """So masks that a program predicted can be compared with drawn ones in a dataset of another workspace."""
    same, other = create(tmp_path / "same", "B"), create(tmp_path / "other", "B")
    for name in ("secret.key", "key-check"):
        (same.path / name).write_bytes((workspace.path / name).read_bytes())
    keys, same_keys, other_keys = (dataset_keys(each, "fetal") for each in (workspace, same, other))
    assert same_keys == keys
    assert other_keys.id != keys.id
    assert other_keys.derive("patient", "p") != keys.derive("patient", "p") != keys.derive("frame", "p")
    assert keys.secret.hex() not in repr(keys)
    assert repr(keys.secret) not in repr(keys)


def test_codes_of_scanners_that_are_on_no_list_are_derived_too(workspace: Workspace) -> None:
    keys, kept = dataset_keys(workspace, "fetal"), dataset_keys(workspace, "fetal", linkable=True)
    derived = keys.scanner("model-1a2b3c4d")
    assert derived is not None
    assert re.fullmatch("model-[0-9a-f]{8}", derived)
    assert derived != "model-1a2b3c4d" == kept.scanner("model-1a2b3c4d")
    assert keys.scanner("Voluson E10") == "Voluson E10"
    assert keys.scanner(None) is None
