"""The tree that ARCHITECTURE.md opens with: one line per file, taken from the file's own docstring.

``python tests/packaging/tree.py`` writes it into ARCHITECTURE.md; a test checks that it is up to date.
"""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "ARCHITECTURE.md"
BEGIN, END = "<!-- tree: python tests/packaging/tree.py -->\n```\n", "```\n<!-- end of tree -->\n"

# Rooms from below: a room imports only rooms above it in this table, and the ground floor, manifests/.
ROOMS = {
    "manifests": (),
    "captioning": ("facts", "readers", "prose", "exams", "sentences", "captions", "explain", "report"),
    "curation": (
        "engines",
        "images",
        "cleaning",
        "ingest",
        "qc",
        "masks",
        "review",
        "audit",
        "dataset",
        "publishing",
        "phantom",
        "demo",
        "commands",
    ),
    "training": (
        "model",
        "data",
        "step",
        "planning",
        "pretraining",
        "features",
        "export",
        "evaluation",
        "ablation",
        "commands",
    ),
}


def tree() -> Iterator[str]:
    """The lines of the tree: folders in the order of ``ROOMS``, then files and rooms within rooms by name."""
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *ROOMS],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    files = [Path(name) for name in tracked if name.endswith(".py") and (ROOT / name).exists()]
    for folder, rooms in ROOMS.items():
        yield f"{folder}/"
        yield from _files(files, Path(folder), 1)
        for room in rooms:
            yield from _room(files, Path(folder) / room, 1)


def page() -> str:
    """ARCHITECTURE.md with the tree as it is now."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "\n".join(tree()) + "\n" + END + after


def _room(files: list[Path], room: Path, depth: int) -> Iterator[str]:
    yield f"{'  ' * depth}{room.name}/"
    yield from _files(files, room, depth + 1)
    inner = sorted({path.parents[-len(room.parts) - 2] for path in files if room in path.parents[1:]})
    for folder in inner:
        yield from _room(files, folder, depth + 1)


def _files(files: list[Path], folder: Path, depth: int) -> Iterator[str]:
    for path in sorted(path for path in files if path.parent == folder and path.name != "__init__.py"):
        yield f"{'  ' * depth}{path.name:<{34 - 2 * depth}} {first_line(ROOT / path)}"


def first_line(path: Path) -> str:
    """The first line of a file's docstring, without its full stop and its quotes for code."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].removesuffix(".").replace("``", "")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
