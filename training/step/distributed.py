"""The ranks of a training run, and how they communicate. A single process is the case of size 1.

Under ``torchrun`` every rank holds one device. Tensors of the training travel on the device's own backend; decisions
(stop, an error, which checkpoint) travel between the processors, so that no process waits for a device.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from sono.manifests.errors import UserError

Value = TypeVar("Value")

TIMEOUT = timedelta(minutes=30)  # a first step may compile, and rank 0 may check gigabytes of checkpoints


@dataclass(frozen=True)
class Ranks:
    """Rank ``rank`` of ``size``; all ranks call every method together, and a single one has nothing to exchange."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009 - immutable
    store: Store | None = None
    control: dist.ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        """Whether this rank is the one that reports to people and writes what is written once."""
        return self.rank == 0

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over ranks, equal to the bit on all of them; ``tensor`` stays as it is."""
        return self._reduced(tensor, dist.ReduceOp.SUM)

    def max(self, tensor: torch.Tensor) -> torch.Tensor:
        """The largest values over ranks; ``tensor`` stays as it is."""
        return self._reduced(tensor, dist.ReduceOp.MAX)

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """The ranks' tensors concatenated along the first dimension, in which their lengths may differ."""
        if self.size == 1:
            return tensor
        lengths = self.lengths(len(tensor))
        padded = tensor.new_zeros(max(lengths), *tensor.shape[1:])
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(parts, padded)
        return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])

    def lengths(self, length: int) -> list[int]:
        """The number that each rank passed."""
        return [int(value) for value in self.collect(length)]

    def collect(self, value: Value) -> list[Value]:
        """The ranks' values, in the order of the ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def from_first(self, value: Value) -> Value:
        """The first rank's value."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.control)
        return values[0]

    def any(self, flag: int) -> int:
        """The largest of the ranks' flags; cheap enough for every step."""
        if self.size == 1:
            return flag
        flags = torch.tensor(flag)
        dist.all_reduce(flags, dist.ReduceOp.MAX, group=self.control)
        return int(flags)

    def raise_together(self, error: UserError | None) -> None:
        """Raise the first error that any rank has, on all ranks, so that none waits for one that has ended."""
        if self.size == 1:
            if error:
                raise error
            return
        if self.any(error is not None):
            raise next(error for error in self.collect(error) if error)

    def new_group(self) -> dist.ProcessGroup | None:
        """A group of all ranks between processors, for a thread that must not share the main thread's."""
        return None if self.size == 1 else _between_processors()

    def _reduced(self, tensor: torch.Tensor, operation: dist.ReduceOp.RedOpType) -> torch.Tensor:
        if self.size == 1:
            return tensor
        result = tensor.clone()
        dist.all_reduce(result, operation)
        return result


ALONE = Ranks()


@contextlib.contextmanager
def joined() -> Iterator[Ranks]:
    """This process's place among the ranks that ``torchrun`` started; without it, a single rank.

    Only the first rank that fails reports its error: the others end silently with the same exit code, even if all they
    know is that another one is gone.

    Raises:
        UserError: this rank's own, or, on the first rank to report, one that all ranks raised together.
        SystemExit: another rank reports the error.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if size == 1:
        yield Ranks(device=device)
        return
    store, rank, size = next(iter(rendezvous("env://", timeout=TIMEOUT)))
    store = PrefixStore("sono", store)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    ranks = Ranks(rank, size, device, store, _between_processors())
    try:
        yield ranks
    except Exception as error:
        if not _reports(store, rank, error):
            raise SystemExit(1) from error
        if _partner_hung_up(error):
            raise UserError("another rank has ended", fix="find out why, then run with --resume") from error
        raise
    dist.barrier(ranks.control)  # a rank that hangs up while another still communicates makes that one fail
    dist.destroy_process_group()  # not after an error: it would wait for the others


def _between_processors() -> dist.ProcessGroup:
    group = dist.new_group(backend="gloo", timeout=TIMEOUT)
    assert isinstance(group, dist.ProcessGroup)
    return group


def _partner_hung_up(error: Exception) -> bool:
    """By its message: gloo has no exception of its own for it."""
    return isinstance(error, dist.DistError) or any(
        words in str(error) for words in ("Connection closed by peer", "Connection reset by peer", "Broken pipe")
    )


def _reports(store: Store, rank: int, error: Exception) -> bool:
    """Whether this rank is the first with an error. One whose partner hung up gives it time to report why."""
    with contextlib.suppress(dist.DistError, RuntimeError):
        deadline = time.monotonic() + (0 if isinstance(error, UserError) else 3)
        while time.monotonic() < deadline and not store.check(["failed"]):
            time.sleep(0.05)
        return bool(store.compare_set("failed", "", str(rank)) == str(rank).encode())
    return False
