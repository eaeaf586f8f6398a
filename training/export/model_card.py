"""The page that goes with an exported model: its use, its training, its evaluation, its limits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sono.manifests.filenames import EVALUATION_FOLDER
from sono.training import recipes
from sono.training.model.transforms import PadToSquare

_CAPTIONED = {"whole": "whole images", "region": "regions"}
_NOT_PUBLIC = ("by",)  # figures by center and scanner: a card does not name hospitals

_USE: Mapping[str, str] = {
    "open_clip": """\
The folder holds open_clip's configuration and weights. open_clip alone cannot load them, because the patch embedding
takes a mask: `mask_stem.py` adds it and `mask_input.py` prepares images; both are in this folder.
`pip install open_clip_torch safetensors`

```python
import json
import open_clip, torch
from PIL import Image
from mask_input import prepare
from mask_stem import load

clip = load(".")
tokenize = open_clip.get_tokenizer("local-dir:.")
rules = json.load(open("mask_input.json"))
x = prepare(Image.open("frame.png"), None, **rules)  # or a mask: an array [height, width], not zero inside
with torch.no_grad():
    image = clip.encode_image(x[None], normalize=True)
    text = clip.encode_text(tokenize(["A fetal ultrasound image of four-chamber plane."]), normalize=True)
print(image @ text.T)
```
""",
    "sonoclip": """\
The files have the names and tensors of the released code of SonoCLIP (which extends Alpha-CLIP's), and load there with

```python
model, _ = sonoclip.load("clip_base.pt", alpha_vision_ckpt_pth="sonoclip_vision.pth", device="cpu")
features = model.encode_image(image, mask)
```

Both files are needed: `sonoclip_vision.pth` has the image tower only, and the text tower in `clip_base.pt` may have
been trained. That code's own transform crops: prepare images and masks as described below instead. It has no bias of
the logits: here it is {logit_bias:.4f}.
""",
    "transformers": """\
`pip install transformers open_clip_torch`

```python
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor

model = AutoModel.from_pretrained(".", trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained(".", trust_remote_code=True)
inputs = processor(
    images=Image.open("frame.png"),
    masks=None,  # or an array [height, width], not zero inside
    text=["A fetal ultrasound image of four-chamber plane."],
)
with torch.no_grad():
    output = model(**inputs)
print(output.image_embeds @ output.text_embeds.T)
```
""",
}

_LIMITS = """\
## Intended use

Research on fetal ultrasound: retrieval, zero-shot and linear recognition of planes, features for further training.

## Limits

- **This is not a medical device.** It was not tested for diagnosis, screening or measurement, and no figure here says
  that it is fit for any of them. Do not use it to make decisions about a patient.
- Figures are over patients of the named split. They say nothing about hospitals, scanners, populations or weeks of
  pregnancy that this data does not cover.
- Figures with a region's mask use true masks, which are not available at a scanner.
- Captions from templates and clinical records carry their errors and their wording into the text tower.
- Weights may contain traces of the images they were trained on. Whoever publishes them is responsible for the consent
  that this requires, and for the terms of the data and of the weights that training started from.
"""


def render(run: Path, meta: Mapping[str, Any], kind: str, transform: PadToSquare, *, logit_bias: float) -> str:
    """The page in Markdown, with the Hub's header.

    Args:
        run: folder of the run: figures come from ``evaluation/*.json``, and only those of this checkpoint.
        meta: what the checkpoint says about itself.
        kind: the export's format.
        transform: how images and masks are prepared.
        logit_bias: printed for formats that cannot hold it.
    """
    library = "transformers" if kind == "transformers" else "open_clip"
    return "\n".join(
        [
            "---",
            f"library_name: {library}",
            "pipeline_tag: zero-shot-image-classification",
            "tags: [ultrasound, fetal, clip, mask-guided]",
            "---",
            "",
            f"# Mask-guided CLIP for fetal ultrasound ({meta['recipe']['model.backbone']})",
            "",
            "A CLIP whose image tower takes a mask beside the image: features of a whole frame, or of a region in it.",
            f"Written by {meta.get('created_by', 'sono-train')}.",
            "",
            "## Use",
            "",
            _USE[kind].format(logit_bias=logit_bias) if kind == "sonoclip" else _USE[kind],
            "## Input",
            "",
            *_input_rules(transform),
            "",
            "## Training",
            "",
            *_training(meta),
            "",
            "## Evaluation",
            "",
            *_evaluation(run, meta["sha256"]),
            "",
            _LIMITS,
        ]
    )


def _input_rules(transform: PadToSquare) -> Iterator[str]:
    yield f"- Image and mask are padded to a centred square and resized to {transform.size} px: the image bicubic, with"
    yield "  black around it; the mask by area, with 0 around it."
    yield "- The mask is 1 inside the region and 0 outside. A whole image has the mask 1 everywhere, padding included."
    yield f"- The image enters as (pixel / 255 - {_numbers(transform.mean)}) / {_numbers(transform.std)} by channel,"
    yield f"  the mask as (mask - {transform.mask_mean:g}) / {transform.mask_std:g}."


def _training(meta: Mapping[str, Any]) -> Iterator[str]:
    dataset = meta["dataset"]
    yield f"- Dataset: fingerprint `{dataset['fingerprint']}`, {dataset['frames']:,} frames"
    yield f"- Planes: {', '.join(meta['planes'].values())}"
    for kind, wordings in meta.get("captions", {}).get("wordings", {}).items():
        for sentence in wordings:
            yield f"- Captions of {_CAPTIONED[kind]} were worded like: {sentence}"
    yield f"- Checkpoint: step {meta['step']:,}, `{meta['file']}`, SHA-256 `{meta['sha256']}`"
    yield ""
    yield "| setting | value |"
    yield "|---|---|"
    for key, value in recipes.public(meta["recipe"]).items():
        yield f"| {key} | {'none' if value is None else value} |"


def _evaluation(run: Path, sha256: str) -> Iterator[str]:
    rows, notes, others = [], [], 0
    for path in sorted((run / EVALUATION_FOLDER).glob("*.json")):
        result = json.loads(path.read_bytes())
        if result.get("checkpoint", {}).get("sha256") != sha256:
            others += 1
            continue
        frames, patients = result.get("n_frames", ""), result.get("n_patients", "")
        notes += [f"- {path.stem}: {text}" for text in result.get("notes", {}).values()]
        rows += [(path.stem, name, *figure, frames, patients) for name, figure in _figures(result)]
    if not rows:
        yield "This checkpoint was not evaluated."
    else:
        yield "Value and 95 % interval over patients, as `sono-train` computes them."
        yield ""
        yield "| result | figure | value | low | high | frames | patients |"
        yield "|---|---|---|---|---|---|---|"
        for stem, name, value, low, high, frames, patients in rows:
            limits = " | ".join("–" if limit is None else f"{limit:.3f}" for limit in (low, high))
            yield f"| {stem} | {name} | {value:.3f} | {limits} | {frames} | {patients} |"
        if notes:
            yield ""
            yield from notes
    if others:
        yield ""
        yield f"{others} results of other checkpoints of this run are left out."


def _figures(result: Any, name: str = "") -> Iterator[tuple[str, tuple[float, float | None, float | None]]]:
    """Every figure of a result with its interval, which may be missing, by its path."""
    if not isinstance(result, Mapping):
        return
    if {"value", "low", "high"} <= result.keys():
        if isinstance(result["value"], (int, float)):
            yield name, (result["value"], result["low"], result["high"])
        return
    for key, value in result.items():
        if key not in _NOT_PUBLIC:
            yield from _figures(value, f"{name}.{key}".lstrip("."))


def _numbers(values: tuple[float, ...]) -> str:
    return f"({', '.join(f'{value:g}' for value in values)})"
