from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch

from sono.manifests.errors import UserError
from sono.training import recipes
from sono.training.captions import CaptionTokenizer
from sono.training.losses import sigmoid_loss
from sono.training.model import BACKBONES, MaskClip, build_model, center_features, restore_model
from sono.training.optimizer import build_optimizer

SMALL = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 48, "patch_size": 16, "layers": 2, "width": 64, "head_width": 32},
    "text_cfg": {"context_length": 16, "vocab_size": 100, "layers": 1, "width": 32, "heads": 2},
}


@pytest.fixture
def clip() -> open_clip.CLIP:
    torch.manual_seed(3)
    return open_clip.CLIP(**SMALL, init_logit_bias=-10.0)


def test_at_the_start_the_model_equals_its_clip_exactly_for_any_mask(clip: open_clip.CLIP) -> None:
    image = torch.randn(4, 3, 48, 48)
    before = clip.encode_image(image, normalize=True)
    model = MaskClip(clip)
    for mask in (torch.zeros(4, 1, 48, 48), torch.ones(4, 1, 48, 48), 100 * torch.randn(4, 1, 48, 48)):
        assert torch.equal(model.encode_image(torch.cat([image, mask], dim=1)), before)


def test_after_one_step_the_mask_changes_the_features(clip: open_clip.CLIP) -> None:
    model = MaskClip(clip)
    image, mask = torch.randn(4, 3, 48, 48), (torch.rand(4, 1, 48, 48) > 0.5).float()
    tokens, ids = torch.randint(1, 100, (4, 16)), torch.arange(4)
    optimizer = build_optimizer(clip, recipes.tiny().optimizer)
    image_features, text_features = model(torch.cat([image, mask], dim=1), tokens)
    sigmoid_loss(image_features, text_features, ids, ids, clip.logit_scale, clip.logit_bias).backward()
    optimizer.step()
    seen = [model.encode_image(torch.cat([image, part], dim=1)) for part in (mask, torch.zeros_like(mask))]
    assert not torch.allclose(*seen, atol=1e-4)


def test_the_stem_mixes_neighbouring_patches_once_its_depthwise_convolution_is_trained(clip: open_clip.CLIP) -> None:
    stem = MaskClip(clip).clip.visual.conv1
    x = torch.randn(1, 4, 48, 48)
    patches = stem(x)
    with torch.no_grad():
        stem.dwconv.weight[:, 0, 0, 1] = 1.0  # adds the patch above
    assert torch.allclose(stem(x)[:, :, 1:], patches[:, :, 1:] + patches[:, :, :-1], atol=1e-5)


def test_temperature_and_bias_start_where_the_recipe_says() -> None:
    clip = build_model(recipes.tiny().model, recipes.Loss(temperature=10.0, bias=-7.0)).clip
    assert clip.logit_scale.exp().item() == pytest.approx(10.0)
    assert clip.logit_bias.item() == -7.0


def test_the_paper_s_recipe_refuses_to_start_without_weights() -> None:
    recipe = recipes.vit_l_14_336()
    with pytest.raises(UserError, match="starts from pretrained weights and none are given"):
        build_model(recipe.model, recipe.loss)


def test_weights_of_a_file_are_in_the_model(tmp_path: Path) -> None:
    torch.manual_seed(5)
    saved = open_clip.CLIP(**BACKBONES["sono-tiny"])
    torch.save(saved.state_dict(), tmp_path / "weights.pt")
    model = build_model(recipes.Model(backbone="sono-tiny", weights=str(tmp_path / "weights.pt")), recipes.Loss())
    image = torch.randn(2, 3, 64, 64)
    x = torch.cat([image, torch.ones(2, 1, 64, 64)], dim=1)
    assert torch.equal(model.encode_image(x), saved.encode_image(image, normalize=True))
    assert torch.equal(model.clip.token_embedding.weight, saved.token_embedding.weight)


@pytest.mark.parametrize(
    ("backbone", "weights", "message"),
    [
        ("ViT-B-32", "missing.pt", "neither a file nor a tag"),
        ("ViT-B-32", "openai", "another activation than ViT-B-32; use --set model.backbone=ViT-B-32-quickgelu"),
        ("ViT-B-32-quickgelu", "openai", "cannot be downloaded"),
        ("ViT-B-33", "openai", "open_clip knows no 'ViT-B-33'"),
        ("RN50", "openai", "no plain CLIP with a ViT"),
        ("ViT-B-16-SigLIP", "webli", "no plain CLIP with a ViT"),
    ],
)
def test_weights_that_cannot_be_had_are_one_clear_line(backbone: str, weights: str, message: str) -> None:
    with pytest.raises(UserError) as raised:
        build_model(recipes.Model(backbone=backbone, weights=weights), recipes.Loss())
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", ["another model", "no state dict", "no torch file"])
def test_a_file_that_is_not_this_backbone_s_weights_is_refused(content: str, tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    if content == "another model":
        torch.save(open_clip.CLIP(**SMALL).state_dict(), file)
    elif content == "no state dict":
        torch.save({"step": 3}, file)
    else:
        file.write_bytes(b"weights")
    with pytest.raises(UserError, match="not weights of sono-tiny") as raised:
        build_model(recipes.Model(backbone="sono-tiny", weights=str(file)), recipes.Loss())
    assert "\n" not in str(raised.value)


def test_a_checkpoint_of_another_backbone_is_refused() -> None:
    state = MaskClip(open_clip.CLIP(**SMALL, init_logit_bias=0.0)).clip.state_dict()
    with pytest.raises(UserError, match="does not fit sono-tiny"):
        restore_model("sono-tiny", state)


def test_centred_features_differ_where_random_weights_made_them_all_alike() -> None:
    torch.manual_seed(0)
    model = build_model(recipes.tiny().model, recipes.Loss())
    captions = [f"A {weeks}-week fetal ultrasound femur plane." for weeks in range(14, 23)]
    x, tokens = torch.randn(16, 4, 64, 64), CaptionTokenizer(77)(captions)
    before = [features.detach() for features in model(x, tokens)]
    center_features(model, x, tokens)
    after = [features.detach() for features in model(x, tokens)]
    for one, other in zip(before, after, strict=True):
        assert (one @ one.T).mean() > 0.5
        assert abs((other @ other.T).mean()) < 0.1
    for raw in (model.clip.encode_image(x), model.clip.encode_text(tokens)):
        assert raw.mean(dim=0).abs().max() < 1e-4 * raw.abs().max()
