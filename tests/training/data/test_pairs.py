from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sono.training import recipes
from sono.training.data.pairs import CaptionBank, Pair, Pairs, read_pairs
from sono.training.data.together import open_together, read_descriptions


def pairs_of(regions: list[list[str]]) -> Pairs:
    """Frames with regions of these structures; every caption its own."""
    structures = tuple(sorted({name for names in regions for name in names}))
    flat = [name for names in regions for name in names]
    bank = CaptionBank([f"{number:04d}" for number in range(len(regions) + len(flat))])
    return Pairs(
        bank=bank,
        structures=structures,
        caption_F=np.arange(len(regions), dtype=np.int32),
        bounds_E=np.cumsum([0, *map(len, regions)]),
        place_R=np.array([place for names in regions for place in range(len(names))], dtype=np.int32),
        caption_R=np.arange(len(regions), len(bank), dtype=np.int32),
        structure_R=np.array([structures.index(name) for name in flat], dtype=np.int32),
    )


def shares(pairs: Pairs, row: int, draws: int = 4000, **settings: Any) -> dict[int | None, float]:
    drawn = (
        pairs.draw(row, recipes.Data(**settings), np.random.default_rng([7, number, row])).region
        for number in range(draws)
    )
    return {region: count / draws for region, count in Counter(drawn).items()}


@pytest.mark.parametrize("sampling", ["uniform", "structure", "inverse_frequency"])
def test_whole_images_are_drawn_at_the_given_rate_whatever_the_regions(sampling: str) -> None:
    pairs = pairs_of([["a", "a", "b"]])
    assert shares(pairs, 0, global_fraction=0.3, region_sampling=sampling)[None] == pytest.approx(0.3, abs=0.03)
    assert None not in shares(pairs, 0, draws=500, global_fraction=0.0, region_sampling=sampling)
    assert shares(pairs, 0, draws=500, global_fraction=1.0, region_sampling=sampling) == {None: 1}


def test_each_sampling_draws_regions_with_its_own_frequencies() -> None:
    pairs = pairs_of([["rib", "rib", "rib", "heart"], ["rib"] * 5 + ["heart"]])  # 8 ribs, 2 hearts
    expected = {
        "uniform": [1 / 4] * 4,
        "structure": [1 / 6, 1 / 6, 1 / 6, 1 / 2],
        "inverse_frequency": [1 / 8 / (7 / 8), 1 / 8 / (7 / 8), 1 / 8 / (7 / 8), 1 / 2 / (7 / 8)],
    }
    for sampling, wanted in expected.items():
        found = shares(pairs, 0, global_fraction=0.0, region_sampling=sampling)
        assert [found[place] for place in range(4)] == pytest.approx(wanted, abs=0.03), sampling


def test_inverse_frequency_counts_over_the_entire_split() -> None:
    """In this frame both structures occur once; elsewhere one of them is common."""
    pairs = pairs_of([["rib", "heart"], ["rib"] * 8])
    found = shares(pairs, 0, global_fraction=0.0, region_sampling="inverse_frequency")
    assert found[1] == pytest.approx(0.9, abs=0.02)
    assert shares(pairs, 0, global_fraction=0.0, region_sampling="structure")[1] == pytest.approx(0.5, abs=0.03)


def test_a_frame_without_regions_makes_whole_image_pairs() -> None:
    pairs = pairs_of([["a"], [], ["b"]])
    assert pairs.draw(1, recipes.Data(global_fraction=0.0), np.random.default_rng(0)) == Pair(1, None, 1, "")
    assert pairs.draw(2, recipes.Data(global_fraction=0.0), np.random.default_rng(0)) == Pair(2, 0, 4, "b")


def test_captions_and_regions_are_read_in_their_places(
    make_rows: Callable[..., Any], write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    rows = make_rows(30, seed=7)
    rows[1]["caption"], rows[7]["caption"] = None, ""
    rows[2]["regions"], rows[3]["regions"] = [], None
    rows[9]["regions"][0]["caption"] = None  # the region after it keeps its place
    rows[11]["regions"] = [{**region, "caption": ""} for region in rows[11]["regions"]]
    rows[12]["regions"][1]["structure"] = None
    folder = write_dataset(tmp_path / "dataset", {"train": rows}, shards=3)
    pairs = read_pairs(open_together(read_descriptions([str(folder)])))
    for row, content in enumerate(rows):
        number = int(pairs.caption_F[row])
        assert (pairs.bank.texts[number] if number >= 0 else "") == (content["caption"] or "")
        found = [
            (
                int(pairs.place_R[place]),
                pairs.bank.texts[pairs.caption_R[place]],
                pairs.structures[pairs.structure_R[place]],
            )
            for place in range(pairs.bounds_E[row], pairs.bounds_E[row + 1])
        ]
        assert found == [
            (place, region["caption"], region["structure"] or "")
            for place, region in enumerate(content["regions"] or ())
            if region["caption"]
        ]
    assert pairs.bank.texts == tuple(sorted(pairs.bank.texts))
    for number, caption in enumerate(pairs.bank.texts):
        row = pairs.row_of_caption(number)
        assert caption in [rows[row]["caption"], *(region["caption"] for region in rows[row]["regions"] or ())]
