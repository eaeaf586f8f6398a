"""What the mask stem costs: forward and backward of a ViT-B at 224 px, with it and without it, in turns.

``python benchmarks/stem.py`` prints the median of each and the difference; ``--stem`` times the stem alone. On a CPU
the times are the processor's, of all threads.
"""

from __future__ import annotations

import argparse
import statistics
import time

import open_clip
import torch

from sono.training.model.portable.mask_stem import MaskStem, add_mask_stem, build_clip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="ViT-B-16")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--stem", action="store_true", help="time the patch embedding alone")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    plain, masked = (_tower(options.backbone, options.device, masked) for masked in (False, True))
    if options.stem:
        plain, masked = plain.conv1, masked.conv1
        assert isinstance(masked, MaskStem)
    side = 224
    image = torch.randn(options.batch, 4, side, side, device=options.device)

    clock = time.process_time if options.device == "cpu" else time.perf_counter  # others may want the processor, too

    def step(model: torch.nn.Module, x: torch.Tensor) -> None:
        with torch.autocast(options.device, torch.bfloat16, enabled=options.bf16):
            features = model(x)
        features.float().square().mean().backward()
        if options.device == "cuda":
            torch.cuda.synchronize()

    times: dict[str, list[float]] = {"plain": [], "mask stem": []}
    for number in range(options.rounds + 1):
        for name, model, x in (("plain", plain, image[:, :3].contiguous()), ("mask stem", masked, image)):
            start = clock()
            step(model, x)
            if number:  # the first is to warm up
                times[name].append(clock() - start)
    # Of a round, not of all: what else the machine does changes from one to the next.
    ratios = [with_ / without for without, with_ in zip(times["plain"], times["mask stem"], strict=True)]
    for name, seconds in times.items():
        print(f"{name:<10} {1000 * statistics.median(seconds):9.1f} ms (fastest {1000 * min(seconds):.1f} ms)")
    print(
        f"mask stem: {100 * (statistics.median(ratios) - 1):+.2f} % in the median of {options.rounds} rounds, "
        f"{100 * (min(times['mask stem']) / min(times['plain']) - 1):+.2f} % fastest to fastest"
    )


def _tower(backbone: str, device: str, masked: bool) -> torch.nn.Module:
    torch.manual_seed(0)
    clip = build_clip(open_clip.get_model_config(backbone))
    if masked:
        add_mask_stem(clip)
    visual: torch.nn.Module = clip.visual.train().to(device)
    return visual


if __name__ == "__main__":
    main()
