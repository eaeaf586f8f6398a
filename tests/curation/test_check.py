"""``check`` finds what is wrong with each part, says how to repair it, and the repair works."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from sono.curation.check import check_workspace
from sono.curation.cli import app
from sono.curation.ingest.run import ingest
from sono.curation.qc.run import qc
from sono.manifests.errors import UserError
from sono.manifests.schemas import EXCLUSIONS, FRAMES, QC, REGIONS
from sono.manifests.stages import in_process
from sono.manifests.store import PartInfo
from sono.manifests.workspace import Workspace, open_unchecked

pytestmark = pytest.mark.slow  # each test ingests an archive

BY_FOLDER = r"^(P\d)/"
PROGRAM = str(Path(sys.executable).with_name("sono-curate"))


@pytest.fixture
def filled(workspace: Workspace, archive: Path) -> Workspace:
    """Twelve frames in one part, and one exclusion."""
    (archive / "P1" / "empty.png").touch()
    fill(workspace, archive)
    return workspace


def fill(workspace: Workspace, archive: Path) -> None:
    ingest(workspace, [archive], engine=in_process, patient_regex=BY_FOLDER)
    qc(workspace, engine=in_process)


def first(workspace: Workspace, table: str) -> Path:
    return sorted((workspace.path / table).glob("part-*.parquet"))[0]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def flip(path: Path) -> None:
    """One byte among the pages."""
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)


def rewrite(path: Path, change: Callable[[object], object]) -> None:
    table = pq.read_table(path)
    pq.write_table(change(table), path)


FAULTS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "truncated": ("frames", cut, "truncated, or its footer is damaged"),
    "empty": ("qc", lambda path: path.write_bytes(b""), "truncated, or its footer is damaged"),
    "a folder": ("qc", lambda path: (path.unlink(), path.mkdir()), "truncated, or its footer is damaged"),
    "a flipped byte": ("frames", flip, "its pages are damaged"),
    "no fingerprint": (
        "qc",
        lambda path: rewrite(path, lambda table: table.replace_schema_metadata({})),  # type: ignore[attr-defined]
        "has no fingerprint: sono-curate did not write it",
    ),
    "a lost row": ("qc", lambda path: rewrite(path, lambda table: table.slice(1)), "has another number of rows"),  # type: ignore[attr-defined]
    "a lost column": (
        "qc",
        lambda path: rewrite(path, lambda table: table.drop_columns(["sharpness"])),  # type: ignore[attr-defined]
        "has other columns than the table",
    ),
    "exclusions truncated": ("exclusions", cut, "truncated, or its footer is damaged"),
    "exclusions lost": ("exclusions", lambda path: path.unlink(), "the list of what was left out of it is missing"),
}


@pytest.mark.parametrize(
    ("part", "command"),
    [
        ("1a2b", "masks import {path} DIR"),
        ("carry-1a2b", "masks carry {path}"),
        ("proposed-sam-1a2b", "masks propose {path} --backend sam --checkpoint FILE"),
    ],
)
def test_a_part_with_masks_is_written_again_by_the_command_that_wrote_it(
    workspace: Workspace, part: str, command: str
) -> None:
    path = workspace.store.path(REGIONS, part)
    path.parent.mkdir()
    path.write_bytes(b"PAR1")
    (problem,) = check_workspace(workspace).problems
    assert problem.repair.endswith(f"then run: sono-curate {command.format(path=workspace.path)}")
    path.unlink()
    info = PartInfo(part, f"masks-{command.split()[1]}", "f", "s", 1, {"frame_unknown": 1})
    row = {"stage": info.stage, "reason": "frame_unknown", "message": "no such frame", "source_key": "5" * 32}
    workspace.store.write_exclusions(info, EXCLUSIONS.from_rows([dict.fromkeys(EXCLUSIONS.schema.names) | row]))
    (problem,) = check_workspace(workspace).problems
    assert problem.repair.endswith(f"run: sono-curate {command.format(path=workspace.path)}")


@pytest.mark.parametrize(("table", "fault", "what"), FAULTS.values(), ids=FAULTS)
def test_a_damaged_part_is_named_and_the_repair_that_is_named_works(
    filled: Workspace, archive: Path, table: str, fault: Callable[[Path], object], what: str
) -> None:
    rows = {spec.name: filled.store.read_all(spec) for spec in (FRAMES, QC, EXCLUSIONS)}
    fault(first(filled, table))
    (problem,) = check_workspace(filled).problems
    assert problem.what.startswith(what)
    command = "qc" if table == "qc" else "ingest"
    assert f"run: sono-curate {command} {filled.path}" in problem.repair
    removed = re.match(r"remove (.*), then run", problem.repair)
    assert removed
    for name in removed[1].split():
        shutil.rmtree(name) if Path(name).is_dir() else Path(name).unlink()
    fill(filled, archive)
    assert check_workspace(filled).problems == []
    assert {spec.name: filled.store.read_all(spec) for spec in (FRAMES, QC, EXCLUSIONS)} == rows


def test_a_sound_workspace_has_nothing_wrong_and_is_not_changed(filled: Workspace) -> None:
    before = {path: path.read_bytes() for path in filled.path.rglob("*") if path.is_file()}
    report = check_workspace(filled)
    assert (report.parts, report.problems) == (3, [])
    assert {path: path.read_bytes() for path in filled.path.rglob("*") if path.name != ".lock" and path.is_file()} == {
        path: content for path, content in before.items() if path.name != ".lock"
    }


def test_a_copied_part_is_found_by_its_name_and_by_its_rows(filled: Workspace) -> None:
    part = first(filled, "frames")
    shutil.copy(part, part.with_name("part-copy.parquet"))
    (named,) = check_workspace(filled).problems
    assert (named.place, named.what) == (
        "frames/part-copy.parquet",
        f"is a copy of part {part.stem.removeprefix('part-')}, or was renamed",
    )


def test_rows_in_two_parts_are_found(filled: Workspace) -> None:
    part = first(filled, "frames")
    info = filled.store.parts(FRAMES)[part.stem.removeprefix("part-")]
    other = type(info)(**{**info.__dict__, "name": "other", "exclusions": {}})
    filled.store.write(FRAMES, other, filled.store.read(FRAMES, info.name))
    (problem,) = check_workspace(filled).problems
    assert (problem.place, problem.what.split(" are")[0]) == ("frames", "12 rows")


def test_exclusions_without_their_part_leftovers_and_strange_files_are_found(filled: Workspace) -> None:
    first(filled, "frames").unlink()
    (filled.path / "frames" / ".tmp-1").touch()
    (filled.path / "qc" / "notes.txt").touch()
    found = {problem.place: problem.what for problem in check_workspace(filled).problems}
    assert found == {
        first(filled, "exclusions").relative_to(filled.path).as_posix(): "belongs to no part: a run was interrupted",
        "frames/.tmp-1": "left by a command that was killed",
        "qc/notes.txt": "not a part of a table",
    }


def test_an_image_that_was_written_damaged_is_found(filled: Workspace) -> None:
    path = first(filled, "frames")
    name = path.stem.removeprefix("part-")
    rows = filled.store.read(FRAMES, name).to_pylist()
    rows[3]["image"]["bytes"] = rows[3]["image"]["bytes"][:-40]
    filled.store.write(FRAMES, filled.store.parts(FRAMES)[name], FRAMES.from_rows(rows))
    (problem,) = check_workspace(filled).problems
    assert problem.what == "an image in it cannot be decoded, or has another size"


@pytest.mark.parametrize("text", ["[qc]\nmin_contrast = inf\n", "[ingset]\n", "[ingest\n"])
def test_the_configuration_is_checked(filled: Workspace, text: str) -> None:
    (filled.path / "sono.toml").write_text(text)
    (problem,) = check_workspace(open_unchecked(filled.path)).problems
    assert problem.place == "sono.toml"


def test_a_foreign_key_is_found(filled: Workspace) -> None:
    (filled.path / "secret.key").write_text("ab" * 32)
    (problem,) = check_workspace(open_unchecked(filled.path)).problems
    assert problem.place == "secret.key"


def test_the_command_prints_a_line_for_each_problem_and_exits_with_1(filled: Workspace) -> None:
    runner = CliRunner()
    done = runner.invoke(app, ["check", str(filled.path)])
    assert (done.exit_code, done.stdout) == (0, "3 parts: nothing wrong.\n")
    cut(first(filled, "qc"))
    done = runner.invoke(app, ["check", str(filled.path)])
    line, last = done.stdout.splitlines()
    assert (done.exit_code, last) == (1, "3 parts: 1 wrong.")
    assert line.endswith(f"then run: sono-curate qc {filled.path}")
    done = runner.invoke(app, ["check", str(filled.path), "--json"])
    found = json.loads(done.stdout)
    assert done.exit_code == 1
    assert (found["parts"], [problem["place"][:7] for problem in found["problems"]]) == (3, ["qc/part"])


def test_a_workspace_that_is_written_to_is_not_checked(filled: Workspace) -> None:
    with filled.writing(), pytest.raises(UserError, match="another command is writing here"):
        check_workspace(filled)


@pytest.mark.parametrize("table", ["frames", "qc", "exclusions"])
@pytest.mark.parametrize("command", ["qc", "status", "exclusions"])
def test_a_damaged_part_is_one_line_for_every_other_command(filled: Workspace, table: str, command: str) -> None:
    """Or does not matter to it."""
    flip(first(filled, table)) if table == "frames" else cut(first(filled, table))
    done = subprocess.run(
        [PROGRAM, command, str(filled.path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    lines = [line for line in done.stderr.splitlines() if "━" not in line and line.strip()]
    assert len(lines) == done.returncode, done.stderr
