"""The page that shows what an audit found: counts by action, what failed and where, and what could not be judged."""

from __future__ import annotations

from pathlib import Path

from sono.curation.audit.findings import ACTIONS
from sono.manifests import pages
from sono.manifests.store import write_atomically
from sono.manifests.workspace import Workspace

from .result import AuditReport


def write_audit_page(workspace: Workspace, report: AuditReport) -> Path:
    """Write ``reports/audit.html``; it names attributes, tables and reasons, and no value.

    Returns:
        The page's path.
    """
    page = pages.render(
        __package__,
        "page.html",
        center=workspace.center,
        report=report,
        actions=[(name, ACTIONS[name], counts) for name, counts in report.actions.items()],
    )
    path = workspace.reports / "audit.html"
    write_atomically(path, lambda file: file.write(page.encode()))
    return path
