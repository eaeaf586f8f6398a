"""Who is examined in a phantom archive, when, on which scanner, and what is drawn: all of it from one seed.

Everything here is invented. Names, numbers and hospitals belong to nobody.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

import numpy as np
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from sono.manifests.vocabulary import Vocabulary

from .anatomy import FINDINGS, Fetus, draw_fetus

UID_ROOT = "2.25."
"""UIDs below it are made from 128-bit numbers and need no registration (PS3.5 B.2)."""

# Once made by uuid4, for ever the same: a file says which program and which coding scheme it is from.
IMPLEMENTATION_UID = f"{UID_ROOT}146104882515318468389765795697042759702"
IMPLEMENTATION_NAME = "SONO_PHANTOM"
PLANE_SCHEME = "99SONO"
"""Coding scheme of the vocabulary's planes; designators of private ones begin with 99 (PS3.3 8.2)."""
PLANE_SCHEME_UID = f"{UID_ROOT}203798574856900851658091293857369833531"
PLANE_SCHEME_NAME = "Planes of sono-curate's vocabulary"


@dataclass(frozen=True)
class Center:
    """A hospital with its scanner. ``center`` is the folder's name, ``hospital`` what stands on the screen."""

    center: str
    hospital: str
    manufacturer: str
    model: str
    software: str


@dataclass(frozen=True)
class Patient:
    """The mother. ``patient_id`` is the hospital's."""

    patient_id: str
    family_name: str
    given_name: str
    birth_date: date


@dataclass(frozen=True)
class View:
    """A plane that was shown in an examination, with the structures seen in it, by the vocabulary's ids."""

    plane: str
    structures_seen: tuple[str, ...]


@dataclass(frozen=True)
class ExamRecord:
    """What the hospital's records say of one examination: the same facts in every form of record.

    Attributes:
        study_uid: DICOM Study Instance UID.
        accession_number: the order's number.
        started: local time.
        lmp: first day of the last menstrual period.
        edd: estimated date of delivery.
        ga_days: gestational age at the examination, in completed days.
        ga_days_by_lmp: the same by the last menstrual period; differs from ``ga_days`` where a conflict was put in.
        biometry_mm: by the names in ``schemas.BIOMETRY``.
        views: the planes shown; one entry a plane.
        findings: codes as ``SYSTEM:CODE``, keys of ``FINDINGS``.
    """

    center: Center
    patient: Patient
    study_uid: str
    accession_number: str
    started: datetime
    referring_physician: tuple[str, str]  # family name, given name
    sonographer: tuple[str, str]
    lmp: date | None
    edd: date | None
    ga_days: int | None
    ga_days_by_lmp: int | None
    biometry_mm: Mapping[str, float]
    views: tuple[View, ...]
    findings: tuple[str, ...]


@dataclass(frozen=True)
class Scanner:
    """How one hospital scans: what its images look like beside the layout of its screen.

    Attributes:
        convex: half of the opening angle in degrees, radius of the probe in mm.
        phased_for_heart, linear_for_small: share of such planes that are scanned with that probe.
        colored: whether the screen has colours at all times, not just under Doppler.
        gain_db, range_db, noise_db, gamma, looks: as in ``phantom_physics.Settings``.
        syntaxes: DICOM transfer syntaxes of stills, each with its share.
    """

    convex: tuple[float, float]
    phased_for_heart: float
    linear_for_small: float
    colored: bool
    gain_db: float
    range_db: float
    noise_db: float
    gamma: float
    looks: int
    syntaxes: Mapping[str, float]


CENTERS: Mapping[str, Center] = {
    "north": Center("north", "Nordhaven Women's Clinic", "Aurelia Imaging", "Aurelia A9", "A9.4.2"),
    "south": Center("south", "St. Brigid Hospital South", "Borealis Medical", "Borealis B20", "20.1"),
}

SCANNERS: Mapping[str, Scanner] = {
    "north": Scanner(
        convex=(34.0, 50.0),
        phased_for_heart=0.3,
        linear_for_small=0.25,
        colored=True,
        gain_db=0.0,
        range_db=60.0,
        noise_db=-58.0,
        gamma=1.0,
        looks=1,
        syntaxes={
            JPEGBaseline8Bit: 0.62,
            JPEGLSLossless: 0.12,
            ExplicitVRLittleEndian: 0.1,
            RLELossless: 0.1,
            JPEG2000Lossless: 0.06,
        },
    ),
    "south": Scanner(
        convex=(29.0, 60.0),
        phased_for_heart=0.7,
        linear_for_small=0.1,
        colored=False,
        gain_db=3.0,
        range_db=66.0,
        noise_db=-46.0,
        gamma=1.15,
        looks=2,
        syntaxes={
            ExplicitVRLittleEndian: 0.35,
            ImplicitVRLittleEndian: 0.1,
            JPEGBaseline8Bit: 0.3,
            RLELossless: 0.1,
            JPEGLSLossless: 0.1,
            JPEG2000Lossless: 0.05,
        },
    ),
}

FIRST_TRIMESTER_DAYS = 14 * 7
FIRST_TRIMESTER = ("nt", "early_head", "crl")
"""Planes that are shown before 14 weeks only."""

MEASURED: Mapping[str, tuple[tuple[str, str, str], ...]] = {
    "transthalamic": (("BPD", "bpd_mm", "head"), ("HC", "hc_mm", "head")),
    "transcerebellar": (("TCD", "tcd_mm", "cerebellum"),),
    "abdominal_circumference": (("AC", "ac_mm", "abdomen"),),
    "femur": (("FL", "fl_mm", "femur"),),
    "humerus": (("HL", "hl_mm", "humerus"),),
    "crl": (("CRL", "crl_mm", "fetus"),),
    "nt": (("NT", "nt_mm", "nuchal_translucency"),),
}
"""What is measured in a plane: the name on the screen, the fact, and the structure that it is measured on."""

FILE_FAULTS = {
    "truncated_file": "the file ends in the middle of its pixels",
    "empty_file": "the file has no bytes",
    "not_dicom": "a text file among the images",
    "black_frame": "the probe was off: the sector is black",
    "no_patient_id": "the header names no patient",
    "no_plane": "the header does not say which plane it is",
    "no_regions": "the header has no Sequence of Ultrasound Regions: the screen is kept whole",
    "regions_outside": "the header's region lies outside the image",
    "filed_under_two_patients": "the pixels are those of another patient's image",
}
EXAM_FAULTS = {
    "missing_record": "no record mentions the examination",
    "conflicting_gestational_age": "last menstrual period and due date contradict the record's age by ultrasound",
}


@dataclass(frozen=True)
class ImagePlan:
    """One file of an examination, before it is drawn.

    Attributes:
        exam, number: which image's pixels it shows; those of another where it is a copy.
        name: of the file, without extension; its place within the examination.
        plane: what it shows.
        mode: as in the frames table.
        probe: convex, phased or linear.
        frames: more than one is a cine.
        measured: calipers and measured values are on the screen.
        gain_db: on top of the scanner's.
        transfer_syntax: UID.
        fault: one of ``FILE_FAULTS``, or None.
        duplicate: ``exact`` or ``near`` where it is a copy.
        missing: structures that this image does not show.
    """

    exam: int
    number: int
    name: str
    plane: str
    mode: str
    probe: str
    frames: int
    measured: bool
    gain_db: float
    transfer_syntax: str
    missing: frozenset[str] = frozenset()
    fault: str | None = None
    duplicate: str | None = None


@dataclass(frozen=True)
class Exam:
    """One examination of one patient. ``record`` has no views yet: they are known when the images are drawn."""

    seed: int
    index: int
    record: ExamRecord
    fetus: Fetus
    images: tuple[ImagePlan, ...]
    faults: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Named after the patient, as archives do: nothing of it may survive ingest."""
        patient = self.record.patient
        name = f"{_ascii(patient.family_name)}_{_ascii(patient.given_name)}_{patient.patient_id}"
        return f"{self.record.center.center}/{name}/{self.record.started:%Y%m%d}"


def plan_exam(seed: int, index: int, vocabulary: Vocabulary) -> Exam:
    """The examination number ``index``: a function of (seed, index) alone, however many others there are.

    Every fifth is the next visit of the patient before it.
    """
    first = _first_visit_of(index)
    person = np.random.default_rng([seed, first, 1])
    random = np.random.default_rng([seed, index, 2])
    center = "north" if person.random() < 0.68 else "south"
    patient = _patient(person, first, center)
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
        study_uid=uid(seed, index, "study"),
        accession_number=f"A{started:%y}{100000 + index * 37 % 900000}",
        started=started,
        referring_physician=_name(person),
        sonographer=_name(random),
        lmp=lmp - timedelta(days=mistaken),
        edd=lmp + timedelta(days=280 - mistaken * conflicting),
        ga_days=ga_days,
        ga_days_by_lmp=ga_days + mistaken,
        biometry_mm=fetus.biometry_mm(),
        views=(),
        findings=tuple(sorted(fetus.findings)),
    )
    return Exam(seed, index, record, fetus, _images(seed, index, center, ga_days, random, vocabulary), faults)


def uid(seed: int, *parts: object) -> str:
    """A UID made of the seed and what it is for."""
    digest = hashlib.sha256("/".join(map(str, ("sono-phantom", seed, *parts))).encode()).digest()
    return UID_ROOT + str(int.from_bytes(digest[:16], "big"))


def _first_visit_of(index: int) -> int:
    """The number of the first examination of the patient whose examination number ``index`` is."""
    return index - 1 if index % 5 == 4 else index


def _first_visit(random: np.random.Generator) -> tuple[int, datetime]:
    """Gestational age in days at a patient's first examination, and its time."""
    low, high = ((77, 97), (126, 168), (168, 245))[int(random.choice(3, p=[0.2, 0.5, 0.3]))]
    minutes = int(random.integers(0, 3 * 365)) * 1440 + int(random.integers(8 * 60, 16 * 60))
    ga_days = int(random.integers(low, high))
    return ga_days, datetime(2022, 1, 3) + timedelta(minutes=minutes, seconds=int(random.integers(60)))


def _findings(random: np.random.Generator, ga_days: int) -> frozenset[str]:
    """Rare, and none before 14 weeks, when nothing of it could be seen."""
    if ga_days < FIRST_TRIMESTER_DAYS:
        return frozenset()
    return frozenset(code for code in FINDINGS if random.random() < 0.03)


def _images(
    seed: int, index: int, center: str, ga_days: int, random: np.random.Generator, vocabulary: Vocabulary
) -> tuple[ImagePlan, ...]:
    """Eight to ten planes of the examination, then copies and damaged files."""
    scanner = SCANNERS[center]
    planes = _planes(random, ga_days, vocabulary)
    images = [_image(scanner, index, number, plane, random, vocabulary) for number, plane in enumerate(planes, 1)]
    if random.random() < 0.16:
        images.append(_copy(images[int(random.integers(len(images)))], len(images) + 1, "exact"))
    if random.random() < 0.16:
        stills = [image for image in images if image.frames == 1 and image.mode == "b_mode" and image.duplicate is None]
        if stills:
            images.append(_copy(stills[int(random.integers(len(stills)))], len(images) + 1, "near"))
    for fault in FILE_FAULTS:
        if random.random() < (0.1 if fault in ("no_plane", "no_regions") else 0.03):
            images = _damage(images, fault, seed, index, center, random, vocabulary)
    return tuple(images)


def _planes(random: np.random.Generator, ga_days: int, vocabulary: Vocabulary) -> list[str]:
    """Before 14 weeks its three planes, then five more of them or of the bladder; later any eight to ten others."""
    if ga_days < FIRST_TRIMESTER_DAYS:
        return [*FIRST_TRIMESTER, *random.permutation([*FIRST_TRIMESTER, *FIRST_TRIMESTER, "bladder"]).tolist()[:5]]
    later = [plane for plane in vocabulary.planes if plane not in FIRST_TRIMESTER]
    return [str(plane) for plane in random.permutation(later)[: int(random.integers(8, 11))]]


def _image(
    scanner: Scanner, exam: int, number: int, plane: str, random: np.random.Generator, vocabulary: Vocabulary
) -> ImagePlan:
    """One image of a plane, its probe and mode as often as they are used for it."""
    system, structures = vocabulary.planes[plane].system, vocabulary.planes[plane].structures
    small = plane in FIRST_TRIMESTER or system in ("upper_limb", "lower_limb")
    probe = "convex"
    if system == "heart" and random.random() < scanner.phased_for_heart:
        probe = "phased"
    elif small and random.random() < scanner.linear_for_small:
        probe = "linear"
    mode = "b_mode"
    if system in ("heart", "abdomen") and plane not in ("gallbladder", "renal_sagittal"):
        mode = str(random.choice(["b_mode", "color_doppler", "m_mode", "dual"], p=[0.86, 0.08, 0.03, 0.03]))
    elif random.random() < 0.03:
        mode = "dual"
    frames = int(random.integers(4, 9)) if mode == "b_mode" and random.random() < 0.03 else 1
    measured = plane in MEASURED and mode == "b_mode" and frames == 1 and bool(random.random() < 0.35)
    gain_db = float(np.round(random.uniform(-2.5, 2.5), 2))
    syntaxes, shares = list(scanner.syntaxes), list(scanner.syntaxes.values())
    syntax = JPEGBaseline8Bit if frames > 1 else str(random.choice(syntaxes, p=shares))
    return ImagePlan(
        exam=exam,
        number=number,
        name=f"IM{number:04d}",
        plane=plane,
        mode=mode,
        probe=probe,
        frames=frames,
        measured=measured,
        gain_db=gain_db,
        transfer_syntax=syntax,
        missing=frozenset(structure for structure in structures[2:] if random.random() < 0.07),
    )


def _copy(image: ImagePlan, place: int, kind: str) -> ImagePlan:
    """The same image saved again: as it was, or with another gain, which is what a second press of a button gives."""
    if kind == "exact":
        return replace(image, name=f"IM{place:04d}", duplicate="exact")
    return replace(image, name=f"IM{place:04d}", duplicate="near", gain_db=image.gain_db + 1.5, measured=False)


def _damage(
    images: Sequence[ImagePlan],
    fault: str,
    seed: int,
    index: int,
    center: str,
    random: np.random.Generator,
    vocabulary: Vocabulary,
) -> list[ImagePlan]:
    """The images with this fault in or beside one of them; as they were where the chosen one does not lend itself."""
    place = int(random.integers(len(images)))
    chosen = images[place]
    next_name = f"IM{len(images) + 1:04d}"
    if fault in ("truncated_file", "empty_file", "not_dicom"):  # beside the good ones, as the archive has them
        return [*images, replace(chosen, name=next_name, fault=fault, duplicate=None)]
    if fault == "filed_under_two_patients":
        if index == 0 or index != _first_visit_of(index):  # the examination before is of the same patient
            return list(images)
        taken = plan_exam(seed, index - 1, vocabulary)
        original = next((i for i in taken.images if i.fault is None and i.duplicate is None and i.frames == 1), None)
        if original is None or taken.record.center.center != center:
            return list(images)
        return [*images, replace(original, name=next_name, fault=fault, duplicate="exact")]
    copied = any(other.duplicate and other.number == chosen.number for other in images)
    if chosen.fault or chosen.duplicate or copied:
        return list(images)
    if fault == "black_frame":
        chosen = replace(chosen, mode="b_mode", measured=False)
    return [*images[:place], replace(chosen, fault=fault), *images[place + 1 :]]


def _patient(random: np.random.Generator, number: int, center: str) -> Patient:
    family, given = _name(random)
    born = date(1981, 1, 1) + timedelta(days=int(random.integers(0, 23 * 365)))
    return Patient(f"{center[0].upper()}{100000 + number * 7919 % 900000}", family, given, born)


def _name(random: np.random.Generator) -> tuple[str, str]:
    """Family name, given name."""
    return str(random.choice(_FAMILY_NAMES)), str(random.choice(_GIVEN_NAMES))


def _ascii(text: str) -> str:
    """As a folder's name has it: without accents, in capitals."""
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().upper().replace(" ", "-")


_FAMILY_NAMES = (
    "Abelmann", "Achterberg", "Almqvist", "Bachleitner", "Belvaux", "Brandvold", "Castellari", "Corrigan", "Dahlberg",
    "Delacourt", "Ekholm", "Farsani", "Fitzmaurice", "Gallardo", "Grünwald", "Halvorsen", "Hennessy", "Ibarra",
    "Jankowska", "Kaltenbach", "Kovačević", "Lindqvist", "Lombardi", "Marchetti", "McAllister", "Müllner", "Nakagawa",
    "Novotná", "O'Rourke", "Okonkwo", "Petrosyan", "Quintero", "Rasmussen", "Rosenthal", "Sandström", "Szabó",
    "Tanaka", "Underwood", "Vasquez", "Weissmann", "Yamamoto", "Zieliński",
)  # fmt: skip
_GIVEN_NAMES = (
    "Agnes", "Amira", "Anneliese", "Beatriz", "Birgit", "Camille", "Chiara", "Daniela", "Eleni", "Elif", "Fatou",
    "Franziska", "Giulia", "Hanna", "Ingrid", "Ioana", "Jasmin", "Josefine", "Katarzyna", "Leila", "Liv", "Magdalena",
    "Mei", "Nadia", "Noor", "Olga", "Paola", "Renée", "Rosalind", "Saskia", "Sofía", "Tamara", "Ursula", "Valentina",
    "Wilhelmina", "Xenia", "Yasmin", "Zoë",
)  # fmt: skip
