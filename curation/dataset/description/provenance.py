"""provenance.json: what a dataset was made with and from, for machines."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from sono.curation.cleaning.config import CleaningSection
from sono.curation.dataset.config import PublishSection
from sono.curation.dataset.shards.rows import RowOptions
from sono.curation.qc.stage import QcSection
from sono.curation.review.config import ReviewSection
from sono.manifests.fingerprints import tables_fingerprint
from sono.manifests.pulled import read_pulled
from sono.manifests.schemas import CAPTIONS, SCHEMA_VERSION, TABLES
from sono.manifests.splits import SplitPlan
from sono.manifests.store import TableStore
from sono.manifests.vocabulary import vocabulary_sha256
from sono.manifests.workspace import Workspace

_LIBRARIES = (
    "sono-curate",
    "datasets",
    "duckdb",
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "pyarrow",
    "pydicom",
)


def provenance(
    workspace: Workspace, section: PublishSection, options: RowOptions, plan: SplitPlan, left_out: Mapping[str, int]
) -> dict[str, Any]:
    """Versions, configuration and fingerprints as JSON.

    There are no paths, addresses or names of centers in it, but the repository that it was pulled from, if it was. The
    fingerprints are keyed: with the workspace one can tell whether its tables are still those of the dataset, and
    nobody can compare them with another dataset's.
    """
    fingerprints = {name: tables_fingerprint(workspace.store, [table]) for name, table in TABLES.items()}
    pulled = read_pulled(workspace.path)
    return {
        "schema": SCHEMA_VERSION,
        **({"pulled_from": pulled.statement()} if pulled else {}),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}},
        "configuration": {
            "cleaning": workspace.section("cleaning", CleaningSection).model_dump(mode="json"),
            "qc": workspace.section("qc", QcSection).model_dump(mode="json"),
            "review": workspace.section("review", ReviewSection).model_dump(mode="json"),
            "caption": _captions_made_with(workspace.store),
            "publish": section.model_dump(mode="json"),
        },
        "build": {
            **options.as_json(),
            "linkable": options.keys.linkable,
            "splits": pulled.split_plan if pulled else options.disclosure.split_plan(plan, options.keys),
            "left_out": dict(left_out),
        },
        "vocabulary_sha256": vocabulary_sha256(workspace.vocabulary),
        "tables": {name: options.keys.content(fingerprint) for name, fingerprint in fingerprints.items()},
    }


def _captions_made_with(store: TableStore) -> list[Mapping[str, Any]]:
    """What the captions were written with: one entry, unless parts of them are older."""
    found = {json.dumps(info.made_with, sort_keys=True) for info in store.parts(CAPTIONS).values()}
    return [json.loads(text) for text in sorted(found)]
