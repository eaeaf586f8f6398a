"""What is stored of frames: nothing outside the ultrasound, no text, and a reason where something is doubtful."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sono.curation.cleaning import clean_frames as module
from sono.curation.cleaning.clean_frames import CleanedFrame, clean_frames
from sono.curation.cleaning.config import CleaningSection
from sono.curation.cleaning.overlays.burned_in_text import TextFinding
from sono.curation.cleaning.overlays.find import find_overlays
from sono.curation.cleaning.reasons import REASONS
from sono.curation.cleaning.sectors.geometry import iou, sector_mask
from sono.curation.images.dicom.regions import Region
from sono.curation.images.pixels import ExcludedError, Pixels
from sono.curation.phantom.samples import Sample, draw_sample, draw_samples
from sono.manifests.vocabulary import load

from .screens_without_ultrasound import screens_without_ultrasound

ALL_MODES = CleaningSection(modes=("b_mode", "color_doppler", "m_mode", "spectral", "dual", "volume"), search_share=0)
DEFAULT = CleaningSection(search_share=0)


def cleaned(pixels: Pixels, section: CleaningSection = DEFAULT, **options: bool) -> CleanedFrame | ExcludedError:
    [frame] = clean_frames(iter([pixels]), (), section, cine=False, **options)
    return frame


def in_source(frame: CleanedFrame, mask: npt.NDArray[np.bool_], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """A mask of the stored image on the decoded one."""
    whole = np.zeros(shape[:2], np.bool_)
    x, y, width, height = frame.crop
    whole[y : y + height, x : x + width] = mask
    return whole


def inside_of(frame: CleanedFrame) -> npt.NDArray[np.bool_]:
    return sector_mask(frame.sectors, *frame.pixels.shape[:2])


def test_outside_the_sectors_everything_is_black_and_inside_only_edits_differ(samples: list[Sample]) -> None:
    found = 0
    for sample in samples[18:]:
        frame = cleaned(sample.pixels, ALL_MODES)
        if isinstance(frame, ExcludedError) or not frame.sectors or "no_sector_in_mode" in frame.reasons:
            continue
        found += 1
        inside = inside_of(frame)
        assert not np.any(frame.pixels[~inside])
        for sector in frame.sectors:  # the box that is stored is the smallest around the sector, within the image
            assert sector.box == cv2.boundingRect(sector_mask([sector], *inside.shape).astype(np.uint8))
        x, y, width, height = frame.crop
        source = sample.pixels[y : y + height, x : x + width]
        painted = np.zeros(inside.shape, np.bool_)
        for left, top, across, down in (*frame.text_boxes, *frame.mark_boxes):
            painted[top : top + down, left : left + across] = True
        kept = inside & ~painted
        grey = source if source.ndim == frame.pixels.ndim else source[..., 0]
        assert np.array_equal(frame.pixels[kept], grey[kept])
        assert set(frame.reasons) <= set(REASONS)
        if not frame.reasons:
            assert iou(in_source(frame, inside, sample.pixels.shape), sample.drawn.sector_mask()) > 0.9
    assert found >= 8


def test_modes_that_the_configuration_does_not_list_are_left_out(samples: list[Sample]) -> None:
    some = samples[:12]
    kept = {sample.mode for sample in some if isinstance(cleaned(sample.pixels), CleanedFrame)}
    assert {"b_mode", "color_doppler", "dual"} <= kept
    unwanted = [cleaned(sample.pixels) for sample in some if sample.mode in ("m_mode", "spectral")]
    assert {frame.reason for frame in unwanted if isinstance(frame, ExcludedError)} == {"mode_not_wanted"}
    assert sum(isinstance(frame, CleanedFrame) for frame in unwanted) <= 1


def test_what_is_left_out_holds_no_pixels(samples: list[Sample]) -> None:
    sample = next(sample for sample in samples if sample.mode in ("m_mode", "spectral"))
    frames = list(clean_frames(iter([sample.pixels] * 3), (), DEFAULT, cine=False))
    errors = [frame for frame in frames if isinstance(frame, ExcludedError)]
    assert len(set(map(id, errors))) == 3
    assert [error.__traceback__ for error in errors] == [None] * 3


def test_screens_without_ultrasound_have_a_reason() -> None:
    for name, pixels in screens_without_ultrasound().items():
        frame = cleaned(pixels)
        if name == "sector everywhere":
            assert isinstance(frame, CleanedFrame)
            assert "sector_fills_frame" in frame.reasons
            assert "rapidocr" in frame.text_readers
        else:
            assert isinstance(frame, ExcludedError), name
            assert frame.reason == "no_ultrasound", name


def test_a_cropped_image_is_kept_whole(samples: list[Sample]) -> None:
    sample = next(
        sample for sample in samples if sample.mode == "b_mode" and not any(t.inside for t in sample.drawn.texts)
    )
    x, y, width, height = cv2.boundingRect(sample.drawn.sector_mask().astype(np.uint8))
    part = np.ascontiguousarray(sample.pixels[y + height // 3 : y + height // 2, x + width // 3 : x + width // 2])
    frame = cleaned(part, cropped=True)
    assert isinstance(frame, CleanedFrame)
    assert (frame.crop, frame.reasons) == ((0, 0, part.shape[1], part.shape[0]), [])
    assert frame.unchanged == np.array_equal(frame.pixels, part if part.ndim == frame.pixels.ndim else part[..., 0])


def test_a_cine_has_one_geometry_and_its_text_goes_from_every_frame(written_samples: list[Sample]) -> None:
    sample = next(sample for sample in written_samples if sample.mode == "b_mode")
    random = np.random.default_rng(3)
    noisy = [
        np.clip(sample.pixels.astype(np.int16) + (sample.pixels > 30) * random.integers(-9, 10), 0, 255).astype(
            np.uint8
        )
        for _ in range(4)
    ]
    frames = list(clean_frames(iter(noisy), (), DEFAULT, cine=True))
    assert all(isinstance(frame, CleanedFrame) for frame in frames)
    done = [frame for frame in frames if isinstance(frame, CleanedFrame)]
    assert len({frame.crop for frame in done}) == 1
    painted = [sum(box[2] * box[3] for box in frame.text_boxes) for frame in done]
    assert painted[0] > 0
    assert max(painted) < 1.5 * painted[0]  # what one frame had does not grow from frame to frame


def test_the_configuration_says_how_many_frames_are_searched(samples: list[Sample]) -> None:
    stills = [sample.pixels for sample in samples if sample.mode == "b_mode"][:2]
    for share, searched in ((1.0, True), (0.0, False)):
        frames = [cleaned(pixels, CleaningSection(search_share=share)) for pixels in stills]
        readers = [frame.text_readers for frame in frames if isinstance(frame, CleanedFrame)]
        assert readers
        assert all(("rapidocr" in names) == searched for names in readers)


@pytest.mark.slow
def test_the_slow_reader_looks_at_one_frame_of_a_cine_without_a_sector() -> None:
    """Its text goes from all frames."""
    pixels = screens_without_ultrasound()["sector everywhere"]
    cv2.putText(pixels, "MEIER 1987", (150, 200), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 1, cv2.LINE_AA)
    frames = list(clean_frames(iter([pixels] * 3), (), DEFAULT, cine=True))
    done = [frame for frame in frames if isinstance(frame, CleanedFrame)]
    assert ["rapidocr" in frame.text_readers for frame in done] == [True, False, False]
    assert [frame.burned_in_text for frame in done] == ["removed"] * 3
    assert all("sector_fills_frame" in frame.reasons for frame in done)


def test_a_damaged_frame_of_a_cine_costs_itself_only(samples: list[Sample]) -> None:
    sample = next(sample for sample in samples if sample.mode == "b_mode")
    damaged = ExcludedError("undecodable", "damaged")
    frames = list(clean_frames(iter([damaged, sample.pixels, damaged, sample.pixels]), (), DEFAULT, cine=True))
    assert [isinstance(frame, ExcludedError) for frame in frames] == [True, False, True, False]


@pytest.mark.parametrize("header", [False, True])
def test_a_cine_that_begins_black_is_cleaned_where_it_shows_something(samples: list[Sample], header: bool) -> None:
    sample = next(sample for sample in samples if sample.mode == "b_mode")
    x, y, width, height = cv2.boundingRect(sample.drawn.sector_mask().astype(np.uint8))
    regions = [Region(spatial_format=1, data_type=1, box=(x, y, width, height), pixel_mm=None)] if header else []
    cine = [np.zeros_like(sample.pixels)] * module.CINE_FRAMES + [sample.pixels]
    *black, last = clean_frames(iter(cine), regions, DEFAULT, cine=True)
    assert {frame.reason for frame in black if isinstance(frame, ExcludedError)} == {"no_ultrasound"}
    assert isinstance(last, CleanedFrame)
    assert (last.mode, last.reasons) == ("b_mode", [])


def test_what_ran_before_changes_nothing(samples: list[Sample]) -> None:
    stills = [sample.pixels for sample in samples[:4]]
    one_by_one = [cleaned(pixels) for pixels in stills]
    together = list(clean_frames(iter(stills[::-1]), (), DEFAULT, cine=False))[::-1]
    for first, second in zip(one_by_one, together, strict=True):
        assert type(first) is type(second)
        if isinstance(first, CleanedFrame) and isinstance(second, CleanedFrame):
            assert np.array_equal(first.pixels, second.pixels)


def test_text_that_stays_readable_is_blacked_out_and_for_review(
    written_samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = next(sample for sample in written_samples if sample.mode == "b_mode")
    original = module.clean_text

    def fails_to_remove(pixels: Pixels, inside: npt.NDArray[np.bool_], **options: object) -> TextFinding:
        found = original(pixels, inside, **options)  # type: ignore[arg-type]
        return module.replace(found, pixels=pixels, status="unchecked", reasons=("text_readable",))

    monkeypatch.setattr(module, "clean_text", fails_to_remove)
    frame = cleaned(sample.pixels)
    assert isinstance(frame, CleanedFrame)
    assert frame.burned_in_text == "unchecked"
    assert "text_readable" in frame.reasons
    assert "rapidocr" in frame.text_readers
    assert module.search(frame.pixels) == []


def test_what_removed_marks_leave_is_not_taken_for_text() -> None:
    """What is stored is what is proved: here the rest of a removed line looks like text, and goes as well."""
    sample = draw_sample(32, 27, "b_mode", load(), (0.0, 1.0), varied=False)
    _, jpeg = cv2.imencode(".jpg", sample.pixels, [cv2.IMWRITE_JPEG_QUALITY, 75])
    frame = cleaned(np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_UNCHANGED), np.uint8))
    assert isinstance(frame, CleanedFrame)
    assert frame.mark_boxes
    assert frame.burned_in_text == "removed"
    assert not np.any(find_overlays(frame.pixels, np.ones(frame.pixels.shape[:2], np.bool_)).text)


def test_a_header_that_names_another_mode_than_the_pixels_show_is_for_review() -> None:
    [sample] = draw_samples(1, seed=23, modes=("spectral",), identity_share=0.0, measured_share=0.0)
    height, width = sample.pixels.shape[:2]
    region = Region(spatial_format=1, data_type=1, box=(0, 0, width, height), pixel_mm=None)
    [frame] = clean_frames(iter([sample.pixels]), [region], DEFAULT, cine=False)
    assert isinstance(frame, CleanedFrame)
    assert "mode_disagrees_with_header" in frame.reasons
