"""How many patients share each combination of what a dataset says of them, and whether these are enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from sono.manifests.dataset_keys import DatasetKeys
from sono.manifests.errors import UserError
from sono.manifests.query import query
from sono.manifests.schemas import BIOMETRY, CAPTIONS
from sono.manifests.store import TableStore

from .disclosure import ATTRIBUTES, Disclosure

_LISTED = 10


@dataclass(frozen=True)
class Combination:
    """Values of ``ATTRIBUTES`` as they are published, and the number of patients with a frame that has them."""

    values: tuple[object, ...]
    patients: int

    def __str__(self) -> str:
        known = (f"{name} {value}" for name, value in zip(ATTRIBUTES, self.values, strict=True) if value is not None)
        return ", ".join(known) or "nothing said"


def combinations(selection: pa.Table, disclosure: Disclosure, keys: DatasetKeys) -> list[Combination]:
    """All combinations in a selection of frames, those of the fewest patients first."""
    exact = selection.group_by(list(ATTRIBUTES)).aggregate([])
    published: dict[tuple[object, ...], int] = {}
    number_of = []
    for row in exact.to_pylist():
        disclosure.apply(row, keys)
        number_of.append(published.setdefault(tuple(row[name] for name in ATTRIBUTES), len(published)))
    same = " AND ".join(f"s.{name} IS NOT DISTINCT FROM e.{name}" for name in ATTRIBUTES)
    counted = query(
        f"SELECT e.number, count(DISTINCT s.patient_key) AS patients FROM s JOIN e ON {same} GROUP BY ALL",
        s=selection.select(["patient_key", *ATTRIBUTES]),
        e=exact.append_column("number", pa.array(number_of, pa.int64())),
    )
    patients = dict(zip(counted["number"].to_pylist(), counted["patients"].to_pylist(), strict=True))
    found = [Combination(values, patients[number]) for values, number in published.items()]
    return sorted(found, key=lambda each: (each.patients, str(each)))


def refuse_rare(found: list[Combination], k_anonymity: int) -> None:
    """Check that enough patients share every combination.

    Raises:
        UserError: some have fewer than ``k_anonymity``; the text lists them.
    """
    rare = [each for each in found if each.patients < k_anonymity]
    if not rare:
        return
    listed = "; ".join(f"{each}: {each.patients}" for each in rare[:_LISTED])
    more = f"; and {len(rare) - _LISTED} more" if len(rare) > _LISTED else ""
    raise UserError(
        f"{len(rare)} of {len(found)} combinations of center, scanner and age have fewer than {k_anonymity} patients: "
        f"{listed}{more}",
        where="publish.k_anonymity",
        fix='set ga_days = "weeks", or make scanner or center less exact, under [publish] in sono.toml',
    )


def refuse_exact_ages(store: TableStore, selection: pa.Table, disclosure: Disclosure) -> None:
    """Check that no caption gives away the day of an age that is published in weeks.

    Raises:
        UserError: some do, as templates of one's own may.
    """
    paths = [str(path) for path in store.paths(CAPTIONS)]
    if disclosure.ga_days != "weeks" or not paths:
        return
    ages = selection.select(["frame_id", "ga_days"])
    captions = query(_EXACT_AGES, {"paths": paths}, ages=ages)["captions"][0].as_py()
    if captions:
        raise UserError(
            f'{captions:,} captions name an age in days, which ga_days = "weeks" is to hide',
            where="publish.ga_days",
            fix='run sono-curate caption with templates that name ga and not ga_days, or set ga_days = "exact"',
        )


_EXACT_AGES = f"""
SELECT count(*) AS captions FROM read_parquet($paths) c JOIN ages USING (frame_id)
WHERE ga_days % 7 <> 0 AND list_contains(regexp_extract_all(text, '[0-9]+'), ga_days::VARCHAR)
    AND NOT coalesce(list_bool_or([abs((facts ->> ('$.' || name || '.value'))::DOUBLE - ga_days) < 1
                                   FOR name IN {list(BIOMETRY)}]), false)
"""
"""A length that happens to be as many millimetres is no age."""


def spread(found: list[Combination]) -> Mapping[str, int]:
    """Combinations by how many patients share them."""
    limits = (("1", 1, 1), ("2 to 4", 2, 4), ("5 to 9", 5, 9), ("10 or more", 10, None))
    return {
        name: sum(low <= each.patients and (high is None or each.patients <= high) for each in found)
        for name, low, high in limits
    }
