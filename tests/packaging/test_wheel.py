"""The wheel holds all that the programs need, and nothing else; what is installed from it runs anywhere."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("manifests", "captioning", "curation", "training")

# The interpreter runs isolated and without site, so the editable installation's finder is not there: ``sono`` can only
# come from the folder that the wheel went to.
RUN = """
import sys
sys.path[:0] = [{installed!r}]
sys.path += {dependencies!r}
import importlib, importlib.metadata
(script,) = [
    entry
    for distribution in importlib.metadata.distributions(path=[{installed!r}])
    for entry in distribution.entry_points
    if entry.name == sys.argv[1]
]
main = script.load()
for name in {folders!r}:
    assert importlib.import_module(f"sono.{{name}}").__file__.startswith({installed!r}), name
sys.argv = sys.argv[1:]
main()
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, because setuptools writes into the tree it builds, and puts what it finds there into the next wheel."""
    copy = tmp_path_factory.mktemp("source")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "tests").mkdir()
    (copy / "tests" / "test_nothing.py").touch()
    shutil.copytree(ROOT / "typings", copy / "typings", symlinks=True)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, copy)
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True, timeout=120)
    return target


def run(installed: Path, cwd: Path, *arguments: str) -> str:
    dependencies = list(dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib")))
    code = RUN.format(installed=str(installed), dependencies=dependencies, folders=FOLDERS)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=cwd,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def members(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def test_the_wheel_holds_every_file_of_the_four_folders_and_nothing_else(source: Path, wheel: Path) -> None:
    """A data file of a new kind, or a subpackage, is easily left out: an editable installation does not show it."""
    wanted = {
        f"sono/{path.relative_to(source)}"
        for folder in FOLDERS
        for path in (source / folder).rglob("*")
        if path.is_file()
    }
    assert {name for name in members(wheel) if ".dist-info/" not in name} == wanted


@pytest.mark.parametrize(
    "name",
    [
        "sono/manifests/planes.toml",
        "sono/captioning/sentences/templates/en/pack.toml",
        "sono/captioning/sentences/templates/en/global/paper.jinja",
        "sono/captioning/sentences/templates/paper/region/paper.jinja",
        "sono/captioning/sentences/clip_bpe.txt.gz",
        "sono/captioning/sentences/clip_bpe.LICENSE",
        "sono/captioning/prose/report_words.txt",
        "sono/curation/qc/page.html",
        "sono/curation/dataset/card.jinja",
        *(f"sono/{folder}/py.typed" for folder in FOLDERS),
    ],
)
def test_the_wheel_holds_what_is_not_python(wheel: Path, name: str) -> None:
    assert name in members(wheel)


def test_the_wheel_takes_no_name_but_its_own(wheel: Path) -> None:
    """Neither ``tests`` nor ``training``, which others have too; and ``sono`` stays open for others."""
    assert {name.partition("/")[0].partition("-")[0] for name in members(wheel)} == {"sono", "sono_curate"}
    assert "sono/__init__.py" not in members(wheel)


@pytest.mark.parametrize("program", ["sono-curate", "sono-train"])
def test_an_installed_program_explains_itself(installed: Path, tmp_path: Path, program: str) -> None:
    assert f"Usage: {program}" in run(installed, tmp_path, program, "--help")


def test_an_installed_program_finds_its_files(installed: Path, tmp_path: Path) -> None:
    run(installed, tmp_path, "sono-curate", "init", "archive", "--center", "Hospital A")
    assert "Hospital A" in run(installed, tmp_path, "sono-curate", "status", "archive")
    assert "tiny" in run(installed, tmp_path, "sono-train", "recipes")


def test_the_wheel_names_its_version_licence_and_programs(installed: Path) -> None:
    (distribution,) = importlib.metadata.distributions(path=[str(installed)])
    assert distribution.metadata["Name"] == "sono-curate"
    assert distribution.metadata["License-Expression"] == "Apache-2.0"
    assert {entry.name for entry in distribution.entry_points} == {"sono-curate", "sono-train"}
    assert {path.name for path in installed.glob("*.dist-info/licenses/*")} == {"LICENSE"}
