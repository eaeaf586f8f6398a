"""What is known about a frame or a region, each fact with the field it comes from: all that captions are made of."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection
from dataclasses import dataclass

from sono.manifests.vocabulary import Plane, Vocabulary


@dataclass(frozen=True)
class Fact:
    """A value (completed weeks, a vocabulary id, or ids in caption order) and the field it comes from."""

    value: int | str | tuple[str, ...]
    source: str


@dataclass(frozen=True)
class FrameFacts:
    """``ga`` in completed weeks, ``plane`` a plane's id, ``anatomies`` structures' ids in caption order."""

    ga: Fact
    plane: Fact
    anatomies: Fact


@dataclass(frozen=True)
class RegionFacts:
    """``ga`` in completed weeks, ``plane`` a plane's id, ``structure`` a structure's id."""

    ga: Fact
    plane: Fact
    structure: Fact


def as_json(facts: FrameFacts | RegionFacts) -> str:
    """``{"ga": {"value": 21, "source": "records.ga_days"}, ...}``"""
    return json.dumps(dataclasses.asdict(facts), sort_keys=True)


def anatomies(
    plane: Plane,
    vocabulary: Vocabulary,
    *,
    regions: Collection[str],
    seen_in_plane: Collection[str],
    seen_in_study: Collection[str],
) -> Fact:
    """The structures a frame shows, in the plane's caption priority, then in the vocabulary's order.

    What was outlined in the frame or recorded as seen counts, both together. A record about the whole study says
    nothing about one frame, so of its structures only those that belong to the plane count. Where nobody outlined or
    recorded anything, the plane's own structures stand: that is what the plane is defined by.
    """
    evidence = {
        "regions": set(regions),
        "records.structures_seen": set(seen_in_plane) or {seen for seen in seen_in_study if seen in plane.structures},
    }
    found = set().union(*evidence.values())
    order = dict.fromkeys((*plane.structures, *vocabulary.structures))
    if not found:
        return Fact(plane.structures, "planes.toml")
    return Fact(
        tuple(structure for structure in order if structure in found),
        " and ".join(source for source, structures in evidence.items() if structures),
    )
