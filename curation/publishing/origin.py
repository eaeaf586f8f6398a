"""What the workspace says about the rows of a dataset that was built from it, by the dataset's own keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from sono.curation.dataset.select import view_selection
from sono.manifests.dataset_keys import DatasetKeys, Kind, dataset_keys, known_keys
from sono.manifests.pulled import split_of_parts
from sono.manifests.query import insert_rows
from sono.manifests.withdrawn import read_withdrawn
from sono.manifests.workspace import Workspace

if TYPE_CHECKING:
    import duckdb

_DERIVED: Mapping[str, Kind] = {"derived_frame": "frame", "derived_caption": "caption"}

_ORIGIN = """
CREATE TABLE origin AS
SELECT derived_frame(j.frame_id) AS frame_id, j.study_key, j.duplicate_group, s.split AS pulled_split,
       j.burned_in_text <> 'unchecked' AS text_checked,
       CASE WHEN s.split IS NOT NULL THEN j.pixel_digest END AS pulled_pixels
FROM judged j LEFT JOIN pulled_splits s USING (part)
WHERE j.reason IS NULL
"""

_IDENTITIES = """
CREATE TABLE identities AS
SELECT study_key, list(DISTINCT word) AS words
FROM (SELECT study_key, unnest(identity) AS word FROM records) GROUP BY study_key
"""


def create_origin(database: duckdb.DuckDBPyConnection, workspace: Workspace, keys: DatasetKeys) -> None:
    """Make what the workspace holds readable under the keys of one of its datasets.

    Relations:
        origin: the frames that ``build`` would take today, whether or not their text was checked. Of pulled frames,
            ``pulled_pixels`` and ``pulled_split`` are the digest of the pixels and the split that were published.
        identities: by ``study_key`` the keyed hashes of the words that captions of an examination must not contain.
        origin_captions: every caption's id and text.
    """
    from duckdb.func import ARROW

    for name, kind in _DERIVED.items():
        database.create_function(name, _deriver(keys, kind), ["varchar"], "varchar", type=ARROW)
    view_selection(database, workspace.store, allow_unchecked_text=True)
    database.execute("CREATE TABLE pulled_splits (part VARCHAR, split VARCHAR)")
    insert_rows(database, "pulled_splits", split_of_parts(workspace.store).items())
    database.execute(_ORIGIN)
    database.execute(_IDENTITIES)
    database.execute(
        "CREATE VIEW origin_captions AS SELECT derived_caption(caption_id) AS caption_id, text FROM captions"
    )


def _deriver(keys: DatasetKeys, kind: Kind) -> Callable[[pa.Array], pa.Array]:
    def derive(column: pa.Array) -> pa.Array:
        return pa.array([keys.derive(kind, key) for key in column.to_pylist()], pa.string())

    return derive


def own_keys(workspace: Workspace, pseudonyms: str, names: Iterable[str] = ()) -> DatasetKeys | None:
    """The keys of a dataset whose marker has this id of pseudonyms; None if they are not of this workspace's key.

    Args:
        names: that the dataset may have, beside those of the datasets that were built from here.
    """
    linkable = dataset_keys(workspace, "any", linkable=True)
    known = (keys for _, keys in known_keys(workspace))
    guessed = (dataset_keys(workspace, name) for name in names)
    return next((keys for keys in (linkable, *known, *guessed) if keys.id == pseudonyms), None)


def withdrawn_patients(workspace: Workspace, keys: DatasetKeys) -> frozenset[str]:
    """The patients who took back their consent, by the keys that they have in a dataset."""
    listed = read_withdrawn(workspace.path).keys.values()
    return frozenset(keys.derive("patient", key) for some in listed for key in some)
