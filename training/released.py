"""How recipes and suites that follow SonoCLIP differ from its released code, as data: what, and why.

The code is https://github.com/Harrison-one/SonoCLIP as of June 2026: ``train_sonoclip.sh``, ``train_sonoclip.py``, its
two readers, and the scheduler of Alpha-CLIP that it imports.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from . import recipes

FOLLOWED, SOFTMAX = "vit-l-14-336-released", "vit-l-14-336-released-softmax"
"""The recipes that follow the code with each of its two losses."""

REASONS: Mapping[str, str] = {
    "data.whole_mask": "evaluation shows a whole image with its padding inside the mask, so training does, too",
    "loss.positives": "templates repeat in a batch: equal captions would be each other's negatives",
    "loss.temperature": "a temperature of 100 is that of finished training; it is learned either way",
    "loss.label_smoothing": "CLIP's loss has none",
    "optimizer.lr_depthwise": "it is as new as the convolution of the mask; there it is among the pretrained layers",
    "optimizer.lr_logit": "temperature and bias must be able to move: at 1e-06 they would stay where they start",
    "optimizer.decay": "biases, norms, temperature and bias are no weights to keep small; there, all parameters decay",
    "optimizer.beta2": "CLIP's value for vision transformers; there, torch's default",
    "optimizer.eps": "CLIP's value for vision transformers; there, torch's default",
    "train.batch_size": "the script there starts two GPUs with 8 pairs each",
    "train.cosine_steps": "the rate falls until training ends; there, it is zero after 5,000 steps and climbs again",
    "train.samples": "10 epochs; there, none begins after 8,192,000 samples: with 1.44 million frames, 6 are trained",
}
"""By setting: why a recipe has another value than the released code."""

NOT_FOLLOWED: Mapping[str, str] = {
    "arithmetic": (
        "bf16, and the loss in fp32; there, fp16 with a loss scaler, which skips the steps that overflow, and logits "
        "in fp16"
    ),
    "resizing": (
        "Pillow's, which filters when it shrinks: images bicubic, masks by area; there, torchvision's on tensors, "
        "masks bilinear, without a filter before torchvision 0.17 and with one since"
    ),
    "gradients": (
        "those of the global loss; there, divided by twice the number of GPUs, which AdamW's step cancels out (but for "
        "eps)"
    ),
    "order": (
        "order of frames and choice of regions follow from the seed; there, regions and whole images are drawn without "
        "one"
    ),
    "end of an epoch": (
        "a batch may span two epochs; there, each epoch ends with a smaller batch, and frames are repeated until all "
        "GPUs have equally many"
    ),
    "long captions": "refused; there, cut at 77 tokens",
    "frames without regions": "make whole-image pairs; there, they end training with an error",
    "masks of another shape": "refused; there, the image is rotated",
}
"""What no recipe follows, because the result would depend on chance or on versions, or a fault would pass unseen."""

SUITE_DIFFERS: tuple[str, ...] = (
    "frames are padded to a square, as in training; there, the centre is cropped to one",
    "a frame seen with masks is the average over all its regions; there, one region is drawn (seed 2026 + position)",
    "sentences are worded as the captions and name an age; there, all views share 'A fetal ultrasound {plane} view.'",
    "all planes of the dataset's vocabulary compete; there, those of the scored frames",
)
"""How ``fetalp24`` differs from the released test, which ``fetalp24-released`` follows in these points."""

SUITE_NOT_FOLLOWED: tuple[str, ...] = (
    "images are resized by Pillow; there, by torchvision on tensors",
    "planes are called as in the dataset's vocabulary; there, as in its authors' annotations",
    "features are the checkpoint's; the test script there scores stored features, and loads no image tower",
)
"""What neither suite follows."""


def recipe_notes(name: str) -> Iterator[str]:
    """Lines that say how the recipe ``name`` differs from the released code; none for a recipe that is not after it."""
    if not name.startswith("vit-l-14-336"):
        return
    if name not in (FOLLOWED, SOFTMAX):
        yield f"differs from SonoCLIP's released code, which {FOLLOWED} follows:"
        yield from _differences(recipes.find(name), recipes.find(FOLLOWED))
        yield f"differs from it with loss.kind=softmax, which {SOFTMAX} follows, also in:"
        softmax = recipes.override(recipes.find(name), ["loss.kind=softmax"])
        released = recipes.flatten(recipes.find(FOLLOWED))
        yield from _differences(softmax, recipes.find(SOFTMAX), besides=released)
        yield "differs from it when tested with suite fetalp24, which suite fetalp24-released follows:"
        yield from (f"  {difference}" for difference in SUITE_DIFFERS)
    yield "differs from SonoCLIP's released code in any case:"
    for what, why in NOT_FOLLOWED.items():
        yield f"  {what}: {why}"
    yield "differs from it when tested with either suite:"
    yield from (f"  {difference}" for difference in SUITE_NOT_FOLLOWED)


def differing(ours: recipes.Recipe, released: recipes.Recipe) -> dict[str, tuple[object, object]]:
    """The settings that differ, each with both values."""
    theirs = recipes.flatten(released)
    return {key: (value, theirs[key]) for key, value in recipes.flatten(ours).items() if value != theirs[key]}


def _differences(
    ours: recipes.Recipe, released: recipes.Recipe, besides: Mapping[str, object] | None = None
) -> Iterator[str]:
    for key, (value, theirs) in differing(ours, released).items():
        if besides is None or theirs != besides[key]:
            yield f"  {key}={recipes.text_of(value)}, there {recipes.text_of(theirs)}: {REASONS[key]}"
