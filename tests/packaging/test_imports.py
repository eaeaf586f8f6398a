"""Who may import whom, what a base installation lacks, and what ``--help`` must not wait for."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("manifests", "captioning", "curation", "training")
MODULES = {
    ".".join(("sono", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
}

# Given to ``python -c``: refuses the modules named first, then does what the code says and prints what is loaded.
WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
"""
PRINT_LOADED = """
import atexit, json
atexit.register(lambda: print("\\n" + json.dumps(sorted({name.partition(".")[0] for name in sys.modules}))))
"""


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that a file imports, at its top or anywhere else, with the line."""
    package = ".".join(("sono", *path.relative_to(ROOT).parent.parts))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = package.rsplit(".", node.level - 1)[0] if node.level else ""
            module = ".".join(part for part in (parent, node.module or "") if part)
            yield module, node.lineno
            yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)


def importers(folder: str, module: str) -> dict[str, list[int]]:
    """The files of ``folder`` that import ``module`` or something in it, with the lines."""
    found: dict[str, list[int]] = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        for name, line in imports(path):
            if f"{name}.".startswith(f"{module}."):
                found.setdefault(path.relative_to(ROOT).as_posix(), []).append(line)
    return found


def loaded_after(code: str, missing: tuple[str, ...] = (), cwd: Path | None = None) -> set[str]:
    """The top-level modules that a fresh process has loaded when ``code`` is done."""
    script = WITHOUT.format(missing=set(missing) or "()") + PRINT_LOADED + code
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False, cwd=cwd
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_every_module_is_looked_at() -> None:
    assert {
        "sono.manifests.stages",
        "sono.captioning.captions.run",
        "sono.curation.cli",
        "sono.training.cli",
        "sono.training.model.portable",
    } <= set(MODULES)


@pytest.mark.parametrize(
    ("folder", "foreign"),
    [
        ("manifests", "captioning"),
        ("manifests", "curation"),
        ("manifests", "training"),
        ("captioning", "curation"),
        ("captioning", "training"),
        ("training", "captioning"),
        ("training", "curation"),
        ("curation", "training"),
    ],
)
def test_a_folder_imports_only_what_it_may(folder: str, foreign: str) -> None:
    assert importers(folder, f"sono.{foreign}") == {}


def test_every_folder_imports_the_ground_floor() -> None:
    """So the tests above look at what they say."""
    assert all(importers(folder, "sono.manifests") for folder in FOLDERS)


def test_only_the_caption_commands_of_curation_import_captioning() -> None:
    assert list(importers("curation", "sono.captioning")) == ["curation/commands/captions.py"]


def test_training_never_reads_dicom() -> None:
    assert importers("training", "pydicom") == {}


@pytest.mark.slow
def test_a_base_installation_can_import_all_but_training() -> None:
    modules = [name for name in MODULES if not name.startswith("sono.training")]
    missing = ("torch", "torchvision", "open_clip", "pytest", "mypy", "build", "ruff", "setuptools")
    loaded = loaded_after(f"import {', '.join(modules)}", missing)
    assert {"sono", "cv2", "pydicom"} <= loaded


def test_the_ground_floor_is_light() -> None:
    modules = [name for name in MODULES if name.startswith("sono.manifests")]
    assert not loaded_after(f"import {', '.join(modules)}") & {"torch", "cv2", "pandas", "datasets", "duckdb"}


@pytest.mark.parametrize(("program", "folder"), [("sono-curate", "curation"), ("sono-train", "training")])
def test_help_loads_nothing_heavy(program: str, folder: str, tmp_path: Path) -> None:
    code = f"sys.argv = [{program!r}, '--help']; from sono.{folder}.cli import main; main()"
    heavy = {"torch", "torchvision", "open_clip", "cv2", "pandas", "datasets", "pyarrow", "duckdb", "numpy", "pydicom"}
    assert not loaded_after(code, cwd=tmp_path) & heavy


def test_a_missing_extra_is_one_line_that_names_the_command(tmp_path: Path) -> None:
    code = WITHOUT.format(missing={"torch"}) + (
        "sys.argv = ['sono-train', 'evaluate', 'run', 'dataset']; from sono.training.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "sono-train: this command needs torch, which is not installed; run: pip install 'sono-curate[train]'\n"
    )


@pytest.mark.parametrize("folder", FOLDERS)
def test_type_checkers_find_a_folder_through_a_relative_link(folder: str) -> None:
    link = ROOT / "typings" / "sono" / folder
    assert link.is_symlink()
    assert str(link.readlink()) == f"../../{folder}"
    assert link.resolve() == ROOT / folder


@pytest.mark.parametrize("folder", ["benchmarks", "tools", "examples"])
def test_what_no_other_test_runs_imports_names_that_exist(folder: str) -> None:
    missing = [
        f"{path.relative_to(ROOT)}:{node.lineno} {alias.name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sono.")
        for alias in node.names
        if f"{node.module}.{alias.name}" not in MODULES and alias.name not in _names_of(str(node.module))
    ]
    assert missing == []


def _names_of(module: str) -> set[str]:
    """What a module defines or imports; nothing if there is no such module."""
    if module not in MODULES:
        return set()
    names: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name)
    return names
