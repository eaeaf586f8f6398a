"""Tokenizers of open_clip's text towers, and how many tokens a text has.

Exported models carry a copy of this file, so it needs open_clip and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from open_clip.tokenizer import HFTokenizer, SimpleTokenizer


def make_tokenizer(text: Mapping[str, Any], context_length: int, source: str | None = None) -> Any:
    """The tokenizer of a text tower; called with texts it gives token ids of shape [texts, context_length].

    Args:
        text: ``text_cfg`` in open_clip's terms.
        context_length: how many tokens the tower reads.
        source: folder or repository with the files of a tokenizer of transformers, where it is not the one named in
            ``text``. CLIP's own is a part of open_clip.
    """
    options = dict(text.get("tokenizer_kwargs") or {})
    name = text.get("hf_tokenizer_name")
    if not name:
        return SimpleTokenizer(context_length=context_length, **options)
    mode = text.get("tokenizer_mode")
    return HFTokenizer(source or name, context_length=context_length, tokenizer_mode=mode, **options)


def count_tokens(tokenizer: Any, text: str) -> int:
    """Tokens of a text, those that mark start and end included."""
    if isinstance(tokenizer, SimpleTokenizer):
        return len(tokenizer.encode(text)) + 2
    adds_marks_itself = tokenizer.tokenizer_mode == "clips"  # start, end and class
    encoded = tokenizer.tokenizer(tokenizer.clean_fn(text), add_special_tokens=not adds_marks_itself).input_ids
    return len(encoded) + (3 if adds_marks_itself else 0)
