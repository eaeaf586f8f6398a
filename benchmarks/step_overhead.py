"""What the training loop costs beside the step itself.

    python benchmarks/step_overhead.py DATASET [--steps 12] [--rounds 5] [--set KEY=VALUE ...]

The loop is that of ``sono-train pretrain``: it loads batches from the dataset, sets the learning rate, computes loss
and gradients, measures their norm, checks both, steps the optimizer, and writes its log. It is compared with the least
that a step can be: forward, loss, backward and optimizer, of the same model on the same batches, held ready in memory.
In every round both take ``--steps`` steps, and which is first alternates; the first round warms up and does not count.
Printed are medians, and the median of the ratios within rounds, by the clock and in processor time, which other
programs on the machine disturb less. The loop restarts its loading in every round and writes no checkpoints.
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
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if importlib.util.find_spec("sono") is None:  # not installed: typings/ holds the package as links
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "typings"))

import torch

if TYPE_CHECKING:
    from sono.training.data.pool import Pool
    from sono.training.data.samples import Batch
    from sono.training.pretraining.learner import Learner
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
        trained = set_up(options.dataset, recipe, Path(folder) / "run")
        batches = list(itertools.islice(batches_of(trained), options.steps))
        contestants = {"loop": loop(trained, options.steps), "bare": bare(trained, batches)}
        seconds = [one_round(contestants, number) for number in range(options.rounds + 1)][1:]
    report(seconds, options.steps, recipe)


def make_recipe(options: argparse.Namespace) -> Recipe:
    """The recipe, with as many steps as all rounds take, and no checkpoint within."""
    from sono.training import recipes

    steps = (options.rounds + 1) * options.steps
    own = [f"train.steps={steps + 1}", "train.warmup_steps=1", f"checkpoint.every={10 * steps}"]
    return recipes.override(recipes.find(options.recipe), [*own, *options.set])


class Trained(NamedTuple):
    """What a run has built before its first step."""

    learner: Learner
    pool: Pool


def set_up(dataset: str, recipe: Recipe, run: Path) -> Trained:
    """As ``pretrain`` does."""
    from sono.training.data.together import read_descriptions
    from sono.training.model.build import build_model
    from sono.training.pretraining.setup import load_weights, open_pool, place_on_ranks
    from sono.training.step.distributed import Ranks

    run.mkdir()
    ranks = Ranks(device=torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    torch.manual_seed(recipe.train.seed)
    model = build_model(recipe.model, recipe.loss)
    transform = load_weights(model, recipe, None)
    pool = open_pool(read_descriptions([dataset]), recipe, model.tokenizer, transform, print)
    return Trained(place_on_ranks(run, model, transform, pool, recipe, None, ranks), pool)


def batches_of(trained: Trained) -> Iterator[Batch]:
    from sono.training.data.samples import batches_from

    learner, pool = trained
    tokenizer = learner.model.tokenizer
    return batches_from(0, learner.total_steps, pool, learner.transform, tokenizer, learner.recipe)


class NoWriter:
    """In place of a writer of checkpoints: writes none."""

    last_good = None

    def save(self, tensors: object, meta: object) -> None: ...

    def wait(self) -> None: ...

    def close(self) -> None: ...


def loop(trained: Trained, steps: int) -> Callable[[], None]:
    """``steps`` steps of the loop itself, which is stopped from outside, as a signal would stop it."""
    from sono.training.pretraining.loop import train

    learner, pool = trained

    def run() -> None:
        end = learner.step + steps
        train(learner, pool, cast(Any, NoWriter()), lambda: learner.step >= end, lambda progress: None)

    return run


def bare(trained: Trained, batches: list[Batch]) -> Callable[[], None]:
    """Forward, loss, backward and optimizer, of the learner's own model and with its own optimizer."""
    from sono.training.pretraining.learner import autocast
    from sono.training.step.global_texts import exchange, look_up
    from sono.training.step.losses import contrastive_loss

    learner = trained.learner
    objective, model, device = learner.objective, learner.model, learner.ranks.device
    context = autocast(device, learner.recipe.train)
    ready = [
        (learner.inputs(batch), batch.tokens.to(device), batch.caption_ids.to(device), batch.captions.to(device))
        for batch in batches
    ]

    def run() -> None:
        for x_N4HW, tokens_VL, ids_V, own_N in ready:
            learner.optimizer.zero_grad(set_to_none=True)
            with context():
                image_ND = model.encode_image(x_N4HW)
                text_VD = model.encode_text(tokens_VL) if objective.bank_KD is None else None
            if text_VD is None:
                assert objective.bank_KD is not None
                text_UD, captions = look_up(objective.bank_KD, ids_V[own_N])
            else:
                text_UD, captions = exchange(text_VD, ids_V, own_N)
            scalars = model.clip.logit_scale, model.clip.logit_bias
            contrastive_loss(image_ND, text_UD, captions, *scalars, objective.settings).backward()
            learner.optimizer.step()

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
            f"  {name:<15}bare {bare_ms:8.1f} ms per step, loop {loop_ms:8.1f} ms, "
            f"loop / bare {statistics.median(ratios):.3f} ({min(ratios):.3f} - {max(ratios):.3f})"
        )


if __name__ == "__main__":
    main()
