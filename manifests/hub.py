"""The Hugging Face Hub as both programs see it: where it is, who asks, and its errors, each as one line.

A token is taken from where huggingface_hub finds it, and never printed or stored; HF_ENDPOINT is honoured.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar

from .errors import UserError, first_line

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

Kind = Literal["dataset", "model"]
Result = TypeVar("Result")

_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_TRIES = 4
_LONGEST_WAIT_S = 120.0
_AGAIN = "run the same command again; it resumes where it stopped"


@dataclass(frozen=True)
class Remote:
    """A repository of the Hub that a token's owner can write to, or could create."""

    api: HfApi = field(repr=False)
    kind: Kind
    repo_id: str

    @property
    def url(self) -> str:
        folder = "datasets/" if self.kind == "dataset" else ""
        return f"{self.api.endpoint}/{folder}{self.repo_id}"


def connect(repo_id: str, kind: Kind) -> Remote:
    """The repository ``repo_id``, whether or not it exists; a name without a namespace is in the token owner's.

    Raises:
        UserError: there is no token, the Hub refuses it, or it cannot be reached; the name cannot be one.
    """
    from huggingface_hub import HfApi, get_token

    check_name(repo_id)
    token = get_token()
    api = HfApi(token=token, library_name="sono-curate")
    if token is None:
        raise UserError(f"no token for {api.endpoint}", fix="run: hf auth login, or set HF_TOKEN")
    user = patiently(lambda: api.whoami()["name"], str(api.endpoint))
    return Remote(api, kind, repo_id if "/" in repo_id else f"{user}/{repo_id}")


def reader(repo_id: str, kind: Kind) -> Remote:
    """The repository ``repo_id``, to read from it: with the token that there is, or with none.

    Raises:
        UserError: the name cannot be one; without a token, it has no namespace.
    """
    from huggingface_hub import HfApi, get_token

    if get_token() and "/" not in repo_id:
        return connect(repo_id, kind)
    check_name(repo_id)
    if "/" not in repo_id:
        raise UserError(f"{repo_id!r} names no namespace", fix="give NAMESPACE/NAME")
    return Remote(HfApi(token=get_token() or False, library_name="sono-curate"), kind, repo_id)


def refuse_other_kind(remote: Remote) -> None:
    """Say so if the name is that of a repository of the other kind.

    Raises:
        UserError: it is.
    """
    other = "model" if remote.kind == "dataset" else "dataset"
    if remote.api.repo_exists(remote.repo_id, repo_type=other):
        raise UserError(f"{remote.repo_id} is the name of a {other}", where=remote.url, fix="name another repository")


def list_files(remote: Remote, revision: str) -> dict[str, RepoFile]:
    """Every file of a revision by its path."""
    from huggingface_hub.hf_api import RepoFile

    entries = remote.api.list_repo_tree(remote.repo_id, repo_type=remote.kind, revision=revision, recursive=True)
    return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


def download_small(remote: Remote, path: str, revision: str) -> bytes:
    """The content of a small file.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    import tempfile
    from pathlib import Path

    def get() -> bytes:
        with tempfile.TemporaryDirectory(prefix="sono-hub-") as folder:
            found = remote.api.hf_hub_download(
                remote.repo_id, path, repo_type=remote.kind, revision=revision, local_dir=folder
            )
            return Path(found).read_bytes()

    return patiently(get, remote.url)


def assumed(repo_id: str, kind: Kind) -> Remote:
    """The repository as far as its name says, for who cannot ask the Hub."""
    from huggingface_hub import HfApi

    check_name(repo_id)
    return Remote(HfApi(token=False), kind, repo_id)


def check_name(repo_id: str) -> None:
    """Check that the Hub would take the name.

    Raises:
        UserError: it would not.
    """
    parts = repo_id.split("/")
    if len(parts) > 2 or not all(_PART.fullmatch(part) and ".." not in part and "--" not in part for part in parts):
        raise UserError(
            f"{repo_id!r} cannot be a repository's name",
            fix="give NAMESPACE/NAME of letters, digits, '-', '_' and '.'",
        )


def patiently(call: Callable[[], Result], place: str) -> Result:
    """Call until it works, as long as the Hub or the network is at fault and may get over it.

    ``call`` has to do only what is still missing: the answer to what it did before may have been lost.

    Args:
        place: what an error is about, such as the repository's address.

    Raises:
        UserError: it still fails after a few tries, or the fault is another one.
    """
    wait_s = 1.0
    for _ in range(_TRIES - 1):
        try:
            with hub_errors(place):
                return call()
        except TransientError as error:
            if error.wait_s is not None and error.wait_s > _LONGEST_WAIT_S:
                raise
            time.sleep(wait_s if error.wait_s is None else error.wait_s)
            wait_s *= 2
    with hub_errors(place):
        return call()


class TransientError(UserError):
    """A fault that may pass; ``wait_s`` is what the Hub asks for."""

    wait_s: float | None = None


@contextlib.contextmanager
def hub_errors(place: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into one line.

    Raises:
        UserError: something was raised.
        TransientError: the same call may work later.
    """
    from httpx2 import HTTPError
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        yield
    except OfflineModeIsEnabled as error:
        raise UserError("HF_HUB_OFFLINE forbids to ask the Hub", where=place, fix="unset it") from error
    except (HTTPError, RuntimeError, ValueError) as error:
        raise _in_one_line(error, place) from error
    except (LookupError, TypeError, AttributeError, AssertionError) as error:  # of who reads the answer
        raise _not_understood(place) from error
    except OSError as error:
        if error.errno is not None:  # a fault of this machine
            raise
        raise _transient(f"the connection failed ({type(error).__name__})", place, None) from error


def _in_one_line(error: Exception, place: str) -> UserError:
    from httpx2 import HTTPError
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error.__cause__, HTTPError) and not isinstance(error, HTTPError):
        return _in_one_line(error.__cause__, place)  # an upload's thread names the file around it
    status = error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else None
    if isinstance(error, GatedRepoError):
        what = "its owner grants access to each reader, and has not granted it to you"
        return UserError(what, where=place, fix="ask for access on its page, and run: hf auth login")
    if isinstance(error, RevisionNotFoundError):
        return UserError("it has no such revision", where=place, fix="name a branch, a tag or a commit that is there")
    if isinstance(error, RepositoryNotFoundError):
        return UserError("not found, or hidden from your token", where=place, fix="check the name and the token")
    if status is not None and (status in (408, 429) or status >= 500):
        return _transient(f"the Hub answers {status}", place, _retry_after(error))
    if status is not None:
        return _refused(status, error, place)
    if isinstance(error, HTTPError):
        return _transient(f"the connection failed ({type(error).__name__})", place, None)
    if isinstance(error, json.JSONDecodeError):
        return _not_understood(place)
    return UserError(f"the Hub's client failed: {_said(error)}", where=place, fix=_AGAIN)


def _not_understood(place: str) -> UserError:
    return UserError("the Hub's answer makes no sense", where=place, fix="see whether HF_ENDPOINT is a Hub's address")


def _said(error: Exception) -> str:
    """What an error says, without what follows an address: a signature there lets anybody in."""
    return re.sub(r"(https?://[^\s?'\"]*)\?[^\s'\"]*", r"\1", first_line(error))


def _refused(status: int, error: Exception, place: str) -> UserError:
    if status == 401:
        return UserError(
            "the Hub does not know your token", where=place, fix="run: hf auth login, or set HF_TOKEN to a valid one"
        )
    if status == 403:
        return UserError(
            "your token cannot write here",
            where=place,
            fix="use one with write access to this namespace, or name another",
        )
    if status in (409, 412):
        return UserError("it was changed by somebody else meanwhile", where=place, fix="run the same command again")
    if status in (413, 507):
        return UserError(f"the Hub has no room for this ({status})", where=place, fix="see your quota on the Hub")
    message = getattr(error, "server_message", None)
    return UserError(f"the Hub refuses ({status}): {message or _said(error)}", where=place)


def _transient(what: str, place: str, wait_s: float | None) -> TransientError:
    fix = _AGAIN if wait_s is None else f"wait {wait_s:.0f} s, then {_AGAIN}"
    error = TransientError(what, where=place, fix=fix)
    error.wait_s = wait_s
    return error


def _retry_after(error: Exception) -> float | None:
    value = getattr(error, "response").headers.get("Retry-After", "")  # noqa: B009 - its type is huggingface_hub's
    return float(value) if value.isdigit() else None


@contextlib.contextmanager
def quietly(show_bars: bool) -> Iterator[None]:
    """Without huggingface_hub's warnings about repeated requests, whose addresses are signed, and its bars if asked."""
    from huggingface_hub import logging as hub_logging
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    level, disabled = hub_logging.get_verbosity(), are_progress_bars_disabled()
    hub_logging.set_verbosity(logging.ERROR)
    if not show_bars:
        disable_progress_bars()
    try:
        yield
    finally:
        hub_logging.set_verbosity(level)
        if not disabled:
            enable_progress_bars()
