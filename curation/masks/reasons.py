"""Why a mask file is left out: every reason with its fixed text, which quotes nothing from the file."""

from __future__ import annotations

from collections.abc import Mapping

from sono.curation.images.pixels import ExcludedError

MESSAGES: Mapping[str, str] = {
    "unreadable": "the file cannot be read",
    "not_an_image": "neither PNG, JPEG, TIFF nor BMP",
    "no_frame": "no frame has the mask's name",
    "no_caption": "the frame or one of its regions has no caption; run sono-curate caption",
    "ambiguous_name": "several frames have the mask's bare name; lay the masks out in the same folders as the images",
    "frame_not_named": "the mask's image has several frames; name the mask NAME_f0.png, NAME_f1.png, ...",
    "second_mask": "another mask file is for the same frame and structure",
    "region_exists": "an earlier import from another folder holds this structure of the frame",
    "size_mismatch": "the mask has another size than its image; masks are never rotated or stretched to fit",
    "outline_not_closed": "the outline does not enclose an area",
    "outline_is_filled": "the drawing is a filled area, not an outline; import it with --format png",
    "empty_mask": "nothing is drawn in the mask",
    "not_binary": "the mask has more than two grey levels",
    "malformed_mask": "the mask is not written as its format says",
    "not_an_area": "a point, a line, a box or text, which encloses no area that could be a mask",
    "too_many_vertices": "the polygon has more vertices than anybody draws",
    "self_intersecting": "the polygon crosses itself, so that it is not clear what it encloses",
    "not_this_format": "not a file of the format that was named",
    "not_labels": "the values of the image are colors or fractions, not labels",
    "item_too_large": "one entry of the file has more than 64 MiB",
    "file_too_large": "the file is too large for its format; split it, or use COCO, which is read piece by piece",
    "unknown_structure": "the mask's label is not a structure of planes.toml; map it with --label",
    "ambiguous_label": "the mask's labels name several structures",
    "other_structure": "the mask shows another structure than --structure names",
    "outside_crop": "the mask lies outside the part of the image that was kept",
}


def excluded(reason: str) -> ExcludedError:
    """The exclusion for one of the reasons."""
    return ExcludedError(reason, MESSAGES[reason])
