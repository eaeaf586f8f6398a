"""Which images an examination has: planes, modes, probes, copies and damaged files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydicom.uid import JPEGBaseline8Bit

from sono.manifests.vocabulary import Vocabulary

from .anatomy import FIRST_TRIMESTER_DAYS
from .faults import FILE_FAULTS
from .hospitals import SCANNERS, Scanner

FIRST_TRIMESTER_PLANES = ("nt", "early_head", "crl")
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

RARER_MODE_SHARE = 0.12
"""Of examinations that have a spectral trace, and of those that have a 3-D rendering."""

WRITTEN_OVER_SHARE = 0.04
"""Of images with identity over the ultrasound, and of those with a measurement over it."""


@dataclass(frozen=True)
class ImagePlan:
    """One file of an examination, before it is drawn.

    Attributes:
        exam, number: the image whose pixels it shows; another one's where it is a copy.
        name: of the file, without extension; numbered within the examination.
        plane: what is scanned; a rendering shows its surface, and so no plane.
        mode: as in the frames table.
        probe: convex, phased or linear.
        frames: more than one is a cine.
        measured: calipers and measured values are on the screen.
        gain_db: added to the scanner's.
        transfer_syntax: UID.
        fault: a key of ``FILE_FAULTS``, or None.
        duplicate: ``exact`` or ``near`` where it is a copy.
        missing: structures that this image does not show.
        inside: what is written over the ultrasound: ``identity``, ``measurement`` (with marks), or both.
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
    inside: tuple[str, ...] = ()

    @property
    def shown_plane(self) -> str | None:
        return None if self.mode == "volume" else self.plane

    @property
    def has_marks(self) -> bool:
        """Whether somebody measured in it."""
        return self.measured or "measurement" in self.inside


def plan_images(
    exam: int,
    center: str,
    ga_days: int,
    random: np.random.Generator,
    added: np.random.Generator,
    vocabulary: Vocabulary,
    of_another_patient: Callable[[], ImagePlan | None],
) -> tuple[ImagePlan, ...]:
    """Eight to ten planes of the examination, copies and damaged files, then rarer modes.

    ``added`` decides about those modes and what is written over the ultrasound: drawn apart from all else, they change
    nothing else. ``of_another_patient`` gives an image that may be filed under this examination by mistake.
    """
    scanner = SCANNERS[center]
    planes = _choose_planes(random, ga_days, vocabulary)
    images = [_plan_image(scanner, exam, number, plane, random, vocabulary) for number, plane in enumerate(planes, 1)]
    if random.random() < 0.16:
        images.append(_copy(images[int(random.integers(len(images)))], len(images) + 1, "exact"))
    if random.random() < 0.16:
        stills = [image for image in images if image.frames == 1 and image.mode == "b_mode" and image.duplicate is None]
        if stills:
            images.append(_copy(stills[int(random.integers(len(stills)))], len(images) + 1, "near"))
    for fault in FILE_FAULTS:
        if random.random() < (0.1 if fault in ("no_plane", "no_regions") else 0.03):
            images = _damage(images, fault, random, of_another_patient)
    images += _rarer_modes(scanner, exam, planes, len(images) + 1, added, vocabulary)
    return tuple(_written_over(images, exam, added))


def _rarer_modes(
    scanner: Scanner, exam: int, planes: Sequence[str], place: int, random: np.random.Generator, vocabulary: Vocabulary
) -> list[ImagePlan]:
    """Perhaps a spectral trace and a 3-D rendering, some of them without regions in the header."""
    of_vessels = [plane for plane in planes if vocabulary.planes[plane].system in ("heart", "abdomen")]
    images: list[ImagePlan] = []
    for mode, candidates in (("spectral", of_vessels or ["bladder"]), ("volume", planes)):
        plane = candidates[int(random.integers(len(candidates)))]
        in_heart = vocabulary.planes[plane].system == "heart" and mode == "spectral"
        phased = in_heart and random.random() < scanner.phased_for_heart
        image = ImagePlan(
            exam=exam,
            number=place + len(images),
            name=f"IM{place + len(images):04d}",
            plane=plane,
            mode=mode,
            probe="phased" if phased else "convex",
            frames=1,
            measured=False,
            gain_db=float(np.round(random.uniform(-2.5, 2.5), 2)),
            transfer_syntax=str(random.choice(list(scanner.syntaxes), p=list(scanner.syntaxes.values()))),
            fault="no_regions" if random.random() < 0.35 else None,
        )
        if random.random() < RARER_MODE_SHARE:
            images.append(image)
    return images


def _written_over(images: Sequence[ImagePlan], exam: int, random: np.random.Generator) -> list[ImagePlan]:
    """The images with what is written over some of them: copies have the same text as their original."""
    numbers = sorted({image.number for image in images if image.exam == exam})
    drawn = {number: random.random(2) for number in numbers}
    written = []
    for image in images:
        if image.exam == exam and image.fault != "black_frame":
            kinds = zip(("identity", "measurement"), drawn[image.number], strict=True)
            image = replace(image, inside=tuple(kind for kind, chance in kinds if chance < WRITTEN_OVER_SHARE))
        written.append(image)
    return written


def _choose_planes(random: np.random.Generator, ga_days: int, vocabulary: Vocabulary) -> list[str]:
    """Before 14 weeks the three early planes, then five more of them or the bladder; later any eight to ten others."""
    if ga_days < FIRST_TRIMESTER_DAYS:
        return [
            *FIRST_TRIMESTER_PLANES,
            *random.permutation([*FIRST_TRIMESTER_PLANES, *FIRST_TRIMESTER_PLANES, "bladder"]).tolist()[:5],
        ]
    later = [plane for plane in vocabulary.planes if plane not in FIRST_TRIMESTER_PLANES]
    return [str(plane) for plane in random.permutation(later)[: int(random.integers(8, 11))]]


def _plan_image(
    scanner: Scanner, exam: int, number: int, plane: str, random: np.random.Generator, vocabulary: Vocabulary
) -> ImagePlan:
    """One image of a plane, with a probe and a mode drawn as often as they are used for it."""
    system, structures = vocabulary.planes[plane].system, vocabulary.planes[plane].structures
    small = plane in FIRST_TRIMESTER_PLANES or system in ("upper_limb", "lower_limb")
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
    """The same image saved again: unchanged, or at another gain, as a second press of the button gives."""
    if kind == "exact":
        return replace(image, name=f"IM{place:04d}", duplicate="exact")
    return replace(image, name=f"IM{place:04d}", duplicate="near", gain_db=image.gain_db + 1.5, measured=False)


def _damage(
    images: Sequence[ImagePlan],
    fault: str,
    random: np.random.Generator,
    of_another_patient: Callable[[], ImagePlan | None],
) -> list[ImagePlan]:
    """The images with this fault in or beside one of them; unchanged if the fault does not suit the chosen image."""
    place = int(random.integers(len(images)))
    chosen = images[place]
    next_name = f"IM{len(images) + 1:04d}"
    if fault in ("truncated_file", "empty_file", "not_dicom"):  # beside the good ones, as archives have them
        return [*images, replace(chosen, name=next_name, fault=fault, duplicate=None)]
    if fault == "filed_under_two_patients":
        original = of_another_patient()
        if original is None:
            return list(images)
        return [*images, replace(original, name=next_name, fault=fault, duplicate="exact")]
    copied = any(other.duplicate and other.number == chosen.number for other in images)
    if chosen.fault or chosen.duplicate or copied:
        return list(images)
    if fault == "black_frame":
        chosen = replace(chosen, mode="b_mode", measured=False)
    return [*images[:place], replace(chosen, fault=fault), *images[place + 1 :]]
