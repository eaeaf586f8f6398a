"""Counts the tokens of a sentence, as the model that will be trained sees it.

NOTICE: ``clip_bpe.txt.gz`` are the byte-pair merges of OpenAI CLIP (https://github.com/openai/CLIP), MIT licence, see
``clip_bpe.LICENSE``.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import html
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sono.manifests.errors import UserError

CLIP = "clip"

_MERGES_FILE = "clip_bpe.txt.gz"
_MERGES = 49_152 - 256 - 2  # CLIP's vocabulary without bytes and specials; the file holds more
_CACHED_TEXTS = 100_000

# How CLIP splits a text into words. U+0345 is in none: where case is ignored it folds to a letter, and is not one.
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}\u0345]+"


@dataclass(frozen=True)
class Tokenizer:
    """``name`` and ``sha256`` (of the file it is made of) tell tokenizers apart in a stage's configuration."""

    name: str
    sha256: str
    _count: Callable[[str], int] = field(repr=False, compare=False)

    def count(self, text: str) -> int:
        """Tokens of ``text`` with the start and end tokens; each distinct text is tokenized once."""
        return self._count(text)


def load_tokenizer(choice: str, base: Path | None = None) -> Tokenizer:
    """CLIP's byte-pair encoding (``clip``), or a Hugging Face ``tokenizer.json``, whose path is relative to ``base``.

    Raises:
        UserError: the file is missing or not a tokenizer.
    """
    return _clip() if choice == CLIP else _from_file((base or Path()) / choice)


@functools.cache
def _clip() -> Tokenizer:
    """The counts of ``open_clip.get_tokenizer``, with any context length, for text without its ``<start_of_text>``."""
    from tokenizers import Regex, models, pre_tokenizers
    from tokenizers import Tokenizer as HuggingFace

    packed = Path(__file__).with_name(_MERGES_FILE).read_bytes()
    lines = gzip.decompress(packed).decode("utf-8").split("\n")[1 : _MERGES + 1]  # the first line is a comment
    merges = [(first, second) for first, _, second in (line.partition(" ") for line in lines)]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*letters, *(letter + "</w>" for letter in letters), *(first + second for first, second in merges)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = HuggingFace(models.BPE(vocabulary, merges, end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )

    @functools.lru_cache(_CACHED_TEXTS)
    def count(text: str) -> int:
        return len(tokenizer.encode(_clean(text)).ids) + 2  # start and end

    return Tokenizer(CLIP, hashlib.sha256(packed).hexdigest(), count)


def _clean(text: str) -> str:
    """What CLIP does to a text before it splits it."""
    if not (text.isascii() and text.isprintable()):  # of printable ASCII, ftfy changes only what unescape changes too
        import ftfy

        text = ftfy.fix_text(text)
    return " ".join(html.unescape(html.unescape(text)).split()).lower()


def _from_file(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer as HuggingFace

    where = str(path)
    try:
        content = path.read_bytes()
    except OSError:
        raise UserError(
            "tokenizer not found", where=where, fix=f"give {CLIP!r} or a path to a Hugging Face tokenizer.json"
        ) from None
    try:
        tokenizer = HuggingFace.from_buffer(content)
    except Exception as error:  # the library has no exception of its own for a broken file
        raise UserError(
            "not a Hugging Face tokenizer", where=where, fix="give the tokenizer.json that the model comes with"
        ) from error
    tokenizer.no_truncation()  # a file may set either; both would make every sentence seem to fit
    tokenizer.no_padding()

    @functools.lru_cache(_CACHED_TEXTS)
    def count(text: str) -> int:
        return len(tokenizer.encode(text).ids)

    if count("") == 0:
        raise UserError("the tokenizer adds no start or end token", where=where, fix="save it with its post-processor")
    return Tokenizer(path.name, hashlib.sha256(content).hexdigest(), count)
