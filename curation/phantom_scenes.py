"""The scene of every plane, by the vocabulary's ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from . import phantom_abdomen, phantom_head, phantom_heart, phantom_limbs
from .phantom_anatomy import Fetus
from .phantom_shapes import Scene

SCENES: Mapping[str, Callable[[Fetus, np.random.Generator], Scene]] = {
    "nt": phantom_head.nt,
    "early_head": phantom_head.early_head,
    "transventricular": phantom_head.transventricular,
    "transthalamic": phantom_head.transthalamic,
    "transcerebellar": phantom_head.transcerebellar,
    "sideface": phantom_head.sideface,
    "eye": phantom_head.eye,
    "crl": phantom_head.crl,
    "four_chamber": phantom_heart.four_chamber,
    "four_chamber_h": phantom_heart.four_chamber_h,
    "lvot": phantom_heart.lvot,
    "rvot": phantom_heart.rvot,
    "three_vessel_trachea": phantom_heart.three_vessel_trachea,
    "aortic_arch": phantom_heart.aortic_arch,
    "ductal_arch": phantom_heart.ductal_arch,
    "abdominal_circumference": phantom_abdomen.abdominal_circumference,
    "gallbladder": phantom_abdomen.gallbladder,
    "bladder": phantom_abdomen.bladder,
    "both_kidneys": phantom_abdomen.both_kidneys,
    "renal_sagittal": phantom_abdomen.renal_sagittal,
    "forearm": phantom_limbs.forearm,
    "humerus": phantom_limbs.humerus,
    "femur": phantom_limbs.femur,
    "leg": phantom_limbs.leg,
}
