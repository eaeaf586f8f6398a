"""The same workspaces scored as MIDI-B scores, by an answer key: what the audit finds, the benchmark finds."""

from __future__ import annotations

import pytest

from sono.curation.audit.findings import ACTIONS

from .conftest import Audited
from .midi_b import is_removed, score
from .test_run import FAULTS


@pytest.mark.slow
def test_a_clean_workspace_scores_all_of_every_action(audited: Audited) -> None:
    scores = score(audited.workspace, audited.phantom)
    assert {action: found.passed / found.checks for action, found in scores.items()} == dict.fromkeys(ACTIONS, 1.0)
    judged = {action: found.passed - found.empty for action, found in scores.items()}
    assert all(judged[action] for action in ACTIONS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "action", ["uid_changed", "uid_consistent", "patient_id_consistent", "pixels_retained", "pixels_hidden"]
)
def test_faults_that_the_benchmark_knows_cost_points_in_their_action(audited: Audited, action: str) -> None:
    FAULTS[action][0](audited)
    found = score(audited.workspace, audited.phantom)[action]
    assert found.passed < found.checks


@pytest.mark.parametrize(
    ("stored", "answer", "removed"),
    [
        ("transthalamic", "Yamamoto^Chiara", True),
        ("view of yamamoto", "Yamamoto^Chiara", False),
        ("x-chiarax", "Yamamoto^Chiara", False),
        ("12.0", "12", False),
        ("13", "12", True),
        ("", "12", True),
    ],
)
def test_a_text_is_removed_if_no_token_of_it_is_left(stored: str, answer: str, removed: bool) -> None:
    assert is_removed(stored, answer) is removed
