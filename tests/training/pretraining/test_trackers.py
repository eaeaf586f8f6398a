from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sono.manifests.errors import UserError
from sono.training import recipes
from sono.training.pretraining.trackers import Trackers, check_installed


def recipe(*settings: str) -> recipes.Recipe:
    return recipes.override(recipes.tiny(), settings)


def scalars(run: Path, name: str) -> list[tuple[int, float]]:
    found = EventAccumulator(str(run / "tensorboard"))
    found.Reload()
    return [(event.step, event.value) for event in found.Scalars(name)]


def test_tensorboard_drops_steps_that_a_resumed_run_repeats(tmp_path: Path) -> None:
    for done, steps in ((0, (1, 2, 3)), (2, (3, 4))):  # killed after step 3, its last checkpoint is of step 2
        trackers = Trackers(tmp_path, recipe("log.tensorboard=true"), done)
        for step in steps:
            trackers.log(step, {"step": step, "loss": done + step / 4, "mfu": None})
        trackers.close()
    assert scalars(tmp_path, "loss") == [(1, 0.25), (2, 0.5), (3, 2.75), (4, 3.0)]


def test_without_trackers_nothing_is_written(tmp_path: Path) -> None:
    trackers = Trackers(tmp_path, recipe(), 0)
    trackers.log(1, {"step": 1, "loss": 1.0})
    trackers.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_a_missing_tracker_is_a_one_line_error_with_the_install_command(name: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(name):
        pytest.skip(f"{name} is installed here")
    with pytest.raises(
        UserError, match=rf"needs {name}, which is not installed; run: pip install 'sono-curate\[track\]'"
    ):
        check_installed(recipe(f"log.tracker={name}"))
