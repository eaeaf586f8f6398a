"""The training loop: epochs until the budget is spent or validation stops improving, resumable after each of them."""

from __future__ import annotations

import contextlib
import math
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sono.manifests.errors import UserError
from sono.manifests.store import write_atomically

from .data.annotation import PRESENT
from .data.batches import Batch, plain_batches, training_batches
from .data.prepared import Prepared
from .loss import segmentation_loss
from .network import build_network, network_input
from .settings import FitSettings

if TYPE_CHECKING:
    import torch

_WARMUP = 0.05  # share of the budget
_LAST_RATE = 0.02  # of the highest learning rate, where the budget ends
_DECAY = 1e-2


@dataclass(frozen=True)
class Epoch:
    """One pass over the training frames: mean loss, mean Dice over structures of the validating frames, seconds."""

    number: int
    loss: float
    dice: float
    seconds: float


@dataclass
class _State:
    epochs: list[Epoch] = field(default_factory=list)
    best: float = -1.0
    best_epoch: int = -1
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return sum(epoch.seconds for epoch in self.epochs)


def train(
    prepared: Prepared,
    training: Sequence[int],
    validating: Sequence[int],
    settings: FitSettings,
    progress_file: Path,
    identity: str,
    report: Callable[[Epoch], None] = lambda epoch: None,
) -> tuple[torch.nn.Module, list[Epoch]]:
    """Train a network; returns that of the epoch with the best validation Dice, and all epochs.

    The learning rate rises, then falls along a cosine to the end of the budget (epochs, or minutes if these run out
    first). On one machine with one number of threads, the same frames and seed give the same network, interrupted or
    not, unless minutes decide.

    Args:
        training, validating: numbers of examples.
        progress_file: where an interrupted fit of the same ``identity`` is resumed from.

    Raises:
        UserError: the loss is not a number any more, or the file of an interrupted fit cannot be resumed from.
    """
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = build_network(
        settings.architecture, prepared.known.shape[1], weights=settings.encoder_weights, seed=settings.seed
    )
    network = network.to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=_DECAY)
    state = _resume(progress_file, identity, network, optimizer, device)
    with _deterministic():
        while not _is_done(state, settings):
            started = time.monotonic()
            loss = _train_epoch(network, optimizer, prepared, training, settings, state)
            dice = _validation_dice(network, prepared, validating, settings.batch)
            state.epochs.append(Epoch(len(state.epochs), loss, dice, time.monotonic() - started))
            if dice > state.best:
                state.best, state.best_epoch = dice, len(state.epochs) - 1
                state.best_weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
            _save(progress_file, identity, network, optimizer, state)
            report(state.epochs[-1])
    network.load_state_dict(state.best_weights)
    return network.eval(), state.epochs


def _is_done(state: _State, settings: FitSettings) -> bool:
    waited = len(state.epochs) - 1 - state.best_epoch
    return bool(state.epochs) and (_spent(state, settings, 0.0) >= 1 or waited >= settings.patience)


def _spent(state: _State, settings: FitSettings, within: float) -> float:
    """Share of the budget that is spent, ``within`` an epoch."""
    epochs = (len(state.epochs) + within) / settings.epochs
    if settings.minutes is None or not state.epochs:
        return epochs
    return max(epochs, (state.seconds + within * state.epochs[-1].seconds) / (60 * settings.minutes))


def _train_epoch(
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    prepared: Prepared,
    training: Sequence[int],
    settings: FitSettings,
    state: _State,
) -> float:
    import torch

    network.train()
    # Some encoders, such as efficientnet-b0, drop paths at random; a resumed fit has to drop the same ones.
    torch.manual_seed(int(np.random.default_rng([settings.seed, len(state.epochs), 3]).integers(2**63)))
    steps = -(-len(training) // settings.batch)
    batches = training_batches(prepared, training, settings.batch, seed=settings.seed, epoch=len(state.epochs))
    losses = []
    for step, batch in enumerate(batches):
        rate = _rate(_spent(state, settings, step / steps))
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * rate
        images, coverage, known = _tensors(batch, network)
        with _autocast(images.device):
            logits = network(images)
        loss = segmentation_loss(logits, coverage, known)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        losses.append(loss.detach())
    loss_mean = float(torch.stack(losses).mean())
    if not math.isfinite(loss_mean):
        raise UserError(
            f"training diverged in epoch {len(state.epochs) + 1}: the loss is not a number",
            fix="try another --seed or --encoder, in a new folder",
        )
    return loss_mean


def _rate(spent: float) -> float:
    """Of the highest learning rate, after a share of the budget."""
    if spent < _WARMUP:
        return (spent + 0.1 * _WARMUP) / (1.1 * _WARMUP)
    fallen = min((spent - _WARMUP) / (1 - _WARMUP), 1.0)
    return _LAST_RATE + (1 - _LAST_RATE) * (1 + math.cos(math.pi * fallen)) / 2


def _validation_dice(network: torch.nn.Module, prepared: Prepared, validating: Sequence[int], size: int) -> float:
    """The mean over structures of the mean Dice of the frames that have them, in the network's square."""
    import torch

    network.eval()
    dice: list[list[float]] = [[] for _ in range(prepared.known.shape[1])]
    with torch.inference_mode():
        for batch in plain_batches(prepared, validating, size):
            images, coverage, _ = _tensors(batch, network)
            with _autocast(images.device):
                found = network(images) > 0
            truth = coverage > 0.5
            both = (found & truth).sum(dim=(2, 3)).cpu().numpy()
            either = (found.sum(dim=(2, 3)) + truth.sum(dim=(2, 3))).cpu().numpy()
            for row, column in np.argwhere(batch.known == PRESENT):
                # A structure without a pixel at this size is found only by finding nothing.
                sizes = int(either[row, column])
                dice[column].append(2 * int(both[row, column]) / sizes if sizes else 1.0)
    return float(np.mean([np.mean(of_structure) for of_structure in dice if of_structure]))


def _tensors(batch: Batch, network: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    import torch

    device = next(network.parameters()).device
    images = network_input(torch.from_numpy(batch.images).to(device)).to(memory_format=torch.channels_last)
    return images, torch.from_numpy(batch.coverage).to(device).float() / 255, torch.from_numpy(batch.known).to(device)


def _autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    import torch

    enabled = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    """cuDNN may not choose its algorithms by how long they took, and torch's own generators are restored at the end."""
    import torch

    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before


def _save(path: Path, identity: str, network: torch.nn.Module, optimizer: torch.optim.Optimizer, state: _State) -> None:
    import torch

    content = {
        "identity": identity,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epochs": [asdict(epoch) for epoch in state.epochs],
        "best": state.best,
        "best_epoch": state.best_epoch,
        "best_weights": state.best_weights,
    }
    write_atomically(path, lambda file: torch.save(content, file))


def _resume(
    path: Path, identity: str, network: torch.nn.Module, optimizer: torch.optim.Optimizer, device: torch.device
) -> _State:
    """Where an interrupted fit stopped; the beginning, if there is none.

    Raises:
        UserError: the file is damaged, or of another fit; it is not replaced, because it may hold hours of training.
    """
    import torch

    if not path.exists():
        return _State()
    try:
        content: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        same = content["identity"] == identity
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError) as error:
        raise UserError("damaged", where=str(path), fix="delete it to begin this fit again") from error
    if not same:
        raise UserError("of another fit", where=str(path), fix="name a new folder, or delete the file")
    network.load_state_dict(content["network"])
    optimizer.load_state_dict(content["optimizer"])
    epochs = [Epoch(**epoch) for epoch in content["epochs"]]
    return _State(epochs, content["best"], content["best_epoch"], content["best_weights"])
