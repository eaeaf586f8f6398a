"""Which frame each name stands for: the name of its image, as masks elsewhere have it, or its frame_id."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

import pyarrow as pa

from sono.manifests.pseudonyms import Pseudonymizer, without_extension

READINGS = pa.schema(
    {
        "image": pa.int64(),  # number of the name
        "reading": pa.int32(),  # the first that leads to an image counts
        "frame_id": pa.string(),
        "path_key": pa.string(),
        "bare_key": pa.string(),  # null if the name has folders
        "frame_index": pa.int32(),
    }
)

_FRAME_ID = re.compile(r"[0-9a-f]{32}")
_FRAME_SUFFIX = re.compile(r"^(.*)_f(\d{1,8})$")


def stem_of(name: str) -> str:
    """A name without its extension; paths of Windows and of the current folder in one form."""
    path = name.replace("\\", "/").removesuffix(".gz")
    while path.startswith("./"):
        path = path[2:]
    return without_extension(path)


def readings(image: int, stem: str, frame: int | None, keys: Pseudonymizer) -> Sequence[dict[str, object]]:
    """What a name can mean, the likeliest first: a frame_id, a file, or a frame of one. Rows of ``READINGS``.

    Args:
        image: the number that the rows are to have.
        frame: which frame, if that is known apart from the name.
    """
    if not PurePosixPath(stem).name:
        return []
    bare = PurePosixPath(stem).name
    found: list[dict[str, object]] = []
    if _FRAME_ID.fullmatch(bare):
        found.append({"image": image, "reading": 0, "frame_id": bare})
    match = _FRAME_SUFFIX.match(stem)
    named = [(1, stem, frame)]
    if frame is None and match and PurePosixPath(match[1]).name:
        named.append((2, match[1], int(match[2])))
    for reading, name, index in named:
        path = f"{name}.x"
        # A bare name counts only outside of folders: the image may be missing, and another patient's have that name.
        bare_key = None if "/" in name else keys.name(path)
        keyed = {"path_key": keys.source(path), "bare_key": bare_key, "frame_index": index}
        found.append({"image": image, "reading": reading, **keyed})
    return found


FIND_FRAMES = """
CREATE TABLE named AS
WITH sources AS (
    SELECT source_key, any_value(name_key) AS name_key, max(frame_count) AS frame_count
    FROM all_frames GROUP BY source_key
),
by_path AS (
    SELECT r.image, r.reading, r.frame_index, s.source_key, s.frame_count, 1 AS sources
    FROM readings r JOIN sources s ON s.source_key = r.path_key
),
by_bare_name AS (
    SELECT r.image, r.reading, any_value(r.frame_index) AS frame_index, any_value(s.source_key) AS source_key,
        any_value(s.frame_count) AS frame_count, count(*) AS sources
    FROM readings r JOIN sources s ON s.name_key = r.bare_key
    ANTI JOIN by_path p ON p.image = r.image AND p.reading = r.reading
    GROUP BY r.image, r.reading
),
by_source AS (
    SELECT *, NULL::VARCHAR AS frame_id FROM by_path UNION ALL SELECT *, NULL FROM by_bare_name
),
by_id AS (
    SELECT r.image, r.reading, f.frame_index, f.source_key, NULL::BIGINT, 1, f.frame_id
    FROM readings r JOIN all_frames f ON f.frame_id = r.frame_id
),
likeliest AS (
    SELECT * FROM (SELECT * FROM by_source UNION ALL SELECT * FROM by_id)
    QUALIFY row_number() OVER (PARTITION BY image ORDER BY reading) = 1
)
SELECT l.image, f.frame_id, l.frame_id IS NOT NULL AS by_frame_id,
    CASE
        WHEN l.sources > 1 THEN 'ambiguous_name'
        WHEN l.frame_id IS NULL AND l.frame_index IS NULL AND l.frame_count > 1 THEN 'frame_not_named'
        WHEN f.frame_id IS NULL THEN 'no_frame'
    END AS problem
FROM likeliest l LEFT JOIN all_frames f
    ON f.source_key = l.source_key AND l.sources = 1
    AND (f.frame_id = l.frame_id OR (l.frame_id IS NULL AND (
        f.frame_index = l.frame_index OR (l.frame_index IS NULL AND l.frame_count = 1))))
"""
"""From ``readings`` and ``all_frames`` (columns of FRAMES) to the frame of every image whose name leads to one."""
