"""The tables are described once, and a row that does not fit its description is not taken."""

from __future__ import annotations

import pyarrow as pa
import pytest

from sono.manifests import schemas
from sono.manifests.schemas import DATASET, DATASET_REGION, QC, REGIONS, TABLES, TableSpec

ALL = [*TABLES.values(), DATASET]
NAMES = [table.name for table in ALL]

judged: dict[str, object] = {"frame_id": "f", "verdict": "accept", "reasons": [], "config_sha256": "c"}


def test_the_tables_are_those_of_a_workspace() -> None:
    assert list(TABLES) == [
        *("frames", "exclusions", "qc", "regions", "mask_checks", "statements", "records", "captions")
    ]
    assert all(name == table.name for name, table in TABLES.items())


@pytest.mark.parametrize("table", ALL, ids=NAMES)
def test_every_table_has_its_key_as_a_column_of_text(table: TableSpec) -> None:
    assert table.schema.field(table.key).type == pa.string()


@pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
def test_a_key_is_never_null(table: TableSpec) -> None:
    assert not table.schema.field(table.key).nullable


@pytest.mark.parametrize("table", ALL, ids=NAMES)
def test_no_column_is_described_twice_and_an_empty_table_has_them_all(table: TableSpec) -> None:
    assert len(set(table.schema.names)) == len(table.schema.names)
    assert table.empty().schema.equals(table.schema)
    assert table.from_rows([]).schema.equals(table.schema)


@pytest.mark.parametrize("table", ALL, ids=NAMES)
def test_no_column_could_hold_a_name_or_a_date_of_a_patient(table: TableSpec) -> None:
    """Identifiers are pseudonyms; no file name, and no date but that of a decision, is stored."""
    dates = [field.name for field in table.schema if pa.types.is_temporal(field.type)]
    assert dates in ([], ["updated_at"])
    for word in ("patient_id", "patient_name", "study_id", "birth", "date", "file", "filename", "accession"):
        assert word not in table.schema.names


def test_what_the_dataset_tells_of_a_frame_and_a_region_keeps_its_type() -> None:
    for name in ("image", "frame_id", "patient_key", "study_key", "center", "sectors"):
        assert DATASET.schema.field(name).type == schemas.FRAMES.schema.field(name).type
    assert DATASET.schema.field("ga_days").type == schemas.RECORDS.schema.field("ga_days").type
    assert DATASET.schema.field("regions").type == pa.list_(DATASET_REGION)
    for name in ("structure", "mask", "area_px", "source"):
        assert DATASET_REGION.field(name).type == REGIONS.schema.field(name).type


def test_rows_become_a_table_in_the_order_of_the_schema() -> None:
    table = QC.from_rows([dict(reversed(judged.items()))])
    assert table.schema.equals(QC.schema)
    assert {name: value for name, value in table.to_pylist()[0].items() if value is not None} == judged


def test_a_column_left_out_is_null() -> None:
    assert QC.from_rows([judged])["sharpness"].to_pylist() == [None]


@pytest.mark.parametrize("position", [0, 1])
def test_a_misspelt_column_is_an_error_in_any_row(position: int) -> None:
    """Arrow takes the columns of the first row and drops what later rows have besides."""
    rows = [dict(judged), dict(judged)]
    rows[position] |= {"sharpnes": 1.0, "colour": "red"}
    with pytest.raises(KeyError, match=r"not columns of qc: \['colour', 'sharpnes'\]"):
        QC.from_rows(rows)


@pytest.mark.parametrize(("column", "value"), [("frame_id", 3), ("short_side_px", "12")])
def test_a_value_of_another_type_is_an_error(column: str, value: object) -> None:
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        QC.from_rows([{**judged, column: value}])


def test_a_box_has_four_numbers() -> None:
    with pytest.raises(pa.ArrowInvalid):
        REGIONS.from_rows([{"region_id": "r", "bbox": [1, 2, 3]}])
