"""An OpenAI-compatible endpoint: its settings, and requests that are repeated when it fails."""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import re
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sono.manifests.errors import UserError

_REPLY_BYTES_MOST = 4_000_000


class LanguageModelSection(BaseModel):
    """``[language_model]`` of ``sono.toml``: an endpoint with OpenAI's chat completions API."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: str  # ends before /chat/completions: http://127.0.0.1:8000/v1
    model: Annotated[str, Field(min_length=1, pattern=r"^[\w./:@+-]+$")]
    api_key_env: str = ""  # the environment variable that holds the key; if empty, no key is sent
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 60
    max_retries: Annotated[int, Field(ge=0, le=20)] = 4
    allow_remote: bool = False  # text may leave this machine

    @field_validator("base_url")
    @classmethod
    def _plain(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:  # may raise, too
            raise ValueError("give http://host:port/v1")
        if not re.fullmatch(r"[!-~]+", url):
            raise ValueError("an address has plain characters and no spaces")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("a key does not belong in the address; name its environment variable in api_key_env")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _at_home(self) -> LanguageModelSection:
        address = urlsplit(self.base_url)
        if _is_loopback(address.hostname or ""):
            return self
        if not self.allow_remote:
            raise ValueError(
                "base_url is another machine, to which de-identified text would go: set allow_remote = true to agree"
            )
        if address.scheme != "https" and self.api_key_env:
            raise ValueError("base_url is another machine, and http would send the key readable on the way: use https")
        return self


@dataclass(frozen=True)
class Endpoint:
    """Asks a language model for completions. ``pause`` waits for so many seconds between two attempts."""

    settings: LanguageModelSection
    pause: Callable[[float], None] = field(default=time.sleep, repr=False)

    def post(self, body: dict[str, Any]) -> bytes:
        """The reply to a request.

        Raises:
            UserError: the endpoint is silent, or refuses, or the key is missing.
        """
        where = self.settings.base_url
        trouble = ""
        for attempt in range(self.settings.max_retries + 1):
            wait: float = min(2.0**attempt, 30)
            try:
                status, retry_after, reply = self._send(json.dumps(body).encode())
            except (OSError, http.client.HTTPException) as error:
                trouble = f"the language model did not answer ({type(error).__name__})"
            else:
                if status == 200:
                    return reply
                if status != 429 and status < 500:
                    raise UserError(
                        f"the language model's endpoint refused the request with HTTP status {status}",
                        where=where,
                        fix="check base_url, model and the key that api_key_env names",
                    )
                trouble = f"the language model's endpoint answered with HTTP status {status}"
                wait = min(float(retry_after), 120) if re.fullmatch(r"[0-9]{1,6}", retry_after) else wait
            if attempt < self.settings.max_retries:
                self.pause(wait)
        raise UserError(
            trouble, where=where, fix="start the endpoint, or raise timeout_s or max_retries; then run again"
        )

    def _send(self, body: bytes) -> tuple[int, str, bytes]:
        """One request. No proxy is used and no redirect is followed: the text goes nowhere else."""
        parts = urlsplit(self.settings.base_url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        with closing(kind(parts.hostname or "", parts.port, timeout=self.settings.timeout_s)) as connection:
            connection.request("POST", f"{parts.path}/chat/completions", body, self._headers())
            response = connection.getresponse()
            return response.status, response.getheader("Retry-After") or "", response.read(_REPLY_BYTES_MOST)

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if self.settings.api_key_env:
            key = os.environ.get(self.settings.api_key_env, "")
            if not key or not key.isascii() or not key.isprintable():
                raise UserError(
                    f"the environment variable {self.settings.api_key_env} does not contain a key",
                    where=self.settings.base_url,
                    fix="set it, or leave api_key_env empty",
                )
            headers["Authorization"] = f"Bearer {key}"
        return headers


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
