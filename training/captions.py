"""Captions as token ids: CLIP's byte-pair encoding, which ships with open_clip, and no truncation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from open_clip import SimpleTokenizer

from sono.manifests.errors import UserError


class CaptionTokenizer:
    """Turns captions into rows of ``context_length`` token ids."""

    def __init__(self, context_length: int) -> None:
        self.context_length = context_length
        self._tokenizer = SimpleTokenizer(context_length=context_length)

    def length(self, caption: str) -> int:
        """Number of tokens, start and end included."""
        return len(self._tokenizer.encode(caption)) + 2

    def __call__(self, captions: Sequence[str]) -> torch.Tensor:
        """Token ids of shape [captions, context_length].

        Raises:
            UserError: a caption has more tokens than the context.
        """
        for caption in captions:
            if self.length(caption) > self.context_length:
                raise too_long(self.length(caption), self.context_length)
        tokens: torch.Tensor = self._tokenizer(list(captions))
        return tokens


def too_long(tokens: int, context_length: int, frame_id: str | None = None) -> UserError:
    """The error for a caption that does not fit: it is never cut short in silence."""
    return UserError(
        f"a caption has {tokens} tokens and the text tower reads {context_length}",
        where=f"frame {frame_id}" if frame_id else None,
        fix="shorten the sentences with sono-curate caption --templates, then build again",
    )
