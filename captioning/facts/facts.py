"""What captions are made from: the known facts about a frame or a region, each with the field it comes from."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sono.manifests.vocabulary import Plane, Vocabulary


@dataclass(frozen=True)
class Fact:
    """A value (a number, a vocabulary id or code, or several in caption order) and the field it comes from."""

    value: int | float | str | tuple[str, ...]
    source: str


@dataclass(frozen=True)
class Facts:
    """What the captions of a frame and of its regions are made from. None: not known.

    Attributes:
        plane: a plane's id.
        ga_days: completed days at the examination.
        trimester: 1, 2 or 3 (from 14+0 and 28+0 weeks), from ``ga_days``.
        structures: ids in caption order; of a frame only.
        structure: the id of the structure that is outlined; of a region only.
        laterality: one of ``statements.LATERALITIES``.
        presentation: one of ``statements.PRESENTATIONS``.
        measurements: mm, by names of ``schemas.BIOMETRY``.
        findings: codes with their system.
    """

    plane: Fact
    ga_days: Fact | None = None
    trimester: Fact | None = None
    structures: Fact | None = None
    structure: Fact | None = None
    laterality: Fact | None = None
    presentation: Fact | None = None
    measurements: Mapping[str, Fact] = field(default_factory=dict)
    findings: Fact | None = None

    def as_json(self) -> str:
        """``{"plane": {"value": "femur", "source": "frames.plane"}, ...}``: known facts only, in a fixed order."""
        return joined_json(fact_json(name, fact) for name, fact in self.known().items())

    def known(self) -> dict[str, Fact]:
        """The known facts by name; measurements by their own names."""
        single = {
            name: getattr(self, name)
            for name in (
                *("plane", "structures", "structure", "laterality"),
                *("ga_days", "trimester", "presentation", "findings"),
            )
        }
        return {name: fact for name, fact in (single | dict(self.measurements)).items() if fact is not None}


def fact_json(name: str, fact: Fact) -> str:
    """A fact's member of the object that ``Facts.as_json`` returns."""
    return f'"{name}": {json.dumps({"value": fact.value, "source": fact.source})}'


def joined_json(members: Iterable[str]) -> str:
    """The object with these members."""
    return f"{{{', '.join(members)}}}"


def from_json(text: str) -> dict[str, dict[str, Any]]:
    """What ``Facts.as_json`` wrote."""
    found: dict[str, dict[str, Any]] = json.loads(text)
    return found


def trimester(ga_days: int) -> int:
    """1 to 13+6, 2 to 27+6, 3 from 28+0 (ACOG, How Your Fetus Grows During Pregnancy)."""
    return 1 if ga_days < 14 * 7 else 2 if ga_days < 28 * 7 else 3


def structures_shown(
    plane: Plane,
    vocabulary: Vocabulary,
    *,
    regions: Collection[str],
    seen_in_plane: Sequence[str],
    seen_in_study: Sequence[str],
    field: str | None,
) -> Fact:
    """The structures a frame shows, in the plane's caption priority, then in the vocabulary's order.

    What was outlined in the frame counts; else what the record says was seen; else the structures that define the
    plane. A record about the study says nothing about one frame, so only those of its structures count that belong to
    the plane.

    Args:
        field: of the record, where ``seen_in_plane`` or ``seen_in_study`` come from.
    """
    recorded = set(seen_in_plane) or {seen for seen in seen_in_study if seen in plane.structures}
    found = set(regions) or recorded
    if not found:
        return Fact(plane.structures, "planes.toml")
    order = dict.fromkeys((*plane.structures, *vocabulary.structures))
    source = "regions" if regions else field or "records"
    return Fact(tuple(structure for structure in order if structure in found), source)
