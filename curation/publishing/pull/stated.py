"""Refuses files of a dataset that would cost too much to read, and rows that state what cannot be.

Whoever published a dataset decides what is in its files. They are looked at here before anything is made from them.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from sono.manifests.errors import UserError
from sono.manifests.query import connect
from sono.manifests.store import damage_named

from .source import OTHER_COPY

_GROUP_ROWS = {"data": 4_096, "metadata": 262_144}
_IMAGES_BYTES = 2**30  # of a row group, unpacked; build ends one at 64 MB
_COLUMN_BYTES = 2**26  # of another column
_COLUMN_VALUES = 2**23
_MEMORY = "1GB"  # of DuckDB

_LONGEST_AGE_DAYS = 45 * 7
_KEY = "coalesce(regexp_full_match({}, '[0-9a-f]{{32}}'), false)"
_FINITE = "coalesce(list_bool_and(list_transform({}, lambda value: isfinite(value))), true)"
_PLAUSIBLE = (
    *(_KEY.format(name) for name in ("frame_id", "patient_key", "study_key", "caption_id")),
    "caption IS NOT NULL AND length(caption) <= 2000",
    "plane IS NULL OR plane BETWEEN 0 AND $planes - 1",
    f"ga_days IS NULL OR ga_days BETWEEN 1 AND {_LONGEST_AGE_DAYS}",
    *(f"{name} IS NULL OR length({name}) BETWEEN 1 AND 128" for name in ("center", "manufacturer", "model")),
    "pixel_mm IS NULL OR (len(pixel_mm) = 2 AND list_min(pixel_mm) > 0 AND list_max(pixel_mm) < 100)",
    "sectors IS NULL OR len(sectors) <= 16",
)
_PLAUSIBLE_SECTOR = (
    "kind IN ('convex', 'phased', 'linear', 'unknown')",
    "len(box) = 4 AND list_min(box) >= 0 AND list_max(box) <= 65536",
    *(f"{name} IS NULL OR len({name}) = 2" for name in ("apex", "angles", "radii")),
    *(_FINITE.format(name) for name in ("apex", "angles", "radii")),
)
_PLAUSIBLE_REGION = (
    _KEY.format("caption_id"),
    "caption IS NOT NULL AND length(caption) <= 2000",
    "structure IS NOT NULL AND length(structure) <= 128",
    "regexp_full_match(source, '[a-z]{1,16}')",
    "len(mask.size) = 2 AND length(mask.counts) <= 4194304",
    "len(bbox) = 4",
)


def check_size(path: Path, folder: str) -> None:
    """Check by a file's footer that reading a row group costs no more than one that ``build`` wrote could.

    Args:
        folder: of the configuration that it is of.

    Raises:
        UserError: it would; or the file is damaged.
    """
    with damage_named(path, OTHER_COPY):
        footer = pq.read_metadata(path)
    for group in map(footer.row_group, range(footer.num_row_groups)):
        columns = [group.column(number) for number in range(group.num_columns)]
        for column in columns:
            is_image = column.path_in_schema == "image.bytes"
            most = _IMAGES_BYTES if is_image else _COLUMN_BYTES
            if (
                group.num_rows > _GROUP_ROWS[folder]
                or column.total_uncompressed_size > most
                or column.num_values > _COLUMN_VALUES
                or (is_image and column.has_dictionary_page)  # one image for every row
            ):
                raise _refused(path, "its row groups are larger than any that sono-curate writes")


def check_rows(path: Path, planes: int) -> None:
    """Check that every row of a file of ``default`` states what can be: keys, numbers in range, text of some length.

    Args:
        planes: how many the dataset has.

    Raises:
        UserError: a row does not.
    """
    with connect(_MEMORY) as database:
        for condition, rows in (
            (_PLAUSIBLE, "read_parquet($path)"),
            (
                _PLAUSIBLE_SECTOR,
                "(SELECT unnest(sector) FROM (SELECT unnest(sectors) AS sector FROM read_parquet($path)))",
            ),
            (
                _PLAUSIBLE_REGION,
                "(SELECT unnest(region) FROM (SELECT unnest(regions) AS region FROM read_parquet($path)))",
            ),
        ):
            holds = " AND ".join(f"({each})" for each in condition)
            values = {"path": str(path), **({"planes": planes} if condition is _PLAUSIBLE else {})}
            found = database.execute(f"SELECT count(*) FROM {rows} WHERE NOT coalesce({holds}, false)", values)
            if count := found.fetchall()[0][0]:
                raise _refused(path, f"{count:,} of its rows, masks or sectors state what cannot be")


def check_keys(path: Path) -> None:
    """Check that the keys in a file of ``metadata`` are keys.

    Raises:
        UserError: one is not.
    """
    holds = " AND ".join(_KEY.format(name) for name in ("frame_id", "patient_key", "study_key"))
    with connect(_MEMORY) as database:
        found = database.execute(f"SELECT count(*) FROM read_parquet($path) WHERE NOT ({holds})", {"path": str(path)})
        if count := found.fetchall()[0][0]:
            raise _refused(path, f"{count:,} of its rows have no keys")


def _refused(path: Path, what: str) -> UserError:
    return UserError(
        what, where=f"{path.parent.name}/{path.name}", fix="pull nothing from there until its owner has built it again"
    )
