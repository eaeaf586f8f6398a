"""An exported mask-guided CLIP for transformers. Exports carry a copy of this file; nothing here imports it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from .configuration_sono_clip import SonoClipConfig
from .mask_stem import add_mask_stem, build_clip


@dataclass
class SonoClipOutput(ModelOutput):  # type: ignore[misc]
    """L2-normalised features of both towers, [batch, dim], and ``t * cosine + b`` of every pair."""

    logits_per_image: torch.Tensor | None = None
    logits_per_text: torch.Tensor | None = None
    image_embeds: torch.Tensor | None = None
    text_embeds: torch.Tensor | None = None


class SonoClipModel(PreTrainedModel):  # type: ignore[misc]
    """A CLIP whose image tower takes a mask beside the image."""

    config_class = SonoClipConfig
    main_input_name = "pixel_values"

    def __init__(self, config: SonoClipConfig) -> None:
        super().__init__(config)
        with torch.device("cpu"):  # transformers builds models without memory; the patch embedding is found by a pass
            self.clip = build_clip(config.open_clip)
            add_mask_stem(self.clip)
        self._constants = {name: buffer.clone() for name, buffer in self.clip.named_buffers()}
        self.post_init()

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As every model of transformers."""
        loaded = super().from_pretrained(*args, **kwargs)
        (loaded[0] if isinstance(loaded, tuple) else loaded)._restore_constants()
        return loaded

    def get_image_features(self, pixel_values: torch.Tensor, masks: torch.Tensor | None = None) -> torch.Tensor:
        """L2-normalised features, [batch, dim].

        Args:
            pixel_values: normalised images, [batch, 3, size, size].
            masks: normalised masks, [batch, 1, size, size]; None is the whole image, a mask of all one.
        """
        if masks is None:
            masks = (torch.ones_like(pixel_values[:, :1]) - self.config.mask_mean) / self.config.mask_std
        return F.normalize(self.clip.encode_image(torch.cat([pixel_values, masks], dim=1)), dim=-1)

    def get_text_features(self, input_ids: torch.Tensor) -> torch.Tensor:
        """L2-normalised features, [batch, dim], of token ids as the processor makes them."""
        return F.normalize(self.clip.encode_text(input_ids), dim=-1)

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        masks: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Features of what is given, and the logits of every pair where both are."""
        image = None if pixel_values is None else self.get_image_features(pixel_values, masks)
        text = None if input_ids is None else self.get_text_features(input_ids)
        logits = None
        if image is not None and text is not None:
            logits = self.clip.logit_scale.exp() * image @ text.T + self.clip.logit_bias
        output = SonoClipOutput(
            logits_per_image=logits,
            logits_per_text=None if logits is None else logits.T,
            image_embeds=image,
            text_embeds=text,
        )
        return output.to_tuple() if return_dict is False else output

    def _init_weights(self, module: nn.Module) -> None:
        """The towers and the stem have been initialised by their own constructors."""

    @torch.no_grad()
    def _restore_constants(self) -> None:
        """Buffers that are in no file (masks, rotary positions): transformers puts uninitialised memory there."""
        state = self.clip.state_dict()
        for name, buffer in self.clip.named_buffers():
            if name not in state:
                buffer.copy_(self._constants[name])
