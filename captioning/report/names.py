"""What the page calls facts, planes and structures."""

from __future__ import annotations

from collections.abc import Mapping

from sono.manifests.schemas import BIOMETRY
from sono.manifests.vocabulary import Vocabulary

LONGEST_LIST = 8
"""Names of structures, or sources of a fact, that the page lists; the rest are counted."""

FACT_NAMES: Mapping[str, str] = {
    "plane": "plane",
    "ga_days": "gestational age",
    "trimester": "trimester",
    "structures": "structures shown",
    "structure": "structure outlined",
    "laterality": "laterality",
    "presentation": "presentation",
    "findings": "findings",
    **{name: name.removesuffix("_mm").upper() for name in BIOMETRY},
}
"""What the page calls the facts, in the order in which it lists them."""

_UNKNOWN = "not in the vocabulary"


def plane_name(vocabulary: Vocabulary, plane: str | None) -> str:
    """The name of a plane; an id that the vocabulary does not have is not repeated."""
    found = vocabulary.planes.get(plane or "")
    return found.name if found else "plane not known" if plane is None else _UNKNOWN


def structure_name(vocabulary: Vocabulary, structure: object) -> str:
    """The name of a structure; an id that the vocabulary does not have is not repeated."""
    found = vocabulary.structures.get(str(structure))
    return found.name if found else _UNKNOWN
