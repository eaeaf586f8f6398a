"""Rooms build on the rooms below them: imports between rooms run down only, and never in a circle."""

from __future__ import annotations

import graphlib

import pytest

from tests.packaging.test_imports import MODULES, imports
from tests.packaging.tree import ROOMS, ROOT

# Files that stand beside the rooms, each with the room that it is below; `cli` is above all of them.
BESIDE = {
    "curation": {"check": "commands", "status": "commands"},
    "training": {"arrays": "model", "recipes": "model", "released": "model"},
}


def imported_modules(name: str) -> set[str]:
    """The project's modules that a module imports, anywhere in its file."""
    found = {module for module, _ in imports(MODULES[name])}
    return {module for module in found if module in MODULES and module != name}


def floor(name: str) -> tuple[str, float] | None:
    """The folder of a module, and its height in it: its room's place from below, or between two rooms."""
    _, folder, *rest = name.split(".")
    rooms = ROOMS[folder]
    if not rest or folder == "manifests":
        return None
    if rest[0] in rooms:
        return folder, rooms.index(rest[0])
    if rest[0] == "cli":
        return folder, len(rooms)
    below = BESIDE[folder].get(rest[0])
    assert below, f"{name} stands beside the rooms: say in this test which room it is below"
    return folder, rooms.index(below) - 0.5


@pytest.mark.parametrize("folder", [folder for folder in ROOMS if folder != "manifests"])
def test_every_room_is_in_the_table(folder: str) -> None:
    there = {path.name for path in (ROOT / folder).iterdir() if (path / "__init__.py").exists()}
    assert there == set(ROOMS[folder])


def test_no_room_imports_one_above_it() -> None:
    upward = [
        f"{name} imports {module}"
        for name in MODULES
        for module in imported_modules(name)
        if (here := floor(name)) and (there := floor(module)) and here[0] == there[0] and here[1] < there[1]
    ]
    assert upward == []


def test_no_file_imports_itself_through_others() -> None:
    """A package's own ``__init__`` is imported by whatever stands in it, which is no circle."""
    graph = {name: imported_modules(name) for name in MODULES if MODULES[name].name != "__init__.py"}
    try:
        list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        pytest.fail(f"import circle: {' -> '.join(reversed(error.args[1]))}")
