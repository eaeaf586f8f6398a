"""Why a cleaned frame is for a person to review, or left out: every reason that cleaning gives, with its meaning."""

from __future__ import annotations

from collections.abc import Mapping

MODE: Mapping[str, str] = {
    "mode_uncertain": "neither header nor pixels say clearly which mode the frame was taken in",
    "mode_disagrees_with_header": "the pixels show another mode than the header names",
}

SECTOR: Mapping[str, str] = {
    "no_sector_in_mode": "frames of this mode show no sector",
    "no_ultrasound": "nothing on the screen looks like ultrasound",
    "sector_missing": "fewer or more sectors than the mode has",
    "layout_unclear": "the screen is laid out otherwise than the frame's mode says",
    "sector_fills_frame": "no edge of the sector is visible",
    "sector_edge_unseen": "a side or an end of the sector is too dark to see",
    "sector_uncertain": "too little of the sector's outline is visible",
    "sector_lopsided": "the sides of the sector are not symmetric",
    "texture_outside_sector": "something that looks like ultrasound lies outside the sector",
    "sector_disagrees_with_header": "the sector does not fit the header's regions",
    "sector_disagrees_with_cine": "the frame shows ultrasound where the cine has none, or less depth than the cine",
}

TEXT: Mapping[str, str] = {
    "text_remains": "text was found again after it had been removed",
    "text_readable": "a second reader still reads text where it was removed",
    "text_covers_sector": "so much of the ultrasound looked like text that little is left of it",
}

CALIPERS: Mapping[str, str] = {
    "calipers_remain": "marks of a measurement were found again after they had been removed",
}

REASONS: Mapping[str, str] = {**MODE, **SECTOR, **TEXT, **CALIPERS}

LEFT_OUT: Mapping[str, str] = {
    "mode_not_wanted": "the frame was taken in a mode that [cleaning] of sono.toml does not list",
    "no_ultrasound": "nothing in the frame looks like ultrasound",
    "text_readable": "text can still be read after everything that was found was blacked out",
}
"""Why cleaning leaves a frame out of the table of frames."""
