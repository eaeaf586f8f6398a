"""What is refused before several datasets are trained on together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from sono.manifests.errors import UserError
from sono.training.data.joined import JoinedFrames
from sono.training.data.patients import Overlap, patients_of
from sono.training.data.pool import Pool, make_pool
from sono.training.data.together import are_comparable, open_together, read_descriptions
from sono.training.model.tokenizer import CaptionTokenizer

Make = Callable[..., Path]


@pytest.fixture
def make(make_rows: Callable, write_dataset: Callable, tmp_path: Path) -> Make:
    """Writes a dataset of one patient a frame: numbers by split, with keys of its own unless ``prefix`` is shared."""

    def write(name: str, splits: dict[str, range], *, prefix: str | None = None, **options: Any) -> Path:
        made: dict[str, Any] = {}
        for split, numbers in splits.items():
            made[split] = make_rows(len(numbers), seed=crc32(f"{name} {split}".encode()))
            for number, row in zip(numbers, made[split], strict=True):
                for column in ("patient_key", "study_key", "frame_id"):
                    row[column] = f"{prefix or name}-{number:03}"
        return write_dataset(tmp_path / name, made, shards=1, **{"pseudonyms": name, **options})

    return write


def together(*folders: Path) -> JoinedFrames:
    return open_together(read_descriptions([str(folder) for folder in folders]))


def pool_of(*folders: Path) -> Pool:
    return make_pool(together(*folders), CaptionTokenizer(77))


def test_rows_of_all_are_numbered_in_an_order_that_does_not_depend_on_how_they_are_given(make: Make) -> None:
    north, south = make("north", {"train": range(5)}), make("south", {"train": range(3)})
    one, other = together(north, south), together(south, north)
    ids = one.column("frame_id").to_pylist()
    assert ids == other.column("frame_id").to_pylist()
    assert sorted(ids) == [
        *(f"north-{number:03}" for number in range(5)),
        *(f"south-{number:03}" for number in range(3)),
    ]
    for row, frame_id in enumerate(ids):
        part, place = one.place(row)
        assert one.parts[part].row(place)["frame_id"] == frame_id


def test_the_same_dataset_twice_is_refused(make: Make) -> None:
    north = make("north", {"train": range(4)})
    with pytest.raises(UserError, match=r"the same dataset as .*; give every dataset once"):
        read_descriptions([str(north), f"{north}/"])


def test_another_vocabulary_is_refused_with_the_entries_and_datasets(
    make: Make, describe_again: Callable[..., None], tmp_path: Path
) -> None:
    north, south = make("north", {"train": range(4)}), make("south", {"train": range(4)})

    def refusal(**vocabulary: dict[str, str]) -> str:
        describe_again(south, lambda content: content.update(vocabulary))
        with pytest.raises(UserError) as raised:
            read_descriptions([str(north), str(south)])
        assert str(raised.value).endswith("or train on one of them")
        return str(raised.value).replace(f"{tmp_path}/", "")

    planes = {"transthalamic": "brain", "four_chamber": "four-chamber", "spine": "spine"}
    found = refusal(planes=planes)
    assert "the plane 'transthalamic' is called " in found
    assert {"'brain'", "'transthalamic'"} <= {word.strip(";") for word in found.split()}
    assert "only north has the plane 'abdominal_circumference'" in found
    assert "; and 1 more" in found
    planes = {"transthalamic": "transthalamic", "four_chamber": "four-chamber",
              "abdominal_circumference": "abdominal circumference", "femur": "femur"}  # fmt: skip
    assert "north does not list its structures" in refusal(planes=planes, structures={"spine": "spine"})
    describe_again(north, lambda content: content.update(structures={"spine": "spine", "stomach": "stomach"}))
    assert ": only north has the structure 'stomach'; " in refusal()
    describe_again(south, lambda content: content.update(structures={"stomach": "stomach", "spine": "spine"}))
    assert len(read_descriptions([str(north), str(south)])) == 2


def test_planes_in_another_order_are_refused(make: Make) -> None:
    """Their labels would mean other planes."""
    names = {"femur": "femur", "transthalamic": "transthalamic", "four_chamber": "four-chamber",
             "abdominal_circumference": "abdominal circumference"}  # fmt: skip
    north, south = make("north", {"train": range(4)}), make("south", {"train": range(4)}, planes=names)
    with pytest.raises(UserError, match="the planes are not listed in the same order"):
        together(north, south)


def test_patients_studies_and_frames_of_both_are_refused_with_their_numbers(make: Make, tmp_path: Path) -> None:
    keys = {"prefix": "workspace", "pseudonyms": "workspace"}
    north = make("north", {"train": range(10), "test": range(10, 16)}, **keys)
    south = make("south", {"train": range(7, 13), "test": range(14, 20)}, **keys)
    with pytest.raises(UserError) as raised:
        together(north, south)
    message = str(raised.value).replace(f"{tmp_path}/", "")
    assert "share 8 patients, 8 studies, 8 frames, and 3 of the patients are in different splits; " in message
    assert "workspace-0" not in message
    east = make("east", {"train": range(20, 24), "test": range(9, 10)}, **keys)
    with pytest.raises(UserError, match="share 1 patients, 1 studies, 1 frames, and 1 of the patients are in"):
        together(north, east)
    assert len(together(north, make("west", {"train": range(30, 34)}, **keys))) == 14


def test_a_frame_of_both_is_refused_even_if_it_has_no_patient_and_keys_should_differ(
    make: Make, make_rows: Callable, write_dataset: Callable, tmp_path: Path
) -> None:
    rows = [{**row, "patient_key": None, "study_key": None} for row in make_rows(3, seed=1)]
    one = write_dataset(tmp_path / "one", {"train": rows}, shards=1, pseudonyms="one")
    other = write_dataset(tmp_path / "other", {"train": [*make_rows(4, seed=2), rows[1]]}, shards=1, pseudonyms="other")
    with pytest.raises(UserError, match="share 1 frames; train on one of them"):
        together(one, other)


def test_a_picture_of_both_is_refused_whatever_the_keys_say(
    make_rows: Callable, write_dataset: Callable, tmp_path: Path
) -> None:
    """Two datasets of one workspace, built under two names."""
    keys = ("patient_key", "study_key", "frame_id")
    rows = make_rows(300, seed=71)
    renamed = [{**row, **{key: f"other-{row[key]}" for key in keys}} for row in rows[297:]]
    one = write_dataset(tmp_path / "one", {"train": rows}, pseudonyms="one")
    other = write_dataset(
        tmp_path / "other", {"train": [*make_rows(60, seed=72, patients="other"), *renamed]}, pseudonyms="other"
    )
    with pytest.raises(UserError, match=r"share at least 3 pictures under different keys, so the same patients; train"):
        together(one, other)
    apart = write_dataset(tmp_path / "apart", {"train": make_rows(60, seed=72, patients="apart")}, pseudonyms="apart")
    assert len(together(one, apart)) == 360


def test_patients_under_different_keys_cannot_be_compared(make: Make) -> None:
    north, south = make("north", {"train": range(4)}), make("south", {"train": range(4)})
    assert not are_comparable(read_descriptions([str(north), str(south)]))
    assert are_comparable(read_descriptions([str(north)]))


def test_patients_of_every_dataset_count_as_trained_on(make: Make) -> None:
    keys = {"prefix": "workspace", "pseudonyms": "workspace"}
    north, south = make("north", {"train": range(4)}, **keys), make("south", {"train": range(4, 10)}, **keys)
    trained = patients_of(pool_of(north, south))
    assert sorted(len(each.digests) for each in trained.sets) == [4, 6]
    (third,) = together(make("third", {"train": range(3, 12)}, **keys)).parts
    assert trained.overlap(third) == Overlap(7, 9, ())
    foreign = patients_of(pool_of(north, make("east", {"train": range(20, 23)})))
    assert foreign.overlap(third) == Overlap(1, 9, ("pseudonyms of patients under another key cannot be compared",))
    assert (trained.has_several_keys, foreign.has_several_keys) == (False, True)


def test_a_dataset_without_captions_is_named(
    make: Make, make_rows: Callable, write_dataset: Callable, tmp_path: Path
) -> None:
    rows = [{**row, "caption": None} for row in make_rows(3, seed=2)]
    bare = write_dataset(tmp_path / "bare", {"train": rows}, pseudonyms="bare")
    with pytest.raises(UserError, match="bare: no frame of the train split has a caption"):
        pool_of(make("north", {"train": range(4)}), bare)


def test_counts_and_captions_of_all_are_those_of_each(
    make: Make, make_rows: Callable, write_dataset: Callable, tmp_path: Path
) -> None:
    rows = make_rows(6, seed=2)
    rows[0]["caption"], rows[1]["regions"] = None, []
    south = write_dataset(tmp_path / "south", {"train": rows}, pseudonyms="south")
    north = make("north", {"train": range(4)})
    both = pool_of(north, south)
    counts = {
        frames.description.identity["name"]: (
            both.mixture.sizes[number], both.without_caption(number), both.without_regions(number),
            both.usable_of(number).tolist(),
        )
        for number, frames in enumerate(both.frames.parts)
    }  # fmt: skip
    assert counts == {"north": (4, 0, 0, [0, 1, 2, 3]), "south": (5, 1, 1, [1, 2, 3, 4, 5])}
    assert set(both.bank.texts) == {*pool_of(north).bank.texts, *pool_of(south).bank.texts}
    alone = [pool_of(folder).captions_read.to_dict()["planes"] for folder in (north, south)]
    assert both.captions_read.to_dict()["planes"] == {
        plane: sum(counted.get(plane, 0) for counted in alone) for plane in {**alone[0], **alone[1]}
    }
