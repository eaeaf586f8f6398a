"""What the training loop costs beside the step itself.

    python benchmarks/step_overhead.py DATASET [--steps 12] [--rounds 5] [--set KEY=VALUE ...]

The loop is the one of ``sono-train pretrain``: it loads batches from the dataset, sets the learning rate, computes loss
and gradients, measures their norm, checks both, steps the optimizer, and writes its log. Beside it the least that a
step can be: forward, loss, backward and optimizer, of the same model on the same batches, which lie in memory ready
made. In every round both take ``--steps`` steps, in turn, whichever is first changing from round to round; the first
round warms up and does not count. Printed are medians, and the median of the ratios within rounds, by the clock and in
processor time, which other programs on the machine disturb less. The loop starts its loading anew in every round;
checkpoints are not in it.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if importlib.util.find_spec("sono") is None:  # not installed: typings/ holds the package as links
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "typings"))

import torch

if TYPE_CHECKING:
    from sono.training.data.samples import Batch
    from sono.training.pretraining.trainer import Trainer
    from sono.training.recipes import Recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--recipe", default="tiny")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    recipe = make_recipe(options)
    torch.set_num_threads(recipe.train.threads or torch.get_num_threads())
    with tempfile.TemporaryDirectory(prefix="sono-benchmark-") as folder:
        trainer = make_trainer(options.dataset, recipe, Path(folder) / "run")
        batches = list(itertools.islice(batches_of(trainer), options.steps))
        contestants = {"loop": loop(trainer, options.steps), "bare": bare(trainer, batches)}
        seconds = [one_round(contestants, number) for number in range(options.rounds + 1)][1:]
    report(seconds, options.steps, recipe)


def make_recipe(options: argparse.Namespace) -> Recipe:
    """The recipe, with as many steps as all rounds take, and no checkpoint within."""
    from sono.training import recipes

    steps = (options.rounds + 1) * options.steps
    own = [f"train.steps={steps + 1}", "train.warmup_steps=1", f"checkpoint.every={10 * steps}"]
    return recipes.override(recipes.find(options.recipe), [*own, *options.set])


def make_trainer(dataset: str, recipe: Recipe, run: Path) -> Trainer:
    from sono.training.data.dataset import read_description
    from sono.training.pretraining.trainer import Trainer
    from sono.training.step.distributed import Ranks

    run.mkdir()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Trainer(run, recipe, read_description(dataset), None, Ranks(device=device), print)


def batches_of(trainer: Trainer) -> Iterator[Batch]:
    from sono.training.data.samples import batches_from

    recipe = trainer.recipe
    return batches_from(0, trainer.total_steps, trainer.pool, trainer.transform, trainer.tokenizer, recipe)


def loop(trainer: Trainer, steps: int) -> Callable[[], None]:
    """``steps`` steps of the loop itself: it is stopped from outside, as a signal would stop it."""

    def run() -> None:
        end = trainer.step + steps
        trainer.save = lambda: None  # type: ignore[method-assign]
        trainer.steps(lambda: trainer.step >= end, lambda progress: None)

    return run


def bare(trainer: Trainer, batches: list[Batch]) -> Callable[[], None]:
    """Forward, loss, backward and optimizer, of the trainer's own model and with its own optimizer."""
    from sono.training.step.global_texts import exchange, look_up
    from sono.training.step.losses import contrastive_loss

    objective, clip, device = trainer.objective, trainer.model.clip, trainer.ranks.device
    ready = [
        (trainer._images(batch), *(one.to(device) for one in (batch.tokens, batch.caption_ids, batch.captions)))
        for batch in batches
    ]

    def run() -> None:
        for x_N4HW, tokens_VL, ids_V, own_N in ready:
            trainer.optimizer.zero_grad(set_to_none=True)
            with trainer._autocast():
                image_ND = trainer.model.encode_image(x_N4HW)
                text_VD = trainer.model.encode_text(tokens_VL) if objective.bank_KD is None else None
            if text_VD is None:
                assert objective.bank_KD is not None
                text_UD, captions = look_up(objective.bank_KD, ids_V[own_N])
            else:
                text_UD, captions = exchange(text_VD, ids_V, own_N)
            scalars = clip.logit_scale, clip.logit_bias
            contrastive_loss(image_ND, text_UD, captions, *scalars, objective.settings).backward()
            trainer.optimizer.step()

    return run


def one_round(contestants: dict[str, Callable[[], None]], number: int) -> dict[str, Seconds]:
    names = sorted(contestants, reverse=number % 2 == 1)
    return {name: timed(contestants[name]) for name in names}


class Seconds(NamedTuple):
    wall: float
    processor: float  # of this process alone: other programs on the machine do not count


def timed(work: Callable[[], None]) -> Seconds:
    wait()
    began, began_processor = time.perf_counter(), time.process_time()
    work()
    wait()
    return Seconds(time.perf_counter() - began, time.process_time() - began_processor)


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def report(rounds: list[dict[str, Seconds]], steps: int, recipe: Recipe) -> None:
    print(
        f"{recipe.model.backbone}, batch {recipe.train.batch_size}, {len(rounds)} rounds of {steps} steps each; medians"
    )
    for clock, name in enumerate(("by the clock", "processor time")):
        bare_ms, loop_ms = (
            statistics.median(1000 * round_[contestant][clock] / steps for round_ in rounds)
            for contestant in ("bare", "loop")
        )
        ratios = [round_["loop"][clock] / round_["bare"][clock] for round_ in rounds]
        print(
            f"  {name:<15}bare {bare_ms:8.1f} ms a step, loop {loop_ms:8.1f} ms, "
            f"loop / bare {statistics.median(ratios):.3f} ({min(ratios):.3f} - {max(ratios):.3f})"
        )


if __name__ == "__main__":
    main()
