"""How long an acknowledged decision takes, and what time and memory it takes to bring a million into the tables.

    python benchmarks/journal.py [--events 100000 1000000] [--appended 2000] [--in FOLDER]

Makes workspaces of drawn-up regions, 2,000 in a part, with masks of ellipses with rough edges, and a decision on each:
of twenty, fourteen accepted, three edited, two rejected, one drawn. Each of these steps runs in a process of its own:

- append decisions one after another, each on disk when the call returns, to a new journal and to the full one;
- bring all decisions into tables that have none, as the first command after a long review would;
- bring one hundred more into them; and ask once more, when there is nothing to do.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sono.manifests import masks
from sono.manifests.journal import Journal
from sono.manifests.journal_events import NewEvent
from sono.manifests.journal_file import journal_path
from sono.manifests.journal_rows import insert
from sono.manifests.projection import apply_decisions
from sono.manifests.schemas import REGIONS
from sono.manifests.store import PartInfo, TableStore, write_part

PART = 2_000
ACTIONS = ["accept"] * 14 + ["edit"] * 3 + ["reject"] * 2 + ["draw"]
SIZE = (480, 640)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--appended", type=int, default=2_000)
    parser.add_argument("--in", dest="folder", type=Path, help="where to work: the disk that is to be measured")
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        step(options.step[0], Path(options.step[1]), options.appended)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        for events in options.events:
            folder = Path(scratch) / str(events)
            append("new journal", folder / "new", options.appended)
            size = make(folder / "full", events)
            print(f"{events:,} decisions on {events:,} regions; the journal has {size / 1e9:.2f} GB")
            project("all decisions", folder / "full")
            append(f"journal of {events:,}", folder / "full", options.appended)
            project(f"{options.appended:,} more", folder / "full")
            project("nothing to do", folder / "full")
            shutil.rmtree(folder)


def append(what: str, folder: Path, appended: int) -> None:
    found = run("append", folder, appended)
    times = ", ".join(f"p{name} {found[name]:.1f}" for name in ("50", "95", "99"))
    print(f"append, {what}: {times}, at most {found['max']:.1f} ms")


def project(what: str, folder: Path) -> None:
    found = run("project", folder)
    print(f"projection, {what}: {found['seconds']:.2f} s, {found['parts']:,} parts, peak {found['peak_mb']:,.0f} MB "
          f"(before it {found['start_mb']:,.0f})")  # fmt: skip


def run(step: str, folder: Path, appended: int = 0) -> dict[str, float]:
    command = [sys.executable, __file__, "--appended", str(appended), "--step", step, str(folder)]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def step(name: str, folder: Path, appended: int) -> None:
    """One measurement, printed as JSON."""
    if name == "append":
        print(json.dumps(measure_appends(folder, appended)))
        return
    start = peak_mb()
    began = time.perf_counter()
    parts = apply_decisions(TableStore(folder))
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "parts": parts, "start_mb": start, "peak_mb": peak_mb()}))


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def measure_appends(folder: Path, appended: int) -> dict[str, float]:
    """Milliseconds per decision; each is on another region, and none of them is undone."""
    folder.mkdir(parents=True, exist_ok=True)
    journal, drawn, times = Journal(journal_path(folder)), draw_masks(), []
    for number in range(appended):
        row = region(f"a{number:031x}", drawn[number % len(drawn)])
        new = event("accept", row, number, prefix="appended")
        began = time.perf_counter()
        journal.append(new, expected=None)
        times.append(1e3 * (time.perf_counter() - began))
    return {**{str(share): float(np.percentile(times, share)) for share in (50, 95, 99)}, "max": max(times)}


def make(folder: Path, events: int) -> int:
    """A workspace whose regions are all decided on, though no table says so yet; the size of its journal in bytes."""
    drawn, store = draw_masks(), TableStore(folder)
    folder.mkdir(parents=True)
    journal = Journal(journal_path(folder))
    for part, start in enumerate(range(0, events, PART)):
        rows = [region(key(number), drawn[number % len(drawn)]) for number in range(start, min(start + PART, events))]
        with journal._transaction() as database:
            for number, row in enumerate(rows, start):
                insert(database, event(ACTIONS[number % len(ACTIONS)], row, number), None)
        there = [row for number, row in enumerate(rows, start) if ACTIONS[number % len(ACTIONS)] != "draw"]
        info = PartInfo(f"{part:08x}", "masks-propose", "f", "s", len(there))
        write_part(store.path(REGIONS, info.name), REGIONS, info, REGIONS.from_rows(there))
    journal.close()
    return journal.path.stat().st_size


def key(number: int) -> str:
    """Spread as keyed hashes are."""
    return f"{number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128):032x}"


def region(region_id: str, mask: masks.Rle) -> dict[str, Any]:
    return {
        **{"region_id": region_id, "frame_id": region_id[::-1], "pixel_digest": region_id, "structure": "head"},
        **{"mask": mask, "area_px": 60_000, "bbox": [1, 2, 3, 4], "source": "sam", "status": "proposed"},
        **{"prompt": '{"box": [1, 2, 3, 4], "from": "learned"}', "scores": '{"agreement": 0.93, "score": 0.88}'},
    }


def event(action: str, row: dict[str, Any], number: int, prefix: str = "event") -> NewEvent:
    return NewEvent(
        event_id=f"{prefix}-{number:020}",
        reviewer=f"reviewer {number % 3}",
        subject="region",
        frame_id=row["frame_id"],
        region_id=row["region_id"],
        structure=row["structure"],
        action=action,
        tool={"program": "sono-curate 0.1.0", "used": ["box", "brush"], "seconds": 4.2},
        before=None if action == "draw" else row,
        after=row,
    )


def draw_masks() -> list[masks.Rle]:
    return list(_draw(np.random.default_rng(2026)))


def _draw(random: np.random.Generator) -> Iterator[masks.Rle]:
    """Ellipses whose edges are as uneven as those of phantoms' masks: about 0.8 kB of run lengths."""
    for _ in range(64):
        canvas = np.zeros(SIZE, np.uint8)
        axes = (int(random.integers(90, 135)), int(random.integers(65, 105)))
        cv2.ellipse(canvas, (320, 240), axes, float(random.uniform(0, 180)), 0, 360, 1, -1)
        rough = cv2.GaussianBlur(canvas.astype(np.float32) + random.normal(0, 3, SIZE).astype(np.float32), (0, 0), 5)
        yield masks.encode(rough > 0.5)


if __name__ == "__main__":
    main()
