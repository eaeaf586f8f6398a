"""A small dataset in the layout that ``sono-curate build`` writes: bright shapes on speckle, one plane per shape."""

from __future__ import annotations

import io
import itertools
import json
import multiprocessing
import os
import runpy
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import numpy as np
import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image, ImageDraw

from sono.manifests import masks
from sono.manifests.dataset_marker import FORMAT, describe_shard, fingerprint_of
from sono.manifests.schemas import DATASET
from sono.training import recipes
from sono.training.data.wordings import WORDINGS, CaptionsRead
from sono.training.model.build import build_model, make_transform
from sono.training.model.transforms import PadToSquare
from sono.training.pretraining.checkpoint_writer import CheckpointWriter

PLANES = {
    "transthalamic": "transthalamic",
    "four_chamber": "four-chamber",
    "abdominal_circumference": "abdominal circumference",
    "femur": "femur",
}
STRUCTURES = ("spine", "umbilical vein")  # of every plane: only its name may tell a caption's plane
SIZES = ((120, 80), (80, 112), (96, 96))  # width, height in px: landscape, portrait, square

Rows = list[dict[str, Any]]
MadeOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session", autouse=True)
def _alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is unpacked into the user's cache, and no test waits for a network or for a second core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("huggingface")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
        patch.setenv("HF_DATASETS_CACHE", str(folder))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        yield
    torch.set_num_threads(threads)


SMALL_TEXT = {"context_length": 24, "vocab_size": 49408, "layers": 1, "width": 64, "heads": 1}
SMALL_BACKBONES: dict[str, dict[str, Any]] = {
    "test-vit": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 48, "patch_size": 16, "layers": 2, "width": 64, "head_width": 32},
        "text_cfg": SMALL_TEXT,
    },
    "test-vit-quickgelu": {  # the only kind that SonoCLIP's own code can run: heads of 64
        "embed_dim": 32,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 48, "patch_size": 16, "layers": 2, "width": 128, "head_width": 64},
        "text_cfg": SMALL_TEXT,
    },
    "test-vit-average": {  # no class token in the features, fixed positions, a text tower of its own
        "embed_dim": 32,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 48, "patch_size": 16, "layers": 1, "width": 64, "head_width": 32, "pool_type": "avg",
            "no_ln_pre": True, "final_ln_after_pool": True, "pos_embed_type": "sin_cos_2d", "ls_init_value": 0.1,
        },
        "text_cfg": SMALL_TEXT,
    },
    "test-siglip": {  # as ViT-B-16-SigLIP, with CLIP's tokens
        "embed_dim": 96,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 160, "timm_model_name": "test_vit3", "timm_model_pretrained": False,
            "timm_pool": "map", "timm_proj": "none",
        },
        "text_cfg": {
            **SMALL_TEXT, "width": 96, "heads": 2, "no_causal_mask": True, "proj_bias": True, "pool_type": "last",
            "norm_kwargs": {"eps": 1e-06},
        },
    },
    "test-timm": {
        "embed_dim": 32,
        "vision_cfg": {
            "image_size": 160, "timm_model_name": "test_vit_relpos", "timm_pool": "", "timm_proj": "linear",
        },
        "text_cfg": SMALL_TEXT,
    },
    "test-eva": {  # rotary positions
        "embed_dim": 32,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 224, "timm_model_name": "eva02_tiny_patch14_224", "timm_pool": "token", "timm_proj": None,
        },
        "text_cfg": SMALL_TEXT,
    },
}  # fmt: skip


@pytest.fixture(scope="session")
def small_backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Small architectures of many kinds, registered with open_clip by name like its own."""
    folder = tmp_path_factory.mktemp("configs")
    write_tokenizer(folder / "words")
    text = {**SMALL_TEXT, "hf_tokenizer_name": str(folder / "words"), "pool_type": "last", "no_causal_mask": True}
    backbones = {**SMALL_BACKBONES, "test-words": {**SMALL_BACKBONES["test-vit"], "text_cfg": text}}
    for name, settings in backbones.items():
        (folder / f"{name}.json").write_text(json.dumps(settings))
    open_clip.add_model_config(folder)
    return backbones


@pytest.fixture(scope="session")
def small_run(
    small_backbones: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Makes a run of a backbone with a checkpoint, as if trained: random weights, in the mask stem too."""
    made: dict[str, Path] = {}

    def make(backbone: str) -> Path:
        if backbone not in made:
            made[backbone] = write_run(tmp_path_factory.mktemp("runs") / backbone, backbone)
        return made[backbone]

    return make


@pytest.fixture(scope="session")
def make_rows() -> Callable[..., Rows]:
    return rows


@pytest.fixture(scope="session")
def write_dataset() -> Callable[..., Path]:
    return write


@pytest.fixture(scope="session")
def describe_again() -> Callable[..., None]:
    """Writes the ``sono.json`` of a dataset whose shards a test has changed, after ``change`` of its content."""

    def describe(folder: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> None:
        content = json.loads((folder / "sono.json").read_text())
        for split in content["splits"].values():
            shards = {name: describe_shard(folder / name, shard["rows"]) for name, shard in split["shards"].items()}
            split["shards"] = shards
        change(content)
        _write_marker(folder, content)

    return describe


@pytest.fixture(scope="session")
def replace_in_place() -> Callable[..., None]:
    """Writes another dataset where one was, with the same times of its files and folders, as some archives restore."""

    def replace(folder: Path, splits: dict[str, Rows], **options: Any) -> None:
        before = {path.relative_to(folder): path.stat() for path in (folder, *folder.rglob("*"))}
        shutil.rmtree(folder)
        write(folder, splits, **options)
        for name, found in before.items():
            os.utime(folder / name, ns=(found.st_atime_ns, found.st_mtime_ns))

    return replace


@pytest.fixture(scope="session")
def shapes(made_once: MadeOnce) -> Path:
    """240 training and 80 test frames of four planes; the validation split is empty."""

    def fill(folder: Path) -> None:
        write(folder, {"train": rows(240, seed=1), "test": rows(80, seed=2, patients="test")})

    return made_once("shapes", fill)


@pytest.fixture(scope="session")
def sono_train() -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=timeout, check=False)

    return run


@pytest.fixture(scope="session")
def learned(
    sono_train: Callable[..., subprocess.CompletedProcess[str]],
    shapes: Path,
    made_once: MadeOnce,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A run that learns: 110 steps. Every process gets a copy, because evaluations are written into it."""
    made = made_once("learned", lambda folder: _train(sono_train, shapes, folder / "run"))
    return shutil.copytree(made / "run", tmp_path_factory.mktemp("runs") / "learned")


def _train(sono_train: Callable[..., subprocess.CompletedProcess[str]], shapes: Path, run: Path) -> None:
    settings = ["train.steps=110", "train.batch_size=32", "train.warmup_steps=10", "train.threads=1"]
    done = sono_train("pretrain", shapes, run, "--recipe", "tiny", *(part for s in settings for part in ("--set", s)))
    assert done.returncode == 0, done.stderr
    assert "240 frames" in done.stderr
    assert f"trained 110 steps: {run}/checkpoints/step-00000110" in done.stdout
    assert done.stdout.endswith(f"\nNext: sono-train evaluate {run} {shapes} --mask both\n")


@pytest.fixture(scope="session")
def three_splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 frames to train on, 32 to validate and 32 to test with."""
    splits = {
        name: rows(count, seed=seed, patients=name)
        for seed, (name, count) in enumerate({"train": 48, "validation": 32, "test": 32}.items(), start=21)
    }
    return write(tmp_path_factory.mktemp("dataset") / "three", splits)


@pytest.fixture(scope="session")
def random_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a run whose only checkpoint holds random weights, the mask's too, after ``change`` of the model.

    It says that it has read captions worded like those of ``rows``; ``meta`` is what else it says.
    """

    def make(seed: int = 0, change: Callable[[Any], object] = lambda _: None, **more: Any) -> Path:
        run = tmp_path_factory.mktemp("runs") / "random"
        recipe = recipes.tiny()
        torch.manual_seed(seed)
        model = build_model(recipe.model, recipe.loss)
        with torch.no_grad():
            model.clip.visual.conv1.conv_mask.weight.normal_(std=0.1)
            change(model)
        writer = CheckpointWriter(run, keep=1)
        transform = PadToSquare(size=model.image_size).to_dict()
        nobody = {"sets": [], "not_known": []}
        meta = {"step": 7, "recipe": recipes.flatten(recipe), "transform": transform, "trained_patients": nobody}
        meta |= {"captions": captions_read(), **more}
        writer.save({f"model.{name}": value for name, value in model.clip.state_dict().items()}, meta)
        writer.wait()
        return run

    return make


def captions_read(wordings: int = 1) -> dict[str, Any]:
    """What a checkpoint says of captions in the first of the packaged wordings, of all planes."""
    read = {kind: {wording.sentence: 9 for wording in known[:wordings]} for kind, known in WORDINGS.items()}
    return CaptionsRead(read, {"whole": 0, "region": 0}, dict.fromkeys(PLANES, 9)).to_dict()


def write_tokenizer(folder: Path) -> None:
    """A tokenizer of transformers that knows a few words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "A", "fetal", "ultrasound", "femur", "of", "image", "plane", "."]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    special = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)


def write_run(run: Path, backbone: str) -> Path:
    torch.manual_seed(len(backbone))
    settings = recipes.Model(backbone=backbone, from_scratch=True)
    model = build_model(settings, recipes.Loss())
    stem = model.clip.visual.get_submodule(model.stem_name)
    with torch.no_grad():
        stem.conv_mask.weight.normal_(std=0.5)
        stem.dwconv.weight.add_(0.1 * torch.randn_like(stem.dwconv.weight))
    recipe = {
        **recipes.flatten(recipes.tiny()),
        "model.backbone": backbone,
        "model.from_scratch": False,
        "model.weights": "/secret/hospital/ViT.pt",
    }
    meta = {
        "step": 1234,
        "recipe": recipe,
        "transform": make_transform(model, settings).to_dict(),
        "planes": PLANES,
        "datasets": [
            {
                "name": name,
                "source": f"/secret/hospital/{name}",
                "fingerprint": letter * 64,
                "frames": 5678,
                "share": 0.5,
            }
            for name, letter in (("fetal-planes", "e"), ("more-planes", "f"))
        ],
        "created_by": "sono-train test",
    }
    writer = CheckpointWriter(run, keep=1)
    writer.save({f"model.{name}": tensor for name, tensor in model.clip.state_dict().items()}, meta)
    writer.wait()
    return run


class Ranks:
    """The processes of a run's ranks."""

    def __init__(self, size: int, program: str, arguments: Sequence[object], output: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.output_stem = output
        self.processes = []
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["sono.training.pretraining.run", "torch.distributed.tensor"])
        file = str(Path(__file__).with_name("one_rank.py"))
        address = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        for rank in range(size):
            settings = {
                "environment": {**address, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                "output": f"{output}-{rank}",
                "program": program,
                "arguments": [str(argument) for argument in arguments],
            }
            arguments_of_run = (file, {"SETTINGS": settings}, "__main__")
            self.processes.append(context.Process(target=runpy.run_path, args=arguments_of_run))
        for process in self.processes:
            process.start()

    def alive(self) -> bool:
        return all(process.is_alive() for process in self.processes)

    def end(self, timeout: float = 120) -> list[int | None]:
        """Wait for all; returns their exit codes, None for one that had to be killed."""
        deadline = time.monotonic() + timeout
        codes = []
        for process in self.processes:
            process.join(max(0, deadline - time.monotonic()))
            codes.append(process.exitcode)
            process.kill()
            process.join()
        return codes

    def output(self, suffix: str = "err") -> str:
        """What all ranks printed."""
        return "".join(Path(f"{self.output_stem}-{rank}.{suffix}").read_text() for rank in range(len(self.processes)))


@pytest.fixture
def start_ranks(tmp_path: Path) -> Callable[..., Ranks]:
    """Start ranks of a program, or of ``sono-train``, as torchrun would."""
    numbers = itertools.count()

    def start(size: int, program: str, *arguments: object) -> Ranks:
        return Ranks(size, program, arguments, tmp_path / f"output{next(numbers)}")

    return start


def command(*arguments: object) -> list[str]:
    """``sono-train`` as its entry point starts it."""
    return [sys.executable, "-c", "from sono.training.cli import main; main()", *map(str, arguments)]


def rows(count: int, *, seed: int, patients: str = "train") -> Rows:
    """Frames of all planes in turn, four per patient, two regions each, with captions worded as by our templates."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        plane = list(PLANES)[number % len(PLANES)]
        image, parts = draw(plane, SIZES[number % len(SIZES)], random)
        weeks = int(random.integers(20, 24))
        name = PLANES[plane]
        made.append(
            {
                "image": {"bytes": png(image), "path": None},
                "frame_id": f"{seed:04x}{number:028x}",
                "patient_key": f"{patients}-{number // 4:04d}",
                "study_key": f"{patients}-study-{number // 4:04d}",
                "center": "center",
                "plane": list(PLANES).index(plane),
                "ga_days": weeks * 7,
                "caption": f"A {weeks}-week fetal ultrasound image of {name} plane showing {', '.join(STRUCTURES)}.",
                "regions": [
                    {
                        "structure": structure,
                        "caption": f"A {weeks}-week fetal ultrasound {name} plane. "
                        f"The segmentation highlights the {structure}.",
                        "mask": masks.encode(part),
                        "bbox": list(masks.bbox(part)),
                        "area_px": masks.area_px(part),
                        "source": "import",
                    }
                    for structure, part in zip(STRUCTURES, parts, strict=True)
                ],
                "sectors": None,
                "pixel_mm": [0.2, 0.2],
            }
        )
    return made


def draw(
    plane: str, size: tuple[int, int], random: np.random.Generator
) -> tuple[Image.Image, list[np.ndarray[tuple[int, int], np.dtype[np.bool_]]]]:
    """The two shapes of a plane, displaced at random, and the mask of each."""
    width, height = size
    x, y = width // 2 + int(random.integers(-8, 9)), height // 2 + int(random.integers(-8, 9))
    boxes = {
        "transthalamic": [("ellipse", (x - 30, y - 20, x + 30, y + 20)), ("ellipse", (x - 6, y - 6, x + 6, y + 6))],
        "four_chamber": [
            ("rectangle", (x - 25, y - 25, x - 3, y + 25)),
            ("rectangle", (x + 3, y - 25, x + 25, y + 25)),
        ],
        "abdominal_circumference": [("ellipse", (x - 10, y - 10, x, y)), ("ellipse", (x + 8, y + 4, x + 18, y + 14))],
        "femur": [("rectangle", (x - 30, y - 3, x + 30, y + 3)), ("rectangle", (x - 30, y + 14, x + 30, y + 17))],
    }[plane]
    pixels = random.rayleigh(25, (height, width))
    found = []
    for (kind, box), brightness in zip(boxes, (120, 180), strict=True):
        part = Image.new("1", size)
        getattr(ImageDraw.Draw(part), kind)(box, fill=1)
        found.append(np.asarray(part, dtype=np.bool_))
        pixels = np.where(found[-1], pixels + brightness, pixels)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), found


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write(
    folder: Path,
    splits: dict[str, Rows],
    *,
    planes: dict[str, str] | None = None,
    shards: int = 2,
    pseudonyms: str = "key",
) -> Path:
    """Parquet shards with Hugging Face features, then ``sono.json``."""
    planes = planes or PLANES
    features = datasets.Features.from_arrow_schema(DATASET.schema)
    features["image"], features["plane"] = datasets.Image(), datasets.ClassLabel(names=list(planes))
    schema = DATASET.schema.with_metadata(features.arrow_schema.metadata)
    (folder / "data").mkdir(parents=True)
    listed: dict[str, Any] = {}
    for split, made in splits.items():
        files = {}
        for number, part in enumerate(_parts(made, shards)):
            name = f"data/{split}-{number:05d}-of-{shards:05d}.parquet"
            pq.write_table(pa.Table.from_pylist(part, schema=schema), folder / name)
            files[name] = describe_shard(folder / name, len(part))
        listed[split] = {"rows": len(made), "shards": files}
    _write_marker(folder, {"planes": planes, "splits": listed, "pseudonyms": pseudonyms})
    return folder


def _write_marker(folder: Path, content: dict[str, Any]) -> None:
    marker = {"format": FORMAT, **content, "created_by": "test"}
    (folder / "sono.json").write_text(json.dumps({**marker, "fingerprint": fingerprint_of(marker)}))


def _parts(made: Sequence[dict[str, Any]], shards: int) -> list[Sequence[dict[str, Any]]]:
    edges = [round(number * len(made) / shards) for number in range(shards + 1)]
    return [made[start:end] for start, end in itertools.pairwise(edges)]
