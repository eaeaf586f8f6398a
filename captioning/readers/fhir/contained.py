"""Resources inside resources (https://hl7.org/fhir/R4/references.html#contained), taken out to stand beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from .elements import Json, as_objects, as_text

_INHERITED = ("subject", "encounter")
"""What a contained resource has in common with its container, where it does not say otherwise."""


def with_contained(resource: dict[str, Any]) -> list[Json]:
    """The resource, then those that it contains, with ids of their own in place of ``#id``.

    The ids depend on the content alone, so that every sweep over a file gives the same. Changes the resource.
    """
    contained: list[dict[str, Any]] = [dict(item) for item in as_objects(resource.get("contained"))]
    if not contained:
        return [resource]
    scope = hashlib.sha256(json.dumps(resource, sort_keys=True).encode()).hexdigest()[:32]
    resource.setdefault("id", scope)
    names = {"": f"{as_text(resource.get('resourceType'))}/{as_text(resource['id'])}"}
    for item in contained:
        name = as_text(item.get("id")).removeprefix("#")
        if name and as_text(item.get("resourceType")):
            names[name] = f"{item['resourceType']}/{scope}#{name}"
            item["id"] = f"{scope}#{name}"
    _rename([resource, *contained], names)
    for item in contained:
        for inherited in _INHERITED:
            if inherited in resource:
                item.setdefault(inherited, resource[inherited])
    return [resource, *contained]


def _rename(resources: Sequence[object], names: dict[str, str]) -> None:
    """Replace every reference to ``#id``; without recursion, because resources may be nested deeply."""
    waiting = list(resources)
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            target = value.get("reference")
            if isinstance(target, str) and target.startswith("#") and target[1:] in names:
                value["reference"] = names[target[1:]]
            waiting += value.values()
