"""What an audit counts: for each action of the MIDI-B benchmark, what passed, what failed and why, what was empty."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pyarrow as pa

from sono.manifests.schemas import TableSpec

ACTIONS: Mapping[str, str] = {
    "tag_retained": "sizes, frame counts, frame times and pixel spacings are those of the source",
    "text_not_null": "what the source says is there as a key, a day or a name, and no required column is empty",
    "text_retained": "manufacturer, model and plane are the source's, where a list has them",
    "text_removed": "no word of a header, a path, the metadata or a record is anywhere in the workspace",
    "date_shifted": "days are those of the patient's own calendar, and no date can be read",
    "uid_changed": "no UID of a header is anywhere in the workspace, and every key is a keyed one",
    "uid_consistent": "one study, series or accession number is one key, and one key is one of them",
    "patient_id_consistent": "one patient is one key, and one key is one patient",
    "pixels_retained": "inside the sector and beside the recorded edits, pixels are those of the source",
    "pixels_hidden": "nothing is left outside the sector, and no text can be read where text was painted over",
}
"""The ten actions, by the names of MIDI-B, and what each asks of a workspace."""

PASSED, EMPTY, FAILED, PAIR = "passed", "empty", "failed", "pair"
"""Outcomes. ``EMPTY``: there was nothing to judge. ``PAIR``: what a key stands for, judged when all are known."""

FRAMES_TABLE = "frames"

FINDINGS = TableSpec(
    "findings",
    "action",
    pa.schema(
        [
            pa.field("action", pa.string(), nullable=False),
            pa.field("table", pa.string(), nullable=False),  # or another place in the workspace
            pa.field("outcome", pa.string(), nullable=False),
            pa.field("reason", pa.string(), nullable=False),  # of a pair the column
            pa.field("checks", pa.int64(), nullable=False),
            pa.field("identity", pa.string()),  # of a pair: a keyed hash of what the source says
            pa.field("pseudonym", pa.string()),  # of a pair: what the workspace says
        ]
    ),
)
"""What one part of the archive gave; no value of a source is in it."""


class Findings:
    """Counts by action, table, outcome and reason."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str, str]] = Counter()
        self._pairs: Counter[tuple[str, str, str, str]] = Counter()

    def passed(self, action: str, table: str = FRAMES_TABLE, checks: int = 1) -> None:
        self._counts[action, table, PASSED, ""] += checks

    def empty(self, action: str, reason: str, table: str = FRAMES_TABLE, checks: int = 1) -> None:
        """Nothing was there to judge, for this ``reason``."""
        self._counts[action, table, EMPTY, reason] += checks

    def failed(self, action: str, reason: str, table: str = FRAMES_TABLE, checks: int = 1) -> None:
        self._counts[action, table, FAILED, reason] += checks

    def judge(self, action: str, reason: str, right: bool) -> None:
        """One check of a frame; ``reason`` says what was wrong with it, if it was."""
        if right:
            self.passed(action)
        else:
            self.failed(action, reason)

    def pair(self, action: str, column: str, identity: str, pseudonym: str) -> None:
        """What the source says and which key stands for it, in ``column`` of the frames."""
        self._pairs[action, column, identity, pseudonym] += 1

    def add(self, rows: pa.Table) -> None:
        """Add what ``table`` gave elsewhere, but for the pairs."""
        for row in rows.to_pylist():
            if row["outcome"] != PAIR:
                self._counts[row["action"], row["table"], row["outcome"], row["reason"]] += row["checks"]

    def table(self) -> pa.Table:
        """Everything as rows of ``FINDINGS``, in a fixed order."""
        counted = [
            {"action": action, "table": table, "outcome": outcome, "reason": reason, "checks": checks}
            for (action, table, outcome, reason), checks in sorted(self._counts.items())
        ]
        paired = [
            {
                **{"action": action, "table": FRAMES_TABLE, "outcome": PAIR, "reason": column},
                **{"checks": checks, "identity": identity, "pseudonym": pseudonym},
            }
            for (action, column, identity, pseudonym), checks in sorted(self._pairs.items())
        ]
        return FINDINGS.from_rows([*counted, *paired])
