"""Names in clinical records are found in every kind of file; what is not understood is counted, and stops nothing."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sono.curation.audit.sources.record_values import record_values

TABLE = "patient_id,name,remark\n12345,Yamamoto,seen by Achterberg\n"


def said(path: Path) -> tuple[set[str], int]:
    """Everything that records say, and how many files are not understood."""
    found = list(record_values([path]))
    return {text for values in found if values for _, text in values.texts}, found.count(None)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", TABLE),
        ("a.csv", f"\n{TABLE}"),
        ("a.csv", "patient_id\n12345,Yamamoto,seen by Achterberg\n"),
        ("a.tsv", TABLE.replace(",", "\t")),
        ("a.jsonl", '{"patient_id": 12345, "name": "Yamamoto", "remark": "seen by Achterberg"}\n'),
        ("a.json", '[{"patient_id": 12345, "name": "Yamamoto", "remark": "seen by Achterberg"}]'),
    ],
    ids=["csv", "blank_line", "ragged", "tsv", "lines", "list"],
)
def test_every_cell_is_read(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    texts, unknown = said(tmp_path / name)
    assert {"12345", "Yamamoto"} <= texts
    assert any("Achterberg" in text for text in texts)
    assert not unknown


def test_a_table_in_parquet_is_read_wherever_it_is(tmp_path: Path) -> None:
    pq.write_table(pa.table({"name": ["Yamamoto"]}), tmp_path / "a.parquet")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.parquet", "a.parquet")
    assert said(tmp_path / "a.parquet") == said(tmp_path / "a.zip") == ({"Yamamoto"}, 0)


def test_a_resource_names_persons_in_its_names_and_identifiers(tmp_path: Path) -> None:
    patient = {"resourceType": "Patient", "name": [{"family": "Yamamoto", "use": "usual"}], "gender": "female"}
    (tmp_path / "a.json").write_text(json.dumps(patient))
    assert said(tmp_path / "a.json") == ({"Yamamoto"}, 0)


def test_members_that_are_not_understood_do_not_hide_the_others(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("1.txt", "hello")
        archive.writestr("2.csv", TABLE)
    texts, unknown = said(tmp_path / "a.zip")
    assert "Yamamoto" in texts
    assert unknown == 1


@pytest.mark.parametrize("end", [b"x" * 300_000, b"\xff\xfe\xfa"], ids=["long_line", "no_text"])
def test_rows_before_a_damage_are_read(tmp_path: Path, end: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(TABLE.encode() * 2000 + end)
    texts, unknown = said(tmp_path / "a.csv")
    assert "Yamamoto" in texts
    assert unknown == 1


@pytest.mark.parametrize("damage", ["gzip", "zip", "encrypted", "parquet", "deep"])
def test_what_cannot_be_read_is_counted(tmp_path: Path, damage: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("2.csv", TABLE)
    packed = (tmp_path / "a.zip").read_bytes()
    zipped = gzip.compress(TABLE.encode() * 200)
    name, content = {
        "gzip": ("a.csv.gz", zipped[:12] + b"\xff" * 8 + zipped[20:]),
        "zip": ("a.zip", packed[: len(packed) // 2]),
        "encrypted": ("a.zip", _encrypted(packed)),
        "parquet": ("a.parquet", b"PAR1" + b"\0" * 40),
        "deep": ("a.json", b'{"name": ' * 100_000),
    }[damage]
    (tmp_path / name).write_bytes(content)
    assert said(tmp_path / name) == (set(), 1)


def _encrypted(archive: bytes) -> bytes:
    """The same with the flag of encryption set in both of a member's headers."""
    content = bytearray(archive)
    content[6] |= 1
    content[archive.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)
