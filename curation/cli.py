"""The ``sono-curate`` program: its commands, in the order of the work."""

from __future__ import annotations

from typing import NoReturn

from typer.core import TyperGroup

from sono.manifests import console

from .commands import (
    audit,
    captions,
    dataset,
    frames,
    masks,
    phantoms,
    publishing,
    pulling,
    review,
    withdrawal,
    workspace,
)


class InOrderOfWork(TyperGroup):
    """Lists commands in the order in which they are used; Typer would list groups of commands first."""

    ORDER = (
        *("init", "ingest", "qc", "masks", "review", "caption", "preview", "trace", "build", "audit"),
        *("publish", "pull", "withdraw"),
        *("status", "check", "exclusions", "phantom", "demo"),
    )

    def list_commands(self, ctx: object) -> list[str]:
        del ctx
        return sorted(self.commands, key=self.ORDER.index)


app = console.application("sono-curate", "Turn a hospital's fetal ultrasound archive into a training dataset.")
app.info.cls = InOrderOfWork
for command in (
    *(workspace.init, frames.ingest, frames.qc),
    review.review,
    *(captions.caption, captions.preview, captions.trace),
    *(dataset.build, audit.audit, publishing.publish, pulling.pull, withdrawal.withdraw),
    *(workspace.status, workspace.check, workspace.exclusions),
    *(phantoms.phantom, phantoms.demo),
):
    app.command()(command)
app.add_typer(masks.app, name="masks")


def main() -> NoReturn:
    """Entry point of ``sono-curate``."""
    console.run(app, "sono-curate")


if __name__ == "__main__":
    main()
