from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sono.manifests.errors import UserError
from sono.training.data.dataset import Frames, open_split, read_description
from sono.training.data.joined import JoinedFrames
from sono.training.data.patients import FILE, Overlap, PatientDigests, TrainedPatients, patients_of
from sono.training.data.pool import make_pool
from sono.training.model.tokenizer import CaptionTokenizer

OTHER_KEY = "pseudonyms of patients under another key cannot be compared"


@pytest.fixture(scope="module")
def frames_of(
    make_rows: Callable, write_dataset: Callable, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Frames]:
    """The train split of a dataset with the patients ``first`` to ``last``, one a frame."""

    def make(first: int, last: int, *, pseudonyms: str = "key", captionless: int | None = None) -> Frames:
        rows = make_rows(last - first, seed=31)
        for number, row in zip(range(first, last), rows, strict=True):
            row["patient_key"] = f"{number:032x}"
            if number == captionless:
                row["caption"] = None
        folder = write_dataset(tmp_path_factory.mktemp("dataset") / "d", {"train": rows}, pseudonyms=pseudonyms)
        return open_split(read_description(str(folder)), "train")

    return make


def trained_on(frames: Frames) -> TrainedPatients:
    return patients_of(make_pool(JoinedFrames((frames,)), CaptionTokenizer(77)))


def test_patients_that_were_trained_on_are_counted(frames_of: Callable[..., Frames]) -> None:
    trained = trained_on(frames_of(0, 12))
    assert trained.overlap(frames_of(0, 12)) == Overlap(12, 12, ())
    assert trained.overlap(frames_of(8, 18)) == Overlap(4, 10, ())
    assert trained.overlap(frames_of(12, 20)) == Overlap(0, 8, ())


def test_a_patient_without_a_caption_was_not_trained_on(frames_of: Callable[..., Frames]) -> None:
    trained = trained_on(frames_of(0, 4, captionless=2))
    assert trained.overlap(frames_of(0, 4)) == Overlap(3, 4, ())


def test_digests_name_nobody_and_are_equal_only_for_equal_patients(frames_of: Callable[..., Frames]) -> None:
    one, same, other = (trained_on(frames_of(first, 8)) for first in (0, 0, 1))
    assert one == same
    assert not set(one.sets[0].digests) & set(other.sets[0].digests)  # of two models they cannot be compared
    text = json.dumps(one.to_json())
    assert not any(f"{number:032x}" in text for number in range(8))
    assert TrainedPatients.from_meta({"trained_patients": json.loads(text)}) == one


def test_what_is_not_known_is_said_and_is_not_zero(frames_of: Callable[..., Frames]) -> None:
    frames, trained = frames_of(0, 4), trained_on(frames_of(0, 4, pseudonyms="another key"))
    assert trained.overlap(frames) == Overlap(None, 4, (OTHER_KEY,))
    older = TrainedPatients.from_meta({"step": 5})
    assert older.overlap(frames) == Overlap(
        None, 4, ("the checkpoint does not record the patients that it was trained on",)
    )
    foreign = TrainedPatients.of_weights(None).joined(trained_on(frames_of(0, 2)))
    assert foreign.overlap(frames) == Overlap(2, 4, ("the weights that training started from do not record theirs",))
    assert TrainedPatients().overlap(frames) == Overlap(0, 4, ())


def test_patients_of_several_trainings_are_counted_once(frames_of: Callable[..., Frames]) -> None:
    trained = trained_on(frames_of(0, 4)).joined(trained_on(frames_of(2, 6)))
    assert len(trained.sets) == 2
    assert trained.joined(trained_on(frames_of(0, 4))) == trained  # as after a resume
    assert trained.overlap(frames_of(0, 8)) == Overlap(6, 8, ())


def test_a_damaged_file_beside_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"sets": [{}], "not_known": []}')
    with pytest.raises(UserError, match=rf"{FILE}: cannot be read; export the model again"):
        TrainedPatients.of_weights(tmp_path / FILE)


def test_a_digest_has_64_bits() -> None:
    (digest,) = PatientDigests.of(["0" * 32], "key").digests
    assert len(bytes.fromhex(digest)) == 8
