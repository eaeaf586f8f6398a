"""Training's rooms import only from rooms below them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TRAINING = Path(__file__).resolve().parents[2] / "training"
ROOMS = (
    "arrays", "recipes", "model", "data", "step", "planning", "pretraining", "features", "export", "evaluation",
    "ablation", "commands", "cli",
)  # fmt: skip
"""From below."""


def imported_rooms(path: Path) -> Iterator[str]:
    package = ("sono", "training", *path.relative_to(TRAINING).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parent = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*parent, *([node.module] if node.module else [])))
            modules = [f"{module}.{alias.name}" for alias in node.names]
        for parts in (module.split(".") for module in modules):
            if parts[:2] == ["sono", "training"] and len(parts) > 2:
                yield parts[2]


def test_every_room_has_its_place() -> None:
    rooms = {path.stem for path in TRAINING.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms - {"__init__"} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_below_it(room: str) -> None:
    files = [TRAINING / f"{room}.py"] if (TRAINING / f"{room}.py").exists() else sorted((TRAINING / room).rglob("*.py"))
    higher = set(ROOMS[ROOMS.index(room) + 1 :])
    upward = {path.name: above for path in files if (above := higher.intersection(imported_rooms(path)))}
    assert upward == {}
