"""The commands about datasets on the Hugging Face Hub: ``publish``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .captions import caption_guard
from .options import print_next


def publish(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder that sono-curate build wrote.")],
    repo: Annotated[str, typer.Argument(metavar="REPO", help="Repository on the Hub: NAMESPACE/NAME.")],
    workspace: Annotated[
        Path | None,
        typer.Option(metavar="WORKSPACE", help="The workspace it was built from. Without it, nothing passes the gate."),
    ] = None,
    private: Annotated[
        bool | None,
        typer.Option("--private/--public", help="Who can see it. A new repository is private.", show_default=False),
    ] = None,
    gated: Annotated[
        bool | None,
        typer.Option(
            "--gated/--open",
            help="Whether you grant access to each reader. A new repository is gated.",
            show_default=False,
        ),
    ] = None,
    tag: Annotated[
        str | None, typer.Option(metavar="NAME", help="Tag of this revision. If omitted, it follows from the content.")
    ] = None,
    message: Annotated[str | None, typer.Option(metavar="TEXT", help="What the revision's commit says.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be sent and deleted, and where; change nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Make it public without asking for its name.")] = False,
) -> None:
    """Publish a dataset on the Hugging Face Hub, if nothing speaks against it.

    Everything goes to a branch, is checked there, and appears on main in one commit; what the Hub has already is not
    sent again. Asks for nothing unless it becomes public. The token is your own (hf auth login, or HF_TOKEN).

    Example: sono-curate publish dataset hospital/fetal-frames --workspace archive --tag v1
    """
    from sono.curation.publishing.gate import refusals
    from sono.curation.publishing.verify import row_reader
    from sono.manifests.publishable import DATASET_FILES
    from sono.manifests.publishing import Asked, publish_folder
    from sono.manifests.workspace import open_workspace

    opened = open_workspace(workspace) if workspace else None
    published = publish_folder(
        dataset,
        DATASET_FILES,
        lambda files: refusals(dataset, files, opened, caption_guard(opened)),
        Asked(repo, "dataset", private, gated, tag, message, dry_run, yes),
        read_back=lambda remote, commit: row_reader(dataset)(remote, commit),
    )
    if published is None:
        return
    print(published.summary)
    name = published.url.partition("/datasets/")[2]
    print_next(f'python -c \'import datasets; print(datasets.load_dataset("{name}", revision="{published.tag}"))\'')
