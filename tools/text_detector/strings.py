"""Made-up strings such as scanners and their users write into images, in several scripts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Random = np.random.Generator

LATIN_LOWER = "abcdefghijklmnopqrstuvwxyz"
CYRILLIC_LOWER = "абвгдежзийклмнопрстуфхцчшщъыьэюя"
GREEK_LOWER = "αβγδεζηθικλμνξοπρστυφχψω"
CHINESE_RANGE = (0x4E00, 0x9FA5)
JAPANESE_KOREAN_RANGES = ((0x3041, 0x3096), (0x30A1, 0x30FA), (0xAC00, 0xD7A3))

_LABELS = (
    *("GA", "HC", "BPD", "AC", "FL", "CRL", "NT", "EFW", "EDD", "LMP", "OFD", "HL", "TCD", "AFI", "RI", "PI", "S/D"),
    *("SAG", "TRV", "LT", "RT", "RV", "LV", "Ao", "PA", "Placenta", "Twin", "Dist", "Depth", "Gain", "MI", "TIs", "FR"),
    *("ID", "DOB", "Name", "Exam", "Hospital", "Clinic", "Dr.", "Tel", "Sono", "Probe", "Focus", "Zoom", "Freeze"),
)
_UNITS = ("mm", "cm", "cm/s", "g", "w", "d", "%", "dB", "Hz", "MHz", "kHz", "bpm", "ml", "°")


def latin(random: Random) -> str:
    return _text(random, LATIN_LOWER)


def cyrillic(random: Random) -> str:
    return _text(random, CYRILLIC_LOWER)


def greek(random: Random) -> str:
    return _text(random, GREEK_LOWER)


def chinese(random: Random) -> str:
    """Mostly Chinese, sometimes Japanese or Korean."""
    ranges = JAPANESE_KOREAN_RANGES if random.random() < 0.25 else (CHINESE_RANGE,)
    first, last = ranges[int(random.integers(len(ranges)))]
    return "".join(chr(int(random.integers(first, last + 1))) for _ in range(int(random.integers(2, 9))))


def number(random: Random) -> str:
    """A date, a time, an identifier, a measurement, or a few digits."""

    def value(low: int, high: int) -> int:
        return int(random.integers(low, high))

    forms: tuple[Callable[[], str], ...] = (
        lambda: f"{value(1, 29):02}{_pick(random, '.-/')}{value(1, 13):02}{_pick(random, '.-/')}{value(1940, 2040)}",
        lambda: f"{value(1940, 2040)}-{value(1, 13):02}-{value(1, 29):02}",
        lambda: f"{value(0, 24):02}:{value(0, 60):02}:{value(0, 60):02}",
        lambda: str(value(1, 10 ** value(1, 10))),
        lambda: f"{random.uniform(0, 400):.{value(0, 3)}f} {_pick(random, _UNITS)}",
        lambda: f"{_pick(random, _LABELS)} {random.uniform(0, 400):.{value(0, 3)}f} {_pick(random, _UNITS)}",
        lambda: f"GA {value(4, 42)}w{value(0, 7)}d",
        lambda: f"{_pick(random, LATIN_LOWER.upper())}{_pick(random, LATIN_LOWER.upper())}-{value(1000, 10**7)}",
    )
    return forms[value(0, len(forms))]()


def digit(random: Random) -> str:
    """What stands beside a caliper or a tick."""
    return str(int(random.integers(1, 10))) if random.random() < 0.7 else str(int(random.integers(10, 25)))


def label(random: Random) -> str:
    return str(_pick(random, _LABELS))


SCRIPTS: Mapping[str, tuple[Callable[[Random], str], float]] = {
    "latin": (latin, 0.28),
    "number": (number, 0.24),
    "digit": (digit, 0.08),
    "label": (label, 0.1),
    "cyrillic": (cyrillic, 0.12),
    "greek": (greek, 0.08),
    "chinese": (chinese, 0.1),
}
"""What draws a string, and how often the training does."""


UNSEEN_SCRIPTS: Mapping[str, Callable[[Random], str]] = {
    "hebrew": lambda random: _text(random, "אבגדהוזחטיכלמנסעפצקרשת"),
    "armenian": lambda random: _text(random, "աբգդեզէըթժիլխծկհձղճմյնշոչպջռսվտրցւփքօֆ"),
    "georgian": lambda random: _text(random, "აბგდევზთიკლმნოპჟრსტუფქღყშჩცძწჭხჯჰ"),
}
"""Never trained on, to see whether what looks like text is found in any script."""


def _text(random: Random, letters: str) -> str:
    """One to three words of random letters, in one of the usual ways to write names."""
    words = [_word(random, letters) for _ in range(int(random.choice([1, 2, 3], p=[0.45, 0.4, 0.15])))]
    style = int(random.integers(4))
    if style == 0:
        words = [word.upper() for word in words]
    elif style == 1:
        words = [word.capitalize() for word in words]
    elif style == 2:
        words[0] = words[0].upper()
    joint = str(random.choice([" ", ", ", "-", ".", ": "], p=[0.6, 0.2, 0.08, 0.06, 0.06]))
    text = joint.join(words)
    return f"{text} {number(random)}" if random.random() < 0.12 else text


def _word(random: Random, letters: str) -> str:
    length = 1 if random.random() < 0.05 else int(random.integers(2, 11))
    return "".join(_pick(random, letters) for _ in range(length))


def _pick(random: Random, choices: str | tuple[str, ...]) -> str:
    return choices[int(random.integers(len(choices)))]
