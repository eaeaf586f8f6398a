"""What the workspace says about the rows of a dataset that was built from it, by the dataset's own keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sono.curation.dataset.select import select
from sono.manifests.dataset_keys import DatasetKeys, dataset_keys, known_keys
from sono.manifests.pulled import split_of_parts
from sono.manifests.query import query
from sono.manifests.schemas import CAPTIONS, FRAMES, RECORDS
from sono.manifests.withdrawn import read_withdrawn
from sono.manifests.workspace import Workspace


@dataclass(frozen=True)
class Origin:
    """The workspace's rows under the keys of one dataset.

    Attributes:
        frames: those that ``build`` would take today, whether or not their text was checked.
        captions: every caption's text.
    """

    frames: Mapping[str, OriginFrame] = field(repr=False)
    captions: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class OriginFrame:
    """A frame of the workspace.

    Attributes:
        identity: keyed hashes of the words that its captions must not contain.
        pulled_pixels, pulled_split: of a pulled frame, the digest of the pixels and the split that were published.
    """

    text_checked: bool
    duplicate_group: str | None
    identity: frozenset[str]
    pulled_pixels: str | None = None
    pulled_split: str | None = None


def find_origin(workspace: Workspace, pseudonyms: str) -> Origin | None:
    """What the workspace says about a dataset whose marker has this id of pseudonyms; None if it is not its own."""
    keys = own_keys(workspace, pseudonyms)
    if keys is None:
        return None
    rows = query(
        """
        SELECT s.part, s.frame_id, s.duplicate_group, f.study_key, f.burned_in_text <> 'unchecked' AS checked,
            f.pixel_digest
        FROM selection s JOIN read_parquet($frames) f USING (frame_id)
        """,
        {"frames": [str(path) for path in workspace.store.paths(FRAMES)]},
        selection=select(workspace, allow_unchecked_text=True)[0],
    )
    identities, splits = _identities(workspace), split_of_parts(workspace.store)
    frames = {
        keys.derive("frame", row["frame_id"]): OriginFrame(
            row["checked"],
            row["duplicate_group"],
            identities.get(row["study_key"], frozenset()),
            pulled_pixels=row["pixel_digest"] if row["part"] in splits else None,
            pulled_split=splits.get(row["part"]),
        )
        for row in rows.to_pylist()
    }
    texts = workspace.store.read_all(CAPTIONS, ["caption_id", "text"]).to_pylist()
    captions = {keys.derive("caption", row["caption_id"]): row["text"] for row in texts}
    return Origin(frames, captions)


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


def _identities(workspace: Workspace) -> Mapping[str, frozenset[str]]:
    """By examination, of all its records."""
    found: dict[str, frozenset[str]] = {}
    for row in workspace.store.read_all(RECORDS, ["study_key", "identity"]).to_pylist():
        found[row["study_key"]] = found.get(row["study_key"], frozenset()).union(row["identity"] or ())
    return found
