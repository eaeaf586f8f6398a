"""The language model's endpoint: where text may go, how failures end, and whose key is sent."""

from __future__ import annotations

import socket

import pytest
from pydantic import ValidationError

from sono.captioning.prose.endpoint import LanguageModelSection
from sono.manifests.errors import UserError
from tests.captioning.prose.endpoints import TEXT, taken


def test_server_errors_are_retried(make, endpoint, waits):
    endpoint.answers = [
        (500, {}, "x"),
        (503, {}, "x"),
        (429, {"Retry-After": "7"}, "x"),
        [("bpd_mm", "52.3", "BPD 52.3 mm")],
    ]
    assert taken(make()) == ({("bpd_mm", 52.3)}, [])
    assert waits == [1, 2, 7]


def test_the_error_for_a_failing_endpoint_holds_neither_text_nor_key(make, endpoint, monkeypatch, waits):
    monkeypatch.setenv("MODEL_KEY", "sk-canary")
    endpoint.answers = [(500, {}, "x")]
    with pytest.raises(UserError, match="HTTP status 500") as caught:
        make(max_retries=2, api_key_env="MODEL_KEY")(TEXT, "column report", [])
    assert (len(endpoint.bodies), len(waits)) == (3, 2)
    assert endpoint.url in str(caught.value)
    assert "canary" not in str(caught.value)
    assert "BPD" not in str(caught.value)


def test_a_slow_endpoint_times_out(make, endpoint):
    endpoint.answers = ["hang"]
    with pytest.raises(UserError, match="did not answer"):
        make(timeout_s=0.1, max_retries=1)(TEXT, "column report", [])
    assert len(endpoint.bodies) == 2


def test_a_missing_server_is_a_user_error(make):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(UserError, match="did not answer"):
        make(base_url=url, max_retries=1)(TEXT, "column report", [])


def test_refusals_are_not_retried_and_redirects_not_followed(make, endpoint):
    for status in (401, 404, 302):
        endpoint.bodies.clear()
        endpoint.answers = [(status, {"Location": endpoint.url + "/elsewhere"}, "x")]
        with pytest.raises(UserError, match=f"HTTP status {status}"):
            make()(TEXT, "column report", [])
        assert len(endpoint.bodies) == 1


def test_the_key_comes_from_the_environment(make, endpoint, monkeypatch):
    monkeypatch.setenv("MODEL_KEY", "sk-1")
    make(api_key_env="MODEL_KEY")(TEXT, "column report", [])
    assert endpoint.headers[0]["Authorization"] == "Bearer sk-1"
    make(model="other")(TEXT, "column report", [])
    assert "Authorization" not in endpoint.headers[1]
    monkeypatch.delenv("MODEL_KEY")
    with pytest.raises(UserError, match="MODEL_KEY does not contain a key"):
        make(model="third", api_key_env="MODEL_KEY")(TEXT, "column report", [])


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.org/v1",
        "http://10.0.0.7/v1",
        "http://127.0.0.1.example.org/v1",
        "http://localhost.example.org",
    ],
)
def test_another_machine_needs_allow_remote(url):
    with pytest.raises(ValidationError, match="allow_remote"):
        LanguageModelSection(base_url=url, model="m")
    assert LanguageModelSection(base_url=url, model="m", allow_remote=True).base_url == url


def test_a_key_goes_to_another_machine_by_https_only():
    settings = {"model": "m", "allow_remote": True, "api_key_env": "MODEL_KEY"}
    with pytest.raises(ValidationError, match="send the key readable on the way"):
        LanguageModelSection(base_url="http://models.example/v1", **settings)
    assert LanguageModelSection(base_url="https://models.example/v1", **settings).api_key_env == "MODEL_KEY"


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/v1", "http://[::1]:8000/v1", "http://localhost/v1/"])
def test_this_machine_needs_no_allow_remote(url):
    assert LanguageModelSection(base_url=url, model="m").base_url == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1",
        "127.0.0.1:8000",
        "http://key@127.0.0.1/v1",
        "http://127.0.0.1/v1?key=1",
        "http://127.0.0.1:99999/v1",
        "http://127.0.0.1:port/v1",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/ü",
        "http://127.0.0.1/v1\n",
    ],
)
def test_an_address_with_a_key_or_of_another_kind_is_refused(url):
    with pytest.raises(ValidationError):
        LanguageModelSection(base_url=url, model="m")


def test_an_infinite_timeout_is_refused():
    with pytest.raises(ValidationError):
        LanguageModelSection(base_url="http://127.0.0.1/v1", model="m", timeout_s=float("inf"))
