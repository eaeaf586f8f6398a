"""The page that goes with an exported model: its use, its training, its evaluation, its limits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sono.manifests.errors import UserError
from sono.manifests.filenames import EVALUATION_FOLDER
from sono.training import recipes
from sono.training.data.patients import FILE, TrainedPatients
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
x = prepare(Image.open("frame.png"), None, **rules)  # or a mask: a boolean array [height, width]
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
been trained. `clip_base.pt` is a TorchScript archive of tensors, as OpenAI's files are, for that code with `jit=False`
(its default), which rounds the text tower to half precision. That code's own transform crops: prepare images and masks
as described below instead. It has no bias of the logits: here it is {logit_bias:.4f}.
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
    masks=None,  # or a boolean array [height, width]
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
- Figures with a region's mask use true masks, which are not available at a scanner. `minus_none` compares this model
  with itself, seen with and without masks: it is not a gain over training without masks. `leak` is what the masks give
  away to a classifier that sees no image: a figure with masks that is no higher may come from the masks alone.
- Captions from templates and clinical records carry their errors and their wording into the text tower.
- Weights may contain traces of the images they were trained on. Whoever publishes them is responsible for the consent
  that this requires, and for the terms of the data and of the weights that training started from.
"""


def render(run: Path, meta: Mapping[str, Any], kind: str, transform: PadToSquare, *, logit_bias: float) -> str:
    """The page in Markdown, with the Hub's header.

    Args:
        run: folder of the run: figures come from ``evaluation/``, and only those of this checkpoint.
        meta: what the checkpoint says about itself.
        kind: the export's format.
        transform: how images and masks are prepared.
        logit_bias: printed for formats that cannot hold it.

    Raises:
        UserError: a file among the results is none.
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
    yield "- Images have 8 bits per channel. The mask is 1 inside the region and 0 outside. A whole image has the mask"
    yield "  1 everywhere, padding included."
    yield f"- The image enters as (pixel / 255 - {_numbers(transform.mean)}) / {_numbers(transform.std)} by channel,"
    yield f"  the mask as (mask - {transform.mask_mean:g}) / {transform.mask_std:g}."


def _training(meta: Mapping[str, Any]) -> Iterator[str]:
    for dataset in meta["datasets"]:
        size = f"{dataset['frames']:,} frames, {dataset['share']:.1%} of the samples"
        yield f"- Dataset: {dataset['name']}, fingerprint `{dataset['fingerprint']}`, {size}"
    yield f"- Patients: {_patients(TrainedPatients.from_meta(meta))}"
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


def _patients(trained: TrainedPatients) -> str:
    count = sum(len(each.digests) for each in trained.sets)
    known = f"{count:,}, as keyed digests in `{FILE}`" if trained.sets else ""
    twice = "the keys of their datasets differ, so that one patient may count twice" if trained.has_several_keys else ""
    return "; ".join(filter(None, [known, twice, *trained.not_known]))


def _evaluation(run: Path, sha256: str) -> Iterator[str]:
    results, others = [], 0
    for path in sorted((run / EVALUATION_FOLDER).glob("**/*.json")):
        result = _read(path)
        if result.keys() >= _NAMED and result["checkpoint"]["sha256"] == sha256:
            results.append((path.stem, result))
        else:
            others += 1
    if not results:
        yield "This checkpoint was not evaluated."
    else:
        yield "Value and 95 % interval over patients, as `sono-train` computes them, of n frames, queries or masks."
        yield "Datasets and checkpoints are given with the start of their SHA-256. The last column says how many of the"
        yield "split's patients the model was trained on: ? if that is not known, and + if there may be more."
        yield ""
        yield "| dataset | split | checkpoint | result | figure | value | low | high | n | patients | trained on |"
        yield "|---|---|---|---|---|---|---|---|---|---|---|"
        for stem, result in results:
            for name, figure in _figures(result):
                yield f"| {' | '.join(_row(stem, result, name, figure))} |"
        notes = [f"- {stem}: {text}" for stem, result in results for text in result["notes"].values()]
        if notes:
            yield ""
            yield from notes
    if others:
        yield ""
        yield f"{others} results of other checkpoints of this run, or of an older version, are left out."


_NAMED = {"checkpoint", "dataset", "split", "trained_on", "notes"}
"""What a result must say about itself; those of older versions do not."""


def _read(path: Path) -> dict[str, Any]:
    try:
        result = json.loads(path.read_bytes())
    except ValueError:
        result = None
    if not isinstance(result, dict):
        raise UserError("not a result of sono-train", where=str(path), fix="move it away, and measure again")
    return result


def _row(stem: str, result: Mapping[str, Any], name: str, figure: Mapping[str, Any]) -> Iterator[str]:
    dataset, checkpoint = result["dataset"], result["checkpoint"]
    yield f"{dataset['name'].replace('|', '/')} `{dataset['fingerprint'][:12]}`"
    yield result["split"]
    yield f"{checkpoint['file']} `{checkpoint['sha256'][:12]}`"
    yield from (stem, name)
    yield from ("–" if figure[part] is None else f"{figure[part]:.3f}" for part in ("value", "low", "high"))
    yield from (f"{figure[part]:,}" for part in ("n", "n_patients"))
    trained = result["trained_on"]
    yield f"{'?' if trained['patients'] is None else trained['patients']}{'+' if trained['not_known'] else ''}"


def _figures(result: Any, name: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every figure of a result, by its path."""
    if not isinstance(result, Mapping):
        return
    if result.keys() >= _FIGURE:
        yield name, result
        return
    for key, value in result.items():
        if key not in _NOT_PUBLIC:
            yield from _figures(value, f"{name}.{key}".lstrip("."))


_FIGURE = {"value", "low", "high", "n", "n_patients"}


def _numbers(values: tuple[float, ...]) -> str:
    return f"({', '.join(f'{value:g}' for value in values)})"
