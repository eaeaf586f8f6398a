"""Text that is burned in is where the truth says, and nowhere else."""

from __future__ import annotations

import difflib

import cv2
import numpy as np
import pytest
from rapidocr import RapidOCR

from sono.curation.phantom.drawing.fonts import FONTS, PILLOW, font_for, load_font
from sono.curation.phantom.drawing.screen import LAYOUTS, Screen
from sono.curation.phantom.drawing.written_inside import identity_lines, measurement_lines
from sono.curation.phantom.scripts import SCRIPTS
from tests.curation.phantom.archive import (
    CENTERS,
    Image,
    Phantom,
    Row,
    boxes_of,
    lossless,
    many_exams,
    stills,
    texts_of,
)
from tests.curation.phantom.screens import as_rgb, crop, empty_screen, furniture, sector_mask


@pytest.fixture(scope="module")
def ocr() -> RapidOCR:
    one_thread = {
        "EngineConfig.onnxruntime.intra_op_num_threads": 1,
        "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    }
    return RapidOCR(params={"Global.log_level": "error", **one_thread})


def test_ocr_reads_the_listed_texts_in_the_listed_boxes(phantom_archive: Phantom, ocr: RapidOCR) -> None:
    found: list[tuple[float, Row, str]] = []
    seen: set[str] = set()
    for frame in sample_frames(phantom_archive):
        pixels = phantom_archive.pixels(frame)
        for text in phantom_archive.texts:
            unread = text["inside"] or text["script"] != "latin"  # this reader knows Latin letters only
            if text["file"] != frame["file"] or unread or frame["center"] + text["text"] in seen:
                continue
            seen.add(frame["center"] + text["text"])
            read = read_line(ocr, crop(pixels, text["box"], 3))
            found.append((similarity(read, text["text"]), text, read))
    assert {text["kind"] for _, text, _ in found} == {row["kind"] for row in phantom_archive.texts}
    of_several = [score for score, text, _ in found if len(text["text"]) > 2]
    assert np.mean(of_several) > 0.97
    for score, text, read in found:
        assert score >= (0.9 if text["identity"] else 0.8) or len(text["text"]) <= 2, f"{text['text']!r} reads {read!r}"


def sample_frames(archive: Phantom) -> list[Row]:
    """For each center an ordinary frame and one with measurements; one color Doppler frame; one dual frame."""
    rows = stills(archive)
    chosen = [next(row for row in rows if row["center"] == center and not row["measured"]) for center in CENTERS]
    chosen += [next(row for row in rows if row["center"] == center and row["measured"]) for center in CENTERS]
    return [*chosen, stills(archive, "color_doppler")[0], stills(archive, "dual")[0]]


def read_line(ocr: RapidOCR, pixels: Image) -> str:
    """Read one line of text, without searching for it."""
    larger = cv2.resize(pixels, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    return str(ocr(as_rgb(larger), use_det=False, use_cls=False, use_rec=True).txts[0])


def similarity(one: str, other: str) -> float:
    plain = [
        "".join(text.lower().split()).replace("o", "0").replace("l", "1").replace("i", "1") for text in (one, other)
    ]
    return difflib.SequenceMatcher(None, *plain).ratio()


def test_the_font_has_every_letter(phantom_archive: Phantom) -> None:
    names = "".join(exam.record.patient.family_name + exam.record.patient.given_name for exam in many_exams())
    assert not names.isascii()
    missing = {name: shape_of("\uffff", name) for name in FONTS}
    around = {letter for text in phantom_archive.texts if not text["inside"] for letter in text["text"]} - {" "}
    around |= {letter for name in names for letter in written_on_a_screen(name)}
    assert not [letter for letter in around if shape_of(letter, font_for(letter)) == missing[font_for(letter)]]
    over = {letter for text in all_words() for letter in text} - {" "}  # in any of the other fonts
    others = [name for name in FONTS if name != PILLOW]
    assert not [letter for letter in over for name in others if shape_of(letter, name) == missing[name]]


def all_words() -> list[str]:
    """Names and what is measured, in every script."""
    random = np.random.default_rng(0)
    exams = many_exams()[:40]
    written = [text for exam in exams for script in SCRIPTS for _, text in identity_lines(exam, script, random)]
    return written + [text for exam in exams for script in SCRIPTS for text in measurement_lines(exam, script, random)]


def written_on_a_screen(text: str) -> str:
    screen = Screen(LAYOUTS["north"], True)
    screen.text("label", text, 10, 10, 18)
    return screen.texts[0].text


def shape_of(letter: str, font: str) -> bytes:
    return bytes(load_font(font, 18).getmask(letter))


def test_boxes_are_tight_around_their_text(phantom_archive: Phantom) -> None:
    looked_at = 0
    for frame in lossless(phantom_archive):
        grey = as_rgb(phantom_archive.pixels(frame)).max(axis=2).astype(int)
        sector = sector_mask(frame)
        for text in texts_of(phantom_archive, frame["file"]):
            x, y, width, height = text["box"]
            around = crop(grey, text["box"], 4)
            if text["kind"] == "ruler" or np.any(crop(sector.view(np.uint8), text["box"], 4)):
                continue  # a tick or echoes are next to it
            ink = np.abs(around - around[0, 0]) > 40
            rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
            top, left = y - max(y - 4, 0), x - max(x - 4, 0)
            edges = [columns[0] - left, rows[0] - top, left + width - 1 - columns[-1], top + height - 1 - rows[-1]]
            assert min(edges) >= -1, text
            assert max(edges) <= 3, text
            looked_at += 1
    assert looked_at > 100


def test_ocr_finds_no_text_besides_the_listed_ones(phantom_archive: Phantom, ocr: RapidOCR) -> None:
    """OCR finds most of the listed boxes, so it would find another one as well."""
    for center in CENTERS:
        frame = next(row for row in stills(phantom_archive) if row["center"] == center and row["measured"])
        pixels = as_rgb(phantom_archive.pixels(frame)).copy()
        listed = np.zeros(pixels.shape[:2], np.bool_)
        for box in boxes_of(phantom_archive, frame["file"]):
            crop(listed, box, 3)[:] = True
        no_text = sector_mask(frame) | (furniture(phantom_archive, frame) & ~listed)
        pixels[no_text] = empty_screen(frame, pixels)[no_text]
        found = texts_found(ocr, pixels)
        assert not [text for text, (x, y) in found if not listed[y, x]]
        assert len(found) > 0.6 * len(boxes_of(phantom_archive, frame["file"]))


def texts_found(ocr: RapidOCR, pixels: Image) -> list[tuple[str, tuple[int, int]]]:
    """Texts and their centres, in px."""
    result = ocr(
        pixels, use_det=True, use_cls=False, use_rec=True
    )  # all stated, since it remembers an earlier call's options
    middles = [tuple(np.mean(box, axis=0).astype(int)) for box in result.boxes]
    return [
        (text, middle) for text, score, middle in zip(result.txts, result.scores, middles, strict=True) if score > 0.6
    ]


def test_identity_texts_name_patient_place_and_time(phantom_archive: Phantom) -> None:
    for file in {row["file"] for row in phantom_archive.frames}:
        _, image = phantom_archive.plans[file]
        record = phantom_archive.exams[image.exam].record
        written = " ".join(text["text"] for text in texts_of(phantom_archive, file) if text["identity"])
        other = " ".join(text["text"] for text in texts_of(phantom_archive, file) if not text["identity"])
        years = (str(record.patient.birth_date.year), str(record.started.year))
        for fact in (record.patient.patient_id, record.center.hospital, *years):
            assert fact in written
            assert fact not in other
