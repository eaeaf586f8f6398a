"""Invented people: their names belong to nobody."""

from __future__ import annotations

import dataclasses
from datetime import date, timedelta

import numpy as np

from .records import Patient
from .scripts import romanized, transliterated


def draw_patient(random: np.random.Generator, number: int, center: str) -> Patient:
    family, given = draw_name(random)
    born = date(1981, 1, 1) + timedelta(days=int(random.integers(0, 23 * 365)))
    return Patient(f"{center[0].upper()}{100000 + number * 7919 % 900000}", family, given, born)


def spelled(patient: Patient, script: str) -> Patient:
    """The same patient with the name in letters of that script."""
    family, given = (transliterated(name, script) for name in (patient.family_name, patient.given_name))
    return dataclasses.replace(patient, family_name=family, given_name=given)


def draw_name(random: np.random.Generator) -> tuple[str, str]:
    """Family name, given name."""
    return str(random.choice(_FAMILY_NAMES)), str(random.choice(_GIVEN_NAMES))


def folder_name(patient: Patient) -> str:
    """Family name, given name and number, as archives name folders: in Latin capitals, without accents."""
    names = (romanized(name).upper().replace(" ", "-") for name in (patient.family_name, patient.given_name))
    return "_".join((*names, patient.patient_id))


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
