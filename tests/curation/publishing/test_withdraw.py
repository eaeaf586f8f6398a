"""Who withdraws leaves the workspace completely, however large its parts are, and nobody else leaves with them."""

from __future__ import annotations

import pyarrow as pa

from sono.curation.publishing.patient_list import ListedPatient
from sono.curation.publishing.withdraw import withdraw
from sono.manifests.schemas import STATEMENTS
from sono.manifests.store import PartInfo
from sono.manifests.workspace import Workspace


def test_only_their_rows_leave_a_large_part(workspace: Workspace) -> None:
    """DuckDB gives the rows of a part of this size in an order of its own."""
    count, each = 50_000, 8
    patients = [f"{number:032x}" for number in range(count)]
    patients[17::2500] = leaving = [
        workspace.keys.patient("", f"P{number}") for number in range(len(patients[17::2500]))
    ]
    keys = pa.array([key for key in patients for _ in range(each)])
    said = {"place": "line", "fact": "edd_day", "field": "column edd", "rank": 0, "study_unknown": False}
    columns = {name: pa.nulls(len(keys), STATEMENTS.schema.field(name).type) for name in STATEMENTS.schema.names}
    columns |= {name: pa.repeat(value, len(keys)) for name, value in said.items()}
    columns |= dict.fromkeys(("source_key", "patient_key", "patient_center_key", "patient_number_key"), keys)
    rows = pa.table(columns).cast(STATEMENTS.schema)
    workspace.store.write(STATEMENTS, PartInfo("large", "statements", "0" * 64, "", len(rows)), rows)

    with workspace.writing():
        report = withdraw(workspace, [ListedPatient(n, f"P{n}") for n in range(len(leaving))])
    left = workspace.store.read_all(STATEMENTS, ["patient_key"])["patient_key"].to_pylist()
    assert report.rows["statements"] == len(leaving) * each
    assert set(leaving).isdisjoint(left)
    assert len(left) == (count - len(leaving)) * each
    assert len(set(left)) == count - len(leaving)
