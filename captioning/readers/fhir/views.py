"""What FHIR observations of a view say: the plane, the structures that were seen in it, and the side."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from sono.captioning.facts.statements import Fault, FaultError, Statement
from sono.captioning.readers.codes import IMAGE_LATERALITY, IMAGE_VIEW, LATERALITY, SIDES, STRUCTURE_SEEN
from sono.manifests.vocabulary import Vocabulary, normalise

from .elements import DCM, SNOMED, Coding, Concept
from .observations import modified
from .resources import Observation, Part

_FIELD = f"Observation {IMAGE_VIEW}"
_LATERALITIES = {Coding(SNOMED, LATERALITY), Coding(DCM, IMAGE_LATERALITY)}


def is_view(observation: Observation) -> bool:
    """Whether its code says that its value is a plane."""
    return Coding(DCM, IMAGE_VIEW) in observation.part.code.codings


class Views:
    """Reads views. The same few words come again and again, so their meaning in the vocabulary is remembered."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._find_plane = lru_cache(maxsize=1024)(vocabulary.find_plane)
        self._find_structure = lru_cache(maxsize=1024)(vocabulary.find_structure)
        self._normalise = lru_cache(maxsize=1024)(normalise)

    def read(self, observation: Observation, faults: list[Fault]) -> list[Statement]:
        """The structures seen and the side, both for images of the plane.

        Args:
            faults: gets what could not be taken.
        """
        concept = observation.part.concept
        if concept is None:
            return []
        plane = _only({self._find_plane(word) for word in concept.words})
        if plane is None:
            faults.append(Fault("plane_unknown", "it names a plane that the vocabulary does not have"))
            return []
        sides = [observation.body_site]
        structures: dict[str, None] = {}
        for component in observation.components:
            if component.is_modified:
                faults.append(modified().fault)
            elif component.concept is None:
                continue
            elif _LATERALITIES.intersection(component.code.codings):
                sides.append(component.concept.codings)
            else:
                try:
                    structures[self._structure(component, component.concept)] = None
                except FaultError as error:
                    faults.append(error.fault)
        side = _side(sides, faults)
        return [
            *(Statement("structures_seen", structure, _FIELD, plane) for structure in structures),
            *([Statement("laterality", side, _FIELD, plane)] if side else []),
        ]

    def _structure(self, component: Part, value: Concept) -> str:
        if not any(self._normalise(word) in STRUCTURE_SEEN for word in component.code.words):
            raise FaultError("component_unknown", "a component of a view is not called structure seen")
        name = _only({self._find_structure(word) for word in value.words})
        if name is None:
            raise FaultError("structure_unknown", "it names a structure that the vocabulary does not have")
        return name


def _only(names: set[str | None]) -> str | None:
    known = names - {None}
    return known.pop() if len(known) == 1 else None


def _side(sides: Sequence[Sequence[Coding]], faults: list[Fault]) -> str | None:
    found = {SIDES[code] for side in sides for system, code in side if system == SNOMED and code in SIDES}
    if len(found) > 1:
        faults.append(Fault("laterality_unknown", "it gives several sides"))
    return found.pop() if len(found) == 1 else None
