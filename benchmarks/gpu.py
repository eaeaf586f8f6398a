"""What training costs on one CUDA device, and whether it computes there what it computes elsewhere.

    python benchmarks/gpu.py OUT [--seconds 225] [--backbone ViT-L-14-336-quickgelu]

Random images, masks and captions in memory, random weights: no dataset and no download. Runs from the repository's root
without an installed package. In this order, each part only while time is left:

- agreement: features in bf16 against those in fp32, and with recomputed activations;
- one step as ranks take it, over NCCL with one rank, as copies (DDP) and as shards (FSDP2), against the step without:
  difference of the weights;
- the mask stem against the backbone's own patch embedding: a step each in turn, median of the ratios;
- training steps with and without recomputed activations and ``torch.compile``: samples per second, share of the peak
  rate, and peak memory against what ``sono-train plan`` says before.

Prints a table last and writes OUT/gpu.json after every part. With ``--device cpu --backbone sono-tiny`` the same runs
on a processor, to try the script out; it measures no memory there.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.util
import json
import math
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if importlib.util.find_spec("sono") is None:  # not installed: typings/ holds the package as links
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "typings"))

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS needs it to be deterministic

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from sono.training.model.mask_clip import MaskClip
    from sono.training.step.distributed import Ranks
    from sono.training.step.parallel import Towers

CAPTIONS = 512  # distinct ones in the bank: an archive's templates make a few thousand at most
WARM, TIMED, ROUNDS = 3, 8, 6
USABLE = 0.9  # of a device's memory: the rest is left to its driver, its libraries and fragments
GIB = 2**30


def main() -> None:
    options = parse_options()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("gpu.py: no CUDA device here; `--device cpu --backbone sono-tiny` tries the script out")
    bench = Bench(options)
    bench.run("agreement", lambda: agreement(bench))
    bench.run("ranks", lambda: rank_steps(bench))
    bench.run("stem", lambda: stem_ratio(bench))
    for recompute in (False, True):
        bench.run(f"step{' recomputed' * recompute}", lambda again=recompute: training_steps(bench, again, False))
    for recompute in (False, True) if options.compile else ():
        name = f"step{' recomputed' * recompute} compiled"
        bench.run(name, lambda again=recompute: training_steps(bench, again, True), at_least=45)
    print_table(bench)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for gpu.json")
    parser.add_argument("--seconds", type=float, default=225, help="no part goes on after these")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--backbone", default="ViT-L-14-336-quickgelu")
    parser.add_argument("--batch", type=int, help="images of a step; by default what fits without recomputation")
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    return parser.parse_args()


class Bench:
    """What all parts share: recipe, device, batch size, the time that is left, and the results so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        from sono.training import recipes
        from sono.training.planning.memory import count_parameters

        self.out: Path = options.out
        self.out.mkdir(parents=True, exist_ok=True)
        self.started, self.seconds = time.perf_counter(), options.seconds
        self.device = torch.device(options.device)
        settings = [f"model.backbone={options.backbone}", "model.from_scratch=true", "train.batch_size=128"]
        self.recipe = recipes.override(recipes.find("vit-l-14-336"), settings)
        self.parameters = count_parameters(self.recipe)
        self.batch: int = options.batch or self.largest_batch()
        self.results: dict[str, Any] = {"machine": self.describe()}

    def describe(self) -> dict[str, Any]:
        cuda = self.device.type == "cuda"
        return {
            "device": torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine(),
            "memory_gib": self.memory() / GIB if cuda else None,
            "torch": torch.__version__,
            "cuda": torch.version.cuda if cuda else None,
            "backbone": self.recipe.model.backbone,
            "batch": self.batch,
        }

    def memory(self) -> int:
        return int(torch.cuda.get_device_properties(self.device).total_memory)

    def largest_batch(self) -> int:
        """The largest multiple of 16, up to the paper's 128, for which the estimate leaves a tenth of the memory."""
        if self.device.type == "cpu":
            return 8
        sizes = range(128, 16, -16)
        return next((size for size in sizes if self.estimate(size, False) <= USABLE * self.memory()), 16)

    def estimate(self, batch: int, recompute: bool) -> int:
        """Bytes that ``sono-train plan`` says."""
        from sono.training import recipes
        from sono.training.planning.memory import rank_memory

        settings = [f"train.batch_size={batch}", f"model.grad_checkpointing={str(recompute).lower()}"]
        recipe = recipes.override(self.recipe, settings)
        memory = rank_memory(recipe, self.parameters, captions=CAPTIONS, on_cuda=self.device.type == "cuda")
        return memory.peak

    def left(self) -> float:
        return self.seconds - (time.perf_counter() - self.started)

    def run(self, name: str, part: Callable[[], dict[str, Any]], at_least: float = 5) -> None:
        """Run one part and keep its result; a part that fails or runs out of time is noted, and the next one begins."""
        if self.left() < at_least:
            self.results[name] = {"skipped": f"{self.left():.0f} s were left"}
        else:
            began = time.perf_counter()
            try:
                with time_limit(self.left()):
                    self.results[name] = part()
            except Exception as error:  # noqa: BLE001 - device time is scarce: what can be measured still is
                self.results[name] = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
            self.results[name]["seconds"] = round(time.perf_counter() - began, 1)
        free_memory()
        print(f"[{self.seconds - self.left():5.0f} s] {name}: {json.dumps(self.results[name])}", flush=True)
        (self.out / "gpu.json").write_text(json.dumps(self.results, indent=2) + "\n")


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise TimeoutError(f"stopped after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(max(1, int(seconds)))
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def free_memory() -> None:
    gc.collect()
    torch.compiler.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def agreement(bench: Bench) -> dict[str, Any]:
    """Cosine of features in bf16 and in fp32, and the largest difference that recomputing activations makes."""
    model = make_model(bench)
    randomise_mask(model)  # zero at the start: it would have no part in the features
    torch.backends.cudnn.allow_tf32 = False  # which convolutions in fp32 otherwise use
    x_B4HW, tokens_UL = make_images(bench, 16), make_tokens(model, 16, bench.device)
    result: dict[str, Any] = {}
    with torch.no_grad():
        for tower, encode, inputs in (
            ("image", model.encode_image, x_B4HW),
            ("text", model.encode_text, tokens_UL),
        ):
            exact_BD = encode(inputs)
            with torch.autocast(bench.device.type, torch.bfloat16):
                rough_BD = encode(inputs)
            cosines_B = (exact_BD * rough_BD.float()).sum(dim=1)
            # Random towers map all inputs close together; what differs between inputs must agree, too.
            exact_BD, rough_BD = exact_BD - exact_BD.mean(dim=0), rough_BD.float() - rough_BD.float().mean(dim=0)
            centred_B = torch.nn.functional.cosine_similarity(exact_BD, rough_BD)
            result[f"{tower}_cosine_min"] = cosines_B.min().item()
            result[f"{tower}_centred_cosine_min"] = centred_B.min().item()
    gradients = []
    for recompute in (False, True):
        model.set_grad_checkpointing(recompute)
        model.zero_grad()
        with torch.autocast(bench.device.type, torch.bfloat16):
            features_BD = model.encode_image(x_B4HW)
        features_BD.float()[:, 0].sum().backward()
        gradients.append(flat_gradients(model))
    result["recomputed_gradient_difference"] = (gradients[0] - gradients[1]).abs().max().item()
    result["gradient_max"] = gradients[0].abs().max().item()
    return result


def flat_gradients(model: MaskClip) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def rank_steps(bench: Bench) -> dict[str, Any]:
    """The largest difference between the weights after a step that ranks take together, and after a plain one."""
    batch = min(8, bench.batch)
    backend = "nccl" if bench.device.type == "cuda" else "gloo"
    torch.use_deterministic_algorithms(True, warn_only=True)
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group(backend, init_method=f"file://{folder}/meet", rank=0, world_size=1)
        try:
            before = weights_after_step(bench, batch, steps=0)
            plain = weights_after_step(bench, batch)
            differences = {
                name: (weights_after_step(bench, batch, strategy) - plain).abs().max().item()
                for name, strategy in (("again", None), ("ddp", "ddp"), ("fsdp", "fsdp"))
            }
        finally:
            dist.destroy_process_group()
            torch.use_deterministic_algorithms(False)
    return {"backend": backend, "moved": (plain - before).abs().max().item(), **differences}


def weights_after_step(bench: Bench, batch: int, strategy: str | None = None, steps: int = 1) -> torch.Tensor:
    from torch.distributed.tensor import DTensor

    model = make_model(bench)
    step = make_step(bench, model, batch, strategy=strategy)
    for _ in range(steps):
        step()
    weights = [parameter.detach() for parameter in model.parameters() if parameter.requires_grad]
    whole = [weight.full_tensor() if isinstance(weight, DTensor) else weight for weight in weights]
    return torch.cat([weight.flatten() for weight in whole])


def stem_ratio(bench: Bench) -> dict[str, Any]:
    """Samples a second with the mask stem by those with the backbone's own convolution, a step of each in turn."""
    batch = max(2, bench.batch // 2)  # two models with their optimizers share the memory
    masked, plain = make_model(bench), make_model(bench)
    plain.clip.visual.conv1 = OnlyImage(plain.clip.visual.conv1.conv_rgb)
    steps = [make_step(bench, model, batch) for model in (masked, plain)]
    seconds = [[timed(bench, step) for step in steps] for _ in range(WARM + ROUNDS)][WARM:]
    ratios = [without / with_mask for with_mask, without in seconds]
    return {"batch": batch, "rate_ratio": statistics.median(ratios), "least": min(ratios), "greatest": max(ratios)}


class OnlyImage(torch.nn.Module):
    """A plain CLIP's patch embedding, given the same four channels."""

    def __init__(self, conv_rgb: torch.nn.Module) -> None:
        super().__init__()
        self.conv_rgb = conv_rgb

    def forward(self, x_B4HW: torch.Tensor) -> torch.Tensor:
        patches_BDHW: torch.Tensor = self.conv_rgb(x_B4HW[:, :3])
        return patches_BDHW


def training_steps(bench: Bench, recompute: bool, compiled: bool) -> dict[str, Any]:
    """Median rate of a step; out of memory, the batch is cut by a quarter until it fits."""
    batch = bench.batch
    while True:
        try:
            return measured_steps(bench, batch, recompute, compiled)
        except torch.cuda.OutOfMemoryError:
            batch = batch * 3 // 4
            if batch < 2:
                raise
        free_memory()


def measured_steps(bench: Bench, batch: int, recompute: bool, compiled: bool) -> dict[str, Any]:
    from sono.training.planning.flops import mfu, train_flops

    cuda = bench.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    model = make_model(bench)
    model.set_grad_checkpointing(recompute)
    step = make_step(bench, model, batch, compiled=compiled)
    began = time.perf_counter()
    for _ in range(WARM):
        step()
    wait(bench)
    warm_s = time.perf_counter() - began
    rate = batch / statistics.median(timed(bench, step) for _ in range(TIMED))
    flops = train_flops(model, grad_checkpointing=recompute, batch_size=batch)
    name = bench.results["machine"]["device"]
    result: dict[str, Any] = {
        "batch": batch,
        "samples_per_s": rate,
        "gflop_per_sample": flops.per_sample / 1e9,
        "tflop_per_s": flops.per_sample * rate / 1e12,
        "mfu": mfu(flops.per_sample, rate, name, "bf16"),
        "executed_share_of_peak": mfu(flops.executed_per_sample, rate, name, "bf16"),
        "warm_up_s": warm_s,
        "estimated_gib": bench.estimate(batch, recompute) / GIB,
    }
    if cuda:
        result["peak_gib"] = torch.cuda.max_memory_allocated() / GIB
        result["reserved_gib"] = torch.cuda.max_memory_reserved() / GIB
        result["estimate_by_peak"] = result["estimated_gib"] / result["peak_gib"]
    return result


def make_model(bench: Bench) -> MaskClip:
    """The recipe's model with random weights, the same every time, made on the device."""
    from sono.training.model.build import build_model

    torch.manual_seed(0)
    with bench.device:
        return build_model(bench.recipe.model, bench.recipe.loss).to(bench.device).train()


def make_step(
    bench: Bench, model: MaskClip, batch: int, *, compiled: bool = False, strategy: str | None = None
) -> Callable[[], None]:
    """A training step of the recipe on one batch in memory: 8-bit images in, text features out of a bank.

    With a ``strategy``, over the ranks of the default process group.
    """
    from sono.training.step.objective import Objective
    from sono.training.step.optimizer import build_optimizer, freeze
    from sono.training.step.parallel import clip_gradients, compile_blocks

    recipe, device = bench.recipe, bench.device
    freeze(model.clip, recipe.optimizer)
    bank_KD = encode_bank(bench, model)
    if compiled:
        compile_blocks(model)
    towers, ranks = over_ranks(model, strategy, device)
    objective = Objective(
        model, towers, bank_KD, recipe.loss, ranks, autocast=lambda: torch.autocast(device.type, torch.bfloat16)
    )
    optimizer = build_optimizer(model.clip, recipe.optimizer)
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    generator = torch.Generator(device).manual_seed(1)
    shape = (batch, 4, model.image_size, model.image_size)
    images_B4HW = torch.randint(256, shape, generator=generator, device=device, dtype=torch.uint8)
    ids_V, own_B = torch.randint(CAPTIONS, (batch,), generator=generator, device=device).unique(return_inverse=True)
    tokens_VL = make_tokens(model, len(ids_V), device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss = objective.add_gradients(images_B4HW.float() / 127.5 - 1, tokens_VL, ids_V, own_B)
        norm = clip_gradients(trained, math.inf)
        assert math.isfinite(loss.item())
        assert math.isfinite(norm)
        optimizer.step()

    return step


def over_ranks(model: MaskClip, strategy: str | None, device: torch.device) -> tuple[Towers, Ranks]:
    """The towers as several ranks hold them; the library itself leaves a single rank's as they are."""
    from sono.training.step import parallel
    from sono.training.step.distributed import Ranks

    ranks = Ranks(device=device)
    towers = parallel.Towers(model, ranks, "ddp")
    scalars = [model.clip.logit_scale, model.clip.logit_bias]
    if strategy == "ddp":
        towers.module = parallel._copy(towers.module, scalars, ranks)
    elif strategy == "fsdp":
        towers.module = parallel._shard(towers.module, scalars, ranks)
    return towers, ranks


@torch.no_grad()
def encode_bank(bench: Bench, model: MaskClip) -> torch.Tensor:
    tokens_UL = make_tokens(model, CAPTIONS, bench.device)
    with torch.autocast(bench.device.type, torch.bfloat16):
        return torch.cat([model.encode_text(part) for part in tokens_UL.split(64)]).float()


def make_tokens(model: MaskClip, captions: int, device: torch.device) -> torch.Tensor:
    """Random words between CLIP's marks of start and end."""
    generator = torch.Generator(device).manual_seed(2)
    length = model.context_length
    tokens_UL = torch.randint(1, 49406, (captions, length), generator=generator, device=device)
    tokens_UL[:, 0], tokens_UL[:, length // 2], tokens_UL[:, length // 2 + 1 :] = 49406, 49407, 0
    return tokens_UL


def make_images(bench: Bench, batch: int) -> torch.Tensor:
    generator, size = torch.Generator(bench.device).manual_seed(3), bench.parameters.image_size
    return torch.randn(batch, 4, size, size, generator=generator, device=bench.device)


@torch.no_grad()
def randomise_mask(model: MaskClip) -> None:
    torch.nn.init.normal_(model.clip.visual.conv1.conv_mask.weight, std=0.02)


def timed(bench: Bench, step: Callable[[], None]) -> float:
    wait(bench)
    began = time.perf_counter()
    step()
    wait(bench)
    return time.perf_counter() - began


def wait(bench: Bench) -> None:
    if bench.device.type == "cuda":
        torch.cuda.synchronize()


def print_table(bench: Bench) -> None:
    results = bench.results
    machine = results["machine"]
    print(f"\n{machine['device']}, torch {machine['torch']}, {machine['backbone']}, bf16, frozen text, one device")
    print(f"{'':<26}{'batch':>6}{'samples/s':>11}{'MFU':>8}{'executed':>10}{'peak GiB':>10}{'planned':>9}")
    for name, result in results.items():
        if not name.startswith("step"):
            continue
        if "samples_per_s" not in result:
            print(f"{name:<26}{result}")
            continue
        cells = (result["mfu"], result["executed_share_of_peak"])
        shares = "".join(
            f"{'-' if share is None else f'{share:.1%}':>{width}}" for share, width in zip(cells, (8, 10), strict=True)
        )
        peak = f"{result['peak_gib']:.1f}" if "peak_gib" in result else "-"
        print(
            f"{name:<26}{result['batch']:>6}{result['samples_per_s']:>11.1f}{shares}{peak:>10}{result['estimated_gib']:>9.1f}"
        )
    for name in ("stem", "ranks", "agreement"):
        print(f"{name}: {json.dumps(results[name])}")


if __name__ == "__main__":
    main()
