"""The options of both programs' ``publish``, in the same words."""

from __future__ import annotations

from typing import Annotated

import typer

RepoArgument = Annotated[str, typer.Argument(metavar="REPO", help="Repository on the Hub: NAMESPACE/NAME.")]
PrivateOption = Annotated[
    bool | None,
    typer.Option("--private/--public", help="Who can see it. A new repository is private.", show_default=False),
]
GatedOption = Annotated[
    bool | None,
    typer.Option(
        "--gated/--open",
        help="Whether you grant access to each reader. A new repository is gated.",
        show_default=False,
    ),
]
TagOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Tag of this revision. If omitted, it follows from the content.")
]
MessageOption = Annotated[str | None, typer.Option(metavar="TEXT", help="What the revision's commit says.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Print what would be sent and deleted, and where; change nothing.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Make it public without asking for its name.")]
