"""Invented people: their names belong to nobody."""

from __future__ import annotations

import unicodedata
from datetime import date, timedelta

import numpy as np

from .records import Patient


def draw_patient(random: np.random.Generator, number: int, center: str) -> Patient:
    family, given = draw_name(random)
    born = date(1981, 1, 1) + timedelta(days=int(random.integers(0, 23 * 365)))
    return Patient(f"{center[0].upper()}{100000 + number * 7919 % 900000}", family, given, born)


def draw_name(random: np.random.Generator) -> tuple[str, str]:
    """Family name, given name."""
    return str(random.choice(_FAMILY_NAMES)), str(random.choice(_GIVEN_NAMES))


def folder_name(patient: Patient) -> str:
    """Family name, given name and number, as archives name folders: in capitals, without accents."""
    return f"{_ascii(patient.family_name)}_{_ascii(patient.given_name)}_{patient.patient_id}"


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().upper().replace(" ", "-")


_FAMILY_NAMES = (
    "Abelmann", "Achterberg", "Almqvist", "Bachleitner", "Belvaux", "Brandvold", "Castellari", "Corrigan", "Dahlberg",
    "Delacourt", "Ekholm", "Farsani", "Fitzmaurice", "Gallardo", "Grünwald", "Halvorsen", "Hennessy", "Ibarra",
    "Jankowska", "Kaltenbach", "Kovačević", "Lindqvist", "Lombardi", "Marchetti", "McAllister", "Müllner", "Nakagawa",
    "Novotná", "O'Rourke", "Okonkwo", "Petrosyan", "Quintero", "Rasmussen", "Rosenthal", "Sandström", "Szabó",
    "Tanaka", "Underwood", "Vasquez", "Weissmann", "Yamamoto", "Zieliński",
)  # fmt: skip
_GIVEN_NAMES = (
    "Agnes", "Amira", "Anneliese", "Beatriz", "Birgit", "Camille", "Chiara", "Daniela", "Eleni", "Elif", "Fatou",
    "Franziska", "Giulia", "Hanna", "Ingrid", "Ioana", "Jasmin", "Josefine", "Katarzyna", "Leila", "Liv", "Magdalena",
    "Mei", "Nadia", "Noor", "Olga", "Paola", "Renée", "Rosalind", "Saskia", "Sofía", "Tamara", "Ursula", "Valentina",
    "Wilhelmina", "Xenia", "Yasmin", "Zoë",
)  # fmt: skip
