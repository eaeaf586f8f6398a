from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sono.manifests.filenames import evaluation_file
from sono.training.evaluation.scoring import Scoring
from sono.training.evaluation.zero_shot.page import THUMBNAIL_PX
from sono.training.evaluation.zero_shot.run import evaluate

MASKS = ("none", "region", "shuffled", "blank")


def page_of(run: Path, result: dict[str, Any], name: str) -> str:
    return evaluation_file(run, result["dataset"], name).with_suffix(".html").read_text()


@pytest.mark.slow
def test_the_page_needs_no_other_file_and_has_the_figures(random_run: Callable[..., Path], three_splits: Path) -> None:
    run = random_run(4)
    result = evaluate(Scoring(run, str(three_splits), resamples=20), masks=MASKS)
    page = page_of(run, result, "test-all")
    assert not re.search(r"https?://|<script|<link|url\(", page)
    for mask in MASKS:
        assert f"{100 * result['masks'][mask]['top1']['value']:.1f} %" in page
        assert f"{100 * result['masks'][mask]['calibration']['expected_error']:.1f} %" in page
    assert result["checkpoint"]["sha256"] in page
    for heading in ("By mask", "By center", "By scanner", "By trimester", "Calibration", "Confusion", "Differences"):
        assert f"<h2>{heading}" in page
    assert str(three_splits) not in page  # a folder's name may be that of a hospital


def test_frames_whose_answer_the_mask_changed_are_shown_with_outlines(learned: Path, shapes: Path) -> None:
    result = evaluate(Scoring(learned, str(shapes), resamples=20), masks=("none", "region"))
    page = page_of(learned, result, "test-both")
    cards = re.findall(r'<div class="frame">.*?</div>', page, re.S)
    assert cards
    for card in cards:
        said = re.findall(r"<dd.*?>(.*?)</dd>", card)
        truth, without, with_mask = (re.sub(r" \d+&nbsp;%", "", text) for text in said)
        assert without != with_mask
        assert card.count('class="good"') == (without, with_mask).count(truth)
    png = re.search(r"data:image/png;base64,([^\"]+)", cards[0])
    assert png
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(png[1]))))
    assert max(pixels.shape[:2]) <= THUMBNAIL_PX
    colored = (pixels[..., 0] != pixels[..., 2]).sum()
    assert 10 < colored < pixels.shape[0] * pixels.shape[1] / 4  # frames are grey, outlines thin


def test_names_of_centers_and_planes_cannot_break_the_page(
    random_run: Callable[..., Path], make_rows: Callable[..., Any], write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    rows = make_rows(8, seed=91)
    for row in rows:
        row["center"] = "<b>St. & Mary's</b>"
    run = random_run()
    result = evaluate(Scoring(run, str(write_dataset(tmp_path / "dataset", {"test": rows})), resamples=10))
    page = page_of(run, result, "test-none")
    assert "<b>St." not in page
    assert "&lt;b&gt;St. &amp; Mary&#39;s&lt;/b&gt;" in page
    assert "Where the answer changed" not in page  # one mask alone changes nothing


@pytest.mark.parametrize("masks", [("region",), ("blank", "shuffled")])
def test_masks_without_a_reference_also_make_a_page(
    masks: tuple[str, ...], random_run: Callable[..., Path], three_splits: Path
) -> None:
    run = random_run()
    result = evaluate(Scoring(run, str(three_splits), resamples=10), masks=masks)
    (name,) = {path.stem for path in (run / "evaluation").glob("*/*.html")}
    page = page_of(run, result, name)
    assert ("region – leak" in page) == (masks == ("region",))
    assert "– none" not in page
    assert list(result["masks"]) == [mask for mask in MASKS if mask in masks]
