"""A run's log, whatever its columns are called."""

from __future__ import annotations

from pathlib import Path

from sono.training.pretraining.step_log import STEP, StepLog


def test_a_log_has_columns_of_any_name_and_goes_on_after_a_step(tmp_path: Path) -> None:
    """Datasets give columns of the validation log their names."""
    path, columns = tmp_path / "validation.csv", (STEP, "Köln")
    log = StepLog(path, 0, columns)
    for step in (1, 2):
        log.append({STEP: step, "Köln": 0.5})
    log.close()
    again = StepLog(path, 1, columns)
    assert again.last == 1
    again.close()
    assert path.read_text(encoding="utf-8") == "step,Köln\n1,0.5\n"
