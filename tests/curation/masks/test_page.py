"""The page of masks: drawn on their frames, by structure, the oddest areas first."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from sono.curation.ingest.run import ingest
from sono.curation.masks.page import write_masks_report
from sono.curation.masks.run import import_masks
from sono.manifests.schemas import FRAMES, REGIONS
from sono.manifests.stages import in_process
from sono.manifests.workspace import Workspace

SIZE = (200, 260)
FILES = [f"P{patient}/scan{scan}.png" for patient in range(1, 5) for scan in range(3)]


def ellipse(scale: float, thickness: int = -1) -> npt.NDArray[np.uint8]:
    canvas = np.zeros(SIZE, np.uint8)
    cv2.ellipse(canvas, (130, 100), (round(80 * scale), round(60 * scale)), 20, 0, 360, 255, thickness)
    return canvas


@pytest.fixture
def ingested(workspace: Workspace, archive: Path) -> Workspace:
    ingest(workspace, [archive], engine=in_process, patient_regex=r"^(P\d)/", cropped=True)
    return workspace


def draw(workspace: Workspace, folder: Path, drawings: dict[str, npt.NDArray[np.uint8]], structure: str) -> None:
    for name, drawing in drawings.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / name), drawing)
    import_masks(workspace, folder, structure=structure, mask_format="png", engine=in_process)


def region_of(workspace: Workspace, file: str, structure: str) -> str:
    keys = workspace.keys
    return keys.region(keys.frame(keys.source(file), 0), structure, "import")


def pictures(page: str) -> list[tuple[str, npt.NDArray[np.uint8]]]:
    """Region and pixels, in the order of the page."""
    found = re.findall(r'data:image/png;base64,([^"]+)".*?<code>(\w{12})</code>', page, flags=re.DOTALL)
    return [(name, np.array(Image.open(io.BytesIO(base64.b64decode(png))))) for png, name in found]


def test_the_oddest_area_comes_first_whether_too_small_or_too_large(ingested: Workspace, tmp_path: Path) -> None:
    drawings = {name: ellipse(0.9 + 0.01 * number) for number, name in enumerate(FILES)}
    drawings[FILES[4]] = ellipse(0.2)
    drawings[FILES[7]] = ellipse(1.6)
    draw(ingested, tmp_path / "heads", drawings, "head")
    page = write_masks_report(ingested).read_text(encoding="utf-8")
    shown = [name for name, _ in pictures(page)]
    assert len(shown) == 12
    assert shown[:2] == [region_of(ingested, FILES[number], "head")[:12] for number in (4, 7)]
    assert "warning" not in page.partition("</style>")[2]


def test_structures_have_sections_of_their_own_and_are_compared_within_them(
    ingested: Workspace, tmp_path: Path
) -> None:
    draw(ingested, tmp_path / "heads", {name: ellipse(1) for name in FILES}, "head")
    draw(ingested, tmp_path / "csp", {name: ellipse(0.1) for name in FILES[:3]}, "cavum_septi_pellucidi")
    page = write_masks_report(ingested).read_text(encoding="utf-8")
    first, second = page.index('id="cavum_septi_pellucidi"'), page.index('id="head"')
    assert first < second
    assert len(pictures(page[first:second])) == 3
    assert len(pictures(page[second:])) == 12
    assert page.count("1&nbsp;×&nbsp;typical") == 15


def test_an_outline_that_was_read_as_an_area_is_seen_and_named(ingested: Workspace, tmp_path: Path) -> None:
    draw(ingested, tmp_path / "heads", {name: ellipse(1, thickness=3) for name in FILES[:6]}, "head")
    page = write_masks_report(ingested).read_text(encoding="utf-8")
    assert "import them again with <code>--format outline</code>" in page
    hollow = pictures(page)[0][1].astype(int)
    draw(ingested, tmp_path / "filled", {name: ellipse(1) for name in FILES[6:]}, "head")
    filled_id = region_of(ingested, FILES[6], "head")[:12]
    filled = dict(pictures(write_masks_report(ingested).read_text(encoding="utf-8")))[filled_id].astype(int)
    inside = (slice(44, 56), slice(58, 70))
    assert abs(hollow[inside][..., 0] - hollow[inside][..., 2]).max() == 0
    assert (filled[inside][..., 0] - filled[inside][..., 2]).min() > 30


def test_pictures_are_thumbnails_and_the_page_loads_nothing(ingested: Workspace, tmp_path: Path) -> None:
    draw(ingested, tmp_path / "heads", {FILES[0]: ellipse(1)}, "head")
    page = write_masks_report(ingested).read_text(encoding="utf-8")
    assert max(pictures(page)[0][1].shape) == 128
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)


def test_a_workspace_without_masks_has_a_page_too(ingested: Workspace) -> None:
    assert "There are no masks yet." in write_masks_report(ingested).read_text(encoding="utf-8")
    assert ingested.store.count_rows(REGIONS) == 0


def test_a_frame_that_was_stored_damaged_has_no_picture(ingested: Workspace, tmp_path: Path) -> None:
    draw(ingested, tmp_path / "masks", {name: ellipse(0.9) for name in FILES[:3]}, "head")
    ((name, info),) = ingested.store.parts(FRAMES).items()
    frames = ingested.store.read(FRAMES, name).to_pylist()
    damaged = ingested.keys.frame(ingested.keys.source(FILES[0]), 0)
    for frame in frames:
        if frame["frame_id"] == damaged:
            frame["image"]["bytes"] = frame["image"]["bytes"][:40]
    ingested.store.write(FRAMES, info, FRAMES.from_rows(frames))
    shown = {region for region, _ in pictures(write_masks_report(ingested).read_text())}
    assert shown == {region_of(ingested, file, "head")[:12] for file in FILES[1:3]}
