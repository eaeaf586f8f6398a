"""Who is examined in a phantom archive, when, on which scanner, and what is drawn: all of it from one seed.

Everything here is invented. Names, numbers and hospitals belong to nobody.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from sono.manifests.vocabulary import Vocabulary

from .anatomy import FINDINGS, FIRST_TRIMESTER_DAYS, Fetus, draw_fetus
from .hospitals import CENTERS
from .identifiers import seeded_uid
from .image_plans import ImagePlan, plan_images
from .people import draw_name, draw_patient, folder_name, spelled
from .records import ExamRecord
from .scripts import CHARACTER_SETS, SCRIPTS

_ADDED_STREAM, _LETTERS_STREAM = 79, 71
"""Random numbers that change nothing else. Any would do; with these, the archive of the tests has one of everything."""

OTHER_SCRIPT_SHARE = 0.05
"""Of patients whose name is in Cyrillic letters, and of those whose name is in Greek ones."""


@dataclass(frozen=True)
class Exam:
    """One examination of one patient. ``record`` has no views yet: they are known once the images are drawn."""

    seed: int
    index: int
    record: ExamRecord
    fetus: Fetus
    images: tuple[ImagePlan, ...]
    faults: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Named after the patient, as archives do; nothing of the name may survive ingest."""
        return f"{self.record.center.center}/{folder_name(self.record.patient)}/{self.record.started:%Y%m%d}"


def plan_exam(seed: int, index: int, vocabulary: Vocabulary) -> Exam:
    """The examination number ``index``, a function of (seed, index) alone.

    Every fifth is the next visit of the patient before it.
    """
    first = _first_visit_of(index)
    person = np.random.default_rng([seed, first, 1])
    random = np.random.default_rng([seed, index, 2])
    center = "north" if person.random() < 0.68 else "south"
    script, character_set = _letters(np.random.default_rng([seed, first, _LETTERS_STREAM]))
    patient = spelled(draw_patient(person, first, center), script)
    ga_days, started = _first_visit(person)
    if index != first:
        later = min(int(random.integers(28, 71)), 41 * 7 - ga_days)
        ga_days, started = ga_days + later, started + timedelta(days=later)
    faults = tuple(
        name
        for name, share in (("missing_record", 0.03), ("conflicting_gestational_age", 0.04))
        if random.random() < share
    )
    fetus = draw_fetus(np.random.default_rng([seed, first, 3]), ga_days, frozenset(), _findings(random, ga_days))
    lmp = started.date() - timedelta(days=ga_days)
    conflicting = "conflicting_gestational_age" in faults
    # more than 21 days, by which even a late scan may contradict the last menstrual period (ACOG Committee Opinion 700)
    mistaken = int(random.choice([-1, 1]) * random.integers(22, 37) if conflicting else random.integers(-3, 4))
    record = ExamRecord(
        center=CENTERS[center],
        patient=patient,
        study_uid=seeded_uid(seed, index, "study"),
        accession_number=f"A{started:%y}{100000 + index * 37 % 900000}",
        started=started,
        referring_physician=draw_name(person),
        sonographer=draw_name(random),
        lmp=lmp - timedelta(days=mistaken),
        edd=lmp + timedelta(days=280 - mistaken * conflicting),
        ga_days=ga_days,
        ga_days_by_lmp=ga_days + mistaken,
        biometry_mm=fetus.biometry_mm(),
        views=(),
        findings=tuple(sorted(fetus.findings)),
        character_set=character_set,
    )
    of_another_patient = functools.partial(_image_of_another_patient, seed, index, center, vocabulary)
    added = np.random.default_rng([seed, index, _ADDED_STREAM])
    images = plan_images(index, center, ga_days, random, added, vocabulary, of_another_patient)
    return Exam(seed, index, record, fetus, images, faults)


def _first_visit_of(index: int) -> int:
    """Number of the first examination of the patient who is seen in examination ``index``."""
    return index - 1 if index % 5 == 4 else index


def _first_visit(random: np.random.Generator) -> tuple[int, datetime]:
    """Gestational age in days at a patient's first examination, and its time."""
    low, high = ((77, 97), (126, 168), (168, 245))[int(random.choice(3, p=[0.2, 0.5, 0.3]))]
    minutes = int(random.integers(0, 3 * 365)) * 1440 + int(random.integers(8 * 60, 16 * 60))
    ga_days = int(random.integers(low, high))
    return ga_days, datetime(2022, 1, 3) + timedelta(minutes=minutes, seconds=int(random.integers(60)))


def _letters(random: np.random.Generator) -> tuple[str, str]:
    """The script of a patient's name, and the character set that it is written in."""
    script = SCRIPTS[int(random.choice(len(SCRIPTS), p=[1 - 2 * OTHER_SCRIPT_SHARE, *2 * [OTHER_SCRIPT_SHARE]]))]
    sets = CHARACTER_SETS[script]
    return script, sets[int(random.integers(len(sets)))]


def _findings(random: np.random.Generator, ga_days: int) -> frozenset[str]:
    """Rare, and not before 14 weeks, when they could not be seen."""
    if ga_days < FIRST_TRIMESTER_DAYS:
        return frozenset()
    return frozenset(code for code in FINDINGS if random.random() < 0.03)


def _image_of_another_patient(seed: int, index: int, center: str, vocabulary: Vocabulary) -> ImagePlan | None:
    """A sound still of the examination before, if that was of another patient of the same hospital."""
    if index == 0 or index != _first_visit_of(index):
        return None
    before = plan_exam(seed, index - 1, vocabulary)
    if before.record.center.center != center:
        return None
    return next(
        (image for image in before.images if image.fault is None and image.duplicate is None and image.frames == 1),
        None,
    )
