"""The demo's sizes hold out enough patients for an interval to mean something."""

from __future__ import annotations

from pathlib import Path

import pytest

from sono.curation.demo.plan import FULL, HOLDOUT, SHORT, DemoLayout, DemoPlan, commands
from sono.curation.phantom.exams import plan_exam
from sono.manifests import vocabulary


@pytest.mark.parametrize(("plan", "patients"), [(SHORT, 20), (FULL, 50)], ids=["short", "full"])
def test_the_held_out_hospital_has_enough_patients(plan: DemoPlan, patients: int) -> None:
    planes = vocabulary.load()
    records = [plan_exam(plan.seed, number, planes).record for number in range(plan.exams)]
    assert len({record.patient.patient_id for record in records if record.center.center == HOLDOUT}) >= patients


def test_every_run_trains_with_its_own_seed_and_is_evaluated(tmp_path: Path) -> None:
    layout = DemoLayout(tmp_path)
    steps = [" ".join(command) for command in commands(layout, FULL)]
    trained = [step for step in steps if step.startswith("sono-train pretrain")]
    assert [f"train.seed={seed}" in step for seed, step in enumerate(trained)] == [True] * FULL.runs
    assert sum(step.startswith("sono-train evaluate") for step in steps) == FULL.runs
