"""The last doors: wrong numbers and words, and everybody's name."""

from __future__ import annotations

import pickle
import random
import time
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest

from sono.captioning.facts.facts import Fact, Facts
from sono.captioning.facts.statements import identity_statements
from sono.captioning.sentences.guard import (
    IdentityGuard,
    RefusedError,
    check_sentence,
    has_form,
    wording,
    wording_fault,
)
from sono.captioning.sentences.packs import load_pack
from sono.captioning.sentences.writer import Budget, Writer
from sono.manifests import vocabulary
from sono.manifests.pseudonyms import Pseudonymizer

KEYS = Pseudonymizer(b"k" * 32)
GUARD = IdentityGuard(KEYS)
VOCABULARY = vocabulary.load()
ALLOWED = wording(["Head of mm, (weeks).", "four-chamber"])


def identity(*names: str) -> list[str]:
    return [str(statement.value) for statement in identity_statements(KEYS, names, "column patient_name")]


def refusal(text: str, *values: float) -> str | None:
    try:
        check_sentence(text, ALLOWED, values)
    except RefusedError as refused:
        return refused.reason
    return None


@pytest.mark.parametrize(
    ("number", "value", "passes"),
    [
        ("20", 20, True),
        ("21", 20, False),
        ("175.3", 175.3, True),
        ("175.34", 175.338, True),
        ("175.338", 175.338, True),
        ("175", 175.338, True),
        ("176", 175.7, True),
        ("175", 175.7, False),
        ("175,3", 175.3, True),
        ("175.0", 175.3, False),
        ("175.0", 175.0, True),
        ("175.3381", 175.338, False),
        ("175.339", 175.3388, False),
        ("176", 175.45, False),
        ("020", 20, False),
        ("2", 20, False),
        ("1.753", 1753, False),
        ("20.11.2026", 20, False),
        ("٢٠", 20, False),
        ("20²", 20, False),
    ],
)
def test_a_number_is_a_fact_as_it_is_or_rounded(number: str, value: float, passes: bool) -> None:
    assert (refusal(f"Head of {number} mm", value) is None) == passes


def test_no_number_passes_where_no_number_is_known() -> None:
    assert refusal("Head of 3 mm") == "sentence_number"
    assert refusal("Head of 20 weeks, 20 weeks (20)", 20) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "sentence_empty"),
        ("Head\nhead", "sentence_lines"),
        ("Head\u2028head", "sentence_lines"),
        ("Head\u200bhead", "sentence_control"),
        ("Head\x07", "sentence_control"),
        ("Head of Jane", "sentence_word"),
        ("Headof", "sentence_word"),
        ("Chambers", "sentence_word"),
        ("Head [of]", "sentence_mark"),
        ("Head_of", "sentence_mark"),
        ("Head; of", "sentence_mark"),
        ("Head " * 500, "sentence_too_large"),
        ("HEAD of four-chamber.", None),
    ],
)
def test_a_sentence_is_made_of_known_words_and_marks_only(text: str, reason: str | None) -> None:
    assert refusal(text) == reason


def test_a_refusal_repeats_nothing_of_the_sentence() -> None:
    with pytest.raises(RefusedError) as refused:
        check_sentence("Head of Jane Roe 1987", ALLOWED, [])
    for shown in (str(refused.value), repr(refused.value)):
        assert "Jane" not in shown
        assert "1987" not in shown


def test_wording_of_other_languages_passes() -> None:
    for text in ("Schädel-Hirn-Ebene", "plan à l’étage, « vue »", "四腔心切面，显示心脏。", "المستوى", "मस्तिष्क"):
        assert wording_fault(text) is None


@pytest.mark.parametrize(
    "said",
    ["Head of Roe.", "head of ROE", "(roe)", "pre-roe", "roe_head", "Roe2", "Roe's head", "jane", "Jane Roe", "Röe"],
)
def test_a_name_is_found_however_it_stands(said: str) -> None:
    assert GUARD.says(said, identity("Roe, Jane"))


def test_a_name_is_found_however_its_accents_are_written() -> None:
    for recorded in ("Zoë Núñez", unicodedata.normalize("NFD", "Zoë Núñez")):
        for form in ("NFC", "NFD"):
            assert GUARD.says(unicodedata.normalize(form, "Head of Núñez."), identity(recorded))


def test_every_accented_letter_is_one_letter_however_it_is_written() -> None:
    accented = [
        chr(code) for code in range(0xC0, 0x2000) if unicodedata.decomposition(chr(code)) and chr(code).isalpha()
    ]
    assert len(accented) > 700
    for letter in accented:
        name = f"ab{letter}de"
        for recorded in (name, unicodedata.normalize("NFD", name)):
            for said in (name, name.upper(), unicodedata.normalize("NFD", name)):
                assert GUARD.says(f"Head of {said}.", identity(recorded)), f"U+{ord(letter):04X}"


def test_a_name_has_one_hash_however_its_accents_are_written() -> None:
    assert identity("Núñez") == identity(unicodedata.normalize("NFD", "Núñez")) == identity("NÚÑEZ")


def test_a_name_is_found_in_scripts_without_spaces() -> None:
    assert GUARD.says("王小明的四腔心切面", identity("王小明"))
    assert GUARD.says("切面四腔心小明", identity("小明 王"))
    assert not GUARD.says("四腔心切面", identity("王小明"))


@pytest.mark.parametrize(
    ("recorded", "said"),
    [
        ("สมชายวงศ์ประเสริฐ", "ภาพของสมชายวงศ์ประเสริฐที่ศีรษะ"),
        ("アレクサンダー", "画像アレクサンダーの頭部"),
        ("عبدالرحمن", "صورة لعبدالرحمن هنا"),
        ("लक्ष्मीनारायण", "चित्र लक्ष्मीनारायण का"),
    ],
)
def test_a_long_name_is_found_in_scripts_without_spaces(recorded: str, said: str) -> None:
    assert GUARD.says(said, identity(recorded))


@pytest.mark.parametrize(
    ("recorded", "said"),
    [
        ("OBRIEN^MARY", "Head of O'Brien."),
        ("OBRIEN^MARY", "Head of O’Brien."),
        ("SMITHJONES", "Head of Smith-Jones."),
        ("JORGENSEN", "Head of Jørgensen."),
        ("MUELLER", "Head of Müller."),
        ("LUKASZ", "Head of Łukasz."),
        ("YILDIZ", "Head of Yıldız."),
    ],
)
def test_a_name_is_found_however_a_header_in_ascii_writes_it(recorded: str, said: str) -> None:
    assert GUARD.says(said, identity(recorded))


@pytest.mark.parametrize(
    ("recorded", "said"),
    [
        ("Núñez, Zoë", "Head of Nunez."),
        ("Núñez, Zoë", "Head of zoe."),
        ("O'Brien^Mary", "Head of Obrien."),
        ("Smith-Jones", "Head of Smithjones."),
        ("ROE_JANE", "Head of Jane."),
        ("ROE2", "Head of Roe."),
        ("मीरा शर्मा", "चित्र मीरा का"),
        ("王^芳", "王芳的四腔心切面"),
    ],
)
def test_a_name_in_the_record_is_found_in_other_spellings(recorded: str, said: str) -> None:
    assert GUARD.says(said, identity(recorded))


def test_particles_of_a_name_forbid_no_sentence_unless_they_are_all_of_it() -> None:
    spanish = "Imagen de la cabeza y del fémur."
    assert not GUARD.says(spanish, identity("María de la Cruz"))
    assert GUARD.says("Head of Cruz.", identity("María de la Cruz"))
    assert not GUARD.says("Head of a fetus.", identity("BABY OF ROE"))
    assert GUARD.says("Head of Le.", identity("Le"))


def test_a_name_that_is_a_word_of_the_sentence_is_found_too() -> None:
    """Nobody can tell whether it names the patient: such captions are counted as refused."""
    assert GUARD.says("A 20-week image showing head.", identity("HEAD^JANE"))
    assert GUARD.says("Femur at 21 weeks of gestation.", identity("Weeks, Jane"))


def test_others_names_parts_of_words_and_single_letters_do_not_count() -> None:
    assert not GUARD.says("Head of a fetus", identity("Roe, Jane"))
    assert not GUARD.says("Heroes", identity("Roe"))
    assert not GUARD.says("A 20-week head", identity("A", "20", "R"))
    assert not GUARD.says("Head of Jane Roe", [])


def test_an_identifier_is_found_whole() -> None:
    assert GUARD.says("MRN-123-X", identity("MRN-123-X"))
    assert GUARD.says("head of mrn123x.", identity("MRN123X"))


def test_another_key_finds_nothing() -> None:
    assert not IdentityGuard(Pseudonymizer(b"j" * 32)).says("Jane Roe", identity("Roe, Jane"))


def test_the_guard_shows_neither_its_key_nor_what_it_saw_and_crosses_processes() -> None:
    guard = IdentityGuard(KEYS)
    assert guard.says("Jane Roe", identity("Roe"))
    assert repr(guard) == "IdentityGuard()"
    back = pickle.dumps(guard)
    assert b"Jane" not in back
    assert b"roe" not in back
    assert pickle.loads(back).says("Jane Roe", identity("Roe"))


def test_a_known_text_is_searched_in_microseconds() -> None:
    forbidden, text = identity("Roe, Jane", "MRN123X"), "A 20-week fetal ultrasound image of transthalamic plane."
    GUARD.says(text, forbidden)
    start = time.perf_counter()
    for _ in range(5_000):
        GUARD.says(text, forbidden)
    assert (time.perf_counter() - start) / 5_000 < 20e-6  # 1 microsecond on an idle machine


def a_name(draw: random.Random) -> str:
    letters = draw.choice(
        ["abcdefghijklmnopqrstuvwxyz", "aeioumnrstäöüéñçşłő", "абвгдеклмнопрст", "王李张刘陈杨小明丽华"]
    )
    parts = ["".join(draw.choices(letters, k=draw.randint(3, 9))).title() for _ in range(draw.randint(1, 3))]
    return draw.choice([" ", "-", "^", ", ", "'"]).join(parts)


def a_writer(folder: Path, place: str, said: str) -> Writer:
    """A writer in whose pack or vocabulary somebody has put a name."""
    names = {"structures": "head", "planes": "femur", "laterality": "left", "findings": '"HP:0001561"'}
    for kind in ("global", "region"):
        (folder / kind).mkdir(parents=True)
    section = f'[{place}]\n{names[place]} = "{said}"' if place in names else ""
    (folder / "pack.toml").write_text(f'language = "en"\n{section}', encoding="utf-8")
    shown = '{{ findings | join(", ") }}' if place == "findings" else "{{ laterality }}"
    own = f"seen by {said}" if place == "template" else ""
    text = f'{{{{ structures | join(", ") }}}} in the {{{{ plane }}}} plane, {shown} {own}.'
    (folder / "global" / "canary.jinja").write_text(text, encoding="utf-8")
    words = VOCABULARY
    if place == "vocabulary":
        head = VOCABULARY.structures["head"].model_copy(update={"name": f"head of {said}"})
        words = replace(VOCABULARY, structures={**VOCABULARY.structures, "head": head})
    return Writer(load_pack(str(folder), words), words, Budget(context_length=1_000))


@pytest.mark.parametrize("place", ["template", "vocabulary", "structures", "planes", "laterality", "findings"])
def test_every_planted_name_is_caught(tmp_path: Path, place: str) -> None:
    """170 names in each of six places: over 1,000 in all."""
    draw = random.Random(place)
    source = "column of a test"
    facts = Facts(
        Fact("femur", source),
        structures=Fact(("head",), source),
        laterality=Fact("left", source),
        findings=Fact(("HP:0001561",), source),
    )
    missed = []
    for number in range(170):
        name = a_name(draw)
        said = draw.choice([name, name.upper(), name.lower()]).replace("^", " ")
        sentence = a_writer(tmp_path / str(number), place, said).about(facts, 0)
        assert sentence is not None
        assert said.casefold() in sentence.text.casefold()
        if not GUARD.says(sentence.text, identity(name)):
            missed.append(name)
    assert missed == []


@pytest.mark.parametrize(
    "text",
    ["", "two\nlines", "taken 12 march", "see www.example.org", "write to a.b@c.example", "bell \x07", "x" * 2001, "٣"],
)
def test_what_is_no_caption_has_not_the_form_of_one(text: str) -> None:
    assert not has_form(text)


def test_a_sentence_with_numbers_has_the_form_of_a_caption() -> None:
    assert has_form("A 20-week fetal ultrasound image of transthalamic plane (HC 174.5 mm, 0,2 mm per pixel).")
