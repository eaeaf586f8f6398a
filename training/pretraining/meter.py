"""How fast training is, and how much memory it takes."""

from __future__ import annotations

import math
import resource
import time
from dataclasses import dataclass, field

import torch

from sono.training import recipes
from sono.training.data.samples import Batch
from sono.training.planning.devices import find_device
from sono.training.planning.flops import train_flops_per_sample
from sono.training.step.distributed import Ranks

MIB = 2**20


@dataclass
class Meter:
    """Since the last line of the log: samples per second over all ranks, this rank's peak memory, utilisation.

    Args:
        batch_size: samples of a step, over all ranks.
        flops_per_sample: floating-point operations that a trained sample needs; 0 if not counted.
        peak_flops: operations per second of all ranks' devices together at best; None if unknown.
        device: of this rank.
    """

    batch_size: int
    flops_per_sample: float
    peak_flops: float | None
    device: torch.device
    rate: float = math.nan
    steps: int = field(default=0, init=False)
    since: float = field(default_factory=time.perf_counter, init=False)

    def tick(self) -> None:
        """Count a step."""
        self.steps += 1
        self.rate = self.steps * self.batch_size / (time.perf_counter() - self.since)

    def leave_out(self, seconds: float) -> None:
        """Do not count so much time, which was spent on something else than steps."""
        self.since += seconds

    def lap(self) -> dict[str, float | None]:
        """The values of ``step_log.TIMINGS``; counts from zero afterwards."""
        values = {
            "samples_per_s": round(self.rate, 1),
            "memory_mib": round(_peak_memory(self.device) / MIB, 1),
            "mfu": None if self.peak_flops is None else round(self.rate * self.flops_per_sample / self.peak_flops, 4),
        }
        self.steps, self.since = 0, time.perf_counter()
        return values


def start_meter(recipe: recipes.Recipe, ranks: Ranks, first: Batch) -> Meter:
    """A meter that starts now; ``first`` is the batch by which captions per sample are counted."""
    peak, flops = _peak_flops(ranks.device, recipe.train.precision), 0
    if peak is not None:
        flops = train_flops_per_sample(recipe, captions_per_sample=len(first.tokens) / len(first.images))
    return Meter(recipe.train.batch_size, flops, peak and peak * ranks.size, ranks.device)


def _peak_flops(device: torch.device, precision: str) -> float | None:
    """Operations per second according to the device's data sheet; None for a processor, or an unknown device."""
    if device.type != "cuda":
        return None
    listed = find_device(torch.cuda.get_device_name(device))
    tflops = listed.peak_tflops(precision) if listed else None
    return None if tflops is None else tflops * 1e12


def _peak_memory(device: torch.device) -> int:
    """Bytes: of a device since the last call, of a process since its start."""
    if device.type != "cuda":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    peak = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return peak
