"""What a frame's regions say about every structure: present, absent, or not known because nobody looked for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sono.manifests.vocabulary import Vocabulary

from .examples import Example

PRESENT, ABSENT, UNKNOWN = 1, 0, -1

AS_A_RULE = 0.5
"""Share of a plane's outlined frames with a structure from which on it is taken to be outlined wherever it is seen."""

Known = npt.NDArray[np.int8]


def annotate(examples: Sequence[Example], structures: Sequence[str], vocabulary: Vocabulary) -> Known:
    """What is known, of shape [examples, structures]: ``PRESENT``, ``ABSENT`` or ``UNKNOWN``.

    A mask that is missing may mean that the structure is not there, or that nobody has outlined it yet. Taking the
    second for the first teaches a model to overlook what it should find; never saying "absent" lets it find every
    structure everywhere. So a structure without a mask to learn from is absent

    - if its frame's plane does not show it: the vocabulary does not list it for the plane, and no frame of the plane
      has it outlined; a model then learns what planes look like that lack it;
    - if people outline it in this plane as a rule (in at least ``AS_A_RULE`` of the frames of the plane that have any
      region): the person who outlined the others in this frame saw none.

    Everything else is unknown and neither trained on nor scored: frames whose plane is not known; structures that are
    rarely outlined in a plane, because work on them may have just begun; and structures that have a region in the frame
    which is not learned from, because it is proposed, rejected or drawn on other pixels. Frames without any region to
    learn from are no examples at all.
    """
    frames = Counter(example.plane for example in examples)
    outlined = Counter((example.plane, structure) for example in examples for structure in example.regions)
    known = np.full((len(examples), len(structures)), UNKNOWN, np.int8)
    for row, example in enumerate(examples):
        plane = vocabulary.planes.get(example.plane or "")
        for column, structure in enumerate(structures):
            count = outlined[example.plane, structure]
            if structure in example.regions:
                known[row, column] = PRESENT
            elif plane is None or structure in example.doubtful:
                continue
            elif (count == 0 and structure not in plane.structures) or count >= AS_A_RULE * frames[example.plane]:
                known[row, column] = ABSENT
    return known
