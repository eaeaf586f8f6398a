from __future__ import annotations

from pathlib import Path

import pytest

from sono.manifests.errors import UserError
from sono.manifests.outputs import refuse_foreign, refuse_inside_dataset
from sono.manifests.workspace import create, open_workspace


def test_nothing_is_written_below_a_finished_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = tmp_path / "dataset"
    (dataset / "data").mkdir(parents=True)
    refuse_inside_dataset(dataset / "data" / "out")
    (dataset / "sono.json").touch()
    refuse_inside_dataset(dataset)  # whose own commands decide
    refuse_inside_dataset(tmp_path / "out")
    monkeypatch.chdir(dataset)
    for out in (dataset / "out", dataset / "data" / "far" / "out.parquet", Path("out")):
        with pytest.raises(UserError, match="finished dataset or checkpoint; name another place"):
            refuse_inside_dataset(out)


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    refuse_foreign(tmp_path / "new", {"log"}, "a run")
    (tmp_path / "log").touch()
    (tmp_path / ".tmp-1").touch()
    refuse_foreign(tmp_path, {"log"}, "a run")
    (tmp_path / "notes").touch()
    with pytest.raises(UserError, match="'notes' does not belong to a run; name a new folder"):
        refuse_foreign(tmp_path, {"log"}, "a run")
    with pytest.raises(UserError, match="not a folder"):
        refuse_foreign(tmp_path / "log", {"log"}, "a run")


@pytest.mark.parametrize("name", ["archive[1]", "archive?", "archive*"])
def test_a_path_that_is_taken_for_a_pattern_is_refused(tmp_path: Path, name: str) -> None:
    """DuckDB would read the tables of ``archive1``, too."""
    with pytest.raises(UserError, match="rename the folder"):
        create(tmp_path / name, "A")
    created = create(tmp_path / "archive", "A").path.rename(tmp_path / name)
    with pytest.raises(UserError, match="rename the folder"):
        open_workspace(created)
    with pytest.raises(UserError, match="rename the folder"):
        refuse_inside_dataset(tmp_path / name / "dataset")
