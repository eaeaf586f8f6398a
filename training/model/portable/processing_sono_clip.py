"""Images, masks and texts for an exported mask-guided CLIP. Exports carry a copy; nothing here imports it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from transformers import BatchFeature
from transformers.processing_utils import ProcessorMixin

from .mask_input import prepare
from .text_tokens import count_tokens, make_tokenizer


class SonoClipProcessor(ProcessorMixin):  # type: ignore[misc]
    """Turns images, masks and texts into the model's input.

    Args:
        size: side of the square input in px.
        mean: of the image's channels, on a scale of 0 to 1.
        std: likewise.
        mask_mean: the mask, 1 inside and 0 outside, enters as (mask - mask_mean) / mask_std.
        mask_std: see there.
        text_cfg: the text tower in open_clip's terms: how many tokens it reads, and which tokenizer's.
    """

    attributes: ClassVar[list[str]] = []  # of transformers 4: no processors within this one

    def __init__(
        self,
        size: int = 224,
        mean: Sequence[float] = (0.48145466, 0.4578275, 0.40821073),
        std: Sequence[float] = (0.26862954, 0.26130258, 0.27577711),
        mask_mean: float = 0.5,
        mask_std: float = 0.26,
        text_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.size, self.mean, self.std = size, list(mean), list(std)
        self.mask_mean, self.mask_std = mask_mean, mask_std
        self.text_cfg = text_cfg or {}
        self._source: str | None = None
        self._tokenize: Any = None

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:
        """As every processor of transformers."""
        processor = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        processor._source = str(pretrained_model_name_or_path)
        return processor

    def __call__(self, images: Any = None, masks: Any = None, text: Any = None, **kwargs: Any) -> BatchFeature:
        """The model's input: ``pixel_values`` and ``masks`` for images, ``input_ids`` for texts.

        Args:
            images: one image of Pillow, or several, with 8 bits per channel.
            masks: for every image an array [height, width], boolean, or 8-bit with 0 outside and 1 or 255 inside; or
                None for the whole image. None alone is the whole image for all.
            text: one text, or several.
            kwargs: only ``return_tensors="pt"`` is known.

        Raises:
            ValueError: an image is not 8-bit, a mask is not binary or has another size than its image, there are not as
                many masks as images, or a text has more tokens than the text tower reads.
        """
        if kwargs.pop("return_tensors", "pt") != "pt" or kwargs:
            raise ValueError("this processor makes torch tensors only and knows no other option")
        made: dict[str, torch.Tensor] = {}
        if images is not None:
            x_B4HW = self._prepare_all(images, masks)
            made |= {"pixel_values": x_B4HW[:, :3], "masks": x_B4HW[:, 3:]}
        elif masks is not None:
            raise ValueError("masks are given without images")
        if text is not None:
            made["input_ids"] = self._tokens([text] if isinstance(text, str) else list(text))
        return BatchFeature(made)

    def _prepare_all(self, images: Any, masks: Any) -> torch.Tensor:
        if not isinstance(images, (list, tuple)):
            images, masks = [images], None if masks is None else [masks]
        masks = [None] * len(images) if masks is None else list(masks)
        if len(masks) != len(images):
            raise ValueError(f"{len(images)} images and {len(masks)} masks")
        rules: dict[str, Any] = {"size": self.size, "mean": self.mean, "std": self.std}
        rules |= {"mask_mean": self.mask_mean, "mask_std": self.mask_std}
        return torch.stack([prepare(image, mask, **rules) for image, mask in zip(images, masks, strict=True)])

    def _tokens(self, texts: list[str]) -> torch.Tensor:
        """Never cut short: a text of which the end is missing says something else."""
        limit = self.text_cfg.get("context_length", 77)
        if self._tokenize is None:
            self._tokenize = make_tokenizer(self.text_cfg, limit, self._source)
        for text in texts:
            length = count_tokens(self._tokenize, text)
            if length > limit:
                raise ValueError(f"a text has {length} tokens and the text tower reads {limit}: {text!r}")
        return self._tokenize(texts)  # type: ignore[no-any-return]
