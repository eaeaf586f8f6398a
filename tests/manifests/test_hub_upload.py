"""One revision of a repository: faults on the way, names that cannot be used, and what is on main meanwhile."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import CommitOperationAdd

from sono.manifests.errors import UserError
from sono.manifests.hub import connect, hub_errors
from sono.manifests.hub_upload import Plan, Published, Wanted, plan_revision, publish_revision
from sono.manifests.publishable import DATASET_FILES, digest_files, find_files
from tests.hub.faults import Fault
from tests.hub.fixtures import Hub

REPO = "hospital/frames"
Send = Callable[..., Published]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "dataset"
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    (folder / "sono.json").write_text("{}")
    for number in range(3):
        (folder / "data" / f"train-{number}.parquet").write_bytes(b"PAR1\0" + bytes([number]) * 1000)
    return folder


@pytest.fixture
def send(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Send:
    monkeypatch.setattr("sono.manifests.hub.time", SimpleNamespace(sleep=hub.waits.append))

    def run(repo: str = REPO, **options: object) -> Published:
        return publish_revision(prepare(folder, repo, **options))

    return run


def prepare(folder: Path, repo: str = REPO, **options: object) -> Plan:
    files = digest_files(folder, find_files(folder, DATASET_FILES)[0])
    return plan_revision(connect(repo, "dataset"), Wanted(files, DATASET_FILES, "new", **options))  # type: ignore[arg-type]


def as_published(folder: Path) -> dict[str, str]:
    """As ``Hub.files`` has it: texts by Git's digest."""
    found = {}
    for path in (path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        large = path.suffix == ".parquet"
        digest = hashlib.sha256(content) if large else hashlib.sha1(b"blob %d\0" % len(content) + content)
        found[path.relative_to(folder).as_posix()] = digest.hexdigest()
    return found


def refs(hub: Hub) -> set[str]:
    return set(hub.state.repository("dataset", REPO).refs)


def mains(hub: Hub) -> list[set[str]]:
    """What main showed, one after the other."""
    return [
        set(move.files) - {".gitattributes"} for move in hub.state.moves if move.ref == "refs/heads/main" and move.files
    ]


def failed(call: Callable[..., object], *arguments: object, **options: object) -> str:
    with pytest.raises(UserError) as error:
        call(*arguments, **options)
    return str(error.value)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("PUT", "^/lfs/", "drop", times=2),
        Fault("PUT", "^/lfs/", "lose"),
        Fault("POST", "/commit/publish-", "lose"),
        Fault("POST", "/commit/main", "lose"),
        Fault("POST", "/commit/main", "status", status=503, times=2),
        Fault("POST", "/commit/publish-", "status", status=429, headers={"Retry-After": "3"}),
        Fault("POST", "/repos/create", "lose"),
        Fault("POST", "/branch/", "lose"),
        Fault("DELETE", "/branch/", "lose"),
        Fault("POST", "/tag/", "lose"),
        Fault("PUT", "/settings", "lose"),
        Fault("GET", "/whoami", "drop"),
        Fault("GET", "/tree/", "status", status=500),
        Fault("GET", "/resolve/", "status", status=504),
        Fault("GET", "/resolve/", "lose"),
        Fault("HEAD", "/resolve/", "drop"),
    ],
    ids=lambda fault: f"{fault.kind} {fault.method} {fault.path.strip('/^')}",
)
def test_it_gets_over_a_fault(hub: Hub, folder: Path, send: Send, fault: Fault) -> None:
    fault.struck = 0
    hub.fail(fault)
    send(tag="v1")
    assert fault.struck
    assert hub.files(REPO) == hub.files(REPO, "v1") == as_published(folder)
    assert refs(hub) == {"refs/heads/main", "refs/tags/v1"}
    assert mains(hub) == [set(), set(as_published(folder))]
    assert (3.0 in hub.waits) == (fault.status == 429)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("*", "/api/datasets/", "status", times=99), "the Hub answers 503; run the same command again"),
        (Fault("*", "/api/datasets/", "drop", times=99), "the connection failed"),
        (Fault("*", "/refs", "status", status=429, headers={"Retry-After": "3600"}, times=99), "wait 3600 s, then run"),
        (Fault("HEAD", "/resolve/", "drop", times=99), "the connection failed"),
        (Fault("GET", "/resolve/", "status", status=503, times=99), "the Hub answers 503"),
        (Fault("POST", "/commit/", "status", status=413), "the Hub has no room for this"),
        (Fault("POST", "/commit/main", "status", status=412), "changed by somebody else meanwhile"),
        (Fault("POST", "/commit/main", "status", status=409), "changed by somebody else meanwhile"),
        (Fault("PUT", "^/lfs/", "status", status=403, times=99), "your token cannot write here"),
    ],
    ids=lambda value: f"{value.method} {value.path.strip('/^')} {value.status}" if isinstance(value, Fault) else "",
)
def test_a_fault_that_stays_is_one_line_and_main_shows_nothing(
    hub: Hub, folder: Path, send: Send, fault: Fault, said: str
) -> None:
    fault.struck = 0
    hub.fail(fault)
    line = failed(send, private=False)
    assert said in line
    assert "\n" not in line
    assert "signature" not in line
    assert all(shown == set() for shown in mains(hub))
    assert all(hub.state.repository("dataset", move.repo).settings["private"] for move in hub.state.moves)
    hub.state.faults.clear()
    send()
    assert hub.files(REPO) == as_published(folder)


def test_what_was_uploaded_before_a_failure_is_not_sent_again(hub: Hub, folder: Path, send: Send) -> None:
    hub.fail(Fault("POST", "/commit/main", "status", status=403))
    failed(send)
    hub.state.log.clear()
    hub.state.faults.clear()
    send()
    assert not [entry for entry in hub.state.log if entry.method == "PUT" and entry.path.startswith("/lfs/")]
    assert hub.files(REPO) == as_published(folder)


def test_somebody_elses_commit_on_main_is_not_overwritten(hub: Hub, folder: Path, send: Send) -> None:
    send()
    (folder / "CHANGELOG.md").write_text("# Changes\n")
    plan = prepare(folder)
    hub.api.upload_file(path_or_fileobj=b"mine", path_in_repo="NOTES.txt", repo_id=REPO, repo_type="dataset")
    assert "changed by somebody else meanwhile; run the same command again" in failed(publish_revision, plan)
    assert "CHANGELOG.md" not in hub.files(REPO)
    publish_revision(prepare(folder))
    assert {"CHANGELOG.md", "NOTES.txt"} <= set(hub.files(REPO))


def test_a_commit_on_main_during_the_upload_is_not_overwritten(hub: Hub, folder: Path, send: Send) -> None:
    send()
    (folder / "CHANGELOG.md").write_text("# Changes\n")

    def somebody_commits(_remote: object, _commit: str) -> None:
        hub.api.upload_file(path_or_fileobj=b"mine", path_in_repo="LICENSE", repo_id=REPO, repo_type="dataset")

    said = failed(publish_revision, prepare(folder), read_back=somebody_commits)
    assert "changed by somebody else meanwhile" in said
    assert "CHANGELOG.md" not in hub.files(REPO)


def test_an_update_whose_answer_is_lost_is_made_once(hub: Hub, folder: Path, send: Send) -> None:
    send(tag="v1")
    (folder / "data" / "train-2.parquet").unlink()
    hub.fail(Fault("POST", "/commit/main", "lose"))
    assert send(tag="v2").deleted == 1
    assert hub.files(REPO) == hub.files(REPO, "v2") == as_published(folder)
    assert len(mains(hub)) == 3


def test_names_that_are_something_elses_are_refused(hub: Hub, folder: Path, send: Send) -> None:
    hub.api.create_repo("hospital/model", repo_type="model")
    assert "is the name of a model" in failed(send, repo="hospital/model")
    hub.api.create_repo("hospital/other", repo_type="dataset", private=True)
    add = CommitOperationAdd("data.csv", b"a,b")
    hub.api.create_commit("hospital/other", [add], commit_message="mine", repo_type="dataset")
    assert "the name is taken" in failed(send, repo="hospital/other")
    send(tag="v1")
    (folder / "CHANGELOG.md").write_text("# Changes\n")
    assert "the tag v1 is another revision's" in failed(send, tag="v1")


@pytest.mark.parametrize("repo", ["a/b/c", "../x", "a//b", "-x", "a b", "x/", "x--y", ""])
def test_a_name_that_the_hub_would_not_take_is_refused(hub: Hub, repo: str) -> None:
    assert "cannot be a repository's name" in failed(connect, repo, "dataset")
    assert hub.state.log == []


@pytest.mark.parametrize("tag", ["main", "a b", "publish-1", "0123abc", "x..y", "-x", "x.", "ü"])
def test_a_tag_that_git_would_not_take_or_that_is_mistaken_is_refused(hub: Hub, send: Send, tag: str) -> None:
    assert "cannot be a tag" in failed(send, tag=tag)
    assert hub.state.moves == []


def test_a_name_alone_is_in_ones_own_namespace(hub: Hub, folder: Path, send: Send) -> None:
    assert send(repo="frames").url == f"{hub.address}/datasets/{REPO}"


def test_a_text_that_the_hub_has_otherwise_never_reaches_main(hub: Hub, folder: Path, send: Send) -> None:
    plan = prepare(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    now = {file.path: file for file in digest_files(folder, find_files(folder, DATASET_FILES)[0])}
    files = [replace(now[file.path], sha256=file.sha256, git_oid=file.git_oid) for file in plan.wanted.files]
    changed = replace(plan, wanted=replace(plan.wanted, files=files))
    assert "the Hub has README.md in another form" in failed(publish_revision, changed)
    assert hub.files(REPO) == {}


def test_what_an_unfinished_run_of_another_content_left_is_removed(hub: Hub, folder: Path, send: Send) -> None:
    hub.fail(Fault("POST", "/commit/main", "status", status=403))
    failed(send)
    assert len(refs(hub)) == 2
    (folder / "CHANGELOG.md").write_text("# Changes\n")
    send(tag="v1")
    assert refs(hub) == {"refs/heads/main", "refs/tags/v1"}


def test_many_files_come_in_several_commits_and_reach_main_in_one(hub: Hub, folder: Path, send: Send) -> None:
    for number in range(120):
        (folder / "data" / f"validation-{number:03}.parquet").write_bytes(b"PAR1\0" + str(number).encode())
    hub.state.page = 50
    send()
    assert hub.files(REPO) == as_published(folder)
    assert len([move for move in hub.state.moves if "publish-" in move.ref and move.commit]) == 4  # made, and 3 commits
    assert len(mains(hub)) == 2


def test_a_file_that_has_changed_since_it_was_judged_is_not_published(hub: Hub, folder: Path) -> None:
    plan = prepare(folder)
    path = folder / "data" / "train-1.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert "data/train-1.parquet was changed while it was being published" in failed(publish_revision, plan)
    assert not [entry for entry in hub.state.log if entry.method in ("POST", "PUT")]


def test_a_file_that_changes_while_it_is_sent_never_reaches_main(hub: Hub, folder: Path) -> None:
    """The Hub need not notice: by Xet, it takes a large file's digest from who sends it."""
    plan, path, sent = prepare(folder), folder / "data" / "train-1.parquet", []

    def change(method: str, moment: str) -> None:
        sent.extend([1] if (method, moment) == ("PUT", "after") else [])
        if len(sent) == 3 and moment == "after":
            path.write_bytes(path.read_bytes()[:-1] + b"x")

    hub.state.watch = change
    assert "data/train-1.parquet was changed while it was being published" in failed(publish_revision, plan)
    assert hub.files(REPO) == {}


def test_a_file_that_becomes_a_link_after_it_was_judged_is_not_published(hub: Hub, folder: Path) -> None:
    plan = prepare(folder)
    elsewhere = folder.parent / "elsewhere"
    (folder / "sono.json").rename(elsewhere)
    (folder / "sono.json").symlink_to(elsewhere)
    with pytest.raises(UserError, match=r"sono\.json was changed"):
        publish_revision(plan)


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        "whoami",
        f"{REPO}$",
        "auth-check",
        "/refs",
        "/tree/",
        "preupload",
        "objects/batch",
        "/commit/",
        "/resolve/",
        "/tag/",
    ],
)
def test_a_hub_that_answers_nonsense_gets_one_line_and_main_is_whole(
    hub: Hub, folder: Path, send: Send, path: str
) -> None:
    send()
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    (folder / "data" / "train-9.parquet").write_bytes(b"PAR1\0" + b"9" * 999)
    before = hub.files(REPO)
    hub.fail(Fault("*", path, "status", status=200, times=1000))
    with contextlib.suppress(UserError):  # and nothing else
        send()
    hub.state.faults.clear()
    assert hub.files(REPO) in (before, as_published(folder))
    send()
    assert hub.files(REPO) == as_published(folder)


def test_no_signature_of_an_address_is_in_an_error() -> None:
    with pytest.raises(UserError) as error, hub_errors("here"):
        raise RuntimeError("403 for url 'https://cdn.example/x?X-Amz-Signature=abc&Expires=1'")
    assert str(error.value).startswith("here: the Hub's client failed: 403 for url 'https://cdn.example/x';")
