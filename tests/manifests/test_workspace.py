"""A workspace is made once, is its owner's alone, and says which key of its configuration is wrong."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BaseModel, ConfigDict, Field

from sono.manifests.errors import UserError
from sono.manifests.schemas import FRAMES
from sono.manifests.store import PartInfo
from sono.manifests.workspace import SECTIONS, Workspace, create, open_workspace

OWN_VOCABULARY = """
version = 1

[[structures]]
id = "spine"
name = "spine"

[[planes]]
id = "spine_sagittal"
name = "sagittal spine"
system = "head"
ga_weeks = [14, 41]
structures = ["spine"]
source = "ours"
"""


class QcSection(BaseModel):
    """As the owner of a section declares it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit: Annotated[int, Field(ge=1)] = 7
    share: float = 0.5


def configured(folder: Path, text: str) -> Workspace:
    create(folder / "workspace", "Hospital A")
    (folder / "workspace" / "sono.toml").write_text(text, encoding="utf-8")
    return open_workspace(folder / "workspace")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_workspace_opens_with_its_center_its_key_and_the_packaged_vocabulary(tmp_path: Path) -> None:
    made = create(tmp_path / "deep" / "workspace", "Hôpital A. (Nord)")
    opened = open_workspace(tmp_path / "deep" / "workspace")
    assert opened.center == made.center == "Hôpital A. (Nord)"
    assert opened.keys == made.keys
    assert len(opened.vocabulary.plane_ids) == 24
    assert opened.section("qc", QcSection) == QcSection()


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_a_new_workspace_is_accessible_to_its_owner_only(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        create(tmp_path / "workspace", "A")
    finally:
        os.umask(before)
    assert mode(tmp_path / "workspace") == 0o700
    assert mode(tmp_path / "workspace" / "secret.key") == 0o600


def test_git_ignores_a_workspace(tmp_path: Path) -> None:
    assert (create(tmp_path / "workspace", "A").path / ".gitignore").read_text() == "*\n"


def test_an_empty_folder_may_become_a_workspace(tmp_path: Path) -> None:
    assert create(tmp_path, "A").center == "A"


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scan.dcm").touch()
    with pytest.raises(UserError) as caught:
        create(tmp_path, "A")
    assert str(caught.value) == f"{tmp_path}: not an empty folder; name a new folder for the workspace"
    assert [path.name for path in tmp_path.iterdir()] == ["scan.dcm"]
    with pytest.raises(UserError, match="not an empty folder"):
        create(tmp_path / "scan.dcm", "A")


def test_an_existing_workspace_is_not_overwritten(tmp_path: Path) -> None:
    made = create(tmp_path / "workspace", "A")
    with pytest.raises(UserError, match="not an empty folder"):
        create(tmp_path / "workspace", "B")
    assert open_workspace(made.path).keys == made.keys


@pytest.mark.parametrize("center", ["", "a" * 65, 'A"\n[qc]', "A\n", "a/b", "a\\1"])
def test_an_invalid_center_name_is_refused(tmp_path: Path, center: str) -> None:
    with pytest.raises(UserError, match="cannot be the name of a center; use up to 64 letters"):
        create(tmp_path / "workspace", center)
    assert not (tmp_path / "workspace").exists()


def test_the_default_configuration_is_valid(tmp_path: Path) -> None:
    text = (create(tmp_path / "workspace", "A").path / "sono.toml").read_text()
    uncommented = "\n".join(line.removeprefix("# ") if " = " in line else line for line in text.splitlines())
    assert set(tomllib.loads(uncommented)) <= set(SECTIONS)


def test_opening_another_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError) as missing:
        open_workspace(tmp_path / "none")
    assert str(missing.value) == (f"{tmp_path / 'none'}: folder not found; run: sono-curate init {tmp_path / 'none'}")
    with pytest.raises(UserError) as other:
        open_workspace(tmp_path)
    assert str(other.value) == (f"{tmp_path}: not a workspace: it has no sono.toml; run: sono-curate init {tmp_path}")


def test_a_section_overrides_its_defaults(tmp_path: Path) -> None:
    assert configured(tmp_path, "[qc]\nlimit = 3\n").section("qc", QcSection) == QcSection(limit=3)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[qc]\nlimti = 3\n", "qc.limti: unknown key; did you mean 'limit'?"),
        ("[qc]\nxyz = 3\n", "qc.xyz: unknown key; known keys of [qc]: limit, share"),
        ("[ingset]\n", "unknown section [ingset]; did you mean 'ingest'?"),
        ("[qc]\nlimit = 0\n", "qc.limit: Input should be greater than or equal to 1; correct that value"),
        ('[qc]\nlimit = "three"\n', "qc.limit: Input should be a valid integer"),
        ("[qc.limit]\nlow = 1\n", "qc.limit: Input should be a valid integer"),
        ("qc = 3\n", "qc: Input should be a valid dictionary"),
        (
            "[quality]\nlimit = 3\n",
            "unknown section [quality]; known sections: workspace, vocabulary, ingest, qc",
        ),
        ("limit = 3\n", "unknown section [limit]; known sections: workspace"),
        ("[qc\nlimit = 3\n", "not valid TOML: Expected ']'"),
        ("[qc]\nlimit = 3\nlimit = 4\n", "not valid TOML: Cannot overwrite a value (at line 3"),
        ("[qc]\nlimit = " + "[" * 5000 + "]" * 5000 + "\n", "not valid TOML: nested too deeply"),
        ("[qc]\nlimit = " + "{a = " * 5000 + "1" + "}" * 5000 + "\n", "not valid TOML: nested too deeply"),
        ("[qc]\nlimit = " + "1" * 5000 + "\n", "not valid TOML: a number with too many digits"),
        ("[qc]\nlimit = inf\n", "qc.limit: Input should be a finite number"),
        ("[qc]\nshare = inf\n", "qc.share: not a finite number; correct that value"),
        ("[qc]\nshare = -inf\n", "qc.share: not a finite number"),
        ("[qc]\nshare = nan\n", "qc.share: not a finite number"),
        ("[qc]\nshare = 1e999\n", "qc.share: not a finite number"),
    ],
)
def test_an_invalid_configuration_is_one_line_with_file_and_key(tmp_path: Path, text: str, error: str) -> None:
    workspace = configured(tmp_path, text)
    with pytest.raises(UserError) as caught:
        workspace.section("qc", QcSection)
    assert str(caught.value).startswith(f"{workspace.path / 'sono.toml'}: {error}")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["sono.toml", "planes.toml"])
def test_a_file_that_is_not_utf_8_is_named(tmp_path: Path, name: str) -> None:
    workspace = configured(tmp_path, '[vocabulary]\nfile = "planes.toml"\n')
    (workspace.path / name).write_bytes('[workspace]\ncenter = "Hôpital"\n'.encode("latin-1"))
    with pytest.raises(UserError) as caught:
        _ = workspace.vocabulary
    assert str(caught.value) == f"{workspace.path / name}: not UTF-8; save it again as UTF-8"


def test_the_vocabulary_may_be_a_file_of_the_workspace(tmp_path: Path) -> None:
    workspace = configured(tmp_path, '[vocabulary]\nfile = "planes.toml"\n')
    (workspace.path / "planes.toml").write_text(OWN_VOCABULARY)
    assert workspace.vocabulary.plane_ids == ("spine_sagittal",)


def test_a_vocabulary_that_is_missing_or_wrong_is_named(tmp_path: Path) -> None:
    workspace = configured(tmp_path, '[vocabulary]\nfile = "planes.toml"\n')
    with pytest.raises(UserError) as missing:
        _ = workspace.vocabulary
    assert str(missing.value).startswith(f"{workspace.path / 'planes.toml'}: vocabulary file not found")
    (workspace.path / "planes.toml").write_text(OWN_VOCABULARY.replace("ga_weeks", "weeks"))
    with pytest.raises(UserError, match=r"planes\.toml: planes\.0\."):
        _ = workspace.vocabulary


def test_a_missing_key_is_reported_and_not_replaced(tmp_path: Path) -> None:
    made = create(tmp_path / "workspace", "A")
    (made.path / "secret.key").unlink()
    with pytest.raises(UserError, match="the workspace's key is missing; restore it from your backup"):
        _ = open_workspace(made.path).keys


def test_leftovers_are_cleared_under_the_lock(tmp_path: Path) -> None:
    workspace = create(tmp_path / "workspace", "A")
    for folder in ("qc", "reports"):
        (workspace.path / folder).mkdir()
        (workspace.path / folder / ".tmp-left").touch()
    (workspace.path / "reports" / "qc.html").touch()
    with workspace.writing():
        assert list((workspace.path / "qc").iterdir()) == []
        assert [path.name for path in workspace.reports.iterdir()] == ["qc.html"]


def filled(workspace: Workspace) -> Workspace:
    """With one frame, whose ids are those that the workspace's key gives."""
    keys = workspace.keys
    source_key = keys.source("a/scan.dcm")
    row = {
        **dict.fromkeys(("patient_key", "study_key", "source_digest", "pixel_digest", "burned_in_text"), ""),
        **{"image": {"bytes": b"", "path": None}, "height": 1, "width": 1, "crop": [0, 0, 1, 1]},
        **{"grey_histogram": [0] * 256, "laplacian_energy": 0.0, "frame_index": 0, "source_key": source_key},
        "frame_id": keys.frame(source_key, 0),
    }
    info = PartInfo("one", "ingest", "", "", 1)
    workspace.store.write(FRAMES, info, FRAMES.from_rows([row]))
    return workspace


FOREIGN = "ab" * 32


@pytest.mark.parametrize("recorded", [True, False], ids=["with key-check", "from before key-check"])
def test_a_foreign_key_is_refused_before_anything_is_written(tmp_path: Path, recorded: bool) -> None:
    workspace = filled(create(tmp_path / "workspace", "A"))
    if not recorded:
        (workspace.path / "key-check").unlink()
    own = (workspace.path / "secret.key").read_text()
    (workspace.path / "secret.key").write_text(FOREIGN)
    with (
        pytest.raises(UserError, match="not the key that this workspace was filled with"),
        open_workspace(workspace.path).writing(),
    ):
        raise AssertionError
    with pytest.raises(UserError, match=r"secret\.key: not the key"):
        _ = open_workspace(workspace.path).keys
    (workspace.path / "secret.key").write_text(own)
    with open_workspace(workspace.path).writing():
        assert (workspace.path / "key-check").exists()


def test_an_empty_workspace_takes_another_key(tmp_path: Path) -> None:
    """So two workspaces can be given the same one."""
    path = create(tmp_path / "workspace", "A").path
    before = (path / "key-check").read_text()
    (path / "secret.key").write_text(FOREIGN)
    with open_workspace(path).writing():
        assert (path / "key-check").read_text() != before
    filled(open_workspace(path))
    assert open_workspace(path).keys.key.hex() == FOREIGN


def test_the_check_does_not_hold_the_key(tmp_path: Path) -> None:
    path = create(tmp_path / "workspace", "A").path
    key = (path / "secret.key").read_text().strip()
    assert key[:16] not in (path / "key-check").read_text()
    assert mode(path / "key-check") == 0o600


def test_a_workspace_whose_key_is_kept_elsewhere_can_be_written_to(tmp_path: Path) -> None:
    workspace = filled(create(tmp_path / "workspace", "A"))
    (workspace.path / "secret.key").unlink()
    with open_workspace(workspace.path).writing():
        pass


def with_a_table(folder: Path) -> Workspace:
    workspace = create(folder, "A")
    with workspace.writing():
        pass
    table = folder / "frames"
    table.mkdir()
    (table / "part-a.parquet").write_bytes(b"")
    return workspace


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"schema": 3, "patient_scope": "center"}', "[" * 100_000])
def test_tables_of_another_version_are_refused_before_anything_is_written(tmp_path: Path, content: str | None) -> None:
    workspace = with_a_table(tmp_path / "w")
    file = workspace.path / "format.json"
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    before = {path: path.read_bytes() for path in workspace.path.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"another version .* init for a new folder"):
        open_workspace(workspace.path)
    with pytest.raises(UserError, match="another version"), workspace.writing():
        raise AssertionError
    assert {path: path.read_bytes() for path in workspace.path.rglob("*") if path.is_file()} == before


def test_the_scope_of_patients_cannot_change_under_frames(tmp_path: Path) -> None:
    workspace = create(tmp_path / "w", "A")
    text = '[workspace]\npatient_scope = "global"\n'
    (workspace.path / "sono.toml").write_text(text)
    workspace = open_workspace(workspace.path)  # nothing is ingested yet
    with workspace.writing():
        (workspace.path / "frames").mkdir()
        (workspace.path / "frames" / "part-a.parquet").write_bytes(b"")
    assert open_workspace(workspace.path).keys.patient_scope == "global"
    (workspace.path / "sono.toml").write_text("")
    with pytest.raises(UserError, match="patient_scope is now 'center'"):
        open_workspace(workspace.path)
