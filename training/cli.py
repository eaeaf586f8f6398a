"""The ``sono-train`` command: its commands, in the order of the work."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sono.manifests import console

from .commands import ablation, evaluation, pretrain, use

COMMANDS: Mapping[str, Callable[..., None]] = {
    "recipes": pretrain.list_recipes,
    "plan": pretrain.plan,
    "pretrain": pretrain.pretrain,
    "evaluate": evaluation.evaluate,
    "retrieve": evaluation.retrieve,
    "probe": evaluation.probe,
    "segment": evaluation.segment,
    "gestational-age": evaluation.gestational_age,
    "sensitivity": evaluation.sensitivity,
    "suite": evaluation.suite,
    "ablation": ablation.ablation,
    "embed": use.embed,
    "search": use.search,
    "export": use.export,
    "publish": use.publish,
}

app = console.application(
    "sono-train", "Pretrain a mask-guided CLIP on a dataset that sono-curate built, and evaluate it."
)
for name, command in COMMANDS.items():
    app.command(name)(command)


def main() -> None:
    console.run(app, "sono-train")


if __name__ == "__main__":
    main()
