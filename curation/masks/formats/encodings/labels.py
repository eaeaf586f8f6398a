"""Which structure each value of a label map stands for: ``labels.json``, or ITK-SNAP's ``labels.txt``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sono.curation.masks.formats.protocol import Found
from sono.manifests.errors import UserError

JSON, ITK_SNAP = "labels.json", "labels.txt"
OTHER_VALUES = "other"
"""The place of all pixels whose values are not listed."""

_SNAP_LINE = re.compile(r'^\s*(\d+)\s+\d+\s+\d+\s+\d+\s+[\d.]+\s+\d\s+\d\s+"(.*)"\s*$')
_COLORS = ((230, 25, 75), (60, 180, 75), (255, 225, 25), (0, 130, 200), (245, 130, 48), (145, 30, 180), (70, 240, 240))


def is_labels(relative: str) -> bool:
    return relative.rpartition("/")[2] in (JSON, ITK_SNAP)


def read_labels(folder: Path) -> Mapping[int, str]:
    """Names by value, from the nearest list of labels in ``folder`` or above it, up to four folders.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    for place in (folder, *list(folder.parents)[:4]):
        for name, parse in ((JSON, _parse_json), (ITK_SNAP, _parse_snap)):
            path = place / name
            if path.is_file():
                try:
                    return parse(path.read_text(encoding="utf-8"))
                except (ValueError, AttributeError, RecursionError):
                    raise UserError("not a list of labels", where=str(path), fix='write {"1": "head", ...}') from None
    raise UserError(
        "no list of labels", where=str(folder), fix=f'add {JSON}: {{"1": "head", ...}}, or {ITK_SNAP} of ITK-SNAP'
    )


def found_values(names: Mapping[int, str], frame: int | None = None, prefix: str = "") -> Iterator[Found]:
    """What a label map may hold: each listed value, and anything else."""
    for value, name in names.items():
        yield Found(labels=(name,), place=f"{prefix}{value}", frame=frame, may_be_absent=True)
    listed = ",".join(str(value) for value in names)
    place = f"{prefix}{OTHER_VALUES}:{listed}"
    yield Found(labels=(OTHER_VALUES,), place=place, frame=frame, may_be_absent=True, problem="unknown_structure")


def write_json(folder: Path, structures: Sequence[str]) -> Mapping[str, int]:
    values = {structure: value for value, structure in enumerate(structures, 1)}
    text = json.dumps({value: structure for structure, value in values.items()}, indent=1)
    (folder / JSON).write_text(text + "\n", encoding="utf-8")
    return values


def write_snap(folder: Path, structures: Sequence[str]) -> Mapping[str, int]:
    values = {structure: value for value, structure in enumerate(structures, 1)}
    lines = ["# IDX R G B A VIS MSH LABEL", '0 0 0 0 0 0 0 "Clear Label"']
    for structure, value in values.items():
        red, green, blue = color(value)
        lines.append(f'{value} {red} {green} {blue} 1 1 1 "{structure}"')
    (folder / ITK_SNAP).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return values


def color(value: int) -> tuple[int, int, int]:
    """A color for a value; those of the first seven differ most."""
    red, green, blue = _COLORS[(value - 1) % len(_COLORS)]
    darker = 1 + (value - 1) // len(_COLORS)
    return red // darker, green // darker, blue // darker


def _parse_json(text: str) -> Mapping[int, str]:
    names = {int(value): str(name) for value, name in json.loads(text).items()}
    return _checked(names)


def _parse_snap(text: str) -> Mapping[int, str]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    matches = [_SNAP_LINE.match(line) for line in lines]
    if not all(matches):
        raise ValueError("a line that ITK-SNAP does not write")
    return _checked({int(match[1]): match[2] for match in matches if match and int(match[1])})


def _checked(names: dict[int, str]) -> Mapping[int, str]:
    if not names or min(names) < 1 or len(set(names.values())) != len(names):
        raise ValueError("values are above 0, and their names differ")
    return names
