"""What is planned is plausible: ages, planes, visits."""

from __future__ import annotations

from sono.curation.phantom.drawing.frames import draw_image
from sono.curation.phantom.exams import plan_exam
from tests.curation.phantom.archive import SEED, VOCABULARY, many_exams


def test_no_pregnancy_lasts_longer_than_42_weeks() -> None:
    assert max(exam.record.ga_days or 0 for exam in many_exams()) <= 42 * 7
    assert min(exam.record.ga_days or 0 for exam in many_exams()) >= 11 * 7


def test_planes_are_shown_at_ages_when_they_are_expected() -> None:
    for exam in many_exams():
        assert exam.record.ga_days is not None
        for image in exam.images:
            first, last = VOCABULARY.planes[image.plane].ga_weeks
            assert image.fault == "filed_under_two_patients" or first <= exam.record.ga_days // 7 <= last, image.plane


def test_colour_without_a_vessel_is_drawn_without_flow() -> None:
    exam = plan_exam(12, 0, VOCABULARY)
    image = next(image for image in exam.images if image.plane == "both_kidneys")
    assert (image.mode, image.missing) == ("color_doppler", frozenset({"abdominal_aorta"}))
    drawn = draw_image(exam, image)
    assert drawn.flow_box is not None
    assert set(drawn.frames[0].masks) == {"kidneys", "renal_pelvis", "spine"}


def test_the_next_visit_shows_the_same_fetus_later() -> None:
    first, second, other = (
        plan_exam(SEED, number, VOCABULARY).record for number in (8, 9, 10)
    )  # none of them has a conflicting age
    assert first.patient == second.patient != other.patient
    assert first.edd == second.edd
    assert (first.ga_days, first.started) < (second.ga_days, second.started)
    assert first.ga_days is not None
    assert second.ga_days is not None
    assert second.ga_days - first.ga_days == (second.started.date() - first.started.date()).days
