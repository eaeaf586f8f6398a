"""An exported model on the Hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sono.manifests.errors import UserError
from sono.training.cli import app
from sono.training.export.export import export
from tests.hub.fixtures import Hub

REPO = "hospital/fetal-clip"
pytestmark = [pytest.mark.usefixtures("small_backbones"), pytest.mark.slow]


def test_a_model_with_a_licence_is_published_and_one_without_is_not(
    hub: Hub, small_run: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "exported"
    export(small_run("test-vit"), out, "transformers")

    def publish(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["publish", str(out), REPO, *words])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.output

    (out / "optimizer.pt").write_bytes(b"\0")
    code, said = publish()
    assert code == 1
    assert "refused: files: 'optimizer.pt' would not be published" in said
    assert "refused: licence: README.md states no licence" in said
    (out / "optimizer.pt").unlink()
    card = out / "README.md"
    card.write_text(card.read_text().replace("---\n", "---\nlicense: cc-by-4.0\n", 1))
    assert publish("--dry-run")[1].startswith(f"to        {hub.address}/{REPO} (new)\n")
    assert publish("--tag", "v1")[0] == 0
    repository = hub.state.repository("model", REPO)
    assert repository.settings == {"private": True, "gated": "manual"}
    assert set(hub.files(REPO, "v1", "model")) == {path.name for path in out.iterdir()}
    (out / "model.safetensors").unlink()
    assert "refused: complete: files of the export are missing" in publish()[1]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="this is no exported model; run sono-train export RUN EXPORT first"):
        CliRunner().invoke(app, ["publish", str(tmp_path / "empty"), REPO], catch_exceptions=False)
