"""Quality control: its metrics, its verdicts, and its page."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sono.curation.images.statistics import pixel_statistics
from sono.curation.ingest.run import ingest
from sono.curation.qc.page import write_qc_report
from sono.curation.qc.run import qc
from sono.curation.qc.stage import Metrics, QcSection, judge, measure, verdict
from sono.manifests.errors import UserError
from sono.manifests.schemas import QC
from sono.manifests.stages import in_process
from sono.manifests.workspace import Workspace

Image = npt.NDArray[np.uint8]
DEFAULTS = QcSection()


def metrics_of(pixels: Image) -> Metrics:
    return measure(pixel_statistics(pixels), *pixels.shape[:2], DEFAULTS)


def rows_by_name(workspace: Workspace, archive: Path) -> dict[str, dict[str, object]]:
    names = {
        workspace.keys.frame(workspace.keys.source(path.relative_to(archive).as_posix()), 0): path.relative_to(
            archive
        ).as_posix()
        for path in archive.rglob("*.png")
    }
    return {names[row["frame_id"]]: row for row in workspace.store.read_all(QC).to_pylist()}


def check(workspace: Workspace, archive: Path) -> dict[str, dict[str, object]]:
    ingest(workspace, [archive], engine=in_process, patient_regex=r"^(P\d)/", cropped=True)
    qc(workspace, engine=in_process)
    return rows_by_name(workspace, archive)


def test_metrics_equal_those_computed_directly_from_lit_pixels(draw: Callable[..., Image]) -> None:
    pixels = draw(1)
    metrics = metrics_of(pixels)
    lit = pixels[pixels > DEFAULTS.black_level].astype(float)
    assert metrics.mean_intensity == pytest.approx(lit.mean())
    assert metrics.contrast == pytest.approx(lit.std())
    assert metrics.lit_fraction == pytest.approx(lit.size / pixels.size)
    assert metrics.saturated_fraction == pytest.approx((lit >= DEFAULTS.white_level).mean())
    assert metrics.short_side_px == 200
    laplacian = cv2.Laplacian(pixels, cv2.CV_64F)
    assert metrics.sharpness == pytest.approx(np.sqrt((laplacian**2).sum() / lit.size))
    assert metrics_of(np.dstack([pixels] * 3)) == metrics


def test_blur_lowers_sharpness_and_black_borders_do_not_change_it(draw: Callable[..., Image]) -> None:
    pixels = draw(1)
    sharp = metrics_of(pixels)
    blurred = metrics_of(cv2.GaussianBlur(pixels, (0, 0), 6))
    bordered = metrics_of(cv2.copyMakeBorder(pixels, 0, 0, 300, 300, cv2.BORDER_CONSTANT, value=0))
    assert blurred.sharpness < 0.2 * sharp.sharpness
    assert bordered.sharpness == pytest.approx(sharp.sharpness, rel=0.02)
    assert bordered.mean_intensity == pytest.approx(sharp.mean_intensity)


def test_verdicts_follow_their_reasons(draw: Callable[..., Image]) -> None:
    pixels = draw(1)
    cases = {
        "too_small": pixels[:100, :100],
        "empty": np.zeros_like(pixels),
        "dark": (pixels // 5).astype(np.uint8),
        "bright": np.where(pixels > 0, 190 + pixels // 4, 0).astype(np.uint8),
        "saturated": np.where(pixels > 70, 255, pixels).astype(np.uint8),
        "blurred": cv2.GaussianBlur(pixels, (0, 0), 12),
    }
    for reason, image in cases.items():
        assert reason in judge(metrics_of(image), DEFAULTS), reason
    assert judge(metrics_of(pixels), DEFAULTS) == []
    assert verdict([]) == "accept"
    assert verdict(["blurred"]) == "review"
    assert verdict(["blurred", "duplicate"]) == "reject"


def test_one_of_a_patients_duplicates_is_kept(workspace: Workspace, archive: Path) -> None:
    shutil.copy(archive / "P1" / "scan0.png", archive / "P1" / "copy.png")
    rows = check(workspace, archive)
    pair = [row for row in rows.values() if row["duplicate_group"]]
    assert sorted(str(row["verdict"]) for row in pair) == ["accept", "reject"]
    assert len({row["duplicate_group"] for row in pair}) == 1


def test_duplicates_across_patients_go_to_review(workspace: Workspace, archive: Path) -> None:
    shutil.copy(archive / "P1" / "scan0.png", archive / "P2" / "copied.png")
    ingest(workspace, [archive], engine=in_process, patient_regex=r"^(P\d)/", cropped=True)
    qc(workspace, engine=in_process)
    rows = [row for row in workspace.store.read_all(QC).to_pylist() if row["duplicate_group"]]
    assert [(row["verdict"], row["reasons"]) for row in rows] == [("review", ["duplicate_across_patients"])] * 2


def test_thresholds_come_from_the_configuration_and_make_verdicts_stale(workspace: Workspace, archive: Path) -> None:
    assert {row["verdict"] for row in check(workspace, archive).values()} == {"accept"}
    assert qc(workspace, engine=in_process).computed == 0
    config = (workspace.path / "sono.toml").read_text().replace("# min_short_side_px = 128", "min_short_side_px = 201")
    (workspace.path / "sono.toml").write_text(config)
    changed = Workspace(workspace.path)
    assert qc(changed, engine=in_process).computed > 0
    assert {row["verdict"] for row in changed.store.read_all(QC).to_pylist()} == {"reject"}


@pytest.mark.parametrize(
    ("line", "words"), [("min_sharpnes = 3", "min_sharpnes"), ("min_sharpness = -1", "min_sharpness")]
)
def test_a_wrong_key_or_value_in_the_configuration_is_named(
    workspace: Workspace, archive: Path, line: str, words: str
) -> None:
    config = (workspace.path / "sono.toml").read_text().replace("# min_short_side_px = 128", line)
    (workspace.path / "sono.toml").write_text(config)
    with pytest.raises(UserError, match=f"qc.{words}"):
        qc(Workspace(workspace.path), engine=in_process)


def test_an_unknown_section_is_refused(workspace: Workspace) -> None:
    with (workspace.path / "sono.toml").open("a") as file:
        file.write("[receive]\nport = 104\n")
    with pytest.raises(UserError, match=r"unknown section \[receive\]"):
        qc(Workspace(workspace.path), engine=in_process)


def test_a_new_duplicate_makes_only_the_affected_parts_stale(
    workspace: Workspace, tmp_path: Path, draw: Callable[..., Image]
) -> None:
    folder = tmp_path / "many" / "P1"
    folder.mkdir(parents=True)
    for number in range(300):
        cv2.imwrite(str(folder / f"{number:03}.png"), draw(number, 40, 40))
    ingest(workspace, [folder.parent], engine=in_process, patient_regex=r"^(P\d)/", cropped=True)
    parts = qc(workspace, engine=in_process).computed
    shutil.copy(folder / "000.png", folder / "299x.png")
    ingest(workspace, [folder.parent], engine=in_process, patient_regex=r"^(P\d)/", cropped=True)
    again = qc(workspace, engine=in_process)
    assert parts > 3
    assert again.computed <= 3
    assert sum(row["duplicate_group"] is not None for row in workspace.store.read_all(QC).to_pylist()) == 2


def test_the_page_shows_counts_and_thumbnails_too_small_to_read(workspace: Workspace, archive: Path) -> None:
    shutil.copy(archive / "P1" / "scan0.png", archive / "P1" / "copy.png")
    (archive / "P1" / "note.txt").write_text("x")
    check_count = len(check(workspace, archive))
    page = write_qc_report(workspace).read_text()
    assert check_count == 13
    assert page.count("data:image/png;base64,") == 13
    assert "not_an_image" in page
    assert "duplicate" in page
    assert "http" not in page.replace("http-equiv", "")  # nothing is loaded from elsewhere
