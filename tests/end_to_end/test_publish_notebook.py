"""The committed notebook about publishing runs: audited, published, used, updated, and a patient withdrawn."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from .conftest import environment

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "publish.ipynb"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> list[nbformat.NotebookNode]:
    """What the cells gave, in order."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = tmp_path_factory.mktemp("notebook")
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute(
        env=environment(OMP_NUM_THREADS="1")
    )
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def test_it_is_committed_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in notebook.cells)


def test_every_revision_is_published_after_a_passed_audit(outputs: list[nbformat.NotebookNode]) -> None:
    printed = "".join(output["text"] for output in outputs if output.output_type == "stream")
    assert printed.count("Passed.") == 3
    sent = [int(text.replace(",", "")) for text in re.findall(r"files sent \(([\d,]+) bytes\)", printed)]
    assert len(sent) == 3
    assert "frames of the transthalamic plane" in printed
    assert not any(output.output_type == "error" for output in outputs)


def test_the_last_revision_has_nothing_of_the_patient_who_left(outputs: list[nbformat.NotebookNode]) -> None:
    [table] = [output["data"]["text/plain"] for output in outputs if "text/html" in output.get("data", {})]
    first, second, third = zip(
        *(map(int, row) for row in re.findall(r"(\d+) +(\d+) +(\d+)$", table, re.M)), strict=True
    )
    assert first == second
    assert sum(count == 0 for count in third) == 1
    assert all(now in (0, before) for now, before in zip(third, second, strict=True))
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_only_the_last_revision_is_left_and_can_be_pulled(outputs: list[nbformat.NotebookNode]) -> None:
    shown = [output["data"]["text/plain"] for output in outputs if "data" in output]
    assert "['v3']" in shown
    printed = "".join(output["text"] for output in outputs if output.output_type == "stream")
    frames = re.findall(r"^(\d+) frames: (\d+) accept", printed, re.MULTILINE)
    assert frames[-1] == frames[-2], "qc of the archive after the withdrawal, and of what was pulled"
