"""The commands about datasets on the Hugging Face Hub: ``publish``."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from sono.manifests.publishing_options import (
    DryRunOption,
    GatedOption,
    MessageOption,
    PrivateOption,
    RepoArgument,
    TagOption,
    YesOption,
)

from .captions import caption_guard
from .options import print_next


def publish(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder that sono-curate build wrote.")],
    repo: RepoArgument,
    workspace: Annotated[
        Path | None,
        typer.Option(metavar="WORKSPACE", help="The workspace it was built from. Without it, nothing passes the gate."),
    ] = None,
    private: PrivateOption = None,
    gated: GatedOption = None,
    tag: TagOption = None,
    message: MessageOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
) -> None:
    """Publish a dataset on the Hugging Face Hub, if nothing speaks against it.

    Everything goes to a branch, is checked there, and appears on main in one commit; what the Hub has already is not
    sent again. Asks for nothing unless it becomes public. The token is your own (hf auth login, or HF_TOKEN).

    Example: sono-curate publish dataset hospital/fetal-frames --workspace archive --tag v1
    """
    from sono.curation.publishing.gate import refusals
    from sono.curation.publishing.pulled_gate import audience_refusals
    from sono.curation.publishing.verify import row_reader
    from sono.manifests.publishable import DATASET_FILES
    from sono.manifests.publishing import Asked, publish_folder
    from sono.manifests.workspace import open_workspace

    opened = open_workspace(workspace) if workspace else None
    published = publish_folder(
        dataset,
        DATASET_FILES,
        lambda files: [
            *refusals(dataset, files, opened, caption_guard(opened)),
            *audience_refusals(opened, repo, private=private, gated=gated),
        ],
        Asked(repo, "dataset", private, gated, tag, message, dry_run, yes),
        read_back=lambda remote, commit: row_reader(dataset)(remote, commit),
        hold=opened.writing if opened else nullcontext,
    )
    if published is None:
        return
    print(published.summary)
    name = published.url.partition("/datasets/")[2]
    print_next(f'python -c \'import datasets; print(datasets.load_dataset("{name}", revision="{published.tag}"))\'')
