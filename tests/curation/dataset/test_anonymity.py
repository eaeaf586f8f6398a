"""What a dataset says of patients: how much is coarsened, and when too few share it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sono.captioning.captions.run import caption_workspace
from sono.curation.dataset.store import MARKER
from sono.manifests.errors import UserError
from sono.manifests.splits import SplitPlan
from sono.manifests.stages import in_process

from .curated import Curation, rows_of


def two_scanners(curation: Curation) -> None:
    curation.describe(lambda file: "North" if file.startswith("P1") else "South")
    curation.run()


def test_center_scanner_and_age_are_published_as_asked(curation: Curation, tmp_path: Path) -> None:
    two_scanners(curation)
    curation.publish(center="key")
    curation.build(tmp_path / "one", name="one")
    curation.build(tmp_path / "two", name="two")
    one = {row["center"] for row in rows_of(tmp_path / "one")}
    assert len(one) == 2
    assert all(re.fullmatch("center-[0-9a-f]{8}", center) for center in one)
    assert not one & {row["center"] for row in rows_of(tmp_path / "two")}
    curation.build(tmp_path / "linkable", linkable=True)
    assert not one & {row["center"] for row in rows_of(tmp_path / "linkable")}
    curation.publish(center="drop", scanner="drop", ga_days="weeks")
    curation.build(tmp_path / "one", SplitPlan(0, 0, holdout_center="North"), name="one")
    rows = rows_of(tmp_path / "one")
    assert {(row["center"], row["manufacturer"], row["model"]) for row in rows} == {(None, None, None)}
    assert all(row["ga_days"] % 7 == 0 for row in rows)
    assert b"North" not in b"".join(path.read_bytes() for path in (tmp_path / "one").rglob("*") if path.is_file())


def test_too_few_patients_of_a_combination_are_refused_with_counts_and_without_keys(
    curation: Curation, tmp_path: Path
) -> None:
    two_scanners(curation)
    curation.publish(k_anonymity=2)
    with pytest.raises(UserError) as refused:
        curation.build(tmp_path / "out")
    assert "4 of 4 combinations of center, scanner and age have fewer than 2 patients" in str(refused.value)
    assert "center North, ga_days 140: 1" in str(refused.value)
    assert not re.search("[0-9a-f]{32}", str(refused.value))
    assert not (tmp_path / "out").exists()
    curation.records.write_text(
        "patient_id,ga_days\n" + "".join(f"P{number},{140 + number}\n" for number in range(1, 5))
    )
    curation.run()
    curation.publish(k_anonymity=4, ga_days="weeks", center="drop")
    assert sum(curation.build(tmp_path / "out").splits.values()) == 12
    curation.publish(k_anonymity=3, ga_days="weeks")
    with pytest.raises(UserError, match=r"1 of 2 combinations .* center North, ga_days 140: 1"):
        curation.build(tmp_path / "other")


@pytest.mark.parametrize(
    ("said", "stating"),
    [
        ("at {{ ga_days }} days", 18),
        ("at {{ ga }} weeks, {{ ga_days | round(1) }} days", 18),
        ("at {{ ga }} weeks, head circumference {{ hc_mm }} mm", 0),  # as many millimetres as days
    ],
)
def test_captions_do_not_name_the_day_of_an_age_that_is_published_in_weeks(
    curation: Curation, tmp_path: Path, said: str, stating: int
) -> None:
    for kind, about in (("global", "{{ plane }} plane"), ("region", "{{ structure }}")):
        (tmp_path / "pack" / kind).mkdir(parents=True)
        (tmp_path / "pack" / kind / "own.jinja").write_text(f"{about} {said}.")
    (tmp_path / "pack" / "pack.toml").write_text('language = "en"\n')
    lines = [f"P{number},{154 + number},{154 + number}" for number in range(1, 5)]
    curation.records.write_text("\n".join(["patient_id,ga_days,hc_mm", *lines]))
    caption_workspace(curation.workspace, [curation.records], templates=str(tmp_path / "pack"), engine=in_process)
    curation.publish(ga_days="weeks")
    if stating:
        with pytest.raises(UserError, match=f"^publish.ga_days: {stating} captions name an age in days"):
            curation.build(tmp_path / "out")
        assert not (tmp_path / "out").exists()
        curation.publish(ga_days="exact")
    assert sum(curation.build(tmp_path / "out").splits.values()) == 12


def test_the_card_counts_patients_by_combination(curation: Curation, tmp_path: Path) -> None:
    two_scanners(curation)
    curation.records.write_text("patient_id,ga_days\nP1,140\nP2,140\nP3,140\nP4,140\n")
    curation.run()
    curation.build(tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| 1 | 1 |\n| 2 to 4 | 1 |" in card
    assert "| North |  |  | 140 | 1 |\n| South |  |  | 140 | 3 |" in card


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("licence", "CC BY 4.0", "'CC BY 4.0' is no SPDX identifier; did you mean 'CC-BY-4.0'"),
        ("licence", "free", "name one such as CC-BY-4.0"),
        ("ga_days", "months", "publish.ga_days: Input should be 'exact' or 'weeks'"),
        ("k_anonymity", -1, "publish.k_anonymity"),
        ("contact", "a\nb", "publish.contact"),
        ("license", "MIT", "publish.license: unknown key.*licence"),
    ],
)
def test_a_wrong_value_is_named_before_anything_is_written(
    curation: Curation, tmp_path: Path, key: str, value: str | int, said: str
) -> None:
    curation.publish(**{key: value})
    with pytest.raises(UserError, match=said):
        curation.build(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_changed_section_makes_the_dataset_stale(curation: Curation, tmp_path: Path) -> None:
    from sono.curation.dataset.latest import latest_dataset

    curation.build(tmp_path / "out")
    curation.publish(licence="CC-BY-4.0")
    latest = latest_dataset(curation.workspace)
    assert latest is not None
    assert not latest.up_to_date
    before = json.loads((tmp_path / "out" / MARKER).read_bytes())["fingerprint"]
    assert curation.build(tmp_path / "out").shards_written == 0
    assert json.loads((tmp_path / "out" / MARKER).read_bytes())["fingerprint"] == before
    assert "license: cc-by-4.0" in (tmp_path / "out" / "README.md").read_text()
