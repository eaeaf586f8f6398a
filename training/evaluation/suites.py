"""Published protocols by name: which measurement, which classes, which split, which figures to look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from sono.manifests.errors import UserError, did_you_mean
from sono.training.released import SUITE_DIFFERS, SUITE_NOT_FOLLOWED

from .zero_shot.protocol import SONOCLIP_RELEASED

if TYPE_CHECKING:
    from .scoring import Scoring

Command = Literal["evaluate", "probe", "segment", "gestational-age"]

_BRAIN = {
    "trans_thalamic": ("transthalamic",),
    "trans_cerebellum": ("transcerebellar",),
    "trans_ventricular": ("transventricular",),
}
_FIVE = {
    "brain": ("transthalamic", "transcerebellar", "transventricular", "fetal_brain"),
    "abdomen": ("abdominal_circumference",),
    "heart": ("four_chamber", "four_chamber_h", "lvot", "rvot", "three_vessel_trachea", "fetal_thorax"),
    "femur": ("femur",),
    "cervix": ("maternal_cervix",),
}
_SIX = {
    "abdomen": ("abdominal_circumference",),
    "brain": ("transthalamic", "transcerebellar", "transventricular", "fetal_brain"),
    "femur": ("femur",),
    "thorax": ("four_chamber", "four_chamber_h", "lvot", "rvot", "three_vessel_trachea", "fetal_thorax"),
    "maternal_cervix": ("maternal_cervix",),
    "other": ("other",),
}
_WITHOUT_AND_WITH = ("masks.none.top1", "masks.none.top5", "masks.region.top1", "masks.region.top5")


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A published protocol, and the command of ``sono-train`` that follows it.

    Args:
        about: what it is and where it was published.
        data: which dataset it needs, and how to build it.
        command: the command that runs.
        classes: planes of the dataset's vocabulary that count as each class; if empty, every plane is its own. Planes
            that the packaged vocabulary lacks (``maternal_cervix``, ``other``, ...) must be added to the workspace's.
        split: the split that is scored.
        options: of the command.
        figures: where the protocol's figures are in the result.
        differs: in what the suite differs from the publication's code, where that was read.
    """

    about: str
    data: str
    command: Command
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    split: str = "test"
    options: Mapping[str, Any] = field(default_factory=dict)
    figures: tuple[str, ...]
    differs: tuple[str, ...] = ()


SUITES: Mapping[str, Suite] = {
    "fetalp24": Suite(
        about="SonoCLIP: zero-shot over 24 planes, without masks and with (arXiv 2606.29586)",
        data="frames of the 24 planes with regions in the test split; FetalP24 is its authors'",
        command="evaluate",
        options={"masks": ("none", "region")},
        figures=_WITHOUT_AND_WITH,
        differs=(*SUITE_DIFFERS, *SUITE_NOT_FOLLOWED),
    ),
    "fetalp24-released": Suite(
        about="SonoCLIP: the same as its released code tests it: cropped, one region per frame, one sentence per plane",
        data="as for fetalp24",
        command="evaluate",
        options={"masks": ("none", "region"), "protocol": SONOCLIP_RELEASED},
        figures=_WITHOUT_AND_WITH,
        differs=SUITE_NOT_FOLLOWED,
    ),
    "fetalp6": Suite(
        about="SonoCLIP: probe of six classes, here one layer, on the public fetal planes (Burgos-Artizzu et al. 2020)",
        data="zenodo.org/records/3904280; a vocabulary with the added planes fetal_brain, fetal_thorax, "
        "maternal_cervix and other; its own split: give its column Train as the center, and hold out the test center",
        command="probe",
        classes=_SIX,
        options={"mask": "none"},
        figures=("mean_per_class", "accuracy", "f1"),
    ),
    "fetalp6-mask": Suite(
        about="SonoCLIP: the same with masks",
        data="as for fetalp6, with regions",
        command="probe",
        classes=_SIX,
        options={"mask": "region"},
        figures=("mean_per_class", "accuracy", "f1"),
    ),
    "fetalp5": Suite(
        about="SonoCLIP: segmentation of one foreground in five planes, decoder on frozen dense features",
        data="frames of five planes with regions in all three splits; FetalP5 is its authors'",
        command="segment",
        options={"foreground": True},
        figures=("dice_over_planes", "iou_over_planes"),
    ),
    "fetalclip-planes": Suite(
        about="FetalCLIP: zero-shot over five classes of the public fetal planes, without 'other' (arXiv 2502.14807)",
        data="as for fetalp6, without the plane other; built so that all frames are in the test split, as published: "
        "one center for all, held out with --holdout-center",
        command="evaluate",
        classes=_FIVE,
        options={"masks": ("none",)},
        figures=("masks.none.f1", "masks.none.top1"),
    ),
    "fetalclip-brain": Suite(
        about="FetalCLIP: zero-shot over three planes of the brain of the public fetal planes",
        data="as for fetalclip-planes",
        command="evaluate",
        classes=_BRAIN,
        options={"masks": ("none",)},
        figures=("masks.none.f1", "masks.none.top1"),
    ),
    "fetalclip-age": Suite(
        about="FetalCLIP: gestational age by sentences of days, scored by head circumference (HC18)",
        data="HC18's training set with its outlines as regions of the head and its pixel sizes; all in the test split, "
        "as for fetalclip-planes",
        command="gestational-age",
        classes={"brain": ("transthalamic", "transventricular", "transcerebellar")},
        options={"step": "days"},
        figures=("within_95",),
    ),
}


def find(name: str) -> Suite:
    """The suite called ``name``.

    Raises:
        UserError: no suite has that name; the text names the nearest, or lists them all.
    """
    if name not in SUITES:
        fix = did_you_mean(name, SUITES) or f"choose one of: {', '.join(SUITES)}"
        raise UserError(f"unknown suite {name!r}", fix=fix)
    return SUITES[name]


def file_name(name: str) -> str:
    """The name of the files that hold the result of the suite ``name``, without their ending."""
    return f"suite-{name}"


def run_suite(name: str, scoring: Scoring) -> dict[str, Any]:
    """Run a protocol; its split replaces that of ``scoring``.

    Returns:
        The command's result, with ``suite`` added: the protocol's name and figures. Also written to
        ``RUN/evaluation/<dataset>/suite-<name>.json``.

    Raises:
        UserError: no suite has that name, a class has no plane in the dataset's vocabulary, or as the command says.
    """
    from .results import write_result

    suite = find(name)
    scoring = replace(scoring, split=suite.split, name=file_name(name))
    measured = _measure(suite, scoring)
    figures = {path: _at(measured, path) for path in suite.figures}
    described = {"name": name, "about": suite.about, "differs": list(suite.differs), "figures": figures}
    result = {"suite": described, **measured}
    write_result(scoring.run, file_name(name), result)
    return result


def _measure(suite: Suite, scoring: Scoring) -> dict[str, Any]:
    # Imported here, so that the suites can be listed without torch.
    from functools import partial

    from sono.training.evaluation.gestational_age.run import estimate_age
    from sono.training.evaluation.segmentation.run import segment
    from sono.training.evaluation.zero_shot.run import evaluate

    from .probe import probe

    classes = suite.classes or None
    commands: Mapping[Command, Callable[..., dict[str, Any]]] = {
        "evaluate": partial(evaluate, classes=classes),
        "probe": partial(probe, classes=classes),
        "segment": segment,
        "gestational-age": partial(estimate_age, planes=classes),
    }
    return commands[suite.command](scoring, **suite.options)


def _at(result: Mapping[str, Any], path: str) -> Any:
    """The value at a path of keys such as ``masks.none.top1``."""
    value: Any = result
    for key in path.split("."):
        value = value[key]
    return value
