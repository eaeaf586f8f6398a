"""A Hub on 127.0.0.1: what huggingface_hub 2.x and datasets 5.x ask for, answered from a folder.

Contents travel by Git LFS (basic and multipart) and are downloaded from another origin, as from the Hub's CDN. It does
not speak Xet: clients have to be told so (HF_HUB_DISABLE_XET=1). Unlike the Hub, it forgets commits that nothing leads
to at once, and nobody can open a pull request.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import math
import re
import shutil
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, quote, unquote, urlencode

import yaml
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from .faults import Fault
from .storage import CONVERTS, HEADS, PULL_REQUESTS, TAGS, Files, Move, RefusedError, Repository, StoredFile

Moment = Literal["before", "amid", "after"]
"""Of a request: before anything is done, while its body arrives, and when all is done but the answer."""

_KINDS = {"models": "", "datasets": "datasets/", "spaces": "spaces/"}
_PAGE = 1000
_INVALID_TOKEN = "Invalid credentials in Authorization header"
_REPO = r"/api/(?P<kinds>models|datasets|spaces)/(?P<name>[^/]+/[^/]+)"
_FILES = r"/(?P<prefix>datasets/|spaces/)?(?P<name>[^/]+/[^/]+?)"


@dataclass(frozen=True)
class User:
    """Whom a token belongs to; ``role`` is read or write."""

    name: str
    role: str = "write"


@dataclass(frozen=True)
class Logged:
    """A request that was answered, or that a fault has struck (then ``status`` is 0)."""

    method: str
    path: str
    status: int
    received: int


@dataclass
class HubServer:
    """The state of the Hub, and the ASGI application.

    Attributes:
        address: of the API.
        cdn: the origin of downloads: the same server by another name.
        users: by token.
        multipart_bytes: larger files are uploaded in parts of this size.
        page: entries in one page of a tree.
        watch: is called with the method at every moment of every request, from the Hub's thread.
    """

    root: Path
    address: str = ""
    cdn: str = ""
    users: dict[str, User] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    log: list[Logged] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    multipart_bytes: int = 20_000_000
    page: int = _PAGE
    watch: Callable[[str, Moment], None] = field(default=lambda method, moment: None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        method, path = scope["method"], scope["raw_path"].decode("ascii")
        fault = next((fault for fault in list(self.faults) if fault.strikes(method, path)), None)
        counted = _Counted(
            receive, fault.bytes_per_second if fault and fault.kind == "slow" else None, partial(self.watch, method)
        )
        self.watch(method, "before")
        if fault and fault.kind == "drop":
            await receive()
            self.log.append(Logged(method, path, 0, 0))
            return await _break_off(send)
        if fault and fault.kind == "status":
            await _drain(receive)
            response: Response = JSONResponse({"error": "on request"}, fault.status, headers=dict(fault.headers))
        else:
            try:
                response = await self._answer(Request(scope, counted))
            except RefusedError as refusal:
                headers = {"X-Error-Message": refusal.message}
                headers |= {"X-Error-Code": refusal.code} if refusal.code else {}
                response = JSONResponse({"error": refusal.message}, refusal.status, headers=headers)
            except ClientDisconnect:
                self.log.append(Logged(method, path, 0, counted.bytes))
                return None
        self.log.append(Logged(method, path, response.status_code, counted.bytes))
        self.watch(method, "after")
        if fault and fault.kind == "lose":
            return await _break_off(send)
        if fault and fault.kind == "slow":
            send = _slowly(send, fault.bytes_per_second)
        await response(scope, receive, send)
        return None

    def repository(self, kind: str, name: str) -> Repository:
        """An existing one.

        Raises:
            RefusedError: there is none.
        """
        folder = self._folder(kind, name)
        if not folder.exists():
            raise RefusedError(404, "Repository not found", "RepoNotFound")
        return Repository(folder, kind, name, self.moves)

    def clear(self) -> None:
        """Back to the beginning: no repository, no fault, no log."""
        for name in ("repos", "parts"):
            shutil.rmtree(self.root / name, ignore_errors=True)
        for items in (self.faults, self.log, self.moves):
            items.clear()
        self.multipart_bytes, self.page = 20_000_000, _PAGE
        self.watch = lambda method, moment: None

    def _folder(self, kind: str, name: str) -> Path:
        return self.root / "repos" / kind / name.replace("/", "--")

    async def _answer(self, request: Request) -> Response:
        method, path = request.method, request.scope["raw_path"].decode("ascii")
        for wanted, pattern, handler in _ROUTES:
            found = re.fullmatch(pattern, path)
            if found and method in wanted.split():
                groups = {key: unquote(value or "") for key, value in found.groupdict().items()}
                return await handler(self, request, groups)
        raise RefusedError(404, f"This Hub does not know {method} {path}")

    # Who asks, and what they may do

    def _user(self, request: Request) -> User | None:
        header = request.headers.get("authorization")
        if header is None:
            return None
        user = self.users.get(header.removeprefix("Bearer "))
        if user is None:
            raise RefusedError(401, _INVALID_TOKEN)
        return user

    def _readable(self, request: Request, kind: str, name: str) -> Repository:
        user = self._user(request)
        status = 401 if user is None else 404
        if not self._folder(kind, name).exists():
            raise RefusedError(status, "Repository not found", "RepoNotFound")
        repo = self.repository(kind, name)
        if repo.settings["private"] and not _owns(user, name):
            raise RefusedError(status, "Repository not found", "RepoNotFound")
        return repo

    def _writable(self, request: Request, kind: str, name: str) -> Repository:
        repo = self._readable(request, kind, name)
        self._check_writes(request, name)
        return repo

    def _check_writes(self, request: Request, name: str) -> None:
        user = self._user(request)
        if user is None:
            raise RefusedError(401, "Invalid username or password.")
        if not _owns(user, name) or user.role != "write":
            raise RefusedError(403, f"You don't have the required permissions to write to {name}")

    # Account and repositories

    async def whoami(self, request: Request, at: Mapping[str, str]) -> Response:
        user = self._user(request)
        if user is None:
            raise RefusedError(401, "Invalid username or password.")
        token = {"displayName": "test", "role": user.role}
        return JSONResponse(
            {"type": "user", "name": user.name, "orgs": [], "auth": {"type": "access_token", "accessToken": token}}
        )

    async def create(self, request: Request, at: Mapping[str, str]) -> Response:
        asked = await request.json()
        user = self._user(request)
        name = f"{asked.get('organization') or (user.name if user else '')}/{asked['name']}"
        self._check_writes(request, name)
        kind = asked.get("type", "model")
        url = f"{self.address}/{_KINDS[kind + 's']}{name}"
        if self._folder(kind, name).exists():
            return JSONResponse({"error": f"You already created this {kind} repo", "url": url}, 409)
        private = asked.get("visibility", "public") == "private" or bool(asked.get("private"))
        Repository(self._folder(kind, name), kind, name, self.moves).create(private)
        return JSONResponse({"url": url, "name": name, "id": name})

    async def delete(self, request: Request, at: Mapping[str, str]) -> Response:
        asked = await request.json()
        user = self._user(request)
        name = f"{asked.get('organization') or (user.name if user else '')}/{asked['name']}"
        repo = self._writable(request, asked.get("type", "model"), name)
        shutil.rmtree(repo.folder)
        return JSONResponse({})

    async def settings(self, request: Request, at: Mapping[str, str]) -> Response:
        repo = self._writable(request, at["kinds"][:-1], at["name"])
        asked = await request.json()
        changes = {"gated": asked["gated"]} if "gated" in asked else {}
        if "visibility" in asked or "private" in asked:
            changes["private"] = asked.get("visibility") == "private" or bool(asked.get("private"))
        repo.change_settings(**changes)
        return JSONResponse({**repo.settings})

    async def auth_check(self, request: Request, at: Mapping[str, str]) -> Response:
        if at["write"]:
            self._writable(request, at["kinds"][:-1], at["name"])
        else:
            self._check_gate(request, self._readable(request, at["kinds"][:-1], at["name"]))
        return JSONResponse({})

    async def validate_yaml(self, request: Request, at: Mapping[str, str]) -> Response:
        try:
            metadata = _metadata((await request.json())["content"])
        except yaml.YAMLError as error:
            return JSONResponse({"errors": [{"message": str(error)}], "warnings": []}, 400)
        warnings = [] if metadata else [{"message": "empty or missing yaml metadata in repo card"}]
        return JSONResponse({"errors": [], "warnings": warnings})

    async def info(self, request: Request, at: Mapping[str, str]) -> Response:
        repo = self._readable(request, at["kinds"][:-1], at["name"])
        commit = repo.commit_of(at["revision"] or "main")
        files = repo.files(commit)
        blobs = "blobs" in request.query_params
        siblings = [
            {"rfilename": path, **(_described(path, file) if blobs else {})} for path, file in sorted(files.items())
        ]
        card = files.get("README.md")
        metadata = _metadata(repo.content_path(card).read_text("utf-8")) if card else {}
        about = {
            "_id": "0" * 24, "id": repo.name, "author": repo.name.partition("/")[0], "sha": commit, "disabled": False,
            "createdAt": repo.commit(commit)["date"], "lastModified": repo.commit(commit)["date"], "likes": 0,
            "downloads": 0, "tags": [], "siblings": siblings, "cardData": metadata, **repo.settings,
        }  # fmt: skip
        return JSONResponse(about)

    # Commits and refs

    async def tree(self, request: Request, at: Mapping[str, str]) -> Response:
        repo = self._readable(request, at["kinds"][:-1], at["name"])
        files = repo.files(repo.commit_of(at["revision"]))
        folder = at["path"].strip("/")
        entries = list(_entries(files, folder, request.query_params.get("recursive", "").lower() == "true"))
        if folder and not entries:
            raise RefusedError(404, f"{folder} does not exist on {at['revision']}", "EntryNotFound")
        start = int(request.query_params.get("cursor", "0"))
        headers = {}
        if start + self.page < len(entries):
            query = urlencode({**request.query_params, "cursor": start + self.page})
            url = f"{self.address}{request.scope['raw_path'].decode('ascii')}?{query}"
            headers["Link"] = f'<{url}>; rel="next"'
        return JSONResponse(entries[start : start + self.page], headers=headers)

    async def paths_info(self, request: Request, at: Mapping[str, str]) -> Response:
        repo = self._readable(request, at["kinds"][:-1], at["name"])
        files = repo.files(repo.commit_of(at["revision"]))
        if request.headers.get("content-type", "").startswith("application/json"):
            paths = (await request.json())["paths"]
        else:
            paths = parse_qs((await request.body()).decode())["paths"]
        entries = {entry["path"]: entry for entry in _entries(files, "", recursive=True)}
        return JSONResponse([entries[path] for path in paths if path in entries])

    async def refs(self, request: Request, at: Mapping[str, str]) -> Response:
        repo = self._readable(request, at["kinds"][:-1], at["name"])
        listed = {
            name: [
                {"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": commit}
                for ref, commit in repo.refs.items()
                if ref.startswith(prefix)
            ]
            for name, prefix in (
                *(("branches", HEADS), ("tags", TAGS), ("converts", CONVERTS)),
                *([("pullRequests", PULL_REQUESTS)] if "include_prs" in request.query_params else []),
            )
        }
        return JSONResponse(listed)

    async def commits(self, request: Request, at: Mapping[str, str]) -> Response:
        repo = self._readable(request, at["kinds"][:-1], at["name"])
        history = repo.history(repo.commit_of(at["revision"]))
        return JSONResponse(
            [
                {"id": oid, "title": it["title"], "message": it["message"], "date": it["date"], "authors": []}
                for oid, it in history
            ]
        )

    async def preupload(self, request: Request, at: Mapping[str, str]) -> Response:
        repo = self._writable(request, at["kinds"][:-1], at["name"])
        present = repo.files(repo.commit_of(at["revision"]))
        answers = []
        for file in (await request.json())["files"]:
            found = present.get(file["path"])
            oid = (found.sha256 or found.oid) if found else None
            mode = "lfs" if _is_large(file, present, repo) else "regular"
            answers.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return JSONResponse({"files": answers})

    async def commit(self, request: Request, at: Mapping[str, str]) -> Response:
        repo = self._writable(request, at["kinds"][:-1], at["name"])
        lines = [json.loads(line) for line in (await request.body()).splitlines() if line]
        head = repo.commit_of(at["revision"])
        if f"{HEADS}{at['revision']}" not in repo.refs:
            raise RefusedError(400, "One can only commit to a branch")
        header = next(line["value"] for line in lines if line["key"] == "header")
        if header.get("parentCommit", head) != head:
            raise RefusedError(412, "A commit has happened since. Please refresh and try again.")
        files = repo.files(head)
        for line in lines:
            _apply(line["key"], line["value"], files, repo)
        commit = repo.add_commit(head, files, header["summary"], header.get("description", ""))
        repo.move(f"{HEADS}{at['revision']}", commit)
        url = f"{self.address}/{_KINDS[at['kinds']]}{at['name']}/commit/{commit}"
        return JSONResponse({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})

    async def add_branch(self, request: Request, at: Mapping[str, str]) -> Response:
        repo = self._writable(request, at["kinds"][:-1], at["name"])
        ref = f"{HEADS}{at['branch']}"
        if ref in repo.refs:
            raise RefusedError(409, "Reference already exists")
        body = await request.body()
        start = repo.commit_of((json.loads(body) if body else {}).get("startingPoint", "main"))
        repo.move(ref, start)
        return JSONResponse({})

    async def remove_branch(self, request: Request, at: Mapping[str, str]) -> Response:
        repo = self._writable(request, at["kinds"][:-1], at["name"])
        if at["branch"] == "main":
            raise RefusedError(403, "main is protected")
        return _remove(repo, f"{HEADS}{at['branch']}")

    async def add_tag(self, request: Request, at: Mapping[str, str]) -> Response:
        repo = self._writable(request, at["kinds"][:-1], at["name"])
        ref = f"{TAGS}{(await request.json())['tag']}"
        commit = repo.commit_of(at["revision"])
        if ref in repo.refs:
            raise RefusedError(409, "Reference already exists")
        repo.move(ref, commit)
        return JSONResponse({})

    async def remove_tag(self, request: Request, at: Mapping[str, str]) -> Response:
        repo = self._writable(request, at["kinds"][:-1], at["name"])
        return _remove(repo, f"{TAGS}{at['tag']}")

    async def squash(self, request: Request, at: Mapping[str, str]) -> Response:
        repo = self._writable(request, at["kinds"][:-1], at["name"])
        repo.squash(at["branch"], (await request.json())["message"])
        return JSONResponse({})

    # Contents: Git LFS upwards, resolve and the CDN downwards

    async def lfs_batch(self, request: Request, at: Mapping[str, str]) -> Response:
        repo = self._writable(request, at["prefix"].rstrip("s/") or "model", at["name"])
        asked = await request.json()
        base = f"{self.address}/lfs/{repo.kind}/{at['name']}"
        objects = []
        for item in asked["objects"]:
            oid, size = item["oid"], item["size"]
            entry: dict[str, Any] = {"oid": oid, "size": size}
            if not repo.lfs_path(oid).exists():
                sign = urlencode({"signature": self._sign(repo, oid)})
                upload: dict[str, Any] = {"href": f"{base}/{oid}?{sign}"}
                if size > self.multipart_bytes:
                    count = math.ceil(size / self.multipart_bytes)
                    parts = {f"{number:05d}": f"{base}/{oid}/{number}?{sign}" for number in range(1, count + 1)}
                    upload["header"] = {"chunk_size": str(self.multipart_bytes), **parts}
                entry["actions"] = {"upload": upload, "verify": {"href": f"{base}/{oid}/verify"}}
            objects.append(entry)
        large = any("header" in item.get("actions", {}).get("upload", {}) for item in objects)
        return JSONResponse({"transfer": "multipart" if large else "basic", "objects": objects})

    async def lfs_put(self, request: Request, at: Mapping[str, str]) -> Response:
        repo = self._signed(request, at)
        target = repo.lfs_path(at["oid"])
        if at["part"]:
            target = self.root / "parts" / f"{at['oid']}-{at['part']}"
            target.parent.mkdir(exist_ok=True)
        temporary = target.with_name(f".{target.name}.{id(request)}")
        digest = hashlib.sha256()
        try:
            with temporary.open("wb") as file:
                async for chunk in request.stream():
                    digest.update(chunk)
                    file.write(chunk)
            if not at["part"] and digest.hexdigest() != at["oid"]:
                raise RefusedError(400, "The content does not have this SHA-256")
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        return Response(headers={"ETag": f'"{digest.hexdigest()}"'})

    async def lfs_complete(self, request: Request, at: Mapping[str, str]) -> Response:
        repo = self._signed(request, at)
        asked = await request.json()
        paths = [self.root / "parts" / f"{at['oid']}-{part['partNumber']}" for part in asked["parts"]]
        content = b"".join(path.read_bytes() for path in paths)
        if hashlib.sha256(content).hexdigest() != at["oid"]:
            raise RefusedError(400, "The parts do not have this SHA-256")
        repo.lfs_path(at["oid"]).write_bytes(content)
        for path in paths:
            path.unlink()
        return JSONResponse({})

    async def lfs_verify(self, request: Request, at: Mapping[str, str]) -> Response:
        repo = self._writable(request, at["kind"], at["name"])
        asked = await request.json()
        path = repo.lfs_path(at["oid"])
        if not path.exists() or path.stat().st_size != asked["size"]:
            raise RefusedError(404, "Object not found")
        return JSONResponse({})

    async def lfs_files(self, request: Request, at: Mapping[str, str]) -> Response:
        repo = self._writable(request, at["kinds"][:-1], at["name"])
        named = {
            file.sha256: path
            for head in repo.refs.values()
            for oid, _ in repo.history(head)
            for path, file in repo.files(oid).items()
            if file.sha256
        }
        return JSONResponse(
            [
                {
                    "fileOid": path.name, "oid": path.name, "size": path.stat().st_size, "ref": "refs/heads/main",
                    "filename": named.get(path.name, ""), "pushedAt": "2026-01-01T00:00:00.000Z",
                }
                for path in sorted((repo.folder / "lfs").iterdir())
                if not path.name.startswith(".")
            ]
        )  # fmt: skip

    async def remove_lfs_files(self, request: Request, at: Mapping[str, str]) -> Response:
        repo = self._writable(request, at["kinds"][:-1], at["name"])
        for oid in (await request.json())["deletions"]["sha"]:
            repo.lfs_path(oid).unlink(missing_ok=True)
        return JSONResponse({})

    async def resolve(self, request: Request, at: Mapping[str, str]) -> Response:
        repo = self._readable(request, at["prefix"].rstrip("s/") or "model", at["name"])
        self._check_gate(request, repo)
        commit = repo.commit_of(at["revision"])
        file = repo.files(commit).get(at["path"])
        if file is None:
            raise RefusedError(404, "Entry not found", "EntryNotFound")
        etag = f'"{file.sha256 or file.oid}"'
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if file.sha256 is None:
            return _ranged(repo.content_path(file), request, {**headers, "ETag": etag})
        query = urlencode({"signature": self._sign(repo, file.sha256)})
        location = f"{self.cdn}/cdn/{repo.kind}/{repo.name}/{file.sha256}?{query}"
        linked = {"X-Linked-ETag": etag, "X-Linked-Size": str(file.size), "Location": location}
        return Response(status_code=302, headers={**headers, **linked})

    async def download(self, request: Request, at: Mapping[str, str]) -> Response:
        repo = self._signed(request, at)
        if not repo.lfs_path(at["oid"]).exists():
            raise RefusedError(404, "Not found")
        return _ranged(repo.lfs_path(at["oid"]), request, {"ETag": f'"{at["oid"]}"', "Accept-Ranges": "bytes"})

    def _check_gate(self, request: Request, repo: Repository) -> None:
        if repo.settings["gated"] and not _owns(self._user(request), repo.name):
            status = 401 if self._user(request) is None else 403
            raise RefusedError(status, f"Access to {repo.kind} {repo.name} is restricted.", "GatedRepo")

    def _sign(self, repo: Repository, oid: str) -> str:
        return hmac.new(str(self.root).encode(), f"{repo.kind}/{repo.name}/{oid}".encode(), "sha256").hexdigest()

    def _signed(self, request: Request, at: Mapping[str, str]) -> Repository:
        repo = self.repository(at["kind"], at["name"])
        if request.query_params.get("signature") != self._sign(repo, at["oid"]):
            raise RefusedError(403, "The signature does not match")
        return repo


Handler = Callable[[HubServer, Request, Mapping[str, str]], Awaitable[Response]]
_LFS = r"/lfs/(?P<kind>model|dataset|space)/(?P<name>[^/]+/[^/]+)/(?P<oid>[0-9a-f]{64})"
_ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/api/whoami-v2", HubServer.whoami),
    ("POST", "/api/repos/create", HubServer.create),
    ("DELETE", "/api/repos/delete", HubServer.delete),
    ("POST", "/api/validate-yaml", HubServer.validate_yaml),
    ("GET", rf"{_REPO}(/revision/(?P<revision>[^/]+))?", HubServer.info),
    ("PUT", rf"{_REPO}/settings", HubServer.settings),
    ("GET", rf"{_REPO}/auth-check(?P<write>/write)?", HubServer.auth_check),
    ("GET", rf"{_REPO}/tree/(?P<revision>[^/]+)(?P<path>/.*)?", HubServer.tree),
    ("POST", rf"{_REPO}/paths-info/(?P<revision>[^/]+)", HubServer.paths_info),
    ("GET", rf"{_REPO}/refs", HubServer.refs),
    ("GET", rf"{_REPO}/commits/(?P<revision>[^/]+)", HubServer.commits),
    ("POST", rf"{_REPO}/preupload/(?P<revision>[^/]+)", HubServer.preupload),
    ("POST", rf"{_REPO}/commit/(?P<revision>[^/]+)", HubServer.commit),
    ("POST", rf"{_REPO}/branch/(?P<branch>[^/]+)", HubServer.add_branch),
    ("DELETE", rf"{_REPO}/branch/(?P<branch>[^/]+)", HubServer.remove_branch),
    ("POST", rf"{_REPO}/tag/(?P<revision>[^/]+)", HubServer.add_tag),
    ("DELETE", rf"{_REPO}/tag/(?P<tag>[^/]+)", HubServer.remove_tag),
    ("POST", rf"{_REPO}/super-squash/(?P<branch>[^/]+)", HubServer.squash),
    ("GET", rf"{_REPO}/lfs-files", HubServer.lfs_files),
    ("POST", rf"{_REPO}/lfs-files/batch", HubServer.remove_lfs_files),
    ("POST", rf"{_FILES}\.git/info/lfs/objects/batch", HubServer.lfs_batch),
    ("PUT", rf"{_LFS}(/(?P<part>\d+))?", HubServer.lfs_put),
    ("POST", rf"{_LFS}/verify", HubServer.lfs_verify),
    ("POST", _LFS, HubServer.lfs_complete),
    ("GET HEAD", rf"{_FILES}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", HubServer.resolve),
    ("GET HEAD", r"/cdn/(?P<kind>model|dataset|space)/(?P<name>[^/]+/[^/]+)/(?P<oid>[0-9a-f]{64})", HubServer.download),
]


def _owns(user: User | None, name: str) -> bool:
    return user is not None and user.name == name.partition("/")[0]


def _metadata(card: str) -> dict[str, Any]:
    found = re.match(r"---\n(.*?)\n---\n", card, flags=re.DOTALL)
    return (yaml.safe_load(found.group(1)) or {}) if found else {}


def _described(path: str, file: StoredFile) -> dict[str, Any]:
    described: dict[str, Any] = {"type": "file", "path": path, "size": file.size, "oid": file.oid, "blobId": file.oid}
    if file.sha256:
        described["lfs"] = {"oid": file.sha256, "sha256": file.sha256, "size": file.size, "pointerSize": 134}
    return described


def _entries(files: Files, folder: str, recursive: bool) -> Iterator[dict[str, Any]]:
    """Files and folders below ``folder``, as the tree and paths-info describe them."""
    prefix = f"{folder}/" if folder else ""
    folders: dict[str, list[str]] = {}
    for path, file in sorted(files.items()):
        if not path.startswith(prefix):
            continue
        parents = path.removeprefix(prefix).split("/")[:-1]
        for depth in range(1, len(parents) + 1 if recursive else min(len(parents), 1) + 1):
            folders.setdefault(prefix + "/".join(parents[:depth]), []).append(file.oid)
        if recursive or not parents:
            yield _described(path, file)
    for name, oids in folders.items():
        yield {"type": "directory", "path": name, "oid": hashlib.sha1("".join(oids).encode()).hexdigest(), "size": 0}


def _is_large(file: Mapping[str, Any], present: Files, repo: Repository) -> bool:
    attributes = repo.content_path(present[".gitattributes"]).read_text() if ".gitattributes" in present else ""
    patterns = [line.split()[0] for line in attributes.splitlines() if "filter=lfs" in line]
    name = Path(file["path"]).name
    binary = b"\0" in base64.b64decode(file["sample"])
    return any(fnmatch(name, pattern) for pattern in patterns) or binary or file["size"] > 10_000_000


def _apply(key: str, value: Mapping[str, Any], files: Files, repo: Repository) -> None:
    """One line of a commit's NDJSON."""
    if key == "file":
        files[value["path"]] = repo.add_blob(base64.b64decode(value["content"]))
    elif key == "lfsFile":
        files[value["path"]] = repo.add_pointer(value["oid"])
    elif key == "deletedFile":
        if files.pop(value["path"], None) is None:
            raise RefusedError(404, f"A file with this name doesn't exist: {value['path']}", "EntryNotFound")
    elif key == "deletedFolder":
        for path in [path for path in files if path.startswith(value["path"].rstrip("/") + "/")]:
            del files[path]
    elif key != "header":
        raise RefusedError(400, f"unknown operation {key}")


def _remove(repo: Repository, ref: str) -> Response:
    if ref not in repo.refs:
        raise RefusedError(404, "Reference does not exist", "RevisionNotFound")
    repo.move(ref, None)
    return JSONResponse({})


def _ranged(path: Path, request: Request, headers: Mapping[str, str]) -> Response:
    """The file, or the one range of it that is asked for."""
    size = path.stat().st_size
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
    start, end, status = 0, size - 1, 200
    if found and found.group(1):
        start, end, status = int(found.group(1)), min(int(found.group(2) or size - 1), size - 1), 206
    elif found and found.group(2):
        start, status = max(0, size - int(found.group(2))), 206
    headers = {**headers, "Content-Disposition": f'inline; filename="{quote(path.name)}"'}
    if status == 206:
        if start >= size:
            return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {start}-{end}/{size}"
    headers["Content-Length"] = str(end - start + 1)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    with path.open("rb") as file:
        file.seek(start)
        return Response(file.read(end - start + 1), status, headers)


class _Counted:
    """Counts the bytes of a request's body, and holds them up on a slow link."""

    def __init__(self, receive: Receive, bytes_per_second: int | None, watch: Callable[[Moment], None]) -> None:
        self._receive, self._rate, self._watch, self.bytes = receive, bytes_per_second, watch, 0

    async def __call__(self) -> Message:
        message = await self._receive()
        size = len(message.get("body", b""))
        self.bytes += size
        if message.get("more_body"):
            self._watch("amid")
        if self._rate:
            await asyncio.sleep(size / self._rate)
        return message


async def _drain(receive: Receive) -> None:
    while (message := await receive())["type"] == "http.request" and message.get("more_body"):
        pass


async def _break_off(send: Send) -> None:
    """An answer that ends in its middle: uvicorn closes the connection of an application that stops there."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})
    await send({"type": "http.response.body", "body": b"x", "more_body": True})


def _slowly(send: Send, bytes_per_second: int) -> Send:
    async def later(message: Message) -> None:
        body = message.get("body", b"")
        for start in range(0, max(len(body), 1), 16_384):
            chunk = body[start : start + 16_384]
            await asyncio.sleep(len(chunk) / bytes_per_second)
            if message["type"] == "http.response.body":
                more = message.get("more_body", False) or start + 16_384 < len(body)
                await send({"type": "http.response.body", "body": chunk, "more_body": more})
        if message["type"] != "http.response.body":
            await send(message)

    return later
