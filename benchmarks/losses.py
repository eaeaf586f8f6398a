"""Memory that a loss keeps for the backward pass, and its time, beside open_clip's own, in the same run.

    python benchmarks/losses.py [--batches 1024 2048 4096] [--width 64] [--chunk 256]

Kept are the tensors that autograd saves, each storage once, and what our loss keeps beside them. Of captions one line
has all distinct and one 300 distinct, as templates make them. Time is for value and gradients, the best of three.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss, SigLipLoss

from sono.training import recipes
from sono.training.step.losses import Captions, contrastive_loss

MIB = 2**20
Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1024, 2048, 4096])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--chunk", type=int, default=256)
    options = parser.parse_args()
    print(f"width {options.width}, single precision, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'loss':<44}{'batch':>7}{'kept, MiB':>12}{'ms':>9}")
    for batch in options.batches:
        for name, (texts, loss) in losses(batch, options.chunk).items():
            kept, seconds = measure(loss, batch, texts, options.width)
            print(f"{name:<44}{batch:>7}{kept / MIB:>12.2f}{1000 * seconds:>9.1f}", flush=True)


def losses(batch: int, chunk: int) -> dict[str, tuple[int, Loss]]:
    """By name the number of distinct texts and the loss of (image, text, log t, b)."""

    def ours(kind: str, texts: int) -> tuple[int, Loss]:
        captions = Captions.of(torch.arange(batch) % texts, texts)
        settings = recipes.Loss(kind=kind, chunk=chunk)
        return texts, lambda image, text, log_t, b: contrastive_loss(image, text, captions, log_t, b, settings)

    siglip, clip = SigLipLoss(), ClipLoss()
    return {
        "open_clip SigLipLoss": (batch, lambda image, text, log_t, b: siglip(image, text, log_t.exp(), b)),
        f"ours, sigmoid, chunks of {chunk}": ours("sigmoid", batch),
        f"ours, sigmoid, chunks of {chunk}, 300 captions": ours("sigmoid", 300),
        "open_clip ClipLoss": (batch, lambda image, text, log_t, b: clip(image, text, log_t.exp())),
        f"ours, softmax, chunks of {chunk}": ours("softmax", batch),
        f"ours, softmax, chunks of {chunk}, 300 captions": ours("softmax", 300),
    }


def measure(loss: Loss, batch: int, texts: int, width: int) -> tuple[int, float]:
    kept, best = 0, float("inf")
    for _ in range(3):
        inputs = _inputs(batch, texts, width)
        storages: dict[int, int] = {}

        def pack(tensor: torch.Tensor, storages: dict[int, int] = storages) -> torch.Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        start = time.perf_counter()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            value = loss(*inputs)
        beside = getattr(value.grad_fn, "of_scalars", ())
        kept = sum(storages.values()) + sum(tensor.untyped_storage().nbytes() for tensor in beside)
        value.backward()  # type: ignore[no-untyped-call]
        best = min(best, time.perf_counter() - start)
    return kept, best


def _inputs(batch: int, texts: int, width: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    image, text = (F.normalize(torch.randn(rows, width, generator=generator), dim=-1) for rows in (batch, texts))
    return tuple(one.requires_grad_() for one in (image, text, torch.tensor(2.3), torch.tensor(-10.0)))


if __name__ == "__main__":
    main()
