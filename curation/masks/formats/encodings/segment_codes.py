"""SNOMED CT codes of structures, as DICOM names them (PS3.16); the rest gets codes of a private scheme."""

from __future__ import annotations

from collections.abc import Mapping

PRIVATE_SCHEME = "99SONO"

ANATOMICAL_STRUCTURE = ("123037004", "Anatomical Structure")
"""The category of every segment: CID 7150."""

SNOMED_CT: Mapping[str, tuple[str, str]] = {
    "head": ("69536005", "Head"),
    "trunk": ("22943007", "Trunk"),
    "thalami": ("42695009", "Thalamus"),
    "cavum_septi_pellucidi": ("74968005", "Cavum of septum pellucidum"),
    "third_ventricle": ("49841001", "Third ventricle"),
    "choroid_plexus": ("80621003", "Structure of choroid plexus (body structure)"),
    "cerebellum": ("113305005", "Cerebellum"),
    "cisterna_magna": ("54165005", "Cisterna magna"),
    "diencephalon": ("87563008", "Diencephalon"),
    "nasal_bone": ("74386004", "Nasal bone"),
    "nose": ("45206002", "Nose"),
    "maxilla": ("70925003", "Maxilla"),
    "mandible": ("91609006", "Mandible"),
    "lips": ("48477009", "Lip"),
    "orbits": ("363654007", "Orbit"),
    "lenses": ("78076003", "Lens"),
    "thorax": ("816094009", "Thorax"),
    "heart": ("80891009", "Heart"),
    "left_ventricle": ("87878005", "Left ventricle"),
    "right_ventricle": ("53085002", "Right ventricle"),
    "left_atrium": ("82471001", "Left atrium"),
    "right_atrium": ("73829009", "Right atrium"),
    "interventricular_septum": ("589001", "Interventricular septum"),
    "mitral_valve": ("91134007", "Mitral valve"),
    "tricuspid_valve": ("46030003", "Tricuspid valve"),
    "pulmonary_veins": ("122972007", "Pulmonary vein"),
    "aortic_valve": ("34202007", "Aortic valve"),
    "pulmonary_valve": ("39057004", "Pulmonary valve"),
    "ascending_aorta": ("54247002", "Ascending aorta"),
    "aortic_arch": ("57034009", "Aortic arch"),
    "pulmonary_artery": ("81040000", "Pulmonary artery"),
    "ductus_arteriosus": ("4432005", "Structure of ductus arteriosus (body structure)"),
    "superior_vena_cava": ("48345005", "Superior vena cava"),
    "trachea": ("44567001", "Trachea"),
    "thymus": ("9875009", "Thymus"),
    "spine": ("421060004", "Spine"),
    "abdomen": ("818981001", "Abdomen"),
    "stomach": ("69695003", "Stomach"),
    "umbilical_vein": ("284639000", "Umbilical vein"),
    "umbilical_arteries": ("50536004", "Umbilical artery"),
    "liver": ("10200004", "Liver"),
    "abdominal_aorta": ("7832008", "Abdominal aorta"),
    "gallbladder": ("28231008", "Gallbladder"),
    "bladder": ("89837001", "Bladder"),
    "pelvis": ("816092008", "Pelvis"),
    "kidney": ("64033007", "Kidney"),
    "kidneys": ("64033007", "Kidney"),
    "renal_pelvis": ("25990002", "Renal pelvis"),
    "adrenal_gland": ("23451007", "Adrenal gland"),
    "radius": ("62413002", "Radius"),
    "ulna": ("23416004", "Ulna"),
    "hand": ("85562004", "Hand"),
    "humerus": ("85050009", "Humerus"),
    "upper_arm": ("40983000", "Upper arm"),
    "femur": ("71341001", "Femur"),
    "thigh": ("68367000", "Thigh"),
    "tibia": ("12611008", "Tibia"),
    "fibula": ("87342007", "Fibula"),
    "foot": ("56459004", "Foot"),
}
"""Code and meaning by structure. Structures of both sides have the code of one: DICOM says the side apart from it."""


def structures_of_code(scheme: str, value: str) -> tuple[str, ...]:
    """The structures that a code stands for; none if it is not known here."""
    if scheme == PRIVATE_SCHEME:
        return (value,)
    return tuple(name for name, (code, _) in SNOMED_CT.items() if scheme == "SCT" and code == value)
