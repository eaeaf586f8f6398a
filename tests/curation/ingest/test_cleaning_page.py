"""The page on cleaning says what the tables say, names nobody, and opens in a browser without any request."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import pytest

from sono.curation.cleaning.config import CleaningSection
from sono.curation.cleaning.reasons import LEFT_OUT, REASONS
from sono.curation.ingest import cleaning_figures as figures
from sono.curation.ingest.cleaning_page import LAYOUTS, write_cleaning_report
from sono.curation.ingest.cleaning_pictures import LONG_SIDE, Example, draw
from sono.curation.ingest.run import ingest
from sono.curation.ingest.stage import made_with
from sono.curation.phantom.samples import draw_samples
from sono.manifests.exclusions import ExclusionCount
from sono.manifests.key_check import record_key
from sono.manifests.schemas import EXCLUSIONS, FRAMES
from sono.manifests.stages import in_process
from sono.manifests.store import PartInfo
from sono.manifests.workspace import Workspace, create

NOW = made_with(CleaningSection(), cropped=False)


@pytest.fixture(scope="module")
def cleaned_archive(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Screens with text and marks, one without a sector, one of a mode that is not wanted, and no ultrasound."""
    folder = tmp_path_factory.mktemp("CANARYFOLDER")
    modes = ("b_mode", "color_doppler", "dual", "spectral")
    for number, sample in enumerate(draw_samples(4, seed=72, modes=modes, identity_share=1.0, measured_share=1.0)):
        assert cv2.imwrite(str(folder / f"P{number}CANARYNAME.png"), sample.pixels[..., ::-1])
    random = np.random.default_rng(1)
    assert cv2.imwrite(str(folder / "P8CANARYNAME.png"), random.rayleigh(40, (200, 260)).clip(0, 255).astype(np.uint8))
    assert cv2.imwrite(str(folder / "P9CANARYNAME.png"), np.full((200, 260), 230, np.uint8))
    (folder / "P7CANARYNAME.txt").write_text("CANARYTEXT")
    workspace = create(tmp_path_factory.mktemp("cleaned") / "workspace", "Hospital B")
    (workspace.path / "secret.key").write_text("5e" * 32)  # which decides where parts are cut
    record_key(workspace.path, workspace.keys)
    ingest(workspace, [folder], engine=in_process, patient_regex=r"^(P\d)")
    return workspace


def rows(workspace: Workspace) -> list[dict[str, Any]]:
    return list(workspace.store.read_all(FRAMES).to_pylist())


def tile(page: str, words: str) -> int:
    """The number on the tile whose text contains ``words``."""
    (number,) = re.findall(rf"<b>([\d,]+)</b><span>[^<]*{words}", page)
    return int(number.replace(",", ""))


def test_counts_are_those_of_the_tables(cleaned_archive: Workspace) -> None:
    page, frames = write_cleaning_report(cleaned_archive).read_text(), rows(cleaned_archive)
    clean = [row for row in frames if row["burned_in_text"] in ("none", "removed")]
    assert {row["burned_in_text"] for row in frames} >= {"removed"}
    assert tile(page, "in the workspace") == len(frames)
    assert tile(page, "none found in") == len(clean)
    assert tile(page, "not shown to be") == len(frames) - len(clean)
    assert tile(page, "a person to review") == sum(len(row["cleaning_reasons"]) > 0 for row in frames) > 0
    assert tile(page, "accepted by cleaning") == sum(not row["cleaning_reasons"] for row in clean)
    assert tile(page, "with text painted over") == sum(len(row["text_boxes"]) > 0 for row in frames) > 0
    assert tile(page, "marks painted over") == sum(len(row["mark_boxes"]) > 0 for row in frames) > 0
    excluded = Counter(cleaned_archive.store.read_all(EXCLUSIONS)["reason"].to_pylist())
    assert tile(page, "left out during cleaning") == sum(excluded[reason] for reason in LEFT_OUT) == 2
    assert "not_an_image" in page.replace("<wbr>", "")
    for reader in figures.READERS:
        assert f"({sum(reader in row['text_readers'] for row in frames)})" in page or reader == "detector"


def test_figures_add_up(cleaned_archive: Workspace) -> None:
    frames = rows(cleaned_archive)
    with figures.judged_frames(cleaned_archive.store) as database:
        totals = figures.totals(database)
        readers = figures.by_readers(database)
        reasons = figures.review_reasons(database)
        edited = figures.edited_fractions(database)
        layouts = figures.by_layout(database, totals, 1)
    assert sum(row["frames"] for row in readers) == len(frames)
    assert all(row["without_text"] + row["removed"] + row["unchecked"] == row["frames"] for row in readers)
    assert {reason.name: reason.frames for reason in reasons} == Counter(
        reason for row in frames for reason in row["cleaning_reasons"]
    )
    assert sum(edited) == totals["edited"] == sum(row["edited_fraction"] > 0 for row in frames)
    assert layouts.rows[0]["frames"] + layouts.rest["frames"] == len(frames)
    assert layouts.others == len({(row["source_width"], row["source_height"], row["mode"]) for row in frames}) - 1


def test_every_reason_has_its_meaning_and_examples(cleaned_archive: Workspace) -> None:
    page = write_cleaning_report(cleaned_archive).read_text()
    shown = page.replace("<wbr>", "").replace("&#39;", "'")
    given = {reason for row in rows(cleaned_archive) for reason in row["cleaning_reasons"]}
    assert given
    for reason in given:
        assert f"<code>{reason}</code>" in shown
        assert REASONS[reason] in shown
    for reason, meaning in LEFT_OUT.items():
        assert f"<code>{reason}</code>" in shown
        assert meaning in shown


def test_the_page_names_no_file_and_loads_nothing(cleaned_archive: Workspace) -> None:
    page = write_cleaning_report(cleaned_archive).read_text()
    assert "CANARY" not in page
    assert "part-" not in page
    assert str(cleaned_archive.path) not in page
    for row in rows(cleaned_archive):
        assert not any(row[key] in page for key in ("patient_key", "study_key", "source_key", "name_key"))
    assert "http" not in page
    assert "Hospital B" in page


def test_the_page_stays_until_the_frames_change(cleaned_archive: Workspace) -> None:
    path = write_cleaning_report(cleaned_archive)
    path.write_text(path.read_text() + "<!-- mine -->")
    assert write_cleaning_report(cleaned_archive).read_text().endswith("<!-- mine -->")
    path.write_text(
        path.read_text().replace('<meta name="sono-frames" content="', '<meta name="sono-frames" content="0')
    )
    assert not write_cleaning_report(cleaned_archive).read_text().endswith("<!-- mine -->")


def test_what_was_painted_over_is_drawn_where_it_was(cleaned_archive: Workspace) -> None:
    row = max(rows(cleaned_archive), key=lambda row: len(row["text_boxes"]))
    (part,) = cleaned_archive.store.paths(FRAMES)
    picture = draw(cleaned_archive.store, [Example(row["frame_id"], str(part))])[row["frame_id"]]
    scale = LONG_SIDE / max(row["source_width"], row["source_height"])
    drawn = {tuple(map(float, corner.split())) for corner in re.findall(r"M([\d. ]+)", picture.text)}
    assert drawn == {
        (round(scale * (row["crop"][0] + x), 1), round(scale * (row["crop"][1] + y), 1))
        for x, y, _, _ in row["text_boxes"]
    }
    assert picture.sectors.count("M") == len(row["sectors"])
    assert f"text in {len(row['text_boxes'])} place" in picture.facts


def frame(number: int, **columns: object) -> dict[str, object]:
    """A row without an image, as cleaning may leave it."""
    keys = ("patient_key", "study_key", "source_key", "source_digest", "pixel_digest")
    size = {"height": 150, "width": 200, "crop": [10, 10, 200, 150], "source_height": 300, "source_width": 400}
    rest = {"image": {"bytes": b"", "path": None}, "grey_histogram": [0] * 256, "laplacian_energy": 0.0}
    base: dict[str, object] = {
        **dict.fromkeys(keys, "k"), **size, **rest, "frame_index": 0, "burned_in_text": "none", "mode": "b_mode",
        "text_readers": ["detector"], "cleaning_reasons": [], "edited_fraction": 0.0,
    }  # fmt: skip
    return {"frame_id": f"{number:032x}", **base, **columns}


def write(
    workspace: Workspace, frames: list[dict[str, object]], record: Mapping[str, object] = NOW, part: str = "a"
) -> None:
    info = PartInfo(part, "ingest", "f", "s", len(frames), made_with=dict(record))
    workspace.store.write(FRAMES, info, FRAMES.from_rows(frames))


def test_of_many_layouts_the_largest_are_drawn_and_the_others_counted(workspace: Workspace) -> None:
    screens = [{"source_width": 400 + number % 50, "source_height": 300 + number // 50} for number in range(3000)]
    few = [frame(number, **screen, model=f"M{number % 100}") for number, screen in enumerate(screens)]
    write(workspace, [*few, *(frame(4000 + number, **screens[7], model="M7") for number in range(5))])
    page = write_cleaning_report(workspace).read_text()
    assert f"There are 3,000: the {LAYOUTS} with the most frames are shown, 2,952 frames have another." in page
    assert page.count("Drawn:") == LAYOUTS
    assert page.count("1 · M7</b>407 × 300 px") == 1
    assert re.search(r"70 other scanners, not shown</th><td class=\"n\">2,100</td>", page)
    assert len(page) < 2_000_000


def test_what_is_not_stated_is_not_called_clean(workspace: Workspace) -> None:
    unknown = [
        frame(0, burned_in_text="probably", text_readers=None),
        frame(1, cleaning_reasons=None, edited_fraction=None),
        frame(2, cleaning_reasons=["new_reason"]),
        frame(3, mode=None, source_width=None, source_height=None, sectors=None),
    ]
    write(workspace, unknown)
    page = write_cleaning_report(workspace).read_text()
    assert tile(page, "not shown to be") == 1
    assert tile(page, "accepted by cleaning") == 2
    assert "nothing that was recorded" in page
    assert "not a reason that this version knows" in page
    assert "unknown scanner" in page
    assert "? × ? px, mode unknown" in page
    assert "of 1 it is not recorded" in page


@pytest.mark.parametrize("frames", [None, []])
def test_without_frames_there_is_a_page_that_says_so(
    workspace: Workspace, frames: list[dict[str, object]] | None
) -> None:
    if frames is not None:
        write(workspace, frames)
    page = write_cleaning_report(workspace).read_text()
    assert "There are no frames yet." in page
    assert tile(page, "in the workspace") == 0


def test_frames_that_other_versions_cleaned_are_told_apart(workspace: Workspace) -> None:
    write(workspace, [frame(0), frame(1)], part="a")
    assert "versions and settings that are in use now" not in write_cleaning_report(workspace).read_text()
    write(workspace, [frame(2)], {**NOW, "version": 1}, part="b")
    write(workspace, [frame(3)], {**NOW, "cropped": True}, part="c")
    write(workspace, [frame(4)], {}, part="d")
    found = figures.made_with(list(workspace.store.parts(FRAMES).values()), NOW)
    assert (found[0].frames, found[0].current) == (2, True)
    assert sorted((made.frames, made.current) for made in found[1:]) == [(1, False), (1, False), (1, True)]
    page = write_cleaning_report(workspace).read_text()
    assert "versions and settings that are in use now" in page
    assert "In 1 frame no sector was searched" in page
    assert "not recorded" in page


def test_only_what_ingest_left_out_is_counted() -> None:
    counts = [ExclusionCount("ingest", "no_ultrasound", "m", 3), ExclusionCount("ingest", "empty_file", "m", 2),
              ExclusionCount("caption", "no_caption", "m", 9)]  # fmt: skip
    cleaning, before = figures.left_out(counts)
    assert {reason: count for reason, _, count in cleaning} == {**dict.fromkeys(LEFT_OUT, 0), "no_ultrasound": 3}
    assert before == [counts[1]]


@pytest.mark.slow
def test_a_browser_shows_the_entire_page_without_any_request(cleaned_archive: Workspace, browser: Any) -> None:
    path = write_cleaning_report(cleaned_archive)
    page = browser.new_page()
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_load_state("networkidle")
    assert complaints == []
    assert [url for url in requests if not url.startswith(("data:image/", path.as_uri()))] == []
    assert page.locator("figure svg[role=img]").evaluate_all(
        "all => all.every(one => one.ariaLabel && one.getBBox().width)"
    )
    assert page.locator("table").evaluate_all("all => all.every(one => one.querySelector('th[scope]'))")
    for width in (1600, 380):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"cut off at {width} px"
    page.close()
