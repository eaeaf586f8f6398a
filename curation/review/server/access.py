"""Who may use the server, and from where: a token or the hospital's proxy, the right host and origin."""

from __future__ import annotations

import hmac
import json
import re
import secrets
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from sono.manifests.errors import UserError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE_HEADER = b"x-sono-review"
SECRET_HEADER = b"x-sono-proxy-secret"
_REVIEWER = re.compile(r"[\w][\w .@+-]{0,63}")
_LARGEST_BODY = 8 * 2**20
_SECURITY = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


def checked_reviewer(name: str) -> str:
    """A reviewer's name as it stands in the journal.

    Raises:
        UserError: it cannot be one.
    """
    if not _REVIEWER.fullmatch(name):
        raise UserError(
            f"{name!r} cannot be the name of a reviewer", fix="use up to 64 letters, digits, spaces and . _ @ + -"
        )
    return name


@dataclass(frozen=True)
class Alone:
    """One reviewer on this machine: whoever knows the token, which is in the address that is printed.

    Attributes:
        origin: the server's own, ``http://127.0.0.1:PORT``.
    """

    reviewer: str
    origin: str
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    @property
    def address(self) -> str:
        return f"{self.origin}/?token={self.token}"

    @property
    def cookie(self) -> str:
        return f"sono_review_{urlsplit(self.origin).port}"  # cookies do not know ports


@dataclass(frozen=True)
class BehindProxy:
    """Reviewers whom the hospital's reverse proxy has authenticated, by the name that it puts into ``user_header``.

    Attributes:
        origin: as browsers see it, ``https://review.hospital.example``.
        secret: what the proxy sends in ``X-Sono-Proxy-Secret``, so that nobody else on this machine can name a user.
    """

    origin: str
    user_header: str
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.query:
            raise UserError(
                f"{self.origin!r} is not an origin", fix="give scheme and host alone: https://review.hospital.example"
            )
        if len(self.secret) < 16:
            raise UserError("the proxy's secret is shorter than 16 characters", fix="make one: openssl rand -hex 32")


Access = Alone | BehindProxy


class AccessCheck:
    """ASGI middleware that refuses every request which is not a reviewer's own.

    It sets ``scope["state"]["reviewer"]``. Against other pages in the same browser: the host must be the server's own
    (DNS rebinding), and what changes something must come from its own page (origin, and a header that no form can
    send).
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access
        self._host = urlsplit(access.origin).netloc.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = _single(scope["headers"])
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _answer(send, *refusal, for_people=scope["path"] == "/")
            return
        await self._app(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope, headers: MutableMapping[bytes, bytes] | None) -> tuple[int, str, str, Any] | None:
        """Status, code, message and more headers of the answer to a request that is not let through."""
        if headers is None:
            return 400, "bad_request", "A header was sent twice.", ()
        if headers.get(b"host") != self._host:
            return 421, "wrong_host", f"Open {self._access.origin} instead.", ()
        if int(headers.get(b"content-length", b"0") or 0) > _LARGEST_BODY or b"transfer-encoding" in headers:
            return 413, "too_large", "This is more than a decision can be.", ()
        if scope["method"] not in ("GET", "HEAD") and not self._own_page(headers):
            return 403, "wrong_origin", "Only the review page may do this.", ()
        reviewer = self._reviewer(scope, headers)
        if isinstance(reviewer, tuple):
            return reviewer
        scope.setdefault("state", {})["reviewer"] = reviewer
        return None

    def _own_page(self, headers: MutableMapping[bytes, bytes]) -> bool:
        return headers.get(b"origin") == self._access.origin.encode() and headers.get(SAFE_HEADER) == b"1"

    def _reviewer(self, scope: Scope, headers: MutableMapping[bytes, bytes]) -> str | tuple[int, str, str, Any]:
        access = self._access
        if isinstance(access, BehindProxy):
            if not hmac.compare_digest(headers.get(SECRET_HEADER, b""), access.secret.encode()):
                return 403, "not_the_proxy", f"Open {access.origin} instead: this server answers its proxy alone.", ()
            name = headers.get(access.user_header.lower().encode(), b"").decode("utf-8", "replace")
            if not _REVIEWER.fullmatch(name):
                return 401, "no_reviewer", "The proxy named no user who could be a reviewer.", ()
            return name
        given = parse_qs(scope["query_string"].decode("ascii", "replace")).get("token", [""])[0]
        if scope["path"] == "/" and given and hmac.compare_digest(given.encode(), access.token.encode()):
            cookie = f"{access.cookie}={access.token}; Path=/; HttpOnly; SameSite=Strict"
            return 303, "", "", ((b"location", b"/"), (b"set-cookie", cookie.encode()))
        if not hmac.compare_digest(_cookie(headers, access.cookie).encode(), access.token.encode()):
            return 401, "no_token", "Open the address that sono-curate review printed: it has the key to this page.", ()
        return access.reviewer


def _single(headers: Any) -> MutableMapping[bytes, bytes] | None:
    """Headers by name; None if one that decides something was sent twice."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in found and name not in (b"cookie", b"accept", b"accept-encoding", b"via", b"x-forwarded-for"):
            return None
        found[name] = value
    return found


def _cookie(headers: MutableMapping[bytes, bytes], name: str) -> str:
    try:
        cookies = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
    except CookieError:
        return ""
    return cookies[name].value if name in cookies else ""


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *_encoded()]
        await send(message)

    return sending


def _encoded() -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in _SECURITY.items()]


async def _answer(send: Send, status: int, code: str, message: str, more: Any, *, for_people: bool) -> None:
    kind = b"text/plain; charset=utf-8" if for_people else b"application/json"
    body = (message if for_people else json.dumps({"error": code, "message": message})).encode()
    headers = [*_encoded(), (b"content-type", kind), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
