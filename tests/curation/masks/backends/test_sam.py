"""SAM from a checkpoint: what the package's own predictor would answer, and no file that is something else."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from segment_anything import SamPredictor, sam_model_registry

from sono.curation.masks.backends.protocol import Prompts
from sono.curation.masks.backends.sam import SamBackend
from sono.curation.masks.backends.sam_checkpoint import _Shapes
from sono.manifests.errors import UserError

from .conftest import SamFiles

Frame = npt.NDArray[np.uint8]
BOX = (60, 30, 121, 81)

PROMPTS = {
    "a box": Prompts("head", BOX),
    "points": Prompts("head", None, np.array([[120, 70], [5, 5]], np.float32), np.array([1, 0])),
    "a box and a point": Prompts("head", BOX, np.array([[120, 70]], np.float32), np.array([1])),
}


def predict(sam_files: SamFiles, frame: Frame, prompts: Prompts, features: npt.NDArray[np.float16]) -> list[Frame]:
    """All masks of the package's own predictor."""
    predictor = SamPredictor(sam_files.model)
    predictor.set_image(np.repeat(frame[:, :, None], 3, axis=2))
    assert np.abs(predictor.features.numpy() - features).max() < 2e-3  # float16
    predictor.features = torch.from_numpy(features.astype(np.float32))
    box = None if prompts.box is None else np.array([60, 30, 180, 110])
    points = (prompts.points, prompts.labels) if len(prompts.labels) else (None, None)
    several, _, _ = predictor.predict(*points, box=box, multimask_output=True)
    one, _, _ = predictor.predict(*points, box=box, multimask_output=False)
    return [*several, *one]


@pytest.mark.parametrize("given", PROMPTS)
def test_masks_are_those_of_the_packages_own_predictor(sam_files: SamFiles, frame: Frame, given: str) -> None:
    backend = SamBackend(sam_files.checkpoint)
    embedding = backend.embed(frame)
    found = backend.propose(embedding, PROMPTS[given])
    wanted = predict(sam_files, frame, PROMPTS[given], embedding.arrays["features"])
    wanted = [mask for mask in wanted if mask.any()]
    assert len(found) == len(wanted) > 1
    for mask in wanted:
        assert min(np.count_nonzero(each.mask != mask) for each in found) <= 3  # of 33,000, where a logit is 0


def test_candidates_are_ranked_and_their_scores_are_shares(sam_files: SamFiles, frame: Frame) -> None:
    backend = SamBackend(sam_files.checkpoint)
    with torch.no_grad():
        backend._model.mask_decoder.iou_prediction_head.layers[-1].bias += 5  # networks say more than 1, too
    found = backend.propose(backend.embed(frame), PROMPTS["a box"])
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    assert {each.scores["predicted_iou"] for each in found} == {1.0}
    for each in found:
        assert set(each.scores) == {"stability", "fit", "predicted_iou"}
        assert all(0 <= value <= 1 for value in (each.score, *each.scores.values()))


def test_a_previous_mask_changes_the_answer_and_nothing_is_proposed_without_a_place(
    sam_files: SamFiles, frame: Frame
) -> None:
    backend = SamBackend(sam_files.checkpoint)
    embedding = backend.embed(frame)
    mask = np.zeros(frame.shape, bool)
    mask[30:111, 60:181] = True
    with_mask = backend.propose(embedding, Prompts("head", mask=mask))
    with_box = backend.propose(embedding, PROMPTS["a box"])
    assert any(not np.array_equal(a.mask, b.mask) for a, b in zip(with_mask, with_box, strict=False))
    assert backend.propose(embedding, Prompts("head")) == []


@pytest.mark.parametrize("size", ["vit_b", "vit_l", "vit_h"])
def test_the_three_published_sizes_are_told_by_the_shapes_of_their_tensors(size: str) -> None:
    with torch.device("meta"):
        model = sam_model_registry[size]()
    found = _Shapes.of(model.state_dict())
    published = {
        "vit_b": (768, 12, 12, (2, 5, 8, 11)),
        "vit_l": (1024, 24, 16, (5, 11, 17, 23)),
        "vit_h": (1280, 32, 16, (7, 15, 23, 31)),
    }
    width, depth, heads, indexes = published[size]
    assert (found.encoder_embed_dim, found.encoder_depth, found.encoder_num_heads) == (width, depth, heads)
    assert found.encoder_global_attn_indexes == indexes
    assert (found.image_size, found.window_size, found.mlp_ratio, found.mask_in_chans) == (1024, 14, 4, 16)
    assert (found.decoder_depth, found.decoder_mlp_dim, found.attention_downsample_rate) == (2, 2048, 2)
    assert (found.num_multimask_outputs, found.iou_head_depth, found.iou_head_hidden_dim) == (3, 3, 256)


def test_weights_of_a_training_run_are_found(sam_files: SamFiles, frame: Frame, tmp_path: Path) -> None:
    state = torch.load(sam_files.checkpoint, weights_only=True)
    torch.save({"model": {f"module.{name}": value for name, value in state.items()}, "epoch": 3}, tmp_path / "run.pth")
    plain, nested = SamBackend(sam_files.checkpoint), SamBackend(tmp_path / "run.pth")
    assert np.array_equal(plain.embed(frame).arrays["features"], nested.embed(frame).arrays["features"])
    assert plain.model_sha256 != nested.model_sha256


@dataclass(frozen=True)
class Code:
    """What a pickle can do: call anything, here to make a file."""

    path: Path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Path]]:
        return Path.touch, (self.path,)


def bad_files(folder: Path, good: Path) -> dict[str, tuple[Path, str]]:
    state, code = torch.load(good, weights_only=True), Code(folder / "called")

    def saved(name: str, content: object) -> Path:
        torch.save(content, folder / name)
        return folder / name

    (folder / "cut.pth").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    (folder / "empty.pth").write_bytes(b"")
    (folder / "text.pth").write_bytes(b"<html>404</html>")
    (folder / "pickle.pth").write_bytes(pickle.dumps({"image_encoder.pos_embed": code}))
    trunk = {name.replace("image_encoder.", "image_encoder.trunk."): value for name, value in state.items()}
    tiny = {"image_encoder.patch_embed.seq.0.c.weight": torch.zeros(1), **state}
    missing = {name: value for name, value in state.items() if "iou_token" not in name}
    other_shape = {**state, "mask_decoder.iou_token.weight": torch.zeros(1, 48)}
    more = {**state, "adapter.weight": torch.zeros(3)}
    return {
        "truncated": (folder / "cut.pth", "truncated, damaged or of another kind"),
        "empty": (folder / "empty.pth", "truncated, damaged or of another kind"),
        "not a checkpoint": (folder / "text.pth", "truncated, damaged or of another kind"),
        "a pickle with code": (folder / "pickle.pth", "could run code"),
        "a saved object with code": (saved("object.pth", {"a": code}), "could run code"),
        "SAM 2": (saved("sam2.pth", {"model": trunk}), "a checkpoint of SAM 2"),
        "MobileSAM": (saved("mobile.pt", tiny), "a checkpoint of MobileSAM"),
        "a classifier": (saved("vit.pth", {"head.weight": torch.zeros(3, 3)}), "other names or shapes"),
        "a tensor": (saved("tensor.pth", torch.zeros(3)), "holds no tensors by name"),
        "numbers": (saved("numbers.pth", {"image_encoder.pos_embed": 3}), "not everything in it is a tensor"),
        "a missing tensor": (saved("missing.pth", missing), "other names or shapes"),
        "another shape": (saved("shape.pth", other_shape), "has in another shape"),
        "more tensors": (saved("more.pth", more), "it has as well adapter.weight"),
        "no file": (folder / "none.pth", "file not found"),
        "a folder": (folder, "not a file that can be read"),
    }


def test_files_that_are_no_such_checkpoint_are_refused_by_name(sam_files: SamFiles, tmp_path: Path) -> None:
    for name, (path, text) in bad_files(tmp_path, sam_files.checkpoint).items():
        with pytest.raises(UserError) as refused:
            SamBackend(path)
        assert text in str(refused.value), name
        assert str(path) in str(refused.value), name
    assert not (tmp_path / "called").exists()
