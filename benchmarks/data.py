"""Samples per second from a dataset on disk to batch tensors: our cache beside what one would use without it.

    python benchmarks/data.py [--frames 2048] [--size 336] [--workers 2] [--seconds 10] [--rounds 3] [--keep FOLDER]

Draws frames of 800 x 540 px (8-bit grey PNG of a sector full of speckle, four regions each, captions as templates make
them) and writes the same rows in every form that is read: a folder as ``sono-curate build`` leaves it (Parquet), a tar
for each shard (webdataset), and a PNG with a JSON for each frame. Each contestant runs in a process of its own with
``--workers`` loading processes, draws a frame's region or whole image at random, and gives batches of 64 images and
masks, 8 bit, letterboxed to ``--size``. What is counted are samples after the first four batches, for ``--seconds``, by
the wall's clock and by the processor's, which tells more on a machine that others use, too. The median of the rounds is
printed, and ratios within each round. Files are in the system's page cache: it is not the disk that is measured.

The forms ``... at 336 px`` hold frames that somebody letterboxed beforehand, as PNG: then the others resize nothing.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

BATCH, WARM_UP, SHARDS, DISTINCT = 64, 4, 8, 256
WIDTH, HEIGHT = 800, 540
STRUCTURES = ("head", "thalami", "falx", "cavum_septi_pellucidi")

Row = Mapping[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=2048)
    parser.add_argument("--size", type=int, default=336)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="write the rows here, or use those that are here")
    parser.add_argument("--only", choices=[*CONTESTANTS, "build"], help=argparse.SUPPRESS)  # a process of its own
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    if options.only:
        os.environ["HF_DATASETS_CACHE"] = str(options.keep / "datasets")
        build_cache(options) if options.only == "build" else measure(options)
        return
    with tempfile.TemporaryDirectory(prefix="sono-benchmark-") as scratch:
        options.keep = options.keep or Path(scratch)
        if not (options.keep / "rows").exists():
            make(options.keep / "rows", options.frames, options.size)
        print(sizes(options))
        rounds = [{name: one(options, name) for name in CONTESTANTS} for _ in range(options.rounds)]
        report(rounds)


# ------------------------------------------------------------------------------------------------- the contestants


def ours(options: argparse.Namespace, cache: str) -> Iterator[tuple[Any, Any]]:
    """``sono-train``'s reader, captions' tokens included."""
    from sono.training import recipes
    from sono.training.data.pool import make_pool, with_cache
    from sono.training.data.samples import batches_from
    from sono.training.data.together import open_together, read_descriptions
    from sono.training.model.tokenizer import CaptionTokenizer
    from sono.training.model.transforms import PadToSquare

    settings = [f"train.batch_size={BATCH}", f"data.workers={options.workers}", f"data.cache={cache}"]
    recipe = recipes.override(recipes.vit_l_14_336(), settings)
    tokenizer, transform = CaptionTokenizer(77), PadToSquare(size=options.size)
    pool = make_pool(open_together(read_descriptions([str(options.keep / "rows" / "sono")])), tokenizer)
    pool = with_cache(pool, transform, recipe.data)
    for batch in batches_from(0, 10**6, pool, transform, tokenizer, recipe):
        yield batch.images, batch.masks


def streaming(options: argparse.Namespace, form: str) -> Iterator[tuple[Any, Any]]:
    """Hugging Face's streaming of the same Parquet files, in their order: ``shuffle`` makes it 20 times slower."""
    import datasets
    from torch.utils.data import DataLoader

    files = sorted(str(path) for path in (options.keep / "rows" / form / "data").glob("*.parquet"))
    rows = datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
    rows = rows.cast_column("image", datasets.Image(decode=False)).repeat(None)
    yield from DataLoader(rows, batch_size=BATCH, num_workers=options.workers, collate_fn=Collate(options, form))


def tars(options: argparse.Namespace, form: str) -> Iterator[tuple[Any, Any]]:
    """webdataset over tars of the same rows."""
    import webdataset
    from torch.utils.data import DataLoader

    files = sorted(str(path) for path in (options.keep / "rows" / form / "tars").glob("*.tar"))
    rows = webdataset.WebDataset(files, shardshuffle=len(files), seed=0).shuffle(256).map(from_tar).repeat()
    yield from DataLoader(rows, batch_size=BATCH, num_workers=options.workers, collate_fn=Collate(options, form))


def from_tar(entry: Mapping[str, bytes]) -> Row:
    return {"image": {"bytes": entry["png"]}, **json.loads(entry["json"])}


def files(options: argparse.Namespace, form: str) -> Iterator[tuple[Any, Any]]:
    """A plain reader of one PNG and one JSON a frame."""
    from torch.utils.data import DataLoader, RandomSampler

    rows = Files(options.keep / "rows" / form / "files")
    sampler = RandomSampler(rows, replacement=True, num_samples=10**7)
    yield from DataLoader(
        rows, batch_size=BATCH, sampler=sampler, num_workers=options.workers, collate_fn=Collate(options, form)
    )


class Files:
    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.glob("*.json"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Row:
        path = self.paths[index]
        return {"image": {"bytes": path.with_suffix(".png").read_bytes()}, **json.loads(path.read_text())}


class Collate:
    """What all but ours do with a row: decode the image and one mask, letterbox both, stack."""

    def __init__(self, options: argparse.Namespace, form: str) -> None:
        from sono.training.model.transforms import PadToSquare

        self.transform, self.letterboxed = PadToSquare(size=options.size), form != "sono"

    def __call__(self, rows: list[Row]) -> tuple[Any, Any]:
        import torch

        pairs = [self.pair(row) for row in rows]
        return tuple(torch.from_numpy(np.stack(part)) for part in zip(*pairs, strict=True))

    def pair(self, row: Row) -> tuple[Any, Any]:
        from PIL import Image

        from sono.manifests import masks

        image = Image.open(io.BytesIO(row["image"]["bytes"]))
        region = random.choice(row["regions"]) if random.random() > 0.1 else None
        if self.letterboxed:
            mask = self.transform.all_one() if region is None else masks.decode(region["mask"]).astype(np.uint8) * 255
            return np.asarray(image)[None], mask
        mask = self.transform.all_one() if region is None else self.transform.mask(masks.decode(region["mask"]))
        return self.transform.compact(image), mask


CONTESTANTS: Mapping[str, Callable[[argparse.Namespace], Iterator[tuple[Any, Any]]]] = {
    "cache": lambda options: ours(options, str(options.keep / "cache")),
    "no cache": lambda options: ours(options, "none"),
    "streaming": lambda options: streaming(options, "sono"),
    "webdataset": lambda options: tars(options, "sono"),
    "files": lambda options: files(options, "sono"),
    "streaming at 336 px": lambda options: streaming(options, "letterboxed"),
    "webdataset at 336 px": lambda options: tars(options, "letterboxed"),
    "files at 336 px": lambda options: files(options, "letterboxed"),
}


# ------------------------------------------------------------------------------------------------------- measuring


def one(options: argparse.Namespace, name: str) -> dict[str, float]:
    """Samples a second of one contestant, in a fresh process."""
    done = subprocess.run(_command(options, name), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    figures = f"{found['rate']:>8.0f} samples/s {found['processor']:>8.0f} a processor second {found['mib']:>8.0f} MiB"
    print(f"{name:<22}{figures}", flush=True)
    return found


def measure(options: argparse.Namespace) -> None:
    batches = CONTESTANTS[options.only](options)
    for images, masks in itertools.islice(batches, WARM_UP):
        assert images.shape == (BATCH, 1, options.size, options.size), images.shape
        assert masks.shape == (BATCH, options.size, options.size), masks.shape
    begin, processor, samples = time.perf_counter(), processor_seconds(), 0
    for images, _ in batches:
        samples += len(images)
        if time.perf_counter() - begin >= options.seconds:
            break
    found = {
        "rate": samples / (time.perf_counter() - begin),
        "processor": samples / (processor_seconds() - processor),
        "mib": own_memory_mib(),
    }
    print(json.dumps(found), flush=True)
    os._exit(0)  # some peers' loading processes take long to end


def processes() -> list[str]:
    """This one and those that it started."""
    own = str(os.getpid())
    return [own, *Path(f"/proc/{own}/task/{own}/children").read_text().split()]


def processor_seconds() -> float:
    fields = [Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split() for process in processes()]
    return sum(int(field[11]) + int(field[12]) for field in fields) / os.sysconf("SC_CLK_TCK")


def own_memory_mib() -> float:
    """Pages of mapped files, which the system may drop, do not count."""
    total = 0
    for process in processes():
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith(("Private_Dirty:", "Pss_Shmem:")):
                total += int(line.split()[1])
    return total / 1024


def sizes(options: argparse.Namespace) -> str:
    """Build the cache; bytes a frame in every form."""
    begin = time.perf_counter()
    subprocess.run(_command(options, "build"), check=True)
    seconds = time.perf_counter() - begin
    rows = options.keep / "rows"
    folders = {
        "Parquet": rows / "sono" / "data",
        "tars": rows / "sono" / "tars",
        "Parquet at 336 px": rows / "letterboxed" / "data",
        "cache": options.keep / "cache",
    }
    found = {name: sum(file.stat().st_size for file in folder.rglob("*.*")) for name, folder in folders.items()}
    lines = [f"{name:<22}{size / options.frames / 1024:>8.1f} KiB a frame" for name, size in found.items()]
    return "\n".join([f"cache built in {seconds:.1f} s, start-up included", *lines])


def build_cache(options: argparse.Namespace) -> None:
    next(iter(CONTESTANTS["cache"](options)))


def report(rounds: list[dict[str, dict[str, float]]]) -> None:
    print("\n| | samples/s | a processor second | memory, MiB | cache : this | by the processor's clock |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in CONTESTANTS:
        rate, processor, mib = (
            statistics.median(found[name][key] for found in rounds) for key in ("rate", "processor", "mib")
        )
        spans = []
        for key in ("rate", "processor"):
            ratios = [found["cache"][key] / found[name][key] for found in rounds]
            spans.append(f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})")
        print(f"| {name} | {rate:,.0f} | {processor:,.0f} | {mib:,.0f} | {' | '.join(spans)} |")


def _command(options: argparse.Namespace, name: str) -> list[str]:
    values = {key: getattr(options, key) for key in ("frames", "size", "workers", "seconds", "keep")}
    return [
        sys.executable,
        __file__,
        "--only",
        name,
        *(part for key in values for part in (f"--{key}", str(values[key]))),
    ]


# ------------------------------------------------------------------------------------------------------------ rows


def make(folder: Path, frames: int, size: int) -> None:
    """The same rows in all forms; of every ``DISTINCT`` frames the pixels are drawn anew, then they repeat."""
    from sono.training.model.transforms import PadToSquare

    transform = PadToSquare(size=size)
    drawn = [draw(np.random.default_rng([0, number])) for number in range(min(frames, DISTINCT))]
    for form in ("sono", "letterboxed"):
        made = [png_and_masks(image, parts, None if form == "sono" else transform) for image, parts in drawn]
        rows = [row(number, *made[number % len(made)]) for number in range(frames)]
        for shard in range(SHARDS):
            write_shard(folder / form, shard, rows[shard::SHARDS])
        write_marker(folder / form)
    print(f"{frames:,} rows written", flush=True)


def draw(source: np.random.Generator) -> tuple[Any, list[Any]]:
    """A sector of speckle with bright structures, and their masks."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    radius, angle = np.hypot(x - WIDTH / 2, y + 60), np.arctan2(x - WIDTH / 2, y + 60)
    sector = (radius > 80) & (radius < 590) & (np.abs(angle) < 0.62)
    echo = cv2.GaussianBlur(source.rayleigh(1.0, (HEIGHT, WIDTH)).astype(np.float32), (0, 0), 1.1) * 55
    parts = []
    for number in range(len(STRUCTURES)):
        centre = (int(source.integers(300, 500)), int(source.integers(180, 360)))
        axes = (int(source.integers(20, 160 - 30 * number)), int(source.integers(12, 100 - 20 * number)))
        part = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        cv2.ellipse(part, centre, axes, float(source.uniform(0, 180)), 0, 360, 1, -1)
        parts.append(part.astype(np.bool_))
        echo[parts[-1]] *= 1.4
    return np.clip(np.where(sector, echo, 0), 0, 255).astype(np.uint8), parts


def png_and_masks(image: Any, parts: list[Any], transform: Any) -> tuple[bytes, list[Any]]:
    from PIL import Image

    from sono.manifests import masks

    if transform:
        image, parts = transform.compact(Image.fromarray(image))[0], [transform.mask(part) > 127 for part in parts]
    encoded: bytes = cv2.imencode(".png", image)[1].tobytes()
    return encoded, [masks.encode(part) for part in parts]


def row(number: int, png: bytes, encoded: list[Any]) -> dict[str, Any]:
    weeks = 14 + number % 27
    names = [name.replace("_", " ") for name in STRUCTURES]
    return {
        "image": {"bytes": png, "path": None},
        "frame_id": f"{number:032x}",
        "patient_key": f"patient-{number // 8}",
        "plane": 3,
        "ga_days": weeks * 7,
        "caption": f"A {weeks}-week fetal ultrasound image of transthalamic plane showing {', '.join(names)}.",
        "regions": [
            {
                "structure": structure,
                "caption": f"A {weeks}-week fetal ultrasound transthalamic plane. "
                f"The segmentation highlights the {name}.",
                "mask": mask,
            }
            for structure, name, mask in zip(STRUCTURES, names, encoded, strict=True)
        ],
    }


def write_shard(folder: Path, shard: int, rows: list[dict[str, Any]]) -> None:
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    from sono.manifests import vocabulary
    from sono.manifests.schemas import DATASET

    for name in ("data", "tars", "files"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    features = datasets.Features.from_arrow_schema(DATASET.schema)
    features["image"] = datasets.Image()
    features["plane"] = datasets.ClassLabel(names=list(vocabulary.load().plane_ids))
    path = folder / "data" / f"train-{shard:05d}-of-{SHARDS:05d}.parquet"
    table = pa.Table.from_pylist(rows, schema=DATASET.schema)
    table = table.replace_schema_metadata(features.arrow_schema.metadata)
    pq.write_table(table, path, compression="zstd", row_group_size=128)
    with tarfile.open(folder / "tars" / f"{shard:05d}.tar", "w") as tar:
        for content in rows:
            text = json.dumps({key: value for key, value in content.items() if key != "image"}).encode()
            for suffix, data in (("png", content["image"]["bytes"]), ("json", text)):
                entry = tarfile.TarInfo(f"{content['frame_id']}.{suffix}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
                (folder / "files" / entry.name).write_bytes(data)


def write_marker(folder: Path) -> None:
    import pyarrow.parquet as pq

    from sono.manifests import vocabulary
    from sono.manifests.dataset_marker import FORMAT, describe_shard, fingerprint_of

    paths = sorted((folder / "data").glob("*"))
    shards = {f"data/{path.name}": describe_shard(path, pq.read_metadata(path).num_rows) for path in paths}
    planes = {plane.id: plane.name for plane in vocabulary.load().planes.values()}
    splits = {"train": {"rows": sum(shard["rows"] for shard in shards.values()), "shards": shards}}
    marker = {"format": FORMAT, "planes": planes, "splits": splits, "pseudonyms": "benchmark"}
    (folder / "sono.json").write_text(json.dumps({**marker, "fingerprint": fingerprint_of(marker)}))


if __name__ == "__main__":
    main()
