"""How fast training goes and how much memory it takes."""

from __future__ import annotations

import math
import resource
import time
from dataclasses import dataclass, field

import torch

from sono.training.planning.devices import find_device

MIB = 2**20


@dataclass
class Meter:
    """Since the last line of the log: samples a second over all ranks, this rank's most memory, utilisation.

    Args:
        batch_size: samples of a step, over all ranks.
        flops_per_sample: floating-point operations that a trained sample needs; 0 where they are not asked for.
        peak_flops: operations a second of all ranks' devices together at best; None where that is not known.
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
        """A step is done."""
        self.steps += 1
        self.rate = self.steps * self.batch_size / (time.perf_counter() - self.since)

    def lap(self) -> dict[str, float | None]:
        """The values of the log's line, by ``step_log.TIMINGS``; begins anew."""
        values = {
            "samples_per_s": round(self.rate, 1),
            "memory_mib": round(_peak_memory(self.device) / MIB, 1),
            "mfu": None if self.peak_flops is None else round(self.rate * self.flops_per_sample / self.peak_flops, 4),
        }
        self.steps, self.since = 0, time.perf_counter()
        return values


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Operations a second that the device's data sheet promises; None for a processor, or a device not known."""
    if device.type != "cuda":
        return None
    known = find_device(torch.cuda.get_device_name(device))
    tflops = known.peak_tflops(precision) if known else None
    return None if tflops is None else tflops * 1e12


def _peak_memory(device: torch.device) -> int:
    """Bytes: of a device since the last question, of a process since its start."""
    if device.type != "cuda":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    peak = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return peak
