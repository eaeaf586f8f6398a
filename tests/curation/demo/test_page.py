"""The demo's page and summary claim no more than was measured, with one training run or several."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sono.curation.demo.facts import DemoFacts
from sono.curation.demo.funnel import Funnel, FunnelStep
from sono.curation.demo.page import write_page
from sono.curation.demo.plan import DemoLayout
from sono.curation.demo.results import LEAK, MASKS, SCORED, Estimate, RunResult
from sono.curation.demo.summary import summary_lines

PLANES = ("femur", "humerus")


def run_result(difference: Estimate, top1: float = 0.5) -> RunResult:
    scores = {name: Estimate(top1, top1 - 0.125, top1 + 0.125) for name in SCORED} | {LEAK: Estimate(0.9, 0.85, 0.95)}
    return RunResult(
        losses=[(0, 4.0), (10, 1.0)],
        frames=40,
        patients=20,
        planes_present=2,
        planes=PLANES,
        top1=scores,
        top5=scores,
        leak_fitted_on=(1234, 56),
        region_minus_none=difference,
        confusion={mask: [[3, 1], [0, 0]] for mask in MASKS},
    )


def facts(*runs: RunResult) -> DemoFacts:
    funnel = Funnel((FunnelStep("files in the archive", 50, {}), FunnelStep("frames read", 40, {"empty_file": 10})), {})
    sent = "8 files, <2 MB> would be sent"
    return DemoFacts(exams=5, funnel=funnel, shown_frames=(), faults=(), runs=runs, commands=(), dry_run=sent)


def page_text(folder: Path, *runs: RunResult) -> str:
    html = write_page(DemoLayout(folder), facts(*runs)).read_text()
    body = html.partition("<body>")[2]
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


BETTER = Estimate(0.15, 0.065, 0.195)
UNCLEAR = Estimate(0.02, -0.03, 0.07)


@pytest.mark.parametrize("runs", [1, 3])
def test_the_page_says_what_region_minus_none_does_not_mean(tmp_path: Path, runs: int) -> None:
    text = page_text(tmp_path, *[run_result(BETTER)] * runs)
    assert "not a gain over training without masks" in text
    assert text.count("+15.0 points (+6.5 to +19.5)") == runs
    assert not re.search(r"\byes\b|helps|clearly", text, re.IGNORECASE)


@pytest.mark.parametrize("runs", [1, 3])
def test_the_leak_stands_beside_the_difference_and_in_the_table(tmp_path: Path, runs: int) -> None:
    text = page_text(tmp_path, *[run_result(BETTER)] * runs)
    assert "What do masks change, and what do they give away?" in text
    assert "The true masks alone, with no image and no model: 90.0% (85.0% – 95.0%)" in text
    assert "not a gain at a scanner" in text
    assert "1,234 frames of 56 patients of the train split" in text
    row = text.index("leak no image and no model")
    assert text[row:].count("85.0% – 95.0%") == runs
    summary = "\n".join(summary_lines(facts(*[run_result(BETTER)] * runs)))
    spread = r"85\.0% - 95\.0%" if runs == 1 else "same in all runs"
    assert re.search(rf"^leak +90\.0% +{spread} ", summary, re.MULTILINE)
    assert "not a gain over training without masks, nor one at a scanner" in summary


def test_the_page_says_whether_intervals_include_zero(tmp_path: Path) -> None:
    assert "which does not include zero" in page_text(tmp_path, run_result(BETTER))
    assert "which includes zero" in page_text(tmp_path, run_result(UNCLEAR))
    assert "none of which includes zero" in page_text(tmp_path, run_result(BETTER), run_result(BETTER))
    assert "at least one of which includes zero" in page_text(tmp_path, run_result(BETTER), run_result(UNCLEAR))


def test_the_page_shows_what_would_be_sent_and_links_the_card(tmp_path: Path) -> None:
    html = write_page(DemoLayout(tmp_path), facts(run_result(BETTER))).read_text()
    assert "8 files, &lt;2 MB&gt; would be sent" in html
    assert 'href="dataset/README.md"' in html


def test_one_run_has_intervals_over_patients_and_no_spread_between_runs(tmp_path: Path) -> None:
    text = page_text(tmp_path, run_result(BETTER))
    assert "50.0% 37.5% – 62.5%" in text
    assert "mean" not in text
    assert "how much another training run would differ is not shown" in text


def test_several_runs_are_listed_one_by_one(tmp_path: Path) -> None:
    text = page_text(tmp_path, run_result(BETTER, 0.25), run_result(BETTER, 0.75))
    assert "50.0% 25.0% (12.5% – 37.5%) 75.0% (62.5% – 87.5%) 50.0%" in text
    assert "is not shown" not in text


def test_the_summary_names_what_its_range_is() -> None:
    one = "\n".join(summary_lines(facts(run_result(BETTER))))
    several = "\n".join(summary_lines(facts(run_result(BETTER, 0.25), run_result(BETTER, 0.75))))
    assert re.search(r"95% interval.*\nnone +50\.0% +37\.5% - 62\.5% +50\.0%$", one, re.MULTILINE)
    assert re.search(r"between runs.*\nnone +50\.0% +25\.0% - 75\.0% +50\.0%$", several, re.MULTILINE)
