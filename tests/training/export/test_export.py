"""Exports, loaded by processes that have never heard of this project, give the features that the run's model gives."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sono.manifests.errors import UserError
from sono.manifests.publishable import MODEL_FILES, digest_files, find_files
from sono.training.export.export import FORMATS, export
from sono.training.export.gate import refusals
from sono.training.model.mask_clip import MaskClip
from sono.training.model.portable.mask_input import prepare
from sono.training.model.portable.processing_sono_clip import SonoClipProcessor
from sono.training.model.transforms import PadToSquare
from sono.training.pretraining import checkpoints

TEXTS = ["A 20-week fetal ultrasound image of femur plane.", "Fetal head."]
SIZES = ((120, 80), (40, 70), (48, 48))  # width, height in px

ALONE = """
import json, sys
from pathlib import Path
sys.path += json.loads(sys.argv[1])
try:
    import sono
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("this process can import sono")
import numpy as np, torch
from PIL import Image
given = Path(sys.argv[2])
images = [Image.open(path) for path in sorted(given.glob("*.png"))]
masks = [np.load(path) for path in sorted(given.glob("*.npy"))]
texts = json.loads((given / "texts.json").read_text())
def give(number, image, whole, text):
    names = {"image": image, "whole": whole, "text": text}
    np.savez(given / f"features-{number}.npz", **{name: value.detach().numpy() for name, value in names.items()})
for number, folder in enumerate(sys.argv[3:]):
    {use}
assert not any(name.partition(".")[0] == "sono" for name in sys.modules)
"""

USE_OPEN_CLIP = """
    sys.path.insert(0, folder)
    import open_clip
    from mask_input import prepare
    from mask_stem import load
    clip, rules = load(folder), json.loads((Path(folder) / "mask_input.json").read_text())
    x = torch.stack([prepare(image, mask, **rules) for image, mask in zip(images, masks)])
    whole = torch.stack([prepare(image, **rules) for image in images])
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(texts)
    encode = lambda x: clip.encode_image(x, normalize=True)
    give(number, encode(x), encode(whole), clip.encode_text(tokens, normalize=True))
"""

USE_TRANSFORMERS = """
    from transformers import AutoModel, AutoProcessor
    model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    output = model(**processor(images=images, masks=masks, text=texts))
    assert torch.allclose(output.logits_per_image, model.clip.logit_scale.exp() * output.image_embeds
                          @ output.text_embeds.T + model.clip.logit_bias)
    whole = processor(images=images)
    assert torch.equal(model.get_image_features(whole["pixel_values"]), model.get_image_features(**whole))
    give(number, output.image_embeds, model.get_image_features(**whole), output.text_embeds)
    for wrong in ({"images": images, "masks": masks[:1]}, {"images": images[0], "masks": masks[1]},
                  {"text": "fetal " * 80}, {"masks": masks}):
        try:
            processor(**wrong)
        except ValueError:
            continue
        raise SystemExit(f"the processor takes {wrong}")
    again = Path(given) / "again"
    model.save_pretrained(again); processor.save_pretrained(again)
    copy = AutoModel.from_pretrained(again, trust_remote_code=True)
    assert torch.equal(copy.get_image_features(**whole), model.get_image_features(**whole))
"""

# What the paper's released code computes with its files, in other words.
USE_SONOCLIP = """
    import open_clip
    from collections import OrderedDict
    from torch import nn
    class Attention(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.in_proj, self.out_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        def forward(self, x):
            heads = x.shape[2] // 64
            q, k, v = (part.unflatten(2, (heads, 64)).transpose(1, 2) for part in self.in_proj(x).chunk(3, dim=2))
            mixed = (q @ k.transpose(2, 3) / 8).softmax(dim=3) @ v
            return self.out_proj(mixed.transpose(1, 2).flatten(2))
    class QuickGELU(nn.Module):
        def forward(self, x):
            return x * torch.sigmoid(1.702 * x)
    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.ln_1, self.attn, self.ln_2 = nn.LayerNorm(width), Attention(width), nn.LayerNorm(width)
            wide, narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
            self.mlp = nn.Sequential(OrderedDict([("c_fc", wide), ("gelu", QuickGELU()), ("c_proj", narrow)]))
        def forward(self, x):
            x = x + self.attn(self.ln_1(x))
            return x + self.mlp(self.ln_2(x))
    class Blocks(nn.Module):
        def __init__(self, width, layers):
            super().__init__()
            self.resblocks = nn.Sequential(*[Block(width) for _ in range(layers)])
    class Tower(nn.Module):
        def __init__(self, width, patch, tokens, layers, dim):
            super().__init__()
            self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
            self.conv1_alpha = nn.Conv2d(1, width, patch, patch, bias=False)
            self.dwconv = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
            self.class_embedding = nn.Parameter(torch.zeros(width))
            self.positional_embedding = nn.Parameter(torch.zeros(tokens, width))
            self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
            self.transformer = Blocks(width, layers)
            self.proj = nn.Parameter(torch.zeros(width, dim))
        def forward(self, image, alpha):
            patches = self.dwconv(self.conv1(image) + self.conv1_alpha(alpha)).flatten(2).transpose(1, 2)
            first = self.class_embedding.expand(len(image), 1, -1)
            x = self.ln_pre(torch.cat([first, patches], dim=1) + self.positional_embedding)
            return self.ln_post(self.transformer.resblocks(x)[:, 0]) @ self.proj
    file = Path(folder) / "clip_base.pt"
    with file.open("rb") as opened:  # first as an archive, then what follows in the open file as a state dict
        try:
            base = torch.jit.load(opened, map_location="cpu").eval().state_dict()
        except RuntimeError:
            base = torch.load(opened, map_location="cpu")
    numbers = [base.pop(name).item() for name in ("input_resolution", "context_length", "vocab_size")]
    width, _, _, patch = base["visual.conv1.weight"].shape  # all sizes come from the tensors
    grid = round((len(base["visual.positional_embedding"]) - 1) ** 0.5)
    layers = sum(name.startswith("visual.") and name.endswith(".attn.in_proj_weight") for name in base)
    text_layers = len({name.split(".")[2] for name in base if name.startswith("transformer.resblocks")})
    context, text_width = base["positional_embedding"].shape
    words, dim = len(base["token_embedding.weight"]), base["text_projection"].shape[1]
    assert numbers == [patch * grid, context, words] == [48, 24, 49408]
    tower = Tower(width, patch, grid**2 + 1, layers, dim)
    plain = {name.removeprefix("visual.").replace(".in_proj_", ".in_proj."): tensor
             for name, tensor in base.items() if name.startswith("visual.")}
    assert [*tower.load_state_dict(plain, strict=False)] == [["conv1_alpha.weight", "dwconv.weight"], []]
    tower.load_state_dict(torch.load(Path(folder) / "sonoclip_vision.pth"), strict=True)
    text = {"context_length": context, "vocab_size": words, "width": text_width, "heads": text_width // 64,
            "layers": text_layers}
    vision = {"image_size": 48, "patch_size": patch, "width": width, "layers": layers}
    clip = open_clip.CLIP(embed_dim=dim, vision_cfg=vision, text_cfg=text, quick_gelu=True).eval()
    clip.load_state_dict(base, strict=True)
    x, whole = (torch.from_numpy(np.load(given / f"{name}.tensor")) for name in ("masked", "whole"))
    normal = nn.functional.normalize
    tokens = open_clip.SimpleTokenizer(context_length=24)(texts)
    # OpenAI's loader, and the paper's like it, rounds what it reads of this file to half precision.
    rounded = open_clip.load_openai_model(str(file), precision="fp32", device="cpu").encode_text(tokens)
    assert torch.allclose(normal(rounded, dim=1), clip.encode_text(tokens, normalize=True), atol=2e-3)
    give(number, normal(tower(x[:, :3], x[:, 3:])), normal(tower(whole[:, :3], whole[:, 3:])),
         clip.encode_text(tokens, normalize=True))
"""

pytestmark = pytest.mark.usefixtures("small_backbones")


@pytest.fixture(scope="module")
def make_run(small_run: Callable[..., Path]) -> Callable[[str], Path]:
    return small_run


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images in grey and in colour, a mask for each, and texts."""
    folder = tmp_path_factory.mktemp("given")
    random = np.random.default_rng(3)
    for number, (width, height) in enumerate(SIZES):
        channels = (3,) if number else ()
        pixels = random.integers(0, 256, (height, width, *channels), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        mask = np.zeros((height, width), dtype=bool)
        mask[height // 4 : height // 2, width // 3 :] = True
        np.save(folder / f"{number}.npy", mask)
    (folder / "texts.json").write_text(json.dumps(TEXTS))
    return folder


def inputs(given: Path, transform: PadToSquare) -> tuple[torch.Tensor, torch.Tensor]:
    """As evaluation prepares them: through the masks, and whole."""
    images = [Image.open(path) for path in sorted(given.glob("*.png"))]
    masks = [transform.mask(np.load(path)) for path in sorted(given.glob("*.npy"))]
    image_B3HW = torch.from_numpy(np.stack([transform.image(image) for image in images]))
    whole = [transform.all_one() for _ in images]
    masked_B4HW, whole_B4HW = (
        transform.normalise(image_B3HW, torch.from_numpy(np.stack(chosen))) for chosen in (masks, whole)
    )
    return masked_B4HW, whole_B4HW


def use_alone(use: str, given: Path, *folders: Path) -> None:
    """A process without this project: no site folder's .pth file is read, so no editable install is found."""
    script = ALONE.replace("{use}", use.strip())
    paths = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    environment = {
        "PATH": "/usr/bin:/bin",
        "HF_HOME": str(given / "hub"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, json.dumps(paths), str(given), *map(str, folders)],
        capture_output=True, text=True, timeout=240, check=False, cwd=given, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def check(run: Path, given: Path, number: int) -> None:
    model, transform, _ = checkpoints.load_model(run, pytest.fail)
    masked_B4HW, whole_B4HW = inputs(given, transform)
    with torch.no_grad():
        expected = {
            "image": model.eval().encode_image(masked_B4HW),
            "whole": model.encode_image(whole_B4HW),
            "text": model.encode_text(model.tokenizer(TEXTS)),
        }
    assert not torch.allclose(expected["image"], expected["whole"], atol=1e-2)
    with np.load(given / f"features-{number}.npz") as found:
        for name, features in expected.items():
            assert np.abs(found[name] - features.numpy()).max() < 1e-5, name


@pytest.mark.parametrize(
    ("kind", "use", "backbones"),
    [
        ("open_clip", USE_OPEN_CLIP, ["test-vit", "test-siglip", "test-words"]),
        ("transformers", USE_TRANSFORMERS, ["test-vit", "test-siglip", "test-eva", "test-words"]),
        ("sonoclip", USE_SONOCLIP, ["test-vit-quickgelu"]),
    ],
)
@pytest.mark.slow
def test_an_export_gives_the_same_features_without_this_project(
    kind: str, use: str, backbones: list[str], make_run: Callable[[str], Path], given: Path, tmp_path: Path
) -> None:
    runs = [make_run(backbone) for backbone in backbones]
    folders = [tmp_path / backbone for backbone in backbones]
    for run, folder in zip(runs, folders, strict=True):
        names = export(run, folder, kind)
        files = digest_files(folder, find_files(folder, MODEL_FILES)[0])
        assert [refusal.check for refusal in refusals(folder, files)] == ["licence"]
        assert sorted(path.name for path in folder.iterdir()) == names
    if kind == "sonoclip":
        for name, tensor in zip(("masked", "whole"), inputs(given, PadToSquare(size=48)), strict=True):
            with (given / f"{name}.tensor").open("wb") as file:
                np.save(file, tensor.numpy())
    use_alone(use, given, *folders)
    for number, run in enumerate(runs):
        check(run, given, number)


def test_an_export_holds_no_local_path(make_run: Callable[[str], Path], tmp_path: Path) -> None:
    for kind in ("open_clip", "transformers"):
        export(make_run("test-words"), tmp_path / kind, kind)
        texts = [path.read_text() for path in (tmp_path / kind).iterdir() if path.suffix in (".json", ".md")]
        assert len(texts) >= 4
        assert not any("/tmp/" in text or str(tmp_path) in text for text in texts)


def test_exported_preprocessing_equals_that_of_training(given: Path) -> None:
    transform = PadToSquare(size=40, mean=(0.4, 0.5, 0.6), mask_std=0.3)
    masked_B4HW, whole_B4HW = inputs(given, transform)
    for number, (masked, whole) in enumerate(zip(masked_B4HW, whole_B4HW, strict=True)):
        image, mask = Image.open(given / f"{number}.png"), np.load(given / f"{number}.npy")
        rules = transform.to_dict()
        assert torch.equal(prepare(image, mask, **rules), masked)
        assert torch.equal(prepare(image, None, **rules), whole)


GREY = np.full((8, 6), 200, dtype=np.uint8)
INSIDE = np.arange(48).reshape(8, 6) > 20
IMAGES: dict[str, Any] = {
    "16-bit": Image.fromarray(GREY.astype(np.uint16) * 257),
    "32-bit": Image.fromarray(GREY.astype(np.int32)),
    "float": Image.fromarray(GREY.astype(np.float32) / 255),
    "an array": GREY.astype(np.uint16) * 257,
    "a tensor": torch.from_numpy(GREY),
}
MASKS: dict[str, Any] = {
    "probabilities": INSIDE * 0.3,
    "float, but binary": INSIDE.astype(np.float32),
    "a tensor of probabilities": torch.from_numpy(INSIDE * 0.3),
    "16-bit": INSIDE.astype(np.uint16) * 65535,
    "labels": (INSIDE * np.arange(6)).astype(np.uint8),
    "one label": INSIDE.astype(np.uint8) * 3,
    "soft edges": np.where(INSIDE, 255, 1).astype(np.uint8),
    "an image of floats": Image.fromarray(INSIDE.astype(np.float32)),
    "a 16-bit image": Image.fromarray(INSIDE.astype(np.uint16)),
}


@pytest.mark.parametrize("given", IMAGES)
def test_an_image_that_would_be_cut_off_at_255_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match=r"give Image\.fromarray\(.*\)") as raised:
        SonoClipProcessor(size=16)(images=[IMAGES[given]])
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("given", MASKS)
def test_a_mask_that_is_not_binary_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match=r"say what is inside.* mask == number") as raised:
        SonoClipProcessor(size=16)(images=Image.fromarray(GREY), masks=MASKS[given])
    assert str(raised.value).isprintable()


def test_all_forms_of_a_binary_mask_mean_the_same() -> None:
    processor = SonoClipProcessor(size=16)
    ones = INSIDE.astype(np.uint8)
    forms = [INSIDE, ones, ones * 255, torch.from_numpy(INSIDE), torch.from_numpy(ones),
             Image.fromarray(ones * 255), Image.fromarray(INSIDE)]  # fmt: skip
    made = processor(images=[Image.fromarray(GREY)] * len(forms), masks=forms)["masks"]
    assert 0 < (made[0] > 0).sum() < made[0].numel()
    assert all(torch.equal(mask, made[0]) for mask in made)


@pytest.mark.slow
def test_the_paper_format_is_refused_if_its_code_would_differ(make_run: Callable[[str], Path], tmp_path: Path) -> None:
    for backbone, why in (
        ("test-vit", "its activation is GELU"),
        ("test-siglip", r"it is not a plain CLIP \(timm_model_name\)"),
        ("test-vit-average", r"it is not a plain CLIP \(final_ln_after_pool\)"),
    ):
        with pytest.raises(UserError, match=f"the paper's code cannot run {backbone}: {why}"):
            export(make_run(backbone), tmp_path / "out", "sonoclip")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", FORMATS)
def test_the_model_card_describes_the_run_without_local_paths(
    kind: str, make_run: Callable[[str], Path], tmp_path: Path
) -> None:
    run = make_run("test-vit-quickgelu")
    meta = checkpoints.load_model(run, pytest.fail)[2]
    figure = {"value": 0.4321, "low": 0.4, "high": 0.5, "n": 79, "n_patients": 19}
    by = {"center": {"St. Brigid": {"top1": figure}}, "scanner": {"Borealis": {"top1": figure}}}
    masks = {"none": {"top1": figure, "f1": {**figure, "low": None, "high": None, "n_patients": 1}, "by": by}}
    result = {
        "checkpoint": {"file": meta["file"], "sha256": meta["sha256"]},
        "dataset": {"name": "north", "fingerprint": "a" * 64},
        "split": "test",
        "trained_on": {"patients": 0, "of": 20, "not_known": []},
        "notes": {},
        "n_frames": 80,
        "masks": masks,
        "leak": {"fitted_on": {"split": "train", "n_frames": 40, "n_patients": 9}, "top1": figure, "by": by},
    }
    rebuilt = {
        **result,
        "dataset": {"name": "north", "fingerprint": "b" * 64},
        "trained_on": {"patients": None, "of": 20, "not_known": ["unknown"]},
    }
    other = {**result, "checkpoint": {"file": "step-00000001", "sha256": "0" * 64}}
    older = {name: result[name] for name in ("checkpoint", "n_frames", "masks")}
    for name, content in {
        "one/test-none": result,
        "two/test-none": rebuilt,
        "one/stale": other,
        "older": older,
    }.items():
        file = run / "evaluation" / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    top1 = "0.432 | 0.400 | 0.500 | 79 | 19"
    checkpoint = f"{meta['file']} `{meta['sha256'][:12]}`"
    export(run, tmp_path / "out", kind)
    card = (tmp_path / "out/README.md").read_text()
    for said in (
        f"- Dataset: fetal-planes, fingerprint `{64 * 'e'}`, 5,678 frames, 50.0% of the samples",
        f"- Dataset: more-planes, fingerprint `{64 * 'f'}`, 5,678 frames, 50.0% of the samples",
        f"step {meta['step']:,}",
        meta["sha256"],
        "| optimizer.lr_stem | 0.001 |",
        "| model.weights | a file |",
        f"| north `{12 * 'a'}` | test | {checkpoint} | test-none | masks.none.top1 | {top1} | 0 |",
        f"| north `{12 * 'a'}` | test | {checkpoint} | test-none | leak.top1 | {top1} | 0 |",
        f"| north `{12 * 'b'}` | test | {checkpoint} | test-none | masks.none.top1 | {top1} | ?+ |",
        "| masks.none.f1 | 0.432 | – | – | 79 | 1 | 0 |",
        "it is not a gain over training without masks",
        "2 results of other checkpoints",
        "not a medical device",
        "four-chamber",
        "resized to 48 px",
    ):
        assert said in card
    assert not any(name in card for name in ("/secret", "ViT.pt", "St. Brigid", "Borealis"))
    (run / "evaluation" / "broken.json").write_text("[")
    with pytest.raises(UserError, match=r"broken\.json: not a result of sono-train; move it away"):
        export(run, tmp_path / "again", kind)
    shutil.rmtree(run / "evaluation")
    assert "stale" not in card.partition("## Evaluation")[2].partition("## Intended")[0]


def test_an_export_never_overwrites_and_leaves_nothing_half_written(
    make_run: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = make_run("test-vit"), tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="the folder is not empty; name a new folder for the export"):
        export(run, out, "open_clip")
    assert [path.name for path in out.iterdir()] == ["mine.txt"]
    monkeypatch.setattr(MaskClip, "tokenizer", property(lambda self: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        export(run, tmp_path / "new", "open_clip")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with pytest.raises(UserError, match=r"mine.txt/new: cannot be written: Not a directory; free space"):
        export(run, out / "mine.txt" / "new", "open_clip")
    with pytest.raises(UserError, match="no checkpoint found"):
        export(tmp_path, tmp_path / "new", "open_clip")
    (checkpoint,) = (run / "checkpoints").iterdir()
    with pytest.raises(UserError, match="a finished dataset or checkpoint; name another place"):
        export(run, checkpoint / "new", "open_clip")


def test_training_can_start_from_exported_files(make_run: Callable[[str], Path], tmp_path: Path) -> None:
    """What we write is what we read: each export is a source of weights."""
    from sono.training import recipes
    from sono.training.model.build import build_model, load_pretrained

    run = make_run("test-vit-quickgelu")
    expected = checkpoints.load_model(run, pytest.fail)[0].clip.state_dict()
    sources: dict[str, dict[str, Any]] = {
        "open_clip": {"weights": "open_clip_model.safetensors"},
        "sonoclip": {"weights": "sonoclip_vision.pth", "text_weights": "clip_base.pt"},
    }
    for kind, files in sources.items():
        export(run, tmp_path / kind, kind)
        paths = {key: str(tmp_path / kind / name) for key, name in files.items()}
        settings = recipes.Model(backbone="test-vit-quickgelu", **paths)
        made = build_model(settings, recipes.Loss())
        load_pretrained(made, settings, recipes.Loss())
        for name, tensor in made.clip.state_dict().items():
            assert name in ("logit_scale", "logit_bias") or torch.equal(tensor, expected[name]), name
