"""The command ``review``: people decide on masks and frames in a browser."""

from __future__ import annotations

import getpass
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sono.manifests import console
from sono.manifests.errors import UserError

from .options import JsonOption, WorkspaceArgument
from .proposals import BackendName

if TYPE_CHECKING:
    from sono.curation.review.server.run import ProxySettings


def review(
    workspace: WorkspaceArgument,
    reviewer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who decides; if omitted, your user name on this machine.")
    ] = None,
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="0 means that of the last time, or any that is free.")
    ] = 0,
    backend: Annotated[
        BackendName | None, typer.Option(help="What answers boxes and points, as for masks propose.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The model's weights, as for masks propose.")
    ] = None,
    decoder: Annotated[Path | None, typer.Option(metavar="FILE", help="Of onnx, its decoder.")] = None,
    preprocessing: Annotated[
        str, typer.Option(metavar="NAME", help="sam, medsam or litemedsam: the files of all three look the same.")
    ] = "sam",
    proxy_origin: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Serve behind your reverse proxy, at this address: https://review.hospital.example. Its users decide.",
        ),
    ] = None,
    proxy_user_header: Annotated[
        str, typer.Option(metavar="NAME", help="The header in which the proxy names its authenticated user.")
    ] = "X-Remote-User",
    proxy_secret: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file with what the proxy sends as X-Sono-Proxy-Secret.")
    ] = None,
    history: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Print every decision on this region_id or frame_id instead, and stop."),
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in your browser.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Accept, correct and reject masks and frames in the browser; likely bad ones come first.

    The page is served on this machine alone. Every decision is on disk before the page says that it is saved; Ctrl-C
    stops the server, and the tables show what was decided.

    Example: sono-curate review archive --backend onnx --checkpoint encoder.onnx --decoder decoder.onnx
    """
    from sono.manifests.workspace import open_workspace

    opened = open_workspace(workspace)
    if history is not None:
        _print_history(opened.path, history, as_json=as_json)
        return
    from sono.curation.masks.backends.registry import BackendChoice
    from sono.curation.review.server.run import serve_review

    choice = BackendChoice(backend.value, checkpoint, decoder, preprocessing) if backend else None

    def ready(address: str) -> None:
        if as_json:
            console.print_json({"address": address})
        else:
            print(f"Review at {address}\nStop with Ctrl-C: what is decided is saved already.")
        sys.stdout.flush()
        if open_browser and proxy_origin is None and sys.stdout.isatty():
            webbrowser.open(address)

    serve_review(
        opened,
        reviewer=reviewer or getpass.getuser(),
        port=port,
        backend=choice,
        proxy=_proxy(proxy_origin, proxy_user_header, proxy_secret),
        ready=ready,
    )
    if not as_json:
        print(f"Next: sono-curate status {workspace}")


def _proxy(origin: str | None, user_header: str, secret: Path | None) -> ProxySettings | None:
    """The proxy that the options describe.

    Raises:
        UserError: they do not go together, or the secret cannot be read.
    """
    from sono.curation.review.server.run import ProxySettings

    if origin is None and secret is None:
        return None
    if origin is None or secret is None:
        raise UserError("--proxy-origin and --proxy-secret go together", fix="give both, or neither")
    try:
        return ProxySettings(origin, user_header, secret.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("the proxy's secret cannot be read", where=str(secret), fix="name a text file") from error


def _print_history(workspace: Path, subject_id: str, *, as_json: bool) -> None:
    from sono.curation.review.server.history import history_of
    from sono.manifests.journal import Journal
    from sono.manifests.journal_file import journal_path

    path = journal_path(workspace)
    events = history_of(Journal(path), subject_id) if path.exists() else []
    if as_json:
        console.print_json({"id": subject_id, "events": events})
        return
    if not events:
        print("Nobody has decided anything on this id.")
        return
    for event in events:
        tool = event["tool"]
        assert isinstance(tool, dict)
        words = [
            f"{event['n']:>6}  {event['at']}  {event['reviewer']}: {event['action']}",
            f"of {event['undoes']}" if event["undoes"] else "",
            f"({event['status_before'] or 'nothing'} -> {event['status_after'] or 'nothing'})",
            f"IoU {event['iou']:.3f}" if event["iou"] is not None else "",
            f"with {', '.join(tool['used'])}" if tool.get("used") else "",
            f"as {event['reading']} reading" if event["reading"] != "first" else "",
        ]
        print(" ".join(word for word in words if word))
