"""Which structures of a frame may overlap: a part within its whole, and those that pass into or across each other.

Parts and wholes follow Terminologia Anatomica (FIPAT, 2nd edition 2019) in the words of ``planes.toml``. Masks are of
what is seen in one plane: limbs in front of the trunk count as crossing it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

PARTS: Mapping[str, tuple[str, ...]] = {
    "fetus": ("head", "trunk", "limbs", "nuchal_translucency"),
    "head": (
        *("thalami", "cavum_septi_pellucidi", "falx", "third_ventricle", "frontal_horns", "lateral_ventricles"),
        *("choroid_plexus", "cerebellum", "cisterna_magna", "diencephalon", "nasal_bone", "nose", "palate", "maxilla"),
        *("mandible", "lips", "forehead", "orbits", "lenses"),
    ),
    "diencephalon": ("thalami", "third_ventricle"),
    "lateral_ventricles": ("choroid_plexus", "frontal_horns"),
    "orbits": ("lenses",),
    "nose": ("nasal_bone",),
    "maxilla": ("palate",),
    "trunk": ("thorax", "abdomen", "pelvis", "spine"),
    "thorax": (
        *("heart", "ascending_aorta", "descending_aorta", "aortic_arch", "arch_branches", "pulmonary_artery"),
        *("pulmonary_veins", "ductus_arteriosus", "ductal_arch", "superior_vena_cava", "trachea", "thymus", "spine"),
    ),
    "heart": (
        *("left_ventricle", "right_ventricle", "left_atrium", "right_atrium", "interventricular_septum"),
        *("foramen_ovale", "mitral_valve", "tricuspid_valve", "aortic_valve", "pulmonary_valve"),
        *("pulmonary_veins", "ascending_aorta", "pulmonary_artery", "superior_vena_cava"),
    ),
    "aortic_arch": ("ascending_aorta", "descending_aorta", "arch_branches"),
    "ductal_arch": ("pulmonary_artery", "ductus_arteriosus", "descending_aorta"),
    "abdomen": (
        *("stomach", "umbilical_vein", "portal_sinus", "liver", "abdominal_aorta", "gallbladder", "bladder", "spine"),
        *("umbilical_arteries", "kidney", "kidneys", "adrenal_gland"),
    ),
    "liver": ("portal_sinus", "umbilical_vein", "gallbladder"),
    "pelvis": ("bladder", "umbilical_arteries"),
    "kidneys": ("kidney", "renal_pelvis"),
    "kidney": ("renal_pelvis",),
    "limbs": ("upper_arm", "humerus", "radius", "ulna", "hand", "thigh", "femur", "tibia", "fibula", "foot"),
    "upper_arm": ("humerus",),
    "thigh": ("femur",),
}
"""Whole -> parts; parts of parts are parts, too."""

MEETING: frozenset[frozenset[str]] = frozenset(
    frozenset(pair)
    for pair in (
        # a valve between its chamber and what it opens into
        *(("mitral_valve", "left_atrium"), ("mitral_valve", "left_ventricle")),
        *(("tricuspid_valve", "right_atrium"), ("tricuspid_valve", "right_ventricle")),
        *(("aortic_valve", "left_ventricle"), ("aortic_valve", "ascending_aorta")),
        *(("pulmonary_valve", "right_ventricle"), ("pulmonary_valve", "pulmonary_artery")),
        # walls and openings between chambers
        *(("interventricular_septum", "left_ventricle"), ("interventricular_septum", "right_ventricle")),
        *(("foramen_ovale", "left_atrium"), ("foramen_ovale", "right_atrium")),
        # a vessel and what it leaves or enters
        *(("ascending_aorta", "left_ventricle"), ("pulmonary_artery", "right_ventricle")),
        *(("pulmonary_veins", "left_atrium"), ("superior_vena_cava", "right_atrium")),
        *(("ductus_arteriosus", "pulmonary_artery"), ("ductus_arteriosus", "descending_aorta")),
        *(("ductus_arteriosus", "aortic_arch"), ("umbilical_vein", "portal_sinus")),
        # the midline, and what lies in it
        *(("falx", "cavum_septi_pellucidi"), ("falx", "third_ventricle"), ("falx", "thalami")),
        # one in front of the other
        *(("limbs", "trunk"), ("limbs", "head"), ("limbs", "thorax"), ("limbs", "abdomen"), ("hand", "head")),
    )
)


def may_overlap(one: str, other: str) -> bool:
    """Also true if one of them is not in the tables, as with a vocabulary of one's own: nothing is known of it."""
    if one == other or not {one, other} <= _known():
        return True
    return other in _parts_of(one) or one in _parts_of(other) or frozenset((one, other)) in MEETING


@cache
def _parts_of(whole: str) -> frozenset[str]:
    direct = PARTS.get(whole, ())
    return frozenset(direct).union(*(_parts_of(part) for part in direct))


@cache
def _known() -> frozenset[str]:
    return frozenset(PARTS).union(*PARTS.values(), *MEETING)
