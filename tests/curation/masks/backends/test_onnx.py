"""Exported models: the masks of the model they were exported from, in every layout, and nothing that is unknown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import nn

from sono.curation.masks.backends.files import _weights_beside
from sono.curation.masks.backends.onnx import OnnxBackend, OnnxFiles
from sono.curation.masks.backends.protocol import Backend, Prompts
from sono.curation.masks.backends.sam import SamBackend
from sono.manifests.errors import UserError
from sono.manifests.masks import Mask
from tests.curation.masks.small_sam import SIDE, decoder_inputs, export

from .conftest import Layouts, SamFiles
from .layouts import GRID, EdgeDecoder, EfficientDecoder, EfficientEncoder, StretchedDecoder, StretchedEncoder

Frame = npt.NDArray[np.uint8]
BOX = (60, 30, 121, 81)
PROMPTS = {
    "a box": Prompts("head", BOX),
    "points": Prompts("head", None, np.array([[120, 70], [5, 5]], np.float32), np.array([1, 0])),
    "a box and a mask": Prompts("head", BOX, mask=np.pad(np.ones((81, 121), bool), ((30, 39), (60, 39)))),
}


def masks_of(backend: Backend, frame: Frame, prompts: Prompts) -> list[Mask]:
    return [each.mask for each in backend.propose(backend.embed(frame), prompts)]


def assert_same(found: list[Mask], wanted: list[Mask], pixels: int = 12) -> None:
    """Up to pixels where a logit is 0: two libraries add in another order, and features are float16."""
    assert len(found) == len(wanted) > 0
    for mask in found:
        assert min(np.count_nonzero(mask != each) for each in wanted) <= pixels


@pytest.mark.parametrize("given", PROMPTS)
@pytest.mark.parametrize("turned", [False, True])
def test_an_export_gives_the_masks_of_the_checkpoint(
    sam_files: SamFiles, frame: Frame, given: str, turned: bool
) -> None:
    """Turned, too: the package's exporter freezes the shape of the frame that it was exported with."""
    if turned:
        frame = np.ascontiguousarray(frame.T)
    prompts = PROMPTS[given]
    if turned and prompts.mask is not None:
        prompts = Prompts("head", BOX, mask=np.ascontiguousarray(prompts.mask.T))
    onnx = OnnxBackend(OnnxFiles(sam_files.encoder, sam_files.decoder))
    assert_same(masks_of(onnx, frame, prompts), masks_of(SamBackend(sam_files.checkpoint), frame, prompts))


def test_a_decoder_with_one_mask_gives_one_of_them(sam_files: SamFiles, frame: Frame) -> None:
    single = OnnxBackend(OnnxFiles(sam_files.encoder, sam_files.single))
    several = masks_of(SamBackend(sam_files.checkpoint), frame, PROMPTS["a box"])
    (found,) = masks_of(single, frame, PROMPTS["a box"])
    assert min(np.count_nonzero(found != each) for each in several) <= 12


@pytest.mark.parametrize("layout", ["EdgeSAM", "samexporter"])
@pytest.mark.parametrize("given", ["a box", "points"])
def test_layouts_that_scale_like_sam(
    sam_files: SamFiles, layouts: Layouts, frame: Frame, layout: str, given: str
) -> None:
    wanted = masks_of(SamBackend(sam_files.checkpoint), frame, PROMPTS[given])
    assert_same(masks_of(OnnxBackend(layouts[layout]), frame, PROMPTS[given]), wanted)


@pytest.mark.parametrize("given", ["a box", "points"])
def test_sam_2_sees_the_frame_stretched(sam_files: SamFiles, layouts: Layouts, frame: Frame, given: str) -> None:
    image = Image.fromarray(np.repeat(frame[:, :, None], 3, axis=2)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    values = torch.from_numpy(np.asarray(image, np.float32) / 255).permute(2, 0, 1)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    coords, labels = corners_and_points(PROMPTS[given])
    scaled = coords * torch.tensor([SIDE / frame.shape[1], SIDE / frame.shape[0]])
    with torch.no_grad():
        features = StretchedEncoder(sam_files.model)(((values - mean.view(3, 1, 1)) / std.view(3, 1, 1))[None])
        first, second, embed = (each.half().float() for each in features)
        none = torch.zeros(1, 1, 4 * GRID, 4 * GRID), torch.zeros(1)
        masks, _ = StretchedDecoder(sam_files.model)(embed, first, second, scaled, labels, *none)
        wanted = nn.functional.interpolate(masks, frame.shape, mode="bilinear")[0].numpy() > 0
    assert_same(masks_of(OnnxBackend(layouts["SAM 2"]), frame, PROMPTS[given]), [*wanted])


@pytest.mark.parametrize("given", ["a box", "points"])
def test_efficient_sam_scales_everything_itself(
    sam_files: SamFiles, layouts: Layouts, frame: Frame, given: str
) -> None:
    values = torch.from_numpy(np.repeat(frame[None], 3, axis=0).astype(np.float32) / 255)
    coords, labels = corners_and_points(PROMPTS[given])
    with torch.no_grad():
        embed = EfficientEncoder(sam_files.model)(values[None]).half().float()
        decoder, size = EfficientDecoder(sam_files.model), torch.tensor(frame.shape)
        wanted = decoder(embed, coords[None], labels[None], size)[0][0, 0].numpy() > 0
    assert_same(masks_of(OnnxBackend(layouts["EfficientSAM"]), frame, PROMPTS[given]), [*wanted])


def corners_and_points(prompts: Prompts) -> tuple[torch.Tensor, torch.Tensor]:
    """As points with labels, shape [1, n, 2] and [1, n]."""
    if prompts.box is None:
        return torch.from_numpy(prompts.points)[None], torch.from_numpy(prompts.labels).float()[None]
    return torch.tensor([[[60.0, 30.0], [180.0, 110.0]]]), torch.tensor([[2.0, 3.0]])


def bad_files(files: SamFiles, layouts: Layouts, folder: Path) -> dict[str, tuple[OnnxFiles, str]]:
    (folder / "cut.onnx").write_bytes(files.encoder.read_bytes()[:5000])
    (folder / "text.onnx").write_bytes(b"<html>404</html>")
    classifier = export(nn.Linear(4, 2), {"features": torch.rand(1, 4)}, ["logits"], folder / "classifier.onnx")
    resnet = export(nn.Conv2d(3, 4, 3), {"pixel_values": torch.rand(1, 3, 64, 64)}, ["last"], folder / "hf.onnx")
    rows = export(nn.Conv2d(3, 4, (3, 3)), {"image": torch.rand(1, 3, 64, 48)}, ["last"], folder / "rows.onnx")
    other = export(nn.Conv2d(3, 4, 16, 16), {"image": torch.rand(1, 3, 64, 64)}, ["last"], folder / "small.onnx")
    edge, sam2 = layouts["EdgeSAM"], layouts["SAM 2"]
    return {
        "truncated": (OnnxFiles(folder / "cut.onnx", files.decoder), "cut.onnx: cannot be read as an ONNX model"),
        "not ONNX": (OnnxFiles(files.encoder, folder / "text.onnx"), "text.onnx: cannot be read as an ONNX model"),
        "a checkpoint": (OnnxFiles(files.checkpoint, files.decoder), "sam.pth: cannot be read as an ONNX model"),
        "missing": (OnnxFiles(folder / "none.onnx", files.decoder), "none.onnx: file not found"),
        "another model": (OnnxFiles(classifier, files.decoder), "known layout of an encoder: inputs features [1, 4]"),
        "another input": (OnnxFiles(resnet, files.decoder), "inputs pixel_values [1, 3, 64, 64]; outputs last"),
        "not square": (OnnxFiles(rows, files.decoder), "inputs image [1, 3, 64, 48]"),
        "exchanged": (OnnxFiles(files.decoder, files.encoder), "is --checkpoint the encoder and --decoder"),
        "two encoders": (OnnxFiles(files.encoder, files.encoder), "not a known layout of a decoder: inputs image"),
        "two sizes": (OnnxFiles(other, files.decoder), "takes embeddings of 8 x 8, the encoder gives 4 x 4"),
        "two families": (OnnxFiles(edge.encoder, sam2.decoder), "decoder is one of sam2, and the encoder one of sam"),
        "two families, turned": (OnnxFiles(sam2.encoder, edge.decoder), "this decoder is one of edgesam"),
    }  # fmt: skip


def test_files_that_are_no_such_models_are_refused_by_name(
    sam_files: SamFiles, layouts: Layouts, tmp_path: Path
) -> None:
    for name, (files, text) in bad_files(sam_files, layouts, tmp_path).items():
        with pytest.raises(UserError) as refused:
            OnnxBackend(files)
        assert text in str(refused.value), (name, str(refused.value))


def test_preprocessing_is_refused_where_the_layout_says_it(sam_files: SamFiles, layouts: Layouts) -> None:
    with pytest.raises(UserError, match="prepares its images as sam2, not as medsam"):
        OnnxBackend(layouts["SAM 2"], "medsam")
    with pytest.raises(UserError, match="not one of sam, medsam, litemedsam"):
        OnnxBackend(OnnxFiles(sam_files.encoder, sam_files.decoder), "sam2")


def test_medsam_sees_the_frame_stretched_and_in_its_own_range(sam_files: SamFiles, frame: Frame) -> None:
    files = OnnxFiles(sam_files.encoder, sam_files.decoder)
    onnx, sam = OnnxBackend(files, "medsam"), SamBackend(sam_files.checkpoint, "medsam")
    assert onnx.embedding_id != OnnxBackend(files).embedding_id
    found, wanted = onnx.embed(frame), sam.embed(frame)
    assert np.abs(found.arrays["image_embeddings"] - wanted.arrays["features"]).max() < 5e-3
    darker = onnx.embed((frame // 2) * 1).arrays["image_embeddings"]
    assert np.abs(darker - found.arrays["image_embeddings"]).max() < 0.2  # only rounded otherwise
    assert_same(masks_of(onnx, frame, PROMPTS["a box"]), masks_of(sam, frame, PROMPTS["a box"]))


def test_weights_beside_a_file_count_for_its_digest(sam_files: SamFiles, tmp_path: Path) -> None:
    entry = b"\x0a\x08location\x12\x0bweights.bin"
    (tmp_path / "model.onnx").write_bytes(b"..." + entry + b"...")
    assert _weights_beside(tmp_path / "model.onnx") == []
    (tmp_path / "weights.bin").write_bytes(b"1")
    assert _weights_beside(tmp_path / "model.onnx") == [tmp_path / "weights.bin"]


def test_a_decoder_with_few_points_says_so(sam_files: SamFiles, frame: Frame, tmp_path: Path) -> None:
    given = decoder_inputs()
    inputs = {"image_embeddings": given["image_embeddings"], "point_coords": given["point_coords"][:, :2],
              "point_labels": given["point_labels"][:, :2]}  # fmt: skip
    fixed = {"point_coords": {0: "batch"}, "point_labels": {0: "batch"}}
    decoder = export(EdgeDecoder(sam_files.model), inputs, ["scores", "masks"], tmp_path / "two.onnx", fixed)
    backend = OnnxBackend(OnnxFiles(sam_files.encoder, decoder))
    embedding = backend.embed(frame)
    assert len(backend.propose(embedding, PROMPTS["a box"])) > 0
    with pytest.raises(UserError, match=r"takes 2 points, and there are 3 \(a box is two\)"):
        backend.propose(embedding, Prompts("head", BOX, np.array([[99, 70]], np.float32), np.array([1])))
