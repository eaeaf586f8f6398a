"""Captions as token ids, by the text tower's own tokenizer and never truncated."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from sono.manifests.errors import UserError, first_line
from sono.training.model.portable.text_tokens import count_tokens, make_tokenizer


class CaptionTokenizer:
    """Turns captions into rows of ``context_length`` token ids.

    Args:
        context_length: how many tokens the text tower reads.
        text: ``text_cfg`` of the backbone in open_clip's terms; if omitted, CLIP's byte-pair encoding is used.

    Raises:
        UserError: transformers is not installed, or the tokenizer's files cannot be loaded.
    """

    def __init__(self, context_length: int, text: Mapping[str, Any] | None = None) -> None:
        self.context_length = context_length
        name = (text or {}).get("hf_tokenizer_name")
        self._is_transformers = bool(name)
        if name:
            _require_transformers(name)
        try:
            self._tokenizer = make_tokenizer(text or {}, context_length)
        except Exception as error:
            raise UserError(
                f"the tokenizer {name} cannot be loaded: {first_line(error)}",
                fix="check the network; once downloaded, it is read from the cache",
            ) from error

    def length(self, caption: str) -> int:
        """Number of tokens, including those that mark start and end."""
        return count_tokens(self._tokenizer, caption)

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

    def save(self, folder: Path) -> None:
        """Write a tokenizer of transformers into ``folder``; CLIP's is part of open_clip and needs no file."""
        if self._is_transformers:
            self._tokenizer.save_pretrained(str(folder))


def too_long(tokens: int, context_length: int, frame_id: str | None = None) -> UserError:
    """The error for a caption that does not fit: captions are never truncated silently."""
    return UserError(
        f"a caption has {tokens} tokens, but the text tower reads {context_length}",
        where=f"frame {frame_id}" if frame_id else None,
        fix="shorten the sentences with sono-curate caption --templates, then build again",
    )


def _require_transformers(name: str) -> None:
    try:
        import transformers
    except ImportError as error:
        raise UserError(
            f"the tokenizer {name} needs transformers, which is not installed", fix="run: pip install transformers"
        ) from error
    # It warns of every text that is too long for it; here those are errors that name the frame.
    transformers.logging.get_logger("transformers.tokenization_utils_base").setLevel(logging.ERROR)
