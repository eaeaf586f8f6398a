"""Wheel and source distribution hold the files of the four folders only; what they install runs anywhere."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("manifests", "captioning", "curation", "training")

Files = dict[str, bytes]

# The interpreter runs isolated and without site, so the finder of the editable installation is absent: ``sono`` can
# only come from the folder that the wheel was installed to.
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
    """A copy of the tree: setuptools writes into the tree it builds, and its leftovers get into the next wheel."""
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
def tree(source: Path) -> Files:
    """The files of the four folders, named as a wheel names them."""
    paths = [path for folder in FOLDERS for path in (source / folder).rglob("*") if path.is_file()]
    return {f"sono/{path.relative_to(source)}": path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    (built,) = build(source, tmp_path_factory.mktemp("wheel"), "--wheel")
    return built


@pytest.fixture(scope="module")
def sdist(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    (built,) = build(source, tmp_path_factory.mktemp("sdist"), "--sdist")
    return built


@pytest.fixture(scope="module")
def wheel_from_sdist(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (source,) = unpacked.iterdir()
    (built,) = build(source, tmp_path_factory.mktemp("wheel_from_sdist"), "--wheel")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True, timeout=120)
    return target


def build(source: Path, out: Path, kind: str) -> list[Path]:
    command = [sys.executable, "-m", "build", kind, "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return list(out.iterdir())


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


def files_of_wheel(wheel: Path) -> Files:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


def files_of_sdist(sdist: Path) -> Files:
    """Without the folder around them, which bears the version's name."""
    with tarfile.open(sdist) as archive:
        members = [member for member in archive.getmembers() if not member.isdir()]
        contents = {member.name.partition("/")[2]: archive.extractfile(member) for member in members}
        return {name: content.read() for name, content in contents.items() if content is not None}


def without_metadata(files: Files) -> Files:
    return {name: content for name, content in files.items() if ".dist-info/" not in name}


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_four_folders_and_nothing_else(tree: Files, wheel: Path) -> None:
    """A data file of a new kind, or a subpackage, is easily left out: an editable installation does not show it."""
    assert without_metadata(files_of_wheel(wheel)) == tree


@pytest.mark.slow
def test_the_source_distribution_holds_the_same_files(tree: Files, sdist: Path) -> None:
    """As files, not as the links by which the four folders are packages here: an archive cannot rely on links."""
    packaged = {name: content for name, content in files_of_sdist(sdist).items() if name.startswith("typings/sono/")}
    assert {name.removeprefix("typings/"): content for name, content in packaged.items()} == tree
    with tarfile.open(sdist) as archive:
        assert [member.name for member in archive.getmembers() if not (member.isfile() or member.isdir())] == []


@pytest.mark.slow
def test_a_wheel_built_from_the_source_distribution_is_the_same(wheel: Path, wheel_from_sdist: Path) -> None:
    assert wheel_from_sdist.name == wheel.name
    assert files_of_wheel(wheel_from_sdist) == files_of_wheel(wheel)


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
        "sono/curation/phantom/drawing/typefaces/DejaVuSans.ttf",
        "sono/curation/phantom/drawing/typefaces/DejaVu.LICENSE",
        "sono/curation/qc/page.html",
        "sono/curation/ingest/cleaning_page.html",
        "sono/curation/dataset/description/card/card.jinja",
        "sono/curation/review/page/index.html",
        "sono/curation/review/page/icon.svg",
        "sono/curation/review/page/panels/top.js",
        "sono/curation/review/page/tools/brush.js",
        *(f"sono/{folder}/py.typed" for folder in FOLDERS),
    ],
)
def test_the_wheel_holds_what_is_not_python(wheel: Path, name: str) -> None:
    assert name in files_of_wheel(wheel)


def test_the_wheel_takes_no_name_but_its_own(wheel: Path) -> None:
    """Neither ``tests`` nor ``training``, which others have too; and ``sono`` stays open for others."""
    assert {name.partition("/")[0].partition("-")[0] for name in files_of_wheel(wheel)} == {"sono", "sono_curate"}
    assert "sono/__init__.py" not in files_of_wheel(wheel)


@pytest.mark.parametrize("program", ["sono-curate", "sono-train"])
@pytest.mark.slow
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
