"""What FHIR observations of a view say: the plane, the structures that were seen in it, and the side."""

from __future__ import annotations

from collections.abc import Sequence

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


def view_of(observation: Observation, vocabulary: Vocabulary, faults: list[Fault]) -> list[Statement]:
    """The structures seen and the side, both for images of the plane.

    Args:
        faults: gets what could not be taken.
    """
    concept = observation.part.concept
    if concept is None:
        return []
    plane = _plane(concept, vocabulary)
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
        elif _LATERALITIES & set(component.code.codings):
            sides.append(component.concept.codings)
        else:
            try:
                structures[_structure(component, component.concept, vocabulary)] = None
            except FaultError as error:
                faults.append(error.fault)
    side = _side(sides, faults)
    return [
        *(Statement("structures_seen", structure, _FIELD, plane) for structure in structures),
        *([Statement("laterality", side, _FIELD, plane)] if side else []),
    ]


def _plane(concept: Concept, vocabulary: Vocabulary) -> str | None:
    planes = {vocabulary.find_plane(word) for word in concept.words} - {None}
    return planes.pop() if len(planes) == 1 else None


def _structure(component: Part, value: Concept, vocabulary: Vocabulary) -> str:
    if not {normalise(word) for word in component.code.words} & STRUCTURE_SEEN:
        raise FaultError("component_unknown", "a component of a view is not called structure seen")
    found = {vocabulary.find_structure(word) for word in value.words} - {None}
    name = found.pop() if len(found) == 1 else None
    if name is None:
        raise FaultError("structure_unknown", "it names a structure that the vocabulary does not have")
    return name


def _side(sides: Sequence[Sequence[Coding]], faults: list[Fault]) -> str | None:
    found = {SIDES[code] for side in sides for system, code in side if system == SNOMED and code in SIDES}
    if len(found) > 1:
        faults.append(Fault("laterality_unknown", "it gives several sides"))
    return found.pop() if len(found) == 1 else None
