"""Which parts of the regions table a dataset is made of: proposals that nobody has decided on make nothing stale."""

from __future__ import annotations

from sono.manifests.schemas import ACCEPTED_STATUSES, REGIONS
from sono.manifests.store import TableStore


def accepted_parts(store: TableStore) -> list[str]:
    """The names of the parts with accepted masks, in name order."""
    return [
        name
        for name in store.parts(REGIONS)
        if not set(ACCEPTED_STATUSES).isdisjoint(store.read(REGIONS, name, ["status"])["status"].to_pylist())
    ]
