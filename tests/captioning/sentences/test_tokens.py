"""Token counts: exactly those of the tokenizer that a model is trained with."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pytest

from sono.captioning.facts.facts import Fact, Facts
from sono.captioning.sentences.packs import load_pack
from sono.captioning.sentences.tokens import load_tokenizer
from sono.captioning.sentences.writer import Budget, Writer
from sono.manifests import vocabulary
from sono.manifests.errors import UserError


@pytest.fixture(scope="module")
def reference() -> object:
    """What training uses."""
    import open_clip

    return open_clip.get_tokenizer("ViT-B-32")


def fact(value: int | str | tuple[str, ...]) -> Fact:
    return Fact(value, "column of a test")


def disagreements(reference: object, texts: list[str]) -> list[str]:
    count = load_tokenizer("clip").count
    return [ascii(text) for text in texts if count(text) != len(reference.encode(text)) + 2]  # type: ignore[attr-defined]


def test_every_sentence_of_the_packs_counts_as_in_training(reference: object) -> None:
    words = vocabulary.load()
    texts = []
    for name in ("en", "paper"):
        writer = Writer(load_pack(name, words), words, Budget(context_length=117))
        for plane in words.planes.values():
            image = Facts(fact(plane.id), fact(147), structures=fact(plane.structures))
            for facts in (image, Facts(fact(plane.id), fact(80), structure=fact(plane.structures[-1]))):
                texts += [writer.write(template, facts).text for template in writer.templates_for(facts)]
    assert len(texts) == 24 * (13 + 2)
    assert disagreements(reference, texts) == []


@pytest.mark.parametrize(
    "characters",
    [
        [chr(number) for number in range(32, 127)],
        [*"abcdefghij   '", "'s", "'LL", "é", "’", "“", "ﬁ", "１", "½", "²", "Ⅻ", "ß", "İ", "\u00a0", "\t", "…"],
        ["&amp;", "&lt;", "&", ";", "a", " ", "&amp;amp;", "#", "<", "é", "Ã©", "â€™"],
        [chr(number) for number in range(0xA0, 0x3000) if unicodedata.category(chr(number))[0] != "C"],
        ["胎", "儿", "ü", "胎 ", "ऑ", "ा", "ع", "\u0345", "ο", "\u0301", "😀", "\u200d", " "],
    ],
    ids=["ascii", "latin", "entities", "characters", "scripts"],
)
def test_any_text_counts_as_in_training(reference: object, characters: list[str]) -> None:
    draw = random.Random(0)
    texts = ["".join(draw.choices(characters, k=draw.randint(0, 30))) for _ in range(1_500)]
    assert disagreements(reference, texts) == []


def test_random_words_and_numbers_count_as_in_training(reference: object) -> None:
    draw = random.Random(1)
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGäöéñ"
    words = ["".join(draw.choices(letters, k=draw.randint(1, 14))) for _ in range(4_000)]
    numbers = [str(round(draw.uniform(0, 500), draw.randint(0, 3))) for _ in range(500)]
    assert disagreements(reference, words + numbers) == []


def test_the_tokenizer_loads_in_a_moment_and_without_torch() -> None:
    code = (
        "import sys; from sono.captioning.sentences.tokens import load_tokenizer; load_tokenizer('clip').count('a é')"
    )
    start = time.monotonic()
    loaded = subprocess.run(
        [sys.executable, "-c", code + "; print('torch' in sys.modules)"], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "False"
    assert time.monotonic() - start < 5  # 0.3 s on an idle machine


def a_tokenizer_file(path: Path, **changes: object) -> Path:
    """A tokenizer of three words between a start and an end, which cuts at three tokens and fills up to eight."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "?": 2, "head": 3}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=8)
    content = json.loads(tokenizer.to_str()) | changes
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_a_hugging_face_file_counts_all_tokens_whatever_it_cuts_or_fills_up(tmp_path: Path) -> None:
    path = a_tokenizer_file(tmp_path / "tokenizer.json")
    assert load_tokenizer("tokenizer.json", tmp_path).count("head and head and head") == 7
    assert load_tokenizer(str(path)).count("head") == 3


def test_a_tokenizer_is_told_apart_by_its_content(tmp_path: Path) -> None:
    first = load_tokenizer(str(a_tokenizer_file(tmp_path / "a.json")))
    second = load_tokenizer(str(a_tokenizer_file(tmp_path / "b.json", truncation=None)))
    assert len({first.sha256, second.sha256, load_tokenizer("clip").sha256}) == 3
    assert load_tokenizer("clip").sha256 == load_tokenizer("clip").sha256


def test_a_tokenizer_that_adds_no_start_and_end_is_refused(tmp_path: Path) -> None:
    a_tokenizer_file(tmp_path / "tokenizer.json", post_processor=None)
    with pytest.raises(UserError, match="adds no start or end token"):
        load_tokenizer("tokenizer.json", tmp_path)


def test_a_file_that_is_no_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"a": 1}', encoding="utf-8")
    with pytest.raises(UserError, match=r"vocab\.json: not a Hugging Face tokenizer; give"):
        load_tokenizer("vocab.json", tmp_path)
    with pytest.raises(UserError, match=r"clp: tokenizer not found; give 'clip'"):
        load_tokenizer("clp", tmp_path)
