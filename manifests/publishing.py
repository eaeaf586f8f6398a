"""What the ``publish`` commands of both programs do once their gate has judged: say what would be sent, or send it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from .console import EXIT_USER_ERROR
from .errors import UserError, plain
from .hub import Kind, Remote, assumed, check_name, connect, quietly
from .hub_upload import Plan, Published, RefusedError, Wanted, plan_revision, publish_revision
from .publishable import LocalFile, Refusal, card_metadata, digest_files, find_files


@dataclass(frozen=True)
class Asked:
    """What the command line says; None where it says nothing."""

    repo_id: str
    kind: Kind
    private: bool | None = None
    gated: bool | None = None
    tag: str | None = None
    message: str | None = None
    dry_run: bool = False
    yes: bool = False


def publish_folder(
    folder: Path,
    listed: Sequence[str],
    judge: Callable[[Sequence[LocalFile]], Sequence[Refusal]],
    asked: Asked,
    *,
    read_back: Callable[[Remote, str], None] = lambda _remote, _commit: None,
    hold: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Published | None:
    """Publish the files of ``folder`` that are on the list, or print what would be sent.

    They are judged before anything is sent and again before main moves: an upload may take hours, in which others work
    on, and somebody may take back the consent.

    Args:
        judge: why they must not be published; empty if they may.
        read_back: as for ``publish_revision``.
        hold: keeps what ``judge`` looks at as it is, from its last answer until main has moved. Not before: nobody
            should have to wait for an upload.

    Returns:
        None for a dry run.

    Raises:
        UserError: as ``plan_revision`` and ``publish_revision``.
        SystemExit: the gate refuses; every reason was printed.
    """
    check_name(asked.repo_id)
    files = digest_files(folder, find_files(folder, listed)[0])
    refusals = judge(files)
    wanted = Wanted(
        files,
        listed,
        asked.message or f"Publish with sono-{'curate' if asked.kind == 'dataset' else 'train'}",
        tag=asked.tag,
        private=asked.private,
        gated=asked.gated,
    )
    if asked.dry_run:
        for line in describe(*_plan_anyway(asked, wanted), folder):
            print(line)
        _refuse(refusals)
        return None
    _refuse(refusals)

    @contextmanager
    def last_look() -> Iterator[Sequence[Refusal]]:
        with hold():
            yield judge(files)

    with quietly(show_bars=sys.stderr.isatty()):
        plan = plan_revision(connect(asked.repo_id, asked.kind), wanted)
        if not plan.private and not asked.yes:
            confirm_name(
                plan.remote.repo_id,
                f"{plan.remote.repo_id} will be public: anyone can find and copy it, for ever.",
            )
        try:
            return publish_revision(
                plan, read_back=read_back, last_look=last_look, progress=lambda line: print(line, file=sys.stderr)
            )
        except RefusedError as refused:
            _refuse(refused.refusals)
            raise


def describe(plan: Plan, unasked: str | None, folder: Path) -> Iterator[str]:
    """What publishing would do, line by line.

    Args:
        unasked: why the Hub was not asked; then all is as for a new repository.
    """
    yield f"to        {plan.remote.url} ({'there already' if plan.exists else 'new'})"
    if unasked:
        yield f"          assumed: the Hub was not asked ({unasked})"
    access = f"{'private' if plan.private else 'public'}, {'gated' if plan.gated else 'open'}"
    yield f"access    {access}"
    yield f"tag       {plan.tag}{' (there already)' if plan.tagged else ''}"
    yield f"branch    {plan.branch}, until all of it was checked; then main moves in one commit"
    for name, value in card_metadata(folder).items():
        yield f"card      {name}: {_short(value)}"
    for file in plan.send:
        yield f"send      {file.path}  {file.size:,} bytes  {file.sha256[:12]}"
    for path in plan.delete:
        yield f"delete    {path}"
    for path in plan.left_alone:
        yield f"leave     {path}, which was not published from here"
    sent, deleted = len(plan.send), len(plan.delete)
    kept = len(plan.wanted.files) - sent
    yield f"in all    {sent:,} files to send ({plan.bytes:,} bytes), {deleted:,} to delete, {kept:,} unchanged"


def _short(value: object) -> str:
    """A value of the card's metadata in one line; of descriptions, such as those of features, their number."""
    if isinstance(value, list):
        described = any(isinstance(item, dict | list) for item in value)
        return f"{len(value)} described" if described else ", ".join(plain(str(item)) for item in value)
    return plain(str(value))


def _plan_anyway(asked: Asked, wanted: Wanted) -> tuple[Plan, str | None]:
    """The plan; without a token or a network, as for a new repository, and why."""
    from huggingface_hub import get_token
    from huggingface_hub.constants import is_offline_mode

    if get_token() is None or is_offline_mode():
        reason = "HF_HUB_OFFLINE is set" if is_offline_mode() else "no token"
        return plan_revision(assumed(asked.repo_id, asked.kind), wanted, ask=False), reason
    with quietly(show_bars=False):
        return plan_revision(connect(asked.repo_id, asked.kind), wanted), None


def _refuse(refusals: Sequence[Refusal]) -> None:
    """Print every reason, and end the program."""
    for refusal in refusals:
        print(plain(f"refused: {refusal.check}: {refusal.what}; {refusal.fix}"), file=sys.stderr)
    if refusals:
        raise SystemExit(EXIT_USER_ERROR)


def confirm_name(repo_id: str, warning: str) -> None:
    """Ask for the repository's name before something is done that cannot be undone.

    Raises:
        UserError: another name was typed, or none.
    """
    print(f"{warning} Type its name to go on: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != repo_id:
        raise UserError("nothing was done: that is not its name", fix="type the name as it is shown, or give --yes")
