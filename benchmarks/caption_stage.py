"""What each shortcut of the caption stage buys, in captions per second of processor time.

    python benchmarks/captions.py --frames 240000 --keep FOLDER
    python benchmarks/caption_stage.py FOLDER/workspace

Runs the stage in this process over the same parts, as it is and with one shortcut after the other replaced by the plain
way, in turns; the best of several rounds counts.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from unittest import mock

import pyarrow as pa

from sono.captioning.captions import memory, stage
from sono.captioning.captions.frames import JoinedFrame
from sono.captioning.captions.join import STUDY, joined_parts_of_last_run
from sono.captioning.captions.memory import Memory, PlaneSentences
from sono.captioning.captions.plan import plan_stage
from sono.captioning.captions.shared_facts import PlaneFacts
from sono.captioning.captions.stage import CaptionStage
from sono.captioning.facts.facts import Fact
from sono.captioning.sentences.writer import Sentence
from sono.manifests.workspace import Workspace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--parts", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    workspace = Workspace(options.workspace)
    caption_stage = plan_stage(workspace)
    with joined_parts_of_last_run(workspace.store) as parts:
        tables = [part.load() for part in islice(parts, options.parts)]
    best = dict.fromkeys(PLAIN_WAYS, 0.0)
    for _ in range(options.rounds):
        for name, (owner, attribute, plain) in PLAIN_WAYS.items():
            patch = mock.patch.object(owner, attribute, plain) if owner else contextlib.nullcontext()
            with patch:
                memory._KEPT.clear()
                best[name] = max(best[name], rate(caption_stage, tables))
    for name, found in best.items():
        print(f"{name:<44} {found:>9,.0f} captions/s   {best['as it is'] / found:5.2f}")


def rate(caption_stage: CaptionStage, tables: list[pa.Table]) -> float:
    """Captions per second of the fastest part, once sentences are known."""
    best = 0.0
    for table in [*tables, *tables]:
        start = time.process_time()
        captions = caption_stage(table).table.num_rows
        best = max(best, captions / (time.process_time() - start))
    return best


def frames_row_by_row(part: pa.Table) -> Iterator[JoinedFrame]:
    for row in part.to_pylist():
        regions = row["regions"] or ()
        yield JoinedFrame(
            *(row[name] for name in JoinedFrame._fields[:9]),
            {name: row[name] for name in STUDY.names},
            [region["region_id"] for region in regions],
            [region["structure"] for region in regions],
        )


def sentence_by_writer(self: PlaneSentences, about: Fact | str, draw: int) -> Sentence | str:
    found = self._memory.writer.about(self._shared.facts(about), draw)
    return found if found is not None else "no_template"


def names_somebody_by_sentence(self: Memory, sentence: Sentence, identity: frozenset[str]) -> bool:
    return self._guard.says(sentence.text, identity)


def draw_by_sha256(key: str, factor: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{factor}/{key}".encode()).digest()[:8])


def facts_as_json(self: PlaneFacts, member: str) -> str:
    return self.facts(Fact(("head",), "regions")).as_json()


PLAIN_WAYS = {
    "as it is": (None, "", None),
    "frames row by row (read_frames)": (stage, "read_frames", frames_row_by_row),
    "a new memory for each part (memory_of_worker)": (stage, "memory_of_worker", Memory),
    "Facts.as_json for each (PlaneFacts.json_with)": (PlaneFacts, "json_with", facts_as_json),
    "Writer.about for each (PlaneSentences)": (PlaneSentences, "sentence", sentence_by_writer),
    "every sentence looked at (names_somebody)": (Memory, "names_somebody", names_somebody_by_sentence),
    "SHA-256 (draw)": (stage, "draw", draw_by_sha256),
}


if __name__ == "__main__":
    main()
