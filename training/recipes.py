"""Recipes: every setting of a training run, checked at construction.

A recipe is a function that returns a full configuration. Single settings are changed by dotted keys
(``train.steps=100``); the checkpoint keeps the configuration that was used.
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, Union

from sono.manifests.errors import UserError, did_you_mean

SEE_KEYS = "see `sono-train recipes NAME` for all keys"

CANNOT_CHANGE_RESULT = (
    "log.every",
    "log.tensorboard",
    "log.tracker",
    "log.validation",
    "checkpoint.every",
    "checkpoint.keep",
    "data.workers",
    "data.cache",
    "model.grad_checkpointing",
    "train.accumulate",
    "train.strategy",
)
"""Keys that a resumed run may change: the weights it ends with do not depend on them.

The last two, like the number of ranks, change the order of sums: the weights agree up to rounding.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """``backbone`` is ``sono-tiny``, ``FetalCLIP``, one of open_clip's ViTs, or ``hf-hub:owner/name``.

    ``weights`` is a file, one of the backbone's pretrained tags, or ``hf-hub:owner/name``; ``text_weights`` likewise,
    needed if ``weights`` hold an image tower only.
    """

    backbone: str
    weights: str | None = None
    text_weights: str | None = None
    from_scratch: bool = False  # must be set for random weights, so that they are never used by accident
    grad_checkpointing: bool = False  # less memory, a quarter more time, equal gradients

    def __post_init__(self) -> None:
        _require(bool(self.backbone), "model.backbone", self.backbone, "the name of a backbone")
        _require(not (self.from_scratch and self.weights), "model.from_scratch", True, "false if weights are given")
        _require(
            self.weights is not None or self.text_weights is None,
            "model.text_weights",
            self.text_weights,
            "none if model.weights is none",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """``global_fraction`` of the samples are whole-image pairs, the rest region pairs; ``workers`` processes load them.

    ``region_sampling`` says how a frame's region is drawn; ``whole_mask`` whether the mask of a whole image is one in
    the entire ``square``, as in evaluation, or in the ``image`` without its padding; ``cache`` is the folder for frames
    at the training size.
    """

    global_fraction: float = 0.1
    masks: Literal["on", "off"] = "on"  # off: "one everywhere" for region pairs too, to measure what masks contribute
    region_sampling: Literal["uniform", "structure", "inverse_frequency"] = "uniform"
    whole_mask: Literal["square", "image"] = "square"
    workers: int = 0
    cache: str | None = "auto"  # auto: below the user's cache folder; none: decode every image every time
    weights: str | None = None  # of datasets that are trained on together; none: every frame once in an epoch

    def __post_init__(self) -> None:
        _require(0 <= self.global_fraction <= 1, "data.global_fraction", self.global_fraction, "from 0 to 1")
        _require(self.workers >= 0, "data.workers", self.workers, "0 or more")
        _require(self.cache != "", "data.cache", self.cache, "a folder, auto, or none")
        _ = self.weight_by_dataset

    @property
    def weight_by_dataset(self) -> Mapping[str, Fraction] | None:
        """The weights by the datasets' names, exactly as they are written; None if there are none.

        Raises:
            UserError: a weight is not a positive number, or a dataset has two.
        """
        if self.weights is None:
            return None
        found: dict[str, Fraction] = {}
        for entry in self.weights.split(","):
            name, _, number = entry.rpartition("=")
            _require(_is_positive(number), "data.weights", self.weights, "NAME=NUMBER,... with numbers above 0")
            _require(bool(name) and name not in found, "data.weights", self.weights, "one weight for each dataset")
            found[name] = Fraction(number)
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Augment:
    """Random changes of training pairs, all off at 0: each value is the largest change, or a probability.

    Never upside down; ``flip`` is left-right, and only if the side cannot matter.
    """

    flip: bool = False  # half of the pairs that may be flipped
    rotate_deg: float = 0.0
    scale: float = 0.0  # 0.1: from 1/1.1 to 1.1
    translate: float = 0.0  # fraction of the square's side
    gain_db: float = 0.0  # on a display of 60 dB
    gamma: float = 0.0  # 0.2: exponents from exp(-0.2) to exp(0.2)
    speckle: float = 0.0  # standard deviation of a factor around 1
    mask_edge: float = 0.0  # grown or shrunk by up to this fraction of the region's radius
    mask_box: float = 0.0  # probability of the bounding box instead of the mask
    mask_drop: float = 0.0  # probability of "one everywhere" instead of the mask, with the region's caption

    def __post_init__(self) -> None:
        limits = {"rotate_deg": 45, "scale": 0.5, "translate": 0.5, "gain_db": 30, "gamma": 1, "speckle": 1}
        limits |= {"mask_edge": 0.5, "mask_box": 1, "mask_drop": 1}
        for name, limit in limits.items():
            _require(0 <= getattr(self, name) <= limit, f"augment.{name}", getattr(self, name), f"from 0 to {limit}")
        _require(
            self.mask_box + self.mask_drop <= 1, "augment.mask_drop", self.mask_drop, "1 - augment.mask_box at most"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """Which loss, which pairs are positive, temperature and bias at the start, images computed at a time.

    Only the sigmoid loss has positives to choose and a bias, and only the softmax loss smooths labels. Where
    temperature or bias is ``none``, training starts with that of the weights.
    """

    kind: Literal["sigmoid", "softmax"] = "sigmoid"
    positives: Literal["caption", "diagonal"] = "caption"
    temperature: float | None = 10.0  # t = exp(log_t), and log_t is learned
    bias: float | None = -10.0
    label_smoothing: float = 0.0  # share of the target that all pairs of the batch have alike
    chunk: int = 1024

    def __post_init__(self) -> None:
        valid = self.temperature is None or self.temperature > 0
        _require(valid, "loss.temperature", self.temperature, "more than 0, or none")
        _require(0 <= self.label_smoothing < 1, "loss.label_smoothing", self.label_smoothing, "from 0 to below 1")
        _require(self.chunk > 0, "loss.chunk", self.chunk, "1 or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class Optimizer:
    """AdamW with one learning rate per group of parameters; 0 freezes the group, and ``clip_norm`` 0 never clips.

    ``decay`` says what decays: ``matrices`` spares whatever has fewer than two dimensions (biases, norms, temperature
    and bias of the logits).
    """

    lr_stem: float
    lr_vision: float
    lr_text: float
    lr_logit: float
    weight_decay: float
    lr_depthwise: float | None = None  # of the stem's depthwise convolution; none: lr_stem
    decay: Literal["matrices", "all"] = "matrices"
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-6
    clip_norm: float = 0.0

    def __post_init__(self) -> None:
        for name in ("lr_stem", "lr_vision", "lr_text", "lr_logit", "weight_decay", "clip_norm"):
            _require(getattr(self, name) >= 0, f"optimizer.{name}", getattr(self, name), "0 or more")
        rate = self.lr_depthwise
        _require(rate is None or rate >= 0, "optimizer.lr_depthwise", rate, "0 or more, or none")
        for name in ("beta1", "beta2"):
            _require(0 <= getattr(self, name) < 1, f"optimizer.{name}", getattr(self, name), "from 0 to below 1")
        _require(self.eps > 0, "optimizer.eps", self.eps, "more than 0")
        rates = (self.lr_stem, self.lr_vision, self.lr_text, self.lr_logit, self.lr_depthwise)
        _require(any(rates), "optimizer.lr_stem", 0.0, "more than 0 if the other rates are 0: nothing would be trained")

    def rate(self, group: str) -> float:
        """The learning rate of a group of parameters."""
        if group == "depthwise" and self.lr_depthwise is None:
            return self.lr_stem
        return float(getattr(self, f"lr_{group}"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Train:
    """How long to train, and how: training ends after ``steps`` or ``epochs``, whichever comes first.

    No epoch begins once more than ``samples`` were seen. ``batch_size`` is that of all ranks together. Each rank
    computes its share in ``accumulate`` micro-batches. The learning rate rises over ``warmup_steps``, and then follows
    a cosine that reaches zero at the end; at ``cosine_steps`` if that is given, and beyond it climbs again.
    """

    batch_size: int
    warmup_steps: int
    steps: int | None = None
    epochs: float | None = None
    samples: int | None = None
    cosine_steps: int | None = None
    seed: int = 0
    accumulate: int = 1  # less memory, a third more time, equal gradients
    strategy: Literal["ddp", "fsdp"] = "ddp"  # with several ranks: each holds a copy of the model, or a part of it
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    threads: int = 0  # of torch on the CPU, 0: torch's choice; sums depend on it in the last bit
    deterministic: bool = True  # an operation without a deterministic version is an error

    def __post_init__(self) -> None:
        _require(self.batch_size > 1, "train.batch_size", self.batch_size, "2 or more")
        _require(self.warmup_steps >= 0, "train.warmup_steps", self.warmup_steps, "0 or more")
        _require(self.steps is None or self.steps > 0, "train.steps", self.steps, "1 or more, or none")
        _require(self.epochs is None or self.epochs > 0, "train.epochs", self.epochs, "more than 0, or none")
        _require(self.samples is None or self.samples > 0, "train.samples", self.samples, "1 or more, or none")
        falls = self.cosine_steps is None or self.cosine_steps > self.warmup_steps
        _require(falls, "train.cosine_steps", self.cosine_steps, "more than train.warmup_steps, or none")
        both = self.steps is None and self.epochs is None
        _require(not both, "train.steps", None, "a number if train.epochs is none: training must end")
        _require(0 <= self.seed < 2**63, "train.seed", self.seed, "from 0 to below 2**63")
        _require(self.threads >= 0, "train.threads", self.threads, "0 or more")
        fits = 1 <= self.accumulate <= self.batch_size
        _require(fits, "train.accumulate", self.accumulate, "from 1 to train.batch_size")

    def total_steps(self, samples: int) -> int:
        """Optimizer steps over a training split of ``samples`` frames.

        Raises:
            UserError: training would end before the warm-up does.
        """
        epochs = math.inf if self.epochs is None else self.epochs
        if self.samples is not None:
            epochs = min(epochs, self.samples // samples + 1)
        by_epochs = math.inf if math.isinf(epochs) else math.ceil(epochs * samples / self.batch_size)
        total = int(min(by_epochs, math.inf if self.steps is None else self.steps))
        if self.warmup_steps >= total:
            raise UserError(
                f"train.warmup_steps: training ends after {total} steps, before a warm-up of {self.warmup_steps}",
                fix="lower it with --set train.warmup_steps=N, or train longer",
            )
        return total


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """Save a checkpoint every ``every`` steps and at the end, and keep the last ``keep``."""

    every: int = 500
    keep: int = 2

    def __post_init__(self) -> None:
        _require(self.every > 0, "checkpoint.every", self.every, "1 or more")
        _require(self.keep > 0, "checkpoint.keep", self.keep, "1 or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class Log:
    """Write a line to ``log.csv`` every ``every`` steps, and the same to TensorBoard and an experiment tracker.

    Every ``validation`` steps and at the end, the loss on the validation splits goes to ``validation.csv``, and there.
    """

    every: int = 10
    validation: int = 0  # 0: never
    tensorboard: bool = False
    tracker: Literal["none", "trackio", "wandb"] = "none"

    def __post_init__(self) -> None:
        _require(self.every > 0, "log.every", self.every, "1 or more")
        _require(self.validation >= 0, "log.validation", self.validation, "0 or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """The settings of one training run."""

    model: Model
    optimizer: Optimizer
    train: Train
    data: Data = field(default_factory=Data)
    augment: Augment = field(default_factory=Augment)
    loss: Loss = field(default_factory=Loss)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    log: Log = field(default_factory=Log)

    def __post_init__(self) -> None:
        stays = self.data.whole_mask == "square" or self.augment == Augment()
        _require(stays, "data.whole_mask", "image", "square if augment.* moves images: their padding would move, too")


def tiny() -> Recipe:
    """Both towers from scratch, for two CPU cores and a few thousand frames: takes minutes, not a good model."""
    return Recipe(
        model=Model(backbone="sono-tiny", from_scratch=True),
        data=Data(global_fraction=0.2),
        loss=Loss(kind="softmax"),  # from random features, the sigmoid loss takes far longer to learn
        optimizer=Optimizer(
            lr_stem=1e-3, lr_vision=1e-3, lr_text=1e-3, lr_logit=1e-2, weight_decay=0.02, clip_norm=1.0
        ),
        train=Train(batch_size=64, warmup_steps=40, steps=300, threads=2),
        checkpoint=Checkpoint(every=100),
    )


def vit_l_14_336() -> Recipe:
    """After SonoCLIP: ViT-L/14 at 336 px, text tower frozen, 10 epochs. Printed, it lists how it differs."""
    return Recipe(
        model=Model(backbone="ViT-L-14-336-quickgelu"),  # OpenAI's weights were trained with QuickGELU
        data=Data(global_fraction=0.1, workers=8),
        optimizer=Optimizer(lr_stem=1e-4, lr_vision=1e-6, lr_text=0.0, lr_logit=1e-3, weight_decay=0.02),
        train=Train(batch_size=128, warmup_steps=800, epochs=10, precision="bf16", compile=True, deterministic=False),
        checkpoint=Checkpoint(every=2000),
    )


def vit_l_14_336_released() -> Recipe:
    """As SonoCLIP's released script trains, where that is possible. Printed, it lists what is not."""
    return Recipe(
        model=Model(backbone="ViT-L-14-336-quickgelu"),
        data=Data(global_fraction=0.1, whole_mask="image", workers=8),
        loss=Loss(positives="diagonal"),
        optimizer=Optimizer(
            lr_stem=1e-4, lr_depthwise=1e-6, lr_vision=1e-6, lr_text=0.0, lr_logit=1e-6,
            weight_decay=0.02, decay="all", beta2=0.999, eps=1e-8,
        ),
        train=Train(
            batch_size=16, warmup_steps=800, epochs=10, samples=4000 * 8 * 256, cosine_steps=5000,
            precision="bf16", compile=True, deterministic=False,
        ),
        checkpoint=Checkpoint(every=2000),
    )  # fmt: skip


def vit_l_14_336_released_softmax() -> Recipe:
    """As that script trains with --use_clip_loss: CLIP's loss, with smoothed labels."""
    changes = {"loss.kind": "softmax", "loss.label_smoothing": 0.1, "loss.temperature": math.exp(4.6052)}
    # Its scheduler takes a group with one parameter for the mask's convolution; the bias is not in this group here.
    changes["optimizer.lr_logit"] = 1e-4
    return _assemble({**flatten(vit_l_14_336_released()), **changes})


RECIPES: Mapping[str, Callable[[], Recipe]] = {
    "tiny": tiny,
    "vit-l-14-336": vit_l_14_336,
    "vit-l-14-336-released": vit_l_14_336_released,
    "vit-l-14-336-released-softmax": vit_l_14_336_released_softmax,
}


def find(name: str) -> Recipe:
    """The recipe called ``name``.

    Raises:
        UserError: no recipe has that name; the text suggests the most similar one.
    """
    if name not in RECIPES:
        fix = did_you_mean(name, RECIPES) or f"choose one of: {', '.join(RECIPES)}"
        raise UserError(f"recipe {name!r} not found", fix=fix)
    return RECIPES[name]()


def override(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """The recipe with settings of the form ``section.key=value`` changed, all checked together.

    Comments, which begin with ``#``, are skipped: what ``sono-train recipes NAME`` prints can be given back.

    Raises:
        UserError: a key is unknown (the text suggests the most similar one), or a value is of the wrong type or out of
            range.
    """
    values = flatten(recipe)
    for setting in settings:
        if setting.startswith("#"):
            continue
        key, equals, text = setting.partition("=")
        if not equals:
            raise UserError(f"{setting!r} is not a setting", fix="write it as --set section.key=value")
        if key not in values:
            raise UserError(f"unknown setting {key!r}", fix=_suggestion(key, values))
        values[key] = _parse(key, text)
    return _assemble(values)


def flatten(recipe: Recipe) -> dict[str, Any]:
    """All settings by dotted key, in the order of their definition."""
    return {
        f"{section}.{name}": value
        for section in _SECTIONS
        for name, value in dataclasses.asdict(getattr(recipe, section)).items()
    }


def text_of(value: object) -> str:
    """A setting's value as ``--set`` takes it."""
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def public(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """``flatten``'s settings without the names of this machine's files and folders, so that others may read them."""
    published = dict(recipe)
    for key in ("model.weights", "model.text_weights"):
        value = published[key]
        if value and not value.startswith("hf-hub:") and not re.fullmatch(r"\w+", value):
            published[key] = "a file"  # a tag of open_clip is a single word
    if published["data.cache"] not in ("auto", "none", None):
        published["data.cache"] = "a folder"
    return published


def from_flat(values: Mapping[str, Any]) -> Recipe:
    """The inverse of ``flatten``.

    Raises:
        UserError: keys are missing or unknown, because another version wrote them.
    """
    values = {**_ADDED, **values}
    differing = sorted(set(values) ^ set(flatten(tiny())))
    if differing:
        raise UserError(
            f"{differing[0]}: this setting is unknown or missing, so another version of sono-curate wrote this run",
            fix="install that version, or start a new run",
        )
    return _assemble(values)


def first_difference(before: Recipe, after: Recipe) -> str | None:
    """The first key that can change the result and whose value differs."""
    old, new = flatten(before), flatten(after)
    return next((key for key in old if old[key] != new[key] and key not in CANNOT_CHANGE_RESULT), None)


_ADDED: Mapping[str, Any] = {"data.weights": None, "log.validation": 0}
"""Settings that older runs did not have, with the value that does what they did."""

_SECTIONS: Mapping[str, type] = {
    "model": Model,
    "data": Data,
    "augment": Augment,
    "loss": Loss,
    "optimizer": Optimizer,
    "train": Train,
    "checkpoint": Checkpoint,
    "log": Log,
}


def _suggestion(key: str, keys: Iterable[str]) -> str:
    """The most similar key; a name without its section stands for the key that ends with it."""
    ending = [known for known in keys if known.partition(".")[2] == key]
    return f"did you mean {ending[0]!r}?" if len(ending) == 1 else did_you_mean(key, keys) or SEE_KEYS


def _assemble(values: Mapping[str, Any]) -> Recipe:
    sections: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    for key, value in values.items():
        section, _, name = key.partition(".")
        sections[section][name] = value
    return Recipe(**{section: kind(**sections[section]) for section, kind in _SECTIONS.items()})


def _parse(key: str, text: str) -> Any:
    section, _, name = key.partition(".")
    kind = typing.get_type_hints(_SECTIONS[section])[name]
    if typing.get_origin(kind) in (Union, types.UnionType):  # only ever `X | None` here
        if text.lower() == "none":
            return None
        kind = next(choice for choice in typing.get_args(kind) if choice is not type(None))
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        _require(text in choices, key, text, f"one of {', '.join(choices)}")
        return text
    if kind is bool:
        _require(text.lower() in ("true", "false"), key, text, "true or false")
        return text.lower() == "true"
    try:
        value = kind(text)
    except ValueError:
        expected = {int: "a whole number", float: "a number"}[kind]
        raise UserError(f"{key} is {text!r} but must be {expected}") from None
    _require(not isinstance(value, float) or math.isfinite(value), key, text, "a finite number")
    return value


def _is_positive(text: str) -> bool:
    """Whether it is a number above 0 in digits, such as 2 or 0.5."""
    return re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text, re.ASCII) is not None and Fraction(text) > 0


def _require(is_valid: bool, key: str, value: object, expected: str) -> None:
    if not is_valid:
        raise UserError(f"{key} is {value!r} but must be {expected}")
