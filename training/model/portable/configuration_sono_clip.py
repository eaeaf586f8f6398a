"""Configuration of an exported mask-guided CLIP. Exports carry a copy of this file; nothing here imports it."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig


class SonoClipConfig(PretrainedConfig):  # type: ignore[misc]
    """What the model is made of.

    Args:
        open_clip: the architecture in open_clip's terms (``model_cfg``).
        mask_mean: the mask, 1 inside and 0 outside, enters as (mask - mask_mean) / mask_std.
        mask_std: see there.
    """

    model_type = "sono_clip"

    def __init__(
        self, open_clip: dict[str, Any] | None = None, mask_mean: float = 0.5, mask_std: float = 0.26, **kwargs: Any
    ) -> None:
        self.open_clip = open_clip or {}
        self.mask_mean, self.mask_std = mask_mean, mask_std
        super().__init__(**kwargs)
