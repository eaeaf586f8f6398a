"""What an audit counts: for each action of the MIDI-B benchmark, what passed, what failed and why, what was empty."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa

from sono.manifests.schemas import TableSpec

ACTIONS: Mapping[str, str] = {
    "tag_retained": "sizes, frame counts, frame times and pixel spacings are those of the source",
    "text_not_null": "what the source says is there as a key, a day or a name, and no required column is empty",
    "text_retained": "manufacturer, model and plane are the source's, where a list has them",
    "text_removed": "no word of a header, a path, the metadata or a record is anywhere in the workspace",
    "date_shifted": "days are those of the patient's own calendar, and no date can be read",
    "uid_changed": "no UID of a header is anywhere in the workspace, and no key is a plain digest of what files say",
    "uid_consistent": "one study, series or accession number is one key, and one key is one of them",
    "patient_id_consistent": "one patient is one key, and one key is one patient",
    "pixels_retained": "inside the sector and beside the recorded edits, pixels are those of the source",
    "pixels_hidden": "everything outside the sector is black, every recorded edit was made, and no text can be read",
}
"""The ten actions, by the names of MIDI-B, and what each asks of a workspace."""

_SEARCH_ALL = (
    "set search_share = 1 under [cleaning] in sono.toml and ingest again: every frame is then searched for text"
)
_OPTIONS = "give --metadata, --patient-regex and --center as they were given to ingest"

ADVICE: Mapping[str, str] = {
    "text_can_be_read": _SEARCH_ALL,
    "text_can_be_seen": _SEARCH_ALL,
    "what_the_source_says_can_be_read": _SEARCH_ALL,
    "accepted_but_not_shown_clean": "run sono-curate qc again: it holds such frames back for review",
    "patient_number_key_stands_for_nothing_in_the_source": _OPTIONS,
    "several_patient_keys_for_one": _OPTIONS,
    "another_plane": _OPTIONS,
    "another_pixel_mm_x": _OPTIONS,
    "a_day_without_a_date": _OPTIONS,
    "the_source_has_changed": "ingest again: files of the archive are others than those that were ingested",
    "stored_image_holds_more_than_pixels": "ingest again: the image then holds its pixels and nothing else",
    "a_column_that_no_table_has": "another program wrote it: run the table's command again, or delete that part",
    "a_column_of_another_type": "another program wrote it: run the table's command again, or delete that part",
    "the_file_is_not_in_the_workspace": "ingest again: files were added to the archive",
}
"""What to do about failures, by their reason, where that is known."""

PASSED, EMPTY, FAILED, PAIR, TEXTLESS = "passed", "empty", "failed", "pair", "textless"
"""Outcomes. ``EMPTY``: there was nothing to judge. ``PAIR``: what a key stands for, judged when all are known.
``TEXTLESS``: a keyed digest of an image in which nothing could be read.
"""

MOST_EXAMPLES = 3
"""Frames that are named with a reason of failures."""

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
            pa.field("pseudonym", pa.string()),  # of a pair: what the workspace says; of a textless image its digest
            pa.field("examples", pa.list_(pa.string())),  # of failures: ids of frames
        ]
    ),
)
"""What one part of the archive gave; no value of a source is in it."""


class Findings:
    """Counts by action, table, outcome and reason."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str, str]] = Counter()
        self._pairs: Counter[tuple[str, str, str, str]] = Counter()
        self._examples: dict[tuple[str, str, str], list[str]] = {}
        self._textless: set[str] = set()
        self._frame: str | None = None

    @contextlib.contextmanager
    def about(self, frame_id: str) -> Iterator[None]:
        """What fails meanwhile, fails for this frame."""
        self._frame = frame_id
        try:
            yield
        finally:
            self._frame = None

    def passed(self, action: str, table: str = FRAMES_TABLE, checks: int = 1) -> None:
        self._counts[action, table, PASSED, ""] += checks

    def empty(self, action: str, reason: str, table: str = FRAMES_TABLE, checks: int = 1) -> None:
        """Nothing was there to judge, for this ``reason``."""
        self._counts[action, table, EMPTY, reason] += checks

    def failed(self, action: str, reason: str, table: str = FRAMES_TABLE, checks: int = 1) -> None:
        self._counts[action, table, FAILED, reason] += checks
        self._exemplify((action, table, reason), [self._frame] if self._frame else [])

    def judge(self, action: str, reason: str, right: bool) -> None:
        """One check of a frame; ``reason`` says what was wrong with it, if it was."""
        if right:
            self.passed(action)
        else:
            self.failed(action, reason)

    def pair(self, action: str, column: str, identity: str, pseudonym: str) -> None:
        """What the source says and which key stands for it, in ``column`` of the frames."""
        self._pairs[action, column, identity, pseudonym] += 1

    def textless(self, key: str) -> None:
        """Nothing can be read in the image with this keyed digest."""
        self._textless.add(key)

    def add(self, rows: pa.Table) -> None:
        """Add the counts in rows of ``FINDINGS``."""
        for row in rows.to_pylist():
            if row["outcome"] in (PASSED, EMPTY, FAILED):
                self._counts[row["action"], row["table"], row["outcome"], row["reason"]] += row["checks"]
                self._exemplify((row["action"], row["table"], row["reason"]), row["examples"] or [])

    def table(self) -> pa.Table:
        """Everything as rows of ``FINDINGS``, in a fixed order."""
        counted = [
            {
                **{"action": action, "table": table, "outcome": outcome, "reason": reason, "checks": checks},
                "examples": self._examples.get((action, table, reason), []) if outcome == FAILED else [],
            }
            for (action, table, outcome, reason), checks in sorted(self._counts.items())
        ]
        paired = [
            {
                **{"action": action, "table": FRAMES_TABLE, "outcome": PAIR, "reason": column},
                **{"checks": checks, "identity": identity, "pseudonym": pseudonym},
            }
            for (action, column, identity, pseudonym), checks in sorted(self._pairs.items())
        ]
        textless = [
            {
                **{"action": "pixels_hidden", "table": FRAMES_TABLE, "outcome": TEXTLESS, "reason": ""},
                **{"checks": 1, "pseudonym": key},
            }
            for key in sorted(self._textless)
        ]
        return FINDINGS.from_rows([*counted, *paired, *textless])

    def _exemplify(self, key: tuple[str, str, str], frames: Iterable[str]) -> None:
        known = self._examples.setdefault(key, [])
        known += [frame for frame in frames if frame not in known][: MOST_EXAMPLES - len(known)]
