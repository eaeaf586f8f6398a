"""Names and words in Latin, Cyrillic and Greek letters: hospitals outside Western Europe write them so."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

SCRIPTS = ("latin", "cyrillic", "greek")

CHARACTER_SETS: Mapping[str, tuple[str, ...]] = {
    "latin": ("ISO_IR 192",),
    "cyrillic": ("ISO_IR 192", "ISO_IR 144"),
    "greek": ("ISO_IR 192", "ISO_IR 126"),
}
"""By script: DICOM's character sets that scanners write its names in (PS3.3 C.12.1.1.2)."""

CODECS: Mapping[str, str] = {"ISO_IR 192": "utf-8", "ISO_IR 144": "iso8859_5", "ISO_IR 126": "iso8859_7"}
"""By character set: Python's name for it."""

_FROM_LATIN: Mapping[str, Mapping[str, str]] = {
    "cyrillic": {
        "sch": "ш", "sh": "ш", "ch": "ч", "zh": "ж", "ya": "я", "yu": "ю", "ck": "к", "ph": "ф", "th": "т", "qu": "кв",
        "a": "а", "b": "б", "c": "к", "d": "д", "e": "е", "f": "ф", "g": "г", "h": "х", "i": "и", "j": "й", "k": "к",
        "l": "л", "m": "м", "n": "н", "o": "о", "p": "п", "q": "к", "r": "р", "s": "с", "t": "т", "u": "у", "v": "в",
        "w": "в", "x": "кс", "y": "и", "z": "з",
    },
    "greek": {
        "sch": "σ", "sh": "σ", "ch": "χ", "ps": "ψ", "ck": "κ", "ph": "φ", "th": "θ", "qu": "κου",
        "a": "α", "b": "β", "c": "κ", "d": "δ", "e": "ε", "f": "φ", "g": "γ", "h": "χ", "i": "ι", "j": "ι", "k": "κ",
        "l": "λ", "m": "μ", "n": "ν", "o": "ο", "p": "π", "q": "κ", "r": "ρ", "s": "σ", "t": "τ", "u": "ου", "v": "β",
        "w": "ου", "x": "ξ", "y": "υ", "z": "ζ",
    },
}  # fmt: skip
_TO_LATIN: Mapping[str, str] = {"ς": "s"} | {
    letter: latin
    for table in _FROM_LATIN.values()
    for latin, letter in sorted(table.items(), key=lambda spelling: (len(spelling[0]), spelling[0]), reverse=True)
    if len(letter) == 1
}


def transliterated(text: str, script: str) -> str:
    """Latin text in letters of another script, about as a registrar would spell it."""
    if script in ("latin", script_of(text)):
        return text
    plain, table = without_accents(text), _FROM_LATIN[script]
    letters: list[str] = []
    place = 0
    while place < len(plain):
        size = next((size for size in (3, 2, 1) if plain[place : place + size].lower() in table), 0)
        found = table[plain[place : place + size].lower()] if size else plain[place]
        letters.append(found.capitalize() if plain[place].isupper() else found)
        place += max(size, 1)
    return _with_final_sigma("".join(letters))


def romanized(text: str) -> str:
    """Text in Latin letters without accents, for the names of folders."""
    latin = "".join(
        _TO_LATIN.get(letter.lower(), letter).capitalize() if letter.isupper() else _TO_LATIN.get(letter, letter)
        for letter in unicodedata.normalize("NFC", text)
    )
    return without_accents(latin)


def without_accents(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def encodable(text: str, character_set: str) -> str:
    """The text if the character set has its letters, else without accents, as a scanner without them writes it."""
    try:
        text.encode(CODECS[character_set])
    except UnicodeEncodeError:
        return without_accents(text)
    return text


def script_of(text: str) -> str:
    """The script of its letters; numbers and signs count as Latin."""
    for letter in text:
        for script in ("cyrillic", "greek"):
            if unicodedata.name(letter, "").startswith(script.upper()):
                return script
    return "latin"


def _with_final_sigma(text: str) -> str:
    words = text.split(" ")
    return " ".join(f"{word[:-1]}ς" if word.endswith("σ") else word for word in words)
