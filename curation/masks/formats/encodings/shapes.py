"""Shapes that annotation tools draw: polygons, rectangles, circles and ellipses, as text that a plan can carry."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sono.curation.masks.formats.protocol import Size
from sono.curation.masks.reasons import excluded
from sono.manifests.masks import Mask

from . import polygons

FILE_MOST = 256 * 2**20
"""Bytes of a file that is parsed as a whole."""


def polygon_place(points: object, size: Size | None) -> str:
    """The place of a polygon with vertices [[x, y], ...]; ``size`` if the file says that of its image.

    Raises:
        ExcludedError: it is not a polygon, or has too many vertices.
    """
    ring = polygons.ring_of(points)
    return json.dumps({"polygon": ring.tolist(), "size": size})


def rectangle_place(left: Any, top: Any, width: Any, height: Any, size: Size | None) -> str:
    try:
        x, y, right, bottom = float(left), float(top), float(left) + float(width), float(top) + float(height)
    except (TypeError, ValueError):
        raise excluded("malformed_mask") from None
    return polygon_place([[x, y], [right, y], [right, bottom], [x, bottom]], size)


def ellipse_place(center: object, radii: object, degrees: Any, size: Size | None) -> str:
    """The place of an ellipse: center and radii are x, y in px; ``degrees`` turn it clockwise on the screen."""
    try:
        ellipse = [*np.asarray(center, float).tolist(), *np.asarray(radii, float).tolist(), float(degrees or 0)]
    except (TypeError, ValueError):
        raise excluded("malformed_mask") from None
    if len(ellipse) != 5 or not np.isfinite(ellipse).all():
        raise excluded("malformed_mask")
    return json.dumps({"ellipse": ellipse, "size": size})


def draw(place: str, size: Size) -> Mask:
    """The mask of a shape, on an image of the size that its file says, or else of ``size``."""
    shape: Mapping[str, Any] = json.loads(place)
    height, width = shape["size"] or size
    if "ellipse" in shape:
        x, y, radius_x, radius_y, degrees = shape["ellipse"]
        return polygons.ellipse((x, y), (radius_x, radius_y), degrees, (height, width))
    return polygons.fill(np.asarray(shape["polygon"], dtype=np.float64), (height, width))


def size_of(height: object, width: object) -> Size | None:
    """The size that a file gives for its image; None if it gives none.

    Raises:
        ExcludedError: it is not a size.
    """
    if height is None and width is None:
        return None
    try:
        return int(height), int(width)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise excluded("malformed_mask") from None


def read_json(path: Path) -> Any:
    """A JSON file that is parsed as a whole.

    Raises:
        ExcludedError: it is not JSON, or larger than ``FILE_MOST``.
    """
    try:
        if path.stat().st_size > FILE_MOST:
            raise excluded("file_too_large")
        return json.loads(path.read_bytes())
    except OSError:
        raise excluded("unreadable") from None
    except (ValueError, RecursionError):
        raise excluded("not_this_format") from None
