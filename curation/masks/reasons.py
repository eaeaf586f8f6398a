"""Why a mask file is left out: every reason with its fixed text, which quotes nothing from the file."""

from __future__ import annotations

from collections.abc import Mapping

from sono.curation.images.pixels import ExcludedError

MESSAGES: Mapping[str, str] = {
    "unreadable": "the file cannot be read",
    "not_an_image": "neither PNG, JPEG, TIFF nor BMP",
    "no_frame": "no frame has the mask's name",
    "ambiguous_name": "several frames have the mask's bare name; lay the masks out in the same folders as the images",
    "frame_not_named": "the mask's image has several frames; name the mask NAME_f0.png, NAME_f1.png, ...",
    "second_mask": "another mask file is for the same frame and structure",
    "region_exists": "an earlier import from another folder holds this structure of the frame",
    "size_mismatch": "the mask has another size than its image; masks are never rotated or stretched to fit",
    "outline_not_closed": "the outline does not enclose an area",
    "outline_is_filled": "the drawing is a filled area, not an outline; import it with --format png",
    "empty_mask": "nothing is drawn in the mask",
    "not_binary": "the mask has more than two grey levels",
    "outside_crop": "the mask lies outside the part of the image that was kept",
}


def excluded(reason: str) -> ExcludedError:
    """The exclusion for one of the reasons."""
    return ExcludedError(reason, MESSAGES[reason])
