"""The captions' page: its numbers are those of the tables, and nothing stands on it that must not."""

from __future__ import annotations

import base64
import html
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import comb
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from sono.captioning.report.page import BATCH_SIZES, write_caption_report
from sono.captioning.report.repetition import repeated_share
from sono.manifests import masks
from sono.manifests.errors import UserError
from sono.manifests.schemas import CAPTIONS, EXCLUSIONS, FRAMES, RECORDS, REGIONS, STATEMENTS, TableSpec
from sono.manifests.store import PartInfo
from sono.manifests.workspace import Workspace

pytestmark = pytest.mark.slow  # each test writes a page of a whole workspace

Image = npt.NDArray[np.uint8]
Row = dict[str, Any]

HEIGHT, WIDTH = 300, 400
PATIENT, STUDY, PLACE = "patientkey-0001", "studykey-0001", "line 7 of records file 1"


def write(workspace: Workspace, table: TableSpec, rows: Sequence[Row], part: str = "one") -> None:
    workspace.store.write(table, PartInfo(part, "hand", "f", "s", len(rows)), table.from_rows(list(rows)))


def png(pixels: Image) -> bytes:
    done, encoded = cv2.imencode(".png", pixels)
    assert done
    return encoded.tobytes()


def frame(number: int, plane: str | None, pixels: Image) -> Row:
    return {
        "frame_id": f"{number:032x}",
        "image": {"bytes": png(pixels), "path": None},
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "crop": [0, 0, pixels.shape[1], pixels.shape[0]],
        **dict.fromkeys(("patient_key", "patient_center_key", "patient_number_key"), PATIENT),
        "study_key": STUDY,
        "source_key": f"sourcekey-{number}",
        "source_digest": "0" * 64,
        "frame_index": 0,
        "plane": plane,
        "pixel_digest": f"pixels-{number}",
        "grey_histogram": [0] * 256,
        "laplacian_energy": 0.0,
        "burned_in_text": "unchecked",
    }


def region(number: int, of_frame: int, structure: str, box: tuple[int, int, int, int], status: str = "accepted") -> Row:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    x, y, width, height = box
    mask[y : y + height, x : x + width] = True
    return {
        "region_id": f"region-{number}",
        "frame_id": f"{of_frame:032x}",
        "pixel_digest": f"pixels-{of_frame}",
        "structure": structure,
        "mask": masks.encode(mask),
        "area_px": width * height,
        "bbox": list(box),
        "source": "import",
        "status": status,
    }


def caption(number: int, of_frame: int, text: str, facts: Mapping[str, tuple[Any, str]], **other: Any) -> Row:
    found = {name: {"value": value, "source": source} for name, (value, source) in facts.items()}
    defaults = {"template": "region/paper" if "region_id" in other else "global/paper", "tokens": 20, "dropped": []}
    return {
        "caption_id": f"caption-{number}",
        "frame_id": f"{of_frame:032x}",
        "text": text,
        "template_sha256": "0" * 64,
        "facts": json.dumps(found),
        **defaults,
        **other,
    }


def record(study: str, **facts: Any) -> Row:
    return {"study_key": study, "patient_key": PATIENT, "provenance": "{}", **facts}


HEAD = {"plane": ("transthalamic", "header"), "ga_days": (153, "column ga_weeks")}
LEG = {"plane": ("femur", "header"), "ga_days": (203, "column fl_mm via hadlock_1984_fl")}


@pytest.fixture
def draw() -> Callable[..., Image]:
    """Speckle, different for each seed."""

    def speckle(seed: int, height: int = 200, width: int = 260) -> Image:
        values = np.random.default_rng(seed).rayleigh(60, (height, width))
        return np.asarray(values.clip(0, 255), dtype=np.uint8)

    return speckle


@pytest.fixture
def filled(workspace: Workspace, draw: Callable[..., Image]) -> Workspace:
    """Six frames, four of them captioned (two equally), three captions of regions, one conflict."""
    planes = ["transthalamic", "transthalamic", "transthalamic", "femur", "femur", None]
    write(workspace, FRAMES, [frame(number, plane, draw(number, HEIGHT, WIDTH)) for number, plane in enumerate(planes)])
    boxes = [
        region(0, 0, "head", (100, 50, 200, 200)),
        region(1, 0, "thalami", (180, 120, 40, 40), "edited"),
        region(2, 3, "femur", (60, 100, 250, 20)),
        region(3, 3, "femur", (10, 10, 30, 30), "rejected"),
        region(4, 1, "falx", (200, 50, 5, 200)),
    ]
    write(workspace, REGIONS, boxes)
    seen = {"structures": (["head", "thalami", "falx"], "column structures_seen"), "hc_mm": (151.5, "column hc_mm")}
    write(
        workspace,
        CAPTIONS,
        [
            caption(0, 0, "Of the head.", {**HEAD, **seen}, tokens=21, dropped=["falx"]),
            caption(1, 1, "Of the head.", {**HEAD, **seen}, tokens=21),
            caption(2, 2, "Head again.", {**HEAD, "structures": (["head"], "planes.toml")}, template="global/other"),
            caption(3, 3, "Of the leg.", {**LEG, "structures": (["femur"], "regions")}, tokens=30),
        ],
        "global",
    )
    write(
        workspace,
        CAPTIONS,
        [
            caption(4, 0, "The head.", {**HEAD, "structure": ("head", "regions")}, region_id="region-0", tokens=9),
            caption(5, 0, "The thalami.", {**HEAD, "structure": ("thalami", "regions")}, region_id="region-1"),
            caption(6, 3, "The femur.", {**LEG, "structure": ("femur", "regions")}, region_id="region-2"),
        ],
        "region",
    )
    write(
        workspace,
        RECORDS,
        [
            record("study-1", ga_days=153, ga_source="explicit"),
            record("study-1", plane="femur", ga_days=153, ga_source="explicit"),
            record("study-2", ga_days=203, ga_source="biometry", ga_formula="hadlock_1984_fl"),
            record("study-3", ga_source="explicit", ga_conflict="explicit and edd disagree"),
            record("study-3", plane="femur", ga_source="explicit", ga_conflict="explicit and edd disagree"),
        ],
    )
    said = [("ga_days", 0), ("hc_mm", 0), ("hc_mm", 1), ("presentation", 2), ("identity", 0), ("identity", 0)]
    write(
        workspace,
        STATEMENTS,
        [
            {
                **dict.fromkeys(("patient_key", "patient_center_key", "patient_number_key"), PATIENT),
                **{"source_key": "s", "place": PLACE, "study_unknown": False},
                **{"fact": fact, "field": "column", "rank": rank},
            }
            for fact, rank in said
        ],
    )
    gaps = [("caption", "no_record", "no record belongs to the frame's study")] * 2 + [
        ("statements", "number_impossible", "line 7 of records file 1: its hc is impossible"),
        ("statements", "number_impossible", "line 9 of records file 1: its hc is impossible"),
        ("records", "unmatched", "row 3 of records file 2: no image is of its patient and examination"),
        ("ingest", "truncated", "the file ends early"),
    ]
    write(
        workspace,
        EXCLUSIONS,
        [{"source_key": "k", "stage": stage, "reason": reason, "message": text} for stage, reason, text in gaps],
    )
    return workspace


def page_of(workspace: Workspace, **options: Any) -> str:
    return write_caption_report(workspace, **options).read_text(encoding="utf-8")


def words(page: str) -> str:
    """What a reader sees, in one line: no markup, no style."""
    body = re.sub(r"<title>.*?</title>|<style>.*?</style>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def section(page: str, title: str) -> str:
    found = re.search(rf"<h[23]>{title}</h[23]>(.*?)(?=<h[23]>|</main>)", page, flags=re.DOTALL)
    assert found, title
    return words(found.group(1))


def test_headline_figures_are_counts_of_the_tables(filled: Workspace) -> None:
    text = words(page_of(filled))
    assert "Hospital A · 7 captions" in text
    assert "6 frames 66.7 % 4 frames have a caption 3 captions of regions" in text
    assert "6 distinct captions: 3 of frames, 3 of regions" in text
    assert "5 records of 3 examinations 1 examination whose sources disagree about the age" in text
    assert "30 tokens in the longest caption 1 caption had structures dropped" in text


def test_coverage_is_by_plane_in_the_vocabularys_order_and_counts_frames_without_plane(filled: Workspace) -> None:
    planes = section(page_of(filled), "Frames with a caption, by plane")
    assert "transthalamic 3 3 100.0 % femur 2 1 50.0 % plane not known 1 0 0.0 %" in planes
    assert "No frame shows: nuchal translucency, early head," in planes


def test_structures_count_region_captions_of_accepted_regions_and_global_captions_that_still_name_them(
    filled: Workspace,
) -> None:
    structures = section(page_of(filled), "Structures")
    # The head is outlined once and named three times; falx was dropped from one of the two captions that had it.
    assert "head 1 of 1 3 thalami 1 of 1 2 femur 1 of 1 1 midline falx 0 of 1 1" in structures
    assert "Neither outlined nor named: fetus," in structures


def test_lengths_show_the_longest_caption_the_context_length_and_what_was_dropped(filled: Workspace) -> None:
    page = page_of(filled, context_length=77)
    lengths = section(page, "Lengths")
    assert "longest 30 context length 77" in lengths
    assert "longest 20 context length 77" in lengths
    assert "1 caption (14.3 %) was too long for the model, so its last" in lengths
    assert "midline falx 1 100.0 %" in lengths
    for bar in ("21 tokens: 2", "20 tokens: 1", "30 tokens: 1", "9 tokens: 1", "20 tokens: 2"):
        assert f"<title>{bar}</title>" in page
    assert f'<line x1="{100 * 77.5 / 78}"' in page  # in the middle of 77, where the axis is 0 to 77
    assert "context length" not in section(page_of(filled), "Lengths")


def test_weeks_are_completed_weeks_of_captioned_frames(filled: Workspace) -> None:
    page = page_of(filled)
    bars = re.findall(r"<title>(\d+) weeks: (\d+)</title>", page)
    assert bars == [("21", "3"), ("29", "1")]
    assert f'<line x1="{100 * (14 - 11) / 30}"' in page  # where week 14 begins, where the axis is 11 to 40


def test_ages_and_conflicts_are_counted_by_examination_not_by_row(filled: Workspace) -> None:
    page = page_of(filled)
    ages = section(page, "Gestational age")
    assert "biometry via hadlock_1984_fl 1 50.0 % explicit 1 50.0 %" in ages
    assert "the stated age and the due date disagree 1 100.0 %" in section(page, "Conflicts and gaps")


def test_gaps_are_those_of_records_and_captions_without_their_places(filled: Workspace) -> None:
    gaps = section(page_of(filled), "Left out")
    assert "caption no_record no record belongs to the frame's study 2" in gaps
    assert "statements number_impossible its hc is impossible 2" in gaps
    assert "records unmatched no image is of its patient and examination 1" in gaps
    assert "truncated" not in gaps


def test_every_fact_is_counted_by_the_field_it_comes_from(filled: Workspace) -> None:
    page = page_of(filled)
    facts = section(page, "Where the facts come from")
    assert "plane 7 captions header 7 100.0 %" in facts
    assert "gestational age 7 captions column ga_weeks 5 71.4 % column fl_mm via hadlock_1984_fl 2 28.6 %" in facts
    assert "structures shown 4 captions column structures_seen 2 50.0 % planes.toml 1 25.0 % regions 1 25.0 %" in facts
    assert "HC 2 captions column hc_mm 2 100.0 %" in facts
    read = section(page, "How records were read")
    assert "coded 2 50.0 % found in prose by rules 1 25.0 % found in prose by a language model 1 25.0 %" in read


def test_a_fact_of_very_many_fields_is_cut_and_the_rest_counted(
    workspace: Workspace, draw: Callable[..., Image]
) -> None:
    write(workspace, FRAMES, [frame(number, "femur", draw(number)) for number in range(12)])
    rows = [caption(number, number, "Leg.", {"plane": ("femur", f"column c{number:02}")}) for number in range(12)]
    write(workspace, CAPTIONS, rows)
    facts = section(page_of(workspace), "Where the facts come from")
    assert "column c07 1 8.3 % 4 other fields 4 33.3 %" in facts
    assert "plane 12 captions" in facts


def test_templates_are_counted_by_kind(filled: Workspace) -> None:
    templates = section(page_of(filled), "Templates")
    assert "global/paper 3 75.0 % global/other 1 25.0 %" in templates
    assert "region/paper 3 100.0 %" in templates


def test_examples_show_each_regions_caption_and_the_facts_with_their_sources(filled: Workspace) -> None:
    examples = section(page_of(filled), "Examples")
    assert "transthalamic global/paper · " + "0" * 12 in examples
    assert "Of the head. 1 The head. 2 The thalami." in examples
    assert "Of the leg. 1 The femur." in examples  # and not the rejected one
    assert "gestational age 153 days (21+6 weeks) column ga_weeks" in examples
    assert "structures shown head, thalami, midline falx column structures_seen" in examples
    assert "HC 151.5 mm column hc_mm" in examples
    assert examples.count("Head again. No region was outlined.") == 1


def test_an_outline_lies_where_its_mask_lies(filled: Workspace) -> None:
    boxes = set()
    for path in re.findall(r'<path d="([^"]+)"', page_of(filled)):
        points = np.array([[int(value) for value in point.split()] for point in re.findall(r"\d+ \d+", path)])
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        boxes.add((int(left), int(top), int(right - left + 1), int(bottom - top + 1)))
    assert boxes == {(100, 50, 200, 200), (180, 120, 40, 40), (60, 100, 250, 20)}


def test_a_regions_number_stands_in_it_and_beside_the_regions_that_lie_on_it(filled: Workspace) -> None:
    examples = page_of(filled).split("<h2>Examples</h2>")[1]
    numbers = re.findall(r'<text x="(\d+)" y="(\d+)"', examples)
    femur, head, thalami = [(int(x), int(y)) for x, y in numbers]
    assert 100 <= head[0] < 300
    assert 50 <= head[1] < 250
    assert not (180 <= head[0] < 220 and 120 <= head[1] < 160)
    assert thalami == pytest.approx((200, 140), abs=2)
    assert 109 <= femur[1] <= 110


def test_a_region_of_other_pixels_than_the_frames_is_not_drawn(filled: Workspace) -> None:
    stale = {**region(9, 2, "head", (10, 10, 50, 50)), "pixel_digest": "of an earlier image"}
    write(filled, REGIONS, [stale], "stale")
    assert len(re.findall(r"<path d=", page_of(filled))) == 3


def test_images_are_too_small_to_read_text_and_only_examples_are_there(
    workspace: Workspace, draw: Callable[..., Image]
) -> None:
    numbers = range(72)
    planes = list(workspace.vocabulary.planes)
    drawn = [draw(number, HEIGHT, WIDTH) for number in range(2)]
    write(workspace, FRAMES, [frame(number, planes[number // 3], drawn[number % 2]) for number in numbers])
    rows = [
        caption(n, n, f"Frame {n}.", {"plane": (planes[n // 3], "header")}, template=f"global/{n % 3}") for n in numbers
    ]
    write(workspace, CAPTIONS, rows)
    page = page_of(workspace)
    images = [base64.b64decode(text) for text in re.findall(r"data:image/png;base64,([^\"]+)", page)]
    assert len(images) == 24
    for image in images:
        decoded = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_UNCHANGED)
        assert decoded is not None
        assert max(decoded.shape) == 128
    shown = re.findall(r"<header><b>([^<]+)</b>.*?<code>(global/\d)</code>", page)
    assert len({plane for plane, _ in shown}) == 24
    assert max(Counter(template for _, template in shown).values()) == 8
    assert page_of(workspace) == page


def test_no_key_place_or_path_stands_on_the_page(filled: Workspace) -> None:
    page = page_of(filled)
    for secret in (PATIENT, STUDY, PLACE, "sourcekey", "region-0", "caption-0", "study-1", str(filled.path), "0" * 13):
        assert secret not in re.sub(r"base64,[^\"]+", "", page), secret
    assert not re.search(r"(src|href)=\"(?!data:)|url\(|<script|@import", page)


def test_names_and_texts_are_escaped(filled: Workspace) -> None:
    nasty = "<script>alert('x')</script> & co"
    packaged = filled.vocabulary
    entries = [
        f'[[structures]]\nid = "{s.id}"\nname = "{nasty if s.id == "head" else s.name}"'
        for s in packaged.structures.values()
    ] + [
        f'[[planes]]\nid = "{p.id}"\nname = "{nasty + p.id if p.id == "femur" else p.name}"\nsystem = "{p.system}"\n'
        f"ga_weeks = {list(p.ga_weeks)}\nstructures = {json.dumps(p.structures)}\nsource = 'test'"
        for p in packaged.planes.values()
    ]
    (filled.path / "planes.toml").write_text("version = 1\n\n" + "\n\n".join(entries))
    (filled.path / "sono.toml").write_text('[workspace]\ncenter = "A"\n[vocabulary]\nfile = "planes.toml"\n')
    write(
        filled, CAPTIONS, [caption(9, 5, nasty, {"plane": ("femur", nasty)}, template=nasty, dropped=["head"])], "nasty"
    )
    page = page_of(Workspace(filled.path))
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 5


def test_ids_that_the_vocabulary_lacks_are_not_shown(filled: Workspace, draw: Callable[..., Image]) -> None:
    write(filled, FRAMES, [frame(9, "jane_doe", draw(9, HEIGHT, WIDTH))], "unknown")
    write(filled, REGIONS, [region(9, 9, "mary_roe", (10, 10, 50, 50))], "unknown")
    facts = {"plane": ("jane_doe", "header"), "structures": (["mary_roe"], "regions"), "dr_who": ("x", "y")}
    write(filled, CAPTIONS, [caption(9, 9, "Something.", facts, dropped=["mary_roe"])], "unknown")
    page = page_of(filled)
    assert "not in the vocabulary 1 1 100.0 %" in section(page, "Frames with a caption, by plane")
    assert "other facts 1 caption" in section(page, "Where the facts come from")
    for name in ("jane_doe", "mary_roe", "dr_who"):
        assert name not in page


def test_a_workspace_of_frames_and_captions_alone_has_a_page(workspace: Workspace, draw: Callable[..., Image]) -> None:
    write(workspace, FRAMES, [frame(0, "femur", draw(0))])
    write(workspace, CAPTIONS, [caption(0, 0, "Leg.", {"plane": ("femur", "header")}, tokens=None)])
    page = page_of(workspace)
    text = words(page)
    assert (
        "Hospital A · 1 caption 1 frame 100.0 % 1 frame has a caption 0 captions of regions 1 distinct caption:" in text
    )
    assert "The tokens of 1 caption were not counted." in text
    assert "No caption of a frame states an age." in text
    assert "No record gives an age." in text
    assert "No record contradicts itself about the age." in text
    assert "Nothing was left out." in text
    assert "No structure was left out for length." in text
    assert all(f"{batch:,} – –" in text for batch in BATCH_SIZES)


def test_without_captions_the_error_says_what_to_run(workspace: Workspace, draw: Callable[..., Image]) -> None:
    with pytest.raises(UserError, match="run sono-curate caption first"):
        write_caption_report(workspace)
    write(workspace, FRAMES, [frame(0, "femur", draw(0))])
    write(workspace, CAPTIONS, [])
    with pytest.raises(UserError, match="run sono-curate caption first"):
        write_caption_report(workspace)
    assert not workspace.reports.exists()


def test_the_page_shows_the_repeated_share_of_its_own_captions(
    workspace: Workspace, draw: Callable[..., Image]
) -> None:
    """64 captions of frames: 32 equal, 32 unique. 40 captions of regions: 20 pairs."""
    write(workspace, FRAMES, [frame(number, "femur", draw(1)) for number in range(64)])
    leg = {"plane": ("femur", "header")}
    rows = [caption(n, n, "Leg." if n < 32 else f"Leg {n}.", leg) for n in range(64)]
    rows += [caption(100 + n, n, f"Part {n // 2}.", leg, region_id=f"region-{n}") for n in range(40)]
    write(workspace, CAPTIONS, rows)
    text = section(page_of(workspace), "Repeated captions in a batch")
    pairs = 31 / 39  # a batch of 32 leaves out 8 of the other 39
    assert f"32 50.0 % {100 * pairs:.1f} % 64 50.0 % – 128 – –" in text


def test_repeated_share_of_hand_computed_cases() -> None:
    assert repeated_share({1: 100}, 32) == 0
    assert repeated_share({100: 1}, 2) == pytest.approx(1)
    assert repeated_share({100: 1}, 1) == 0
    # a a b, two drawn: the pairs are aa, ab, ab, and of their six rows two have a twin
    assert repeated_share({2: 1, 1: 1}, 2) == pytest.approx(2 / 6)
    # the whole table is the batch: every row of a group has its twins
    assert repeated_share({3: 2, 1: 4}, 10) == pytest.approx(0.6)
    assert repeated_share({3: 2, 1: 4}, 11) is None
    assert repeated_share({}, 32) is None
    # a pair among a million: its other one is among 31 others
    assert repeated_share({2: 500_000}, 32) == pytest.approx(31 / 999_999, rel=1e-3)


def test_repeated_share_agrees_with_whole_numbers_at_the_size_of_an_archive() -> None:
    groups = {1: 1_000, 2: 400, 7: 90, 500: 20, 4_000: 3}
    rows = sum(size * number for size, number in groups.items())
    for batch in (32, 1_024, 8_192):
        exact = sum(
            size * number * (1 - comb(rows - size, batch - 1) / comb(rows - 1, batch - 1))
            for size, number in groups.items()
        )
        assert repeated_share(groups, batch) == pytest.approx(exact / rows, abs=1e-6)


def test_repeated_share_agrees_with_every_batch_there_is_and_with_drawn_ones() -> None:
    sizes = [4, 2, 2, 1, 1]
    texts = [number for number, size in enumerate(sizes) for _ in range(size)]
    batches = list(itertools.combinations(texts, 4))
    counted = sum(batch.count(text) > 1 for batch in batches for text in batch) / (4 * len(batches))
    assert repeated_share(Counter(sizes), 4) == pytest.approx(counted)

    random = np.random.default_rng(5)
    sizes = [60, 20, 20, *[5] * 20, *[2] * 50, *[1] * 100]
    rows = np.repeat(np.arange(len(sizes)), sizes)
    shares = []
    for _ in range(2_000):
        _, counts = np.unique(random.choice(rows, 64, replace=False), return_counts=True)
        shares.append(counts[counts > 1].sum() / 64)
    assert repeated_share(Counter(sizes), 64) == pytest.approx(np.mean(shares), abs=0.01)


def test_only_the_examples_pixels_are_read(filled: Workspace) -> None:
    """A part of frames without a caption may hold images that cannot be decoded at all."""
    rows = filled.store.read_all(FRAMES).to_pylist()
    broken = [{**rows[0], "frame_id": "f" * 32, "image": {"bytes": b"no image", "path": None}}]
    write(filled, FRAMES, broken, "broken")
    assert "7 frames" in words(page_of(filled))


def test_an_image_that_cannot_be_decoded_is_shown_black(filled: Workspace) -> None:
    rows = [{**row, "image": {"bytes": b"no image", "path": None}} for row in filled.store.read_all(FRAMES).to_pylist()]
    filled.store.write(FRAMES, PartInfo("one", "hand", "f", "s", len(rows)), pa.Table.from_pylist(rows, FRAMES.schema))
    images = re.findall(r"data:image/png;base64,([^\"]+)", page_of(filled))
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(images[0]), np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded is not None
    assert not decoded.any()
