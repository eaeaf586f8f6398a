"""How long a person waits for the review page: the real page in Chromium, a real server, MobileSAM's size.

    python -m benchmarks.review_page [--only answers frames reviewer decisions million] [--out DIR] [--seed 2026]

B-mode phantoms, as ``review_queue.py`` draws them; of half of the masks the truth, of the others perturbed ones. The
model has MobileSAM's architecture with random weights, exported to ONNX; what it answers is laid over by an ellipse in
the box, or discs at the points, because noise is no shape that a page has to draw. Time does not depend on weights.

answers    boxes and points on frames that are embedded: from the last movement of a box, or the press of a point, until
           the answer is on the screen. A box is dragged in 0.25 s, asking all the way, and held for 0.1 s.
frames     from the key that decides on the last mask of a frame until the next frame is on the screen
reviewer   a script that knows the truth accepts masks with an IoU of at least 0.9, paints what is missing where nothing
           is too much, and draws a box around the others. It looks at each mask for ``--think`` seconds.
decisions  from the POST of a decision to its answer, over one connection, without a browser
million    1,000,000 masks on 300,000 frames, in tables as ``review_queue.py`` draws them; the frames that come first,
           and those in the same files, have real pictures. Start of the server, and from navigation to the first
           question.

What is on the screen is timed in the page: when the task after the animation frame that drew it begins. The machine's
load stands beside each figure.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from playwright.sync_api import sync_playwright

from benchmarks import review_queue
from benchmarks.mask_proposals import export_mobile_sam
from sono.curation.images.stored_png import encode_png
from sono.curation.phantom.samples import draw_samples
from sono.curation.review.queue.build import build_queue, queue_path
from sono.curation.review.queue.queue_file import Queue
from sono.manifests import masks
from sono.manifests.journal import Journal
from sono.manifests.journal_file import journal_path
from sono.manifests.schemas import FRAMES, REGIONS
from sono.manifests.store import part_name, read_info, write_part
from sono.manifests.workspace import Workspace
from tests.curation.review.serving import Client, Server, start_server

Mask = npt.NDArray[np.bool_]
Truth = Mapping[tuple[str, str], Any]
Box = tuple[float, float, float, float]

PARTS = ("answers", "frames", "reviewer", "decisions", "million")
GOOD_IOU = 0.9  # from which a mask is accepted as it is
MARGIN = 12  # px around an image that fits the stage, as view.js has it
BRUSH_PX, SMALLER = 9, 8  # the brush, and how often [ makes it so small
FRAMES_AHEAD = 64  # of the million, that have real pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--patients", type=int, default=120)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--think", type=float, default=1.5, help="seconds that the scripted reviewer looks at a mask")
    parser.add_argument("--regions", type=int, default=200, help="that the scripted reviewer decides on")
    parser.add_argument("--million", type=int, nargs=2, default=(300_000, 1_000_000), metavar=("FRAMES", "MASKS"))
    parser.add_argument("--out", type=Path, default=Path("review_page"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    runs = {
        "answers": run_answers,
        "frames": run_frames,
        "reviewer": run_reviewer,
        "decisions": run_decisions,
        "million": run_million,
    }
    for name in options.only:
        runs[name](options)


# The measurements.


def run_answers(options: argparse.Namespace) -> None:
    title("Answers to prompts")
    workspace, _ = phantoms(options, "all")
    found: dict[str, list[Answer]] = {"box": [], "point": []}
    random = np.random.default_rng([options.seed, 1])
    spent = 0.0
    with serving(workspace.path, *model(options.out)) as server, chromium() as browser:
        page = Watched.open(browser, server)
        for frame in range(13):
            page.settle(6.0 if frame == 0 else 3.0)
            before = processor_ms(server)
            for number in range(10):
                tool = "box" if number < 5 else "point"
                if number in (0, 5):
                    page.page.keyboard.press("Backspace")
                    page.page.keyboard.press("r" if tool == "box" else "p")
                found[tool].append(page.ask(tool, random))
            spent += processor_ms(server) - before
            if frame < 12:
                page.to_next_frame(" ")
        asked = sum(each["path"].endswith("/proposals") for each in page.requests)
    print(f"| the server's processor time, an answer ({asked}) | {spent / asked:.0f} ms | | | |")
    for tool, answers in found.items():
        report_answers(tool, answers)


def report_answers(tool: str, answers: Sequence[Answer]) -> None:
    drawn = [answer for answer in answers if answer.painted is not None]
    label = f"{tool}, until its mask is drawn"
    report(label, [answer.painted - answer.asked for answer in drawn if answer.painted], aim="p95 < 150 ms")
    if tool == "box":
        report("  the same, from its release", [max(a.painted - a.released, 0.0) for a in drawn if a.painted])
    report("  waiting to be sent", [answer.sent - answer.asked for answer in drawn])
    report("  request and answer", [answer.received - answer.sent for answer in drawn])
    report("  of it the model and its masks, on the server", [answer.server for answer in drawn])
    report("  reading and drawing it", [answer.painted - answer.received for answer in drawn if answer.painted])
    if len(drawn) < len(answers):
        print(f"  {len(answers) - len(drawn)} of {len(answers)} were not drawn")


def run_frames(options: argparse.Namespace) -> None:
    title("The next frame")
    for think in (options.think, 0.3):
        workspace, _ = phantoms(options, "one")
        with serving(workspace.path, *model(options.out)) as server, chromium() as browser:
            page = Watched.open(browser, server)
            page.settle(6.0)
            times = []
            for _ in range(100):
                page.settle(think)
                times.append(page.to_next_frame("Enter"))
        report(f"next frame, {think} s after the last one", times, aim="< 200 ms")


def run_reviewer(options: argparse.Namespace) -> None:
    title("A scripted reviewer")
    workspace, truth = phantoms(options, "all")
    regions = {
        (row["frame_id"], row["structure"]): masks.decode(row["mask"])
        for row in workspace.store.read_all(REGIONS, ["frame_id", "structure", "mask"]).to_pylist()
    }
    with serving(workspace.path, *model(options.out)) as server, chromium() as browser:
        page = Watched.open(browser, server)
        reviewer = Reviewer(page, regions, {key: masks.decode(rle) for key, rle in truth.items()}, options.think)
        page.settle(6.0)
        for key in ("b", *"[" * SMALLER):
            page.page.keyboard.press(key)
        for _ in range(options.regions):
            reviewer.decide()
        page.page.wait_for_selector("#save[data-state=saved]", timeout=15_000)
        saves = [1.0 * each["end"] - each["start"] for each in page.requests if each["path"] == "/api/decisions"]
    reviewer.report(Journal(journal_path(workspace.path)))
    report("decision, until it is saved, in the browser", saves)


def run_decisions(options: argparse.Namespace) -> None:
    title("A decision over HTTP")
    workspace, _ = phantoms(options, "all")
    with serving(workspace.path) as server:
        report("decision, until it is on disk", decide_over_http(server, 500), aim="p95 < 20 ms")
        print("| writing and syncing 4 kB, the disk alone |", disk_alone(workspace.path), "| | |")


def run_million(options: argparse.Namespace) -> None:
    frames, regions = options.million
    title(f"{regions:,} masks on {frames:,} frames")
    path = million(options.out, frames, regions)
    shutil.rmtree(path / "cache", ignore_errors=True)
    for when in ("the first time", "again"):
        start = time.perf_counter()
        with serving(path) as server:
            print(
                f"| start of the server, {when} | {time.perf_counter() - start:.1f} s | {memory(server)} | | {load()} |"
            )
            if when == "again":
                with chromium() as browser:
                    before = processor_ms(server)
                    opened = [Watched.open(browser, server, close=True).opened for _ in range(10)]
                    spent = (processor_ms(server) - before) / len(opened)
                report("from navigation to the first question", opened, aim="< 1000 ms")
                print(f"| the server's processor time for it | {spent:.0f} ms | | | |")
                report("decision, until it is on disk", decide_over_http(server, 300), aim="p95 < 20 ms")
                print(f"| the server's memory then | | {memory(server)} | | |")


def decide_over_http(server: Server, count: int) -> list[float]:
    """Milliseconds of each decision; three of four accept a mask, one replaces it by what is there."""
    client = server.client()
    connection = http.client.HTTPConnection(client.origin.removeprefix("http://"))
    cookie = "; ".join(f"{each.name}={each.value}" for each in client.cookies)
    headers = {
        "Host": client.origin.removeprefix("http://"),
        "Origin": client.origin,
        "X-Sono-Review": "1",
        "Content-Type": "application/json",
        "Cookie": cookie,
    }
    times = []
    for frame, region in waiting(client, count):
        edits = len(times) % 4 == 3
        decision = client.decision(frame, region, "edit" if edits else "accept", mask=region["mask"])
        body = json.dumps(decision)
        start = time.perf_counter()
        connection.request("POST", "/api/decisions", body, headers)
        answer = connection.getresponse()
        content = answer.read()
        times.append(1e3 * (time.perf_counter() - start))
        assert answer.status == 200, content
    return times


def waiting(client: Client, count: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Frames and regions of the queue, in its order."""
    cursor, given = None, 0
    while given < count:
        page = client.get(f"/api/queue?limit=8{f'&after={cursor}' if cursor else ''}")
        for item in page["items"]:
            frame = client.get(f"/api/frames/{item['frame_id']}")
            for region in frame["regions"]:
                if region["region_id"] in item["regions"] and given < count:
                    given += 1
                    yield frame, region
        cursor = page["cursor"]


# The page, watched.

RECORDER = """
(() => {
  const log = { inputs: [], answers: [], frames: [], questions: [], requests: [] };
  const counts = { answers: 0, frames: 0, questions: 0 };
  let sent = 0, done = 0, moved = 0;
  const waiting = new Set();
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = ({ data: [name, value] }) => {  // the task after the frame that drew it
    log[name].push([performance.now(), value]);
    counts[name] += 1;
    for (const one of [...waiting]) if (counts[one.name] > one.count && waiting.delete(one)) one.resolve();
  };
  const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const fetched = window.fetch;
  window.fetch = async (url, options) => {
    const { pathname: path } = new URL(url);
    const asks = path.endsWith("/proposals");
    const start = performance.now();
    sent += asks;
    const answer = await fetched(url, options);
    if (!asks && path !== "/api/decisions") return answer;
    answer.clone().json().then(({ ms }) => {
      moved = performance.now();
      done += asks;
      log.requests.push({ path, start, end: moved, ms: ms ?? null });
    });
    return answer;
  };
  for (const type of ["pointerdown", "pointermove", "pointerup", "keydown"])
    addEventListener(type, (event) => {
      moved = performance.now();
      log.inputs.push([event.timeStamp, type]);
    }, true);
  document.addEventListener("DOMContentLoaded", () => {
    const stage = document.getElementById("stage");
    const question = document.getElementById("question");
    const last = { answers: "0", frames: "", questions: "" };
    const look = (name, value) => {
      if (value === undefined || value === "" || value === last[name]) return;
      last[name] = value;
      port2.postMessage([name, value]);
    };
    new MutationObserver(() => {
      look("answers", stage.dataset.answers);
      look("frames", stage.dataset.frame);
    }).observe(stage, { attributes: true });
    const asked = () => question.hidden ? "" : `${stage.dataset.frame} ${question.textContent}`;
    new MutationObserver(() => look("questions", asked()))
      .observe(question, { attributes: true, childList: true, characterData: true, subtree: true });
  });
  window.reviewLog = {
    counts,
    after: (name, count) =>
      counts[name] > count ? null : new Promise((resolve) => waiting.add({ name, count, resolve })),
    quiet: async () => { while (sent > done || performance.now() - moved < 120) await sleep(10); },
    take: () => {
      const taken = structuredClone(log);
      for (const list of Object.values(log)) list.length = 0;
      return taken;
    },
  };
})();
"""


@dataclass(frozen=True)
class Answer:
    """Moments in ms of the page's clock: prompt given, pointer up, request sent and answered, mask on the screen."""

    asked: float
    released: float
    sent: float
    received: float
    server: float
    painted: float | None


@dataclass
class Watched:
    """A page that keeps when what happened; ``opened`` is when its first question was on the screen, in ms."""

    page: Any
    size: tuple[int, int] = (0, 0)
    opened: float = 0.0
    requests: list[dict[str, Any]] = field(default_factory=list)
    inputs: list[tuple[float, str]] = field(default_factory=list)

    @classmethod
    def open(cls, browser: Any, server: Server, *, close: bool = False) -> Watched:
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        page = context.new_page()
        page.add_init_script(RECORDER)
        found = cls(page)
        page.goto(server.address)
        page.evaluate("reviewLog.after('questions', 0)")
        page.evaluate("reviewLog.after('frames', 0)")
        log = found.take()
        found.opened = max(log["questions"][0][0], log["frames"][0][0])
        if close:
            context.close()
        return found

    @property
    def frame_id(self) -> str:
        return str(self.page.get_attribute("#stage", "data-frame"))

    def settle(self, seconds: float) -> None:
        self.page.wait_for_timeout(1e3 * seconds)

    def take(self) -> dict[str, Any]:
        """What was kept since the last call."""
        log: dict[str, Any] = self.page.evaluate("reviewLog.take()")
        self.requests += log["requests"]
        self.inputs += log["inputs"]
        return log

    def press(self, key: str, until: str) -> tuple[float, dict[str, Any]]:
        """Milliseconds from the key to the next of ``frames`` or ``questions`` on the screen."""
        self.take()
        count = self.page.evaluate(f"reviewLog.counts.{until}")
        self.page.keyboard.press(key)
        self.page.evaluate(f"reviewLog.after('{until}', {count})")
        log = self.take()
        pressed = next(at for at, kind in log["inputs"] if kind == "keydown")
        return log[until][0][0] - pressed, log

    def to_next_frame(self, key: str) -> float:
        return self.press(key, "frames")[0]

    def ask(self, tool: str, random: np.random.Generator) -> Answer:
        """A box or a point somewhere in the middle of the image."""
        x, y = random.uniform(0.3, 0.45, 2)
        if tool == "box":
            across, down = random.uniform(0.15, 0.3, 2)
            return self.drag(self._shares(x, y), self._shares(x + across, y + down))
        self.take()
        self.page.mouse.move(*self._shares(x, y))
        self.page.mouse.down()
        self.page.mouse.up()
        return self._answer("pointerdown")

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> Answer:
        """A box in px of the window, dragged as a person would."""
        self.take()
        self.page.mouse.move(*start)
        self.page.mouse.down()
        for step in np.linspace(0, 1, 7)[1:]:
            self.page.mouse.move(*(a + (b - a) * step for a, b in zip(start, end, strict=True)))
            self.page.wait_for_timeout(40)
        self.page.wait_for_timeout(60)
        self.page.mouse.up()
        return self._answer("pointermove")

    def _answer(self, given: str) -> Answer:
        self.page.evaluate("reviewLog.quiet()")
        log = self.take()
        released = max(at for at, kind in log["inputs"] if kind == "pointerup")
        asked = max(at for at, kind in log["inputs"] if kind == given and at <= released)
        requests = [each for each in log["requests"] if each["path"].endswith("/proposals")]
        answers = [at for at, _ in log["answers"]]
        first = next((n for n, each in enumerate(requests) if each["start"] >= asked), len(requests) - 1)
        request = requests[first]
        painted = next((at for at in answers if at >= request["end"]), None)
        return Answer(asked, released, request["start"], request["end"], request["ms"], painted)

    def _shares(self, x: float, y: float) -> tuple[float, float]:
        box = self.page.locator("#stage").bounding_box()
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def place(self, x: float, y: float, size: tuple[int, int]) -> tuple[float, float]:
        """Where a point of an image of (height, width) that fits the stage is in the window."""
        box = self.page.locator("#stage").bounding_box()
        height, width = size
        scale = min((box["width"] - 2 * MARGIN) / width, (box["height"] - 2 * MARGIN) / height)
        left, top = (box["width"] - width * scale) / 2, (box["height"] - height * scale) / 2
        return box["x"] + left + x * scale, box["y"] + top + y * scale


@dataclass
class Reviewer:
    """Decides on what the page asks about, knowing the truth."""

    page: Watched
    proposed: Mapping[tuple[str, str], Mask]
    truth: Mapping[tuple[str, str], Mask]
    think: float
    waits: list[float] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    names: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.names = structure_by_question(self.page.page)

    def decide(self) -> None:
        """Look, correct what is bad, accept, and wait for the next question."""
        self.page.settle(self.think)
        question = self.page.page.inner_text("#question-text")
        key = self.page.frame_id, self.names[question]
        proposed, truth = self.proposed[key], self.truth[key]
        waited = 0.0
        places = along_rows(truth & ~proposed) if truth[proposed].mean() > 0.9 else []
        kind = "accepted" if iou(proposed, truth) >= GOOD_IOU else "brush" if places else "box"
        if kind == "box":
            waited += self._box(truth)
        elif kind == "brush":
            waited += self._paint([self.page.place(x, y, truth.shape) for x, y in places])
        waited += self.page.press("Enter", "questions")[0]
        self.waits.append(waited)
        self.kinds.append(kind)

    def _box(self, truth: Mask) -> float:
        x, y, width, height = masks.bbox(truth)
        self.page.page.keyboard.press("r")
        start = self.page.place(x, y, truth.shape)
        answer = self.page.drag(start, self.page.place(x + width, y + height, truth.shape))
        return 0.0 if answer.painted is None else answer.painted - answer.asked

    def _paint(self, places: Sequence[tuple[float, float]]) -> float:
        """One stroke; the wait is until it is on the screen."""
        self.page.page.keyboard.press("b")
        mouse = self.page.page.mouse
        mouse.move(*places[0])
        mouse.down()
        for place in places[1:]:
            mouse.move(*place)
        mouse.up()
        waited: float = self.page.page.evaluate(_NEXT_PAINT)
        return waited

    def report(self, journal: Journal) -> None:
        count, load_now = len(self.waits), load()
        keys = sum(kind == "keydown" for _, kind in self.page.inputs)
        pointers = sum(kind == "pointerdown" for _, kind in self.page.inputs)
        report("waiting for the program, a mask", self.waits)
        print(f"| the same, mean | {np.mean(self.waits) / 1e3:.3f} s | | | {load_now} |")
        print(f"| keystrokes and pointer actions a mask | {keys / count:.2f} and {pointers / count:.2f} | | | |")
        after = [
            iou(masks.decode(event.after["mask"]), self.truth[event.frame_id, str(event.structure)])
            for event in journal.events()
            if event.after is not None
        ]
        for kind in ("accepted", "box", "brush"):
            chosen = np.array([each == kind for each in self.kinds])
            if chosen.any():
                better, waited = np.median(np.array(after)[chosen]), np.median(np.array(self.waits)[chosen])
                print(f"| {kind}: {chosen.sum()} masks, median IoU afterwards {better:.3f} | {waited:.0f} ms | | | |")


_NEXT_PAINT = """async () => {
  const start = performance.now();
  await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
  return performance.now() - start;
}"""


def structure_by_question(page: Any) -> dict[str, str]:
    session = page.evaluate("fetch(new URL('api/session', document.baseURI)).then((answer) => answer.json())")
    return {f"Is this the {each['name']}?": each["id"] for each in session["structures"]}


def along_rows(area: Mask) -> list[tuple[float, float]]:
    """To and fro over an area, as a brush fills it; nothing where it is narrower than the brush."""
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (BRUSH_PX, BRUSH_PX))
    inner = cv2.erode(area.astype(np.uint8), disk) > 0
    places: list[tuple[float, float]] = []
    for number, row in enumerate(np.flatnonzero(inner.any(axis=1))[:: BRUSH_PX // 2]):
        columns = np.flatnonzero(inner[row])[[0, -1]]
        places += [(float(column), float(row)) for column in (columns if number % 2 == 0 else columns[::-1])]
    return places


def iou(one: Mask, other: Mask) -> float:
    return float(np.count_nonzero(one & other) / max(np.count_nonzero(one | other), 1))


# What is reviewed.


def phantoms(options: argparse.Namespace, kind: str) -> tuple[Workspace, Truth]:
    """A fresh workspace and its true masks by frame and structure.

    Args:
        kind: ``all`` masks of a frame wait, or ``one`` of them.
    """
    folder = options.out / f"seed{options.seed}-{options.patients}"
    if not (folder / "truth.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        review_queue.draw(folder, options.patients, options.seed)
    truth = {tuple(key.split("/")): rle for key, rle in json.loads((folder / "truth.json").read_text()).items()}
    path = options.out / "workspace"
    shutil.rmtree(path, ignore_errors=True)
    workspace = Workspace(Path(shutil.copytree(folder / "base", path)))
    with workspace.writing():
        write_masks(workspace, truth, kind, options.seed)
    return workspace, truth


def write_masks(workspace: Workspace, truth: Truth, kind: str, seed: int) -> None:
    """Half of the true masks as they are, half with a fault each; of ``one``, those that do not wait are true."""
    random, rows = np.random.default_rng([seed, 3]), []
    by_frame: dict[str, dict[str, Mask]] = {}
    for (frame_id, structure), rle in truth.items():
        by_frame.setdefault(frame_id, {})[structure] = masks.decode(rle)
    for frame in review_queue.frames_of(workspace):
        drawn = by_frame.get(frame["frame_id"], {})
        for number, (structure, mask) in enumerate(drawn.items()):
            if kind == "one" and number:
                rows.append(review_queue.region_row(workspace, frame, structure, mask, "accepted", "import"))
                continue
            others = [other for name, other in drawn.items() if name != structure]
            changed = review_queue.perturbed(mask, others, random) if random.random() < 0.5 else mask
            shown = changed if changed.any() else mask
            rows.append(review_queue.region_row(workspace, frame, structure, shown, "proposed", "sam"))
    review_queue.write_regions(workspace, "drawn", rows)


def million(out: Path, frames: int, regions: int) -> Path:
    """A fresh copy of the tables of ``review_queue.py``, with real pictures where the queue begins."""
    drawn = out / f"million-{frames}-{regions}"
    if not (drawn / "done").exists():
        review_queue.draw_million(drawn, frames, regions)
    if not (drawn / "pictures").exists():
        give_pictures(Workspace(drawn))
        (drawn / "pictures").touch()
    path = out / "million"
    shutil.rmtree(path, ignore_errors=True)
    return Path(shutil.copytree(drawn, path))


def give_pictures(workspace: Workspace) -> None:
    build_queue(workspace)
    first = Queue.open(queue_path(workspace)).next(None, FRAMES_AHEAD).frames
    drawn = draw_samples(40, seed=5, modes=("b_mode",), identity_share=0, measured_share=0, varied=False)
    pictures = [encode_png(each.pixels) for each in drawn if each.pixels.shape == (720, 960)]
    for part in sorted({frame.part for frame in first}):
        path = workspace.store.folder(FRAMES) / part
        info, rows = read_info(path), workspace.store.read(FRAMES, part_name(path)).to_pylist()
        for number, row in enumerate(rows):
            row["image"] = {"bytes": pictures[number % len(pictures)], "path": None}
        write_part(path, FRAMES, info, FRAMES.from_rows(rows))


class Shaped(torch.nn.Module):
    """A decoder with all of its work, whose masks are ellipses in the box and discs at the points."""

    def __init__(self, decoder: torch.nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(
        self,
        embeddings: torch.Tensor,
        points: torch.Tensor,
        labels: torch.Tensor,
        mask: torch.Tensor,
        has_mask: torch.Tensor,
        size: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        large, scores, low = self.decoder(embeddings, points, labels, mask, has_mask, size)
        side = 4 * torch.arange(256.0) + 2
        x, y = side[None, :], side[:, None]
        first, second = ((points[0] * (labels[0] == corner).float()[:, None]).sum(0) for corner in (2, 3))
        centre, half = (first + second) / 2, ((second - first) / 2).clamp(min=4)
        ellipse = 8 * (1 - ((x - centre[0]) / half[0]) ** 2 - ((y - centre[1]) / half[1]) ** 2)
        apart = (x[None] - points[0, :, 0, None, None]) ** 2 + (y[None] - points[0, :, 1, None, None]) ** 2
        signs = (labels[0] == 1).float() - (labels[0] == 0).float()
        discs = (16 * signs[:, None, None] * torch.exp(-apart / (2 * 45.0**2))).sum(0)
        before = has_mask * 4 * torch.sign(mask[0, 0]) - (1 - has_mask) * 4
        has_box = (labels[0] == 2).float().sum().clamp(max=1)
        shape = (has_box * ellipse + (1 - has_box) * before + discs).clamp(-12, 12)
        grown = torch.linspace(0.0, 1.5, 4)[None, : low.shape[1], None, None]
        return large, scores, shape[None, None] + grown + 0.4 * torch.tanh(low)


def model(out: Path) -> list[str]:
    """Options of ``sono-curate review`` for a model of MobileSAM's size."""
    folder = out / "model"
    encoder, decoder = folder / "mobile.encoder.onnx", folder / "mobile.decoder.False.onnx"
    if not decoder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        export_mobile_sam(folder, single_mask=False, answers=Shaped)
    return ["--backend", "onnx", "--checkpoint", str(encoder), "--decoder", str(decoder)]


# Server, browser and figures.


@contextlib.contextmanager
def serving(path: Path, *options: str) -> Iterator[Server]:
    server = start_server(path, "--reviewer", "anna", *options)
    try:
        yield server
        server.process.send_signal(signal.SIGINT)
        server.process.wait(timeout=300)  # it finishes a queue that is being built
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-background-networking"]
        )
        yield browser
        browser.close()


def title(words: str) -> None:
    print(f"\n{words}\n\n| | p50 | p95 | aim | load |\n|---|---:|---:|---|---:|", flush=True)


def report(what: str, times: Sequence[float], aim: str = "") -> None:
    """Milliseconds as one row."""
    p50, p95 = np.quantile(times, (0.5, 0.95))
    print(f"| {what} ({len(times)}) | {p50:.1f} ms | {p95:.1f} ms | {aim} | {load()} |", flush=True)


def load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


def disk_alone(folder: Path) -> str:
    """What the machine takes for the least that a decision on disk needs: p50 and p95 of 300, as two cells."""
    times = []
    with (folder / "disk").open("wb", buffering=0) as file:
        for _ in range(300):
            start = time.perf_counter()
            file.write(bytes(4096))
            os.fsync(file.fileno())
            times.append(1e3 * (time.perf_counter() - start))
    return " | ".join(f"{each:.1f} ms" for each in np.quantile(times, (0.5, 0.95)))


def processor_ms(server: Server) -> float:
    """Processor time of the server so far, of all its threads."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return 1e3 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(server: Server) -> str:
    """The most that the server has held."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    kilobytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return f"{kilobytes / 1e3:,.0f} MB"


if __name__ == "__main__":
    main()
