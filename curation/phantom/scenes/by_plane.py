"""The scene of every plane, by the vocabulary's ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from sono.curation.phantom.anatomy import Fetus

from . import abdomen, head, heart, limbs
from .shapes import Scene

SCENES: Mapping[str, Callable[[Fetus, np.random.Generator], Scene]] = {
    "nt": head.nt,
    "early_head": head.early_head,
    "transventricular": head.transventricular,
    "transthalamic": head.transthalamic,
    "transcerebellar": head.transcerebellar,
    "sideface": head.sideface,
    "eye": head.eye,
    "crl": head.crl,
    "four_chamber": heart.four_chamber,
    "four_chamber_h": heart.four_chamber_h,
    "lvot": heart.lvot,
    "rvot": heart.rvot,
    "three_vessel_trachea": heart.three_vessel_trachea,
    "aortic_arch": heart.aortic_arch,
    "ductal_arch": heart.ductal_arch,
    "abdominal_circumference": abdomen.abdominal_circumference,
    "gallbladder": abdomen.gallbladder,
    "bladder": abdomen.bladder,
    "both_kidneys": abdomen.both_kidneys,
    "renal_sagittal": abdomen.renal_sagittal,
    "forearm": limbs.forearm,
    "humerus": limbs.humerus,
    "femur": limbs.femur,
    "leg": limbs.leg,
}
