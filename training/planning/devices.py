"""Peak rates and memory of accelerators, from their vendors' data sheets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sono.manifests.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Device:
    """One accelerator. ``pattern`` matches the complete name that CUDA gives it, or its short name.

    Rates are dense (without sparsity) and in TFLOP/s: ``bf16`` of tensor cores with sums in fp32, ``fp32`` of ordinary
    cores, which is what torch uses unless TF32 is asked for. ``memory_gib`` is what data sheets call GB.
    """

    name: str
    pattern: str
    bf16: float
    fp32: float
    memory_gib: float

    def peak_tflops(self, precision: str) -> float | None:
        """The peak rate for ``bf16`` or ``fp32``; None for any other precision."""
        return {"bf16": self.bf16, "fp32": self.fp32}.get(precision)


DEVICES: Sequence[Device] = (
    # NVIDIA H200 Tensor Core GPU datasheet; bf16 there is with sparsity (1,979 and 1,671), which is twice the dense.
    Device("H200", r"H200( SXM)?", 989.5, 67.0, 141),
    Device("H200 NVL", r"H200 NVL", 835.5, 60.0, 141),
    # NVIDIA H100 Tensor Core GPU datasheet, likewise with sparsity (1,979, 1,671); PCIe: H100 PCIe datasheet (1,513).
    Device("H100", r"H100( SXM5?)?|H100 80GB HBM3", 989.5, 67.0, 80),
    Device("H100 NVL", r"H100 NVL", 835.5, 60.0, 94),
    Device("H100 PCIe", r"H100 PCIe", 756.5, 51.0, 80),
    # NVIDIA A100 Tensor Core GPU datasheet.
    Device("A100 80GB", r"A100|A100[ -](SXM4-|PCIE-)?80GB( PCIe)?", 312.0, 19.5, 80),
    Device("A100 40GB", r"A100[ -](SXM4-|PCIE-)?40GB( PCIe)?", 312.0, 19.5, 40),
    # NVIDIA A30, A40 and A10 datasheets.
    Device("A30", r"A30", 165.0, 10.3, 24),
    Device("A40", r"A40", 149.7, 37.4, 48),
    Device("A10", r"A10", 125.0, 31.2, 24),
    # NVIDIA L40S, L40 and L4 datasheets; L4's bf16 there is with sparsity (242).
    Device("L40S", r"L40S", 362.05, 91.6, 48),
    Device("L40", r"L40", 181.05, 90.5, 48),
    Device("L4", r"L4", 121.0, 30.3, 24),
    # NVIDIA Ada GPU architecture whitepaper, appendix A: peak BF16 tensor TFLOPS with FP32 accumulate.
    Device("RTX 4090", r"(GeForce )?RTX 4090", 165.2, 82.6, 24),
    # NVIDIA Ampere GA102 GPU architecture whitepaper, table 2, likewise.
    Device("RTX 3090", r"(GeForce )?RTX 3090", 71.0, 35.6, 24),
    # NVIDIA RTX 6000 Ada Generation and RTX A6000: as above, whitepapers' tables of professional cards.
    Device("RTX 6000 Ada", r"RTX 6000 Ada( Generation)?", 364.2, 91.1, 48),
    Device("RTX A6000", r"RTX A6000", 154.8, 38.7, 48),
)


def find_device(name: str) -> Device | None:
    """The device that CUDA, or a person, calls ``name``; None if it is not known for certain.

    A laptop's card or a cloud's variant of a card shares words of its name and not its rate, so all of it must match.
    """
    plain = re.sub(r"^NVIDIA\s+", "", name.strip(), flags=re.IGNORECASE)
    return next((device for device in DEVICES if re.fullmatch(device.pattern, plain, flags=re.IGNORECASE)), None)


def named_device(name: str) -> Device:
    """The device that a person calls ``name``.

    Raises:
        UserError: it is not listed here; the text suggests the most similar one.
    """
    device = find_device(name)
    if device is None:
        listed = ", ".join(device.name for device in DEVICES)
        raise UserError(
            f"--device: no data sheet is known for {name!r}",
            fix=did_you_mean(name.upper(), [device.name for device in DEVICES]) or f"choose one of: {listed}",
        )
    return device
