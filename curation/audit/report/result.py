"""What an audit found, kept in the workspace for whoever publishes its frames."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sono.curation.audit.findings import ACTIONS, ADVICE, EMPTY, FAILED, PASSED
from sono.curation.audit.words.workspace_words import FOLDER
from sono.curation.ingest.files import SourceFile
from sono.manifests.fingerprints import tables_fingerprint
from sono.manifests.schemas import SCHEMA_VERSION, TABLES
from sono.manifests.store import write_atomically
from sono.manifests.workspace import Workspace

_FILE = "audit.json"


@dataclass(frozen=True)
class ActionCounts:
    """Checks of one action. Those of ``empty`` had nothing to judge, and are in neither of the others."""

    passed: int
    empty: int
    failed: int


@dataclass(frozen=True)
class Reason:
    """Why checks failed, or were empty, in a table or another place; no value of a source is in it.

    Attributes:
        examples: ids of a few frames that failed; none where it was not a frame.
    """

    action: str
    table: str
    reason: str
    checks: int
    examples: Sequence[str] = ()


@dataclass(frozen=True)
class AuditReport:
    """What one audit found.

    Attributes:
        actions: counts by the names in ``ACTIONS``, all of them.
        tables_fingerprint: of the tables as they were.
        sources_fingerprint: of the list of files; keyed.
    """

    files: int
    frames: int
    actions: Mapping[str, ActionCounts]
    failures: Sequence[Reason]
    empty: Sequence[Reason]
    tables_fingerprint: str
    sources_fingerprint: str

    @property
    def passed(self) -> bool:
        """Nothing failed, and something was judged."""
        counts = self.actions.values()
        return not any(count.failed for count in counts) and any(count.passed for count in counts)

    @property
    def advice(self) -> list[str]:
        """What to do about the failures, where that is known."""
        return list(dict.fromkeys(ADVICE[failure.reason] for failure in self.failures if failure.reason in ADVICE))


@dataclass(frozen=True)
class LatestAudit:
    """The audit that was made last; ``up_to_date`` if tables, and files if asked, are still those that it read."""

    report: AuditReport
    up_to_date: bool


def report_of(rows: Sequence[Mapping[str, object]], **facts: object) -> AuditReport:
    """From rows of ``FINDINGS``; ``facts`` are the report's other fields."""
    totals = {action: {PASSED: 0, EMPTY: 0, FAILED: 0} for action in ACTIONS}
    reasons: dict[str, list[Reason]] = {EMPTY: [], FAILED: []}
    for row in rows:
        action, outcome, checks = str(row["action"]), str(row["outcome"]), int(str(row["checks"]))
        if outcome not in (PASSED, EMPTY, FAILED):
            continue
        totals[action][outcome] += checks
        if outcome != PASSED:
            reasons[outcome].append(
                Reason(action, str(row["table"]), str(row["reason"]), checks, _texts(row["examples"]))
            )
    actions = {action: ActionCounts(**counts) for action, counts in totals.items()}
    return AuditReport(actions=actions, failures=reasons[FAILED], empty=reasons[EMPTY], **facts)  # type: ignore[arg-type]


def _texts(value: object) -> list[str]:
    return list(map(str, value)) if isinstance(value, list) else []


def save_report(workspace: Workspace, report: AuditReport) -> Path:
    """Write ``audit/audit.json``."""
    path = workspace.path / FOLDER / _FILE
    content = {"schema": SCHEMA_VERSION, "passed": report.passed, **asdict(report)}
    write_atomically(path, lambda file: file.write(json.dumps(content, indent=2).encode() + b"\n"))
    return path


def latest_audit(workspace: Workspace, files: Sequence[SourceFile] | None = None) -> LatestAudit | None:
    """What the last audit found, and whether that still holds; None if there was none.

    Args:
        files: of the archive as they are now, of all its folders; None where the archive is not at hand.
    """
    try:
        content = json.loads((workspace.path / FOLDER / _FILE).read_bytes())
    except FileNotFoundError:
        return None
    report = AuditReport(
        files=content["files"],
        frames=content["frames"],
        actions={action: ActionCounts(**counts) for action, counts in content["actions"].items()},
        failures=[Reason(**reason) for reason in content["failures"]],
        empty=[Reason(**reason) for reason in content["empty"]],
        tables_fingerprint=content["tables_fingerprint"],
        sources_fingerprint=content["sources_fingerprint"],
    )
    same_files = files is None or sources_fingerprint(workspace, files) == report.sources_fingerprint
    return LatestAudit(
        report, same_files and tables_fingerprint(workspace.store, TABLES.values()) == report.tables_fingerprint
    )


def sources_fingerprint(workspace: Workspace, files: Sequence[SourceFile]) -> str:
    """Changes when a file is added, removed or written anew; keyed, because it is made of file names."""
    listing = sorted([file.source_key, file.relative, file.size, file.mtime_ns] for file in files)
    return workspace.keys.content(json.dumps(listing))
