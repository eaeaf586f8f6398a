"""Search by text in a file of features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sono.manifests.errors import UserError
from sono.manifests.outputs import refuse_wildcards
from sono.manifests.query import connect

from .embed import read_origin
from .encoder import Encoder


def search(
    file: Path, query: str, run: Path, *, count: int = 10, notice: Callable[[str], None] = print
) -> list[dict[str, Any]]:
    """The rows of ``file`` whose features are nearest to those of a text, best first, each with its cosine ``score``.

    Raises:
        UserError: ``sono-train embed`` did not write the file, its features are not of the newest checkpoint of
            ``run``, or the text is empty or has more tokens than the text tower reads.
    """
    if not query.strip():
        raise UserError("the text to search for is empty", fix="describe what to look for, such as 'a femur plane'")

    refuse_wildcards(file)
    origin = read_origin(file)
    encoder = Encoder.load(run, notice)
    if origin["checkpoint"]["sha256"] != encoder.checkpoint["sha256"]:
        raise UserError(
            f"its features come from the checkpoint {origin['checkpoint']['file']} and cannot be compared with those "
            f"of {encoder.checkpoint['file']}",
            where=str(file),
            fix="name the run that made them, or run sono-train embed again",
        )
    query_D = encoder.sentences([query], fix="search with a shorter text")[0].tolist()
    with connect() as connection:
        found = connection.execute(
            f"""
            select frame_id, region, structure, plane, caption,
                   array_inner_product(features::float[{len(query_D)}], $query::float[{len(query_D)}]) as score
            from read_parquet($file, hive_partitioning = false) order by score desc, frame_id, region limit $count
            """,
            {"query": query_D, "file": str(file), "count": count},
        )
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
